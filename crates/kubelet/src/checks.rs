//! What has to hold of the host and of the configuration before a node is started, and what is set
//! on both when it is.

use std::path::Path;

use anyhow::Context as _;
use config::{Authorization, CgroupDriver, Config};
use host::cgroup::CgroupMounts;
use host::tunables::{self, PROC_SYS};
use model::RuntimeFeatures;
use node::node_status::Resources;
use runtime::{DriverAnswer, Runtime, RuntimeVersion};
use telemetry::metrics::Metrics;
use tracing::{error, info, warn};

use crate::declared_features::declares_by_runtime;
use model::chain;

/// A host or a configuration this node does not start with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// Swap is on and `failSwapOn` says no.
    #[error(
        "running with swap on is not supported: disable swap (swapoff -a), or set failSwapOn to false; in use: {0}"
    )]
    Swap(String),
    /// Nobody knows whether it is on.
    #[error("failed to determine if swap is on")]
    UnknownSwap(#[source] host::FileError),
    /// cgroup v1 and `failCgroupV1` says no.
    #[error(
        "kubelet is configured to not run on a host using cgroup v1: move the host to cgroup v2, or set failCgroupV1 to false"
    )]
    CgroupV1,
    /// cgroup v1 cannot kill all processes of a container at once.
    #[error(
        "invalid configuration: singleProcessOOMKill must not be explicitly set to false when using cgroup v1: move the host to cgroup v2, or leave it out"
    )]
    SingleProcessOomKill,
    /// The API server is to be asked, and there is none.
    #[error("no client provided, cannot use webhook {0}: give --kubeconfig, or set {1}")]
    NobodyToAsk(&'static str, &'static str),
    /// Kernel settings are wrong and `protectKernelDefaults` says no.
    #[error(
        "protectKernelDefaults is set and the kernel is set up differently: [{0}]; set these (sysctl -w) or protectKernelDefaults to false"
    )]
    Tunables(String),
    /// More is reserved than there is.
    #[error(
        "invalid Node Allocatable configuration: {0}; lower systemReserved, kubeReserved or evictionHard"
    )]
    Reservations(String),
    /// CPUs are reserved that this machine does not have.
    #[error(
        "reservedSystemCPUs names CPUs that are not online: {missing:?}; online are {online}, and only they can be reserved"
    )]
    ReservedCpus {
        /// Those it does not have.
        missing: Vec<u32>,
        /// The kernel's list of those it has.
        online: String,
    },
    /// A setting cannot be read.
    #[error("read the kernel's settings")]
    ReadTunable(#[from] host::FileError),
    /// A setting cannot be changed.
    #[error("change the kernel's settings")]
    SetTunable(#[from] tunables::SetError),
}

/// The version of Kubernetes whose kubelet takes no runtime any more that does not know `RuntimeConfig`.
const FIRST_WITHOUT_OLD_RUNTIMES: &str = "1.38.0";

/// Waits for the runtime's first answer, which is its name and version, and lets it say who makes cgroups. A runtime
/// that is not there keeps the kubelet from starting; whoever started it tries again, as with upstream's.
pub(crate) async fn runtime(
    config: &Config,
    runtime: &Runtime,
    metrics: &Metrics,
) -> anyhow::Result<(RuntimeVersion, CgroupDriver)> {
    let endpoint = &config.runtime.endpoint;
    let about =
        || format!("validate CRI v1 runtime API for endpoint {endpoint:?} (does the container runtime run?)");
    let version = runtime.version().await.with_context(about)?;
    info!(
        containerRuntime = version.name,
        version = version.version,
        apiVersion = version.api_version,
        "Container runtime initialized"
    );
    let answer = runtime.cgroup_driver().await.context("ask the container runtime for its cgroup driver")?;
    let asked = match answer {
        DriverAnswer::Uses(driver) => Some(driver),
        DriverAnswer::Silent => None,
        DriverAnswer::Unknown => {
            metrics.cri_losing_support.with([FIRST_WITHOUT_OLD_RUNTIMES]).set(1.0);
            warn!(
                until = FIRST_WITHOUT_OLD_RUNTIMES,
                "The container runtime is too old to tell its cgroup driver (CRI RuntimeConfig): update it before Kubernetes"
            );
            None
        }
    };
    let driver = match asked {
        Some(runtime::CgroupDriver::Systemd) => CgroupDriver::Systemd,
        Some(runtime::CgroupDriver::Cgroupfs) => CgroupDriver::Cgroupfs,
        None => config.pods.cgroup_driver,
    };
    let name = driver.name();
    match asked {
        Some(_) => info!(cgroupDriver = name, "Using cgroup driver setting received from the CRI runtime"),
        None => info!(
            cgroupDriver = name,
            "CRI runtime does not implement RuntimeConfig; using cgroupDriver of the kubelet configuration"
        ),
    }
    Ok((version, driver))
}

/// What the runtime supports, if a feature that the node declares depends on that. As upstream, a runtime that does not
/// say supports nothing.
pub(crate) async fn runtime_features(config: &Config, runtime: &Runtime) -> RuntimeFeatures {
    if !declares_by_runtime(&config.gates) {
        return RuntimeFeatures::default();
    }
    match runtime.status().await {
        Ok(health) => health.features,
        Err(error) => {
            warn!(
                err = chain(&error),
                "Failed to get features of the container runtime; declaring none of them"
            );
            RuntimeFeatures::default()
        }
    }
}

/// Says so when this process is not root, which much of what a node does takes.
pub(crate) fn permissions() {
    let user = rustix::process::getuid();
    if !user.is_root() {
        let reason = format!("kubelet needs to run as uid `0`. It is being run as {}", user.as_raw());
        error!(err = reason, "Kubelet running with insufficient permissions");
    }
}

/// Checks swap, the cgroup version, and whether there is an API server where one is needed.
pub(crate) fn host(config: &Config, cgroups: &CgroupMounts) -> Result<(), HostError> {
    if cgroups.version() == 1 {
        if config.pods.fail_cgroup_v1 {
            return Err(HostError::CgroupV1);
        }
        if config.pods.single_process_oom_kill == Some(false) {
            return Err(HostError::SingleProcessOomKill);
        }
        warn!("cgroup v1 is deprecated and support for it will be removed: migrate this host to cgroup v2");
    }
    let table = match host::text::read("/proc/swaps") {
        Err(error) if !error.is_not_found() => return Err(HostError::UnknownSwap(error)),
        table => table.unwrap_or_default(),
    };
    let used = swaps(&table);
    if config.pods.fail_swap_on && !used.is_empty() {
        return Err(HostError::Swap(used.join(", ")));
    }
    standalone(config)
}

/// Checks that the CPUs held back are there. `online` is the kernel's list, empty if it has none.
pub(crate) fn reserved_cpus(config: &Config, online: &str) -> Result<(), HostError> {
    let Ok(known) = config::cpu_list(online) else { return Ok(()) };
    let missing: Vec<u32> = config.node.reserved_cpus.difference(&known).copied().collect();
    if missing.is_empty() || known.is_empty() {
        return Ok(());
    }
    Err(HostError::ReservedCpus { missing, online: online.to_owned() })
}

/// Checks that no more is reserved than there is.
pub(crate) fn reservations(resources: Resources<'_>) -> Result<(), HostError> {
    let over = resources.over_reserved();
    if over.is_empty() {
        return Ok(());
    }
    let each = over.iter().map(|(name, reserved, capacity)| {
        let (reserved, capacity) = (reserved.to_api(), capacity.to_api());
        format!("resource {name:?} has a reservation of {} but capacity of {}", reserved.0, capacity.0)
    });
    Err(HostError::Reservations(each.collect::<Vec<_>>().join(", ")))
}

fn standalone(config: &Config) -> Result<(), HostError> {
    let Some(server) = config.server.as_ref().filter(|_| config.api.kubeconfig.is_none()) else {
        return Ok(());
    };
    if server.authentication.webhook.is_some() {
        let instead = "authentication.webhook.enabled to false";
        return Err(HostError::NobodyToAsk("authentication", instead));
    }
    if matches!(server.authorization, Authorization::Webhook { .. }) {
        return Err(HostError::NobodyToAsk("authorization", "authorization.mode to AlwaysAllow"));
    }
    Ok(())
}

/// Whether what is kept in memory for volumes may be swapped to a disk: there is swap, and the kernel cannot keep it from
/// a file system in memory. `folder` is where that is tried.
pub(crate) fn may_swap_volumes(folder: &Path) -> bool {
    let table = host::text::read("/proc/swaps").unwrap_or_default();
    if swaps(&table).is_empty() {
        return false;
    }
    match host::mount::has_noswap(folder) {
        Ok(has_noswap) => !has_noswap,
        Err(error) => {
            info!(
                err = chain(&error),
                "Failed to probe the tmpfs noswap option; assuming that it is not supported"
            );
            true
        }
    }
}

/// What is swapped to: the first column below the heading. Swap in memory that the kernel
/// compresses is no less swap; upstream counts it, too.
fn swaps(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect()
}

/// Sets the kernel up as a node needs it, or insists that it is.
pub(crate) fn kernel(config: &Config) -> Result<(), HostError> {
    kernel_at(Path::new(PROC_SYS), config.process.protect_kernel_defaults, || {
        // In a user namespace of its own the kubelet may not, and there it may be told not to mind.
        config.gates.enabled("KubeletInUserNamespace") && host::process::is_in_user_namespace()
    })
}

fn kernel_at(root: &Path, is_protected: bool, is_lenient: impl Fn() -> bool) -> Result<(), HostError> {
    let deviations = tunables::deviations(root)?;
    if is_protected && !deviations.is_empty() {
        let all: Vec<String> = deviations.iter().map(ToString::to_string).collect();
        return Err(HostError::Tunables(all.join(", ")));
    }
    for deviation in &deviations {
        info!(
            v = 2,
            flag = deviation.name,
            expectedValue = deviation.expected,
            actualValue = deviation.actual,
            "Updating kernel flag"
        );
        match tunables::correct(root, deviation) {
            Err(error) if is_lenient() => {
                info!(v = 2, flag = deviation.name, err = chain(&error), "Updating kernel flag failed");
            }
            result => result?,
        }
    }
    Ok(())
}

/// Sets this process up as configured. What the kernel does not grant is said and done without.
pub(crate) fn process(config: &Config) {
    let score = config.process.oom_score_adj;
    if let Err(error) = host::process::set_oom_score_adj(score) {
        warn!(err = %error, oomScoreAdj = score, "Failed to ApplyOOMScoreAdj");
    }
    if let Err(error) = host::process::limit_open_files(config.process.max_open_files) {
        error!(error = &error as &dyn std::error::Error, "Failed to set rlimit on max file handles");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Invocation;

    #[test]
    fn only_a_table_with_rows_is_swap() {
        assert!(swaps("").is_empty());
        assert!(swaps("Filename\tType\tSize\tUsed\tPriority\n").is_empty());
        assert_eq!(swaps("Filename Type\n/dev/sda2 partition 1 0 -2\n"), ["/dev/sda2"]);
    }

    fn configured(text: &str, flags: &[&str]) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                    containerRuntimeEndpoint: unix:///x\n";
        std::fs::write(&file, format!("{head}{text}")).unwrap();
        let config = format!("--config={}", file.display());
        let arguments: Vec<String> =
            [config.as_str()].iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        let Ok(Invocation::Run(loaded)) = config::load(&arguments) else { panic!("{text}") };
        loaded.config
    }

    #[test]
    fn only_cpus_that_are_there_can_be_reserved() {
        let config = configured(
            "reservedSystemCPUs: '0-1,3'\nkubeReserved: {cpu: 500m, memory: 1Gi}\nsystemReserved: {cpu: '9'}\n",
            &[],
        );
        let cpu = |amounts: &std::collections::BTreeMap<String, model::Quantity>| amounts.get("cpu").copied();
        assert_eq!(cpu(&config.node.system_reserved), Some(model::Quantity::from_units(3)));
        assert_eq!(cpu(&config.node.kube_reserved), None);
        assert!(config.node.kube_reserved.contains_key("memory"));
        assert!(reserved_cpus(&config, "0-3").is_ok());
        assert!(reserved_cpus(&config, "").is_ok(), "nobody knows");
        let error = reserved_cpus(&config, "0-2").unwrap_err().to_string();
        assert!(error.contains("not online: [3]; online are 0-2"), "{error}");
        assert!(reserved_cpus(&configured("", &[]), "0").is_ok());
    }

    #[test]
    fn no_more_is_reserved_than_there_is() {
        let amounts =
            |cpu| std::collections::BTreeMap::from([("cpu".to_owned(), model::Quantity::from_units(cpu))]);
        let machine = node::Machine { cpus: 2, memory_bytes: 1 << 30, ..node::Machine::default() };
        let check = |cpu| {
            let settings = node::CapacitySettings {
                kube_reserved: amounts(1),
                system_reserved: amounts(cpu),
                ..node::CapacitySettings::default()
            };
            reservations(Resources { settings: &settings, machine: &machine, storage_bytes: None })
        };
        assert!(check(1).is_ok());
        let error = check(2).unwrap_err().to_string();
        assert!(error.contains("resource \"cpu\" has a reservation of 3 but capacity of 2"), "{error}");
    }

    #[test]
    fn without_an_api_server_there_is_nobody_to_ask() {
        let refused = |text: &str, flags: &[&str]| {
            standalone(&configured(text, flags)).err().map(|error| error.to_string())
        };
        let open = "authentication: {webhook: {enabled: false}, anonymous: {enabled: true}}\nauthorization: {mode: AlwaysAllow}\n";
        assert_eq!(refused(open, &[]), None);
        assert_eq!(refused("", &["--kubeconfig=/x"]), None);
        assert_eq!(refused("enableServer: false\n", &[]), None);
        assert!(refused("", &[]).unwrap().contains("cannot use webhook authentication"));
        let half = "authentication: {webhook: {enabled: false}}\n";
        assert!(refused(half, &[]).unwrap().contains("cannot use webhook authorization"));
    }

    #[test]
    fn the_kernel_is_corrected_or_complained_about() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, value) in [
            ("kernel/keys/root_maxbytes", "25000000"),
            ("kernel/keys/root_maxkeys", "1000000"),
            ("kernel/panic", "0"),
            ("kernel/panic_on_oops", "1"),
            ("vm/overcommit_memory", "0"),
            ("vm/panic_on_oom", "0"),
        ] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), value).unwrap();
        }
        let error = kernel_at(root, true, || true).unwrap_err().to_string();
        for part in ["kernel/panic, expected value: 10, actual value: 0", "vm/overcommit_memory, expected"] {
            assert!(error.contains(part), "{error}");
        }
        kernel_at(root, false, || false).unwrap();
        assert_eq!(std::fs::read_to_string(root.join("kernel/panic")).unwrap(), "10");
        kernel_at(root, true, || false).unwrap();

        // What cannot be written is an error, unless the kubelet is known not to be allowed to.
        std::fs::remove_file(root.join("kernel/panic")).unwrap();
        std::os::unix::fs::symlink("/proc/sys/kernel/osrelease", root.join("kernel/panic")).unwrap();
        assert!(kernel_at(root, false, || false).unwrap_err().to_string().starts_with("change the kernel"));
        kernel_at(root, false, || true).unwrap();
    }
}
