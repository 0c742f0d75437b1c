//! Whole invocations: command line and files in, configuration or findings out.

use std::time::Duration;

use model::Signal;

use super::*;
use crate::flags::FLAGS;
use crate::sections::{Authorization, CgroupDriver, ImageVerification, LogFormat, ReservedCgroup};

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

/// A folder with a document and drop-ins.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{HEAD}{text}")).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

fn invoke(arguments: &[&str]) -> Result<Loaded, Vec<String>> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    match load(&arguments) {
        Ok(Invocation::Run(loaded)) => Ok(*loaded),
        Ok(Invocation::Print(text) | Invocation::Faulty(text)) => panic!("printed {text}"),
        Ok(other) => panic!("{other:?}"),
        Err(refused) => {
            let errors = refused.findings.iter().filter(|finding| finding.severity == Severity::Error);
            Err(errors.map(ToString::to_string).collect())
        }
    }
}

fn printed(argument: &str) -> String {
    match load(&[argument.to_owned()]) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// Loads a document; file names in the errors are cut off.
fn with_document(text: &str, arguments: &[&str]) -> Result<Loaded, Vec<String>> {
    let files = Files::new(&[("config.yaml", text)]);
    let path = files.path("config.yaml");
    let all: Vec<&str> = ["--config", &path].into_iter().chain(arguments.iter().copied()).collect();
    invoke(&all)
        .map_err(|errors| errors.iter().map(|error| without_place(&error.replace(&path, "F"))).collect())
}

/// Cuts `F:3:7: ` off.
fn without_place(error: &str) -> String {
    match error.strip_prefix("F:").filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
        Some(rest) => rest.split_once(": ").map_or(error, |(_, text)| text).to_owned(),
        None => error.to_owned(),
    }
}

/// The document upstream's v1.37 makes of an empty one, plus its default eviction thresholds.
fn defaults() -> serde_json::Value {
    serde_json::from_str(include_str!("defaults.json")).unwrap()
}

#[test]
fn an_empty_document_has_upstreams_defaults() {
    let loaded = with_document("", &[]).unwrap();
    assert_eq!(loaded.config.document_json(), defaults());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn configz_shows_the_files_of_a_certificate_of_ones_own() {
    let shown = |text: &str| with_document(text, &["--cert-dir=/pki"]).unwrap().config.configz_json();
    assert_eq!(shown("")["tlsCertFile"], "/pki/kubelet.crt");
    assert_eq!(shown("")["tlsPrivateKeyFile"], "/pki/kubelet.key");
    assert_eq!(shown("serverTLSBootstrap: true")["tlsCertFile"], serde_json::Value::Null);
    assert_eq!(shown("tlsCertFile: /a")["tlsPrivateKeyFile"], serde_json::Value::Null);
}

#[test]
fn configz_shows_reserved_cpus_where_an_amount_was() {
    let shown = |text: &str| {
        let text = format!("reservedSystemCPUs: 0-1\n{text}");
        let json = with_document(&text, &[]).unwrap().config.configz_json();
        [json["systemReserved"].clone(), json["kubeReserved"].clone()]
    };
    let none = serde_json::Value::Null;
    assert_eq!(shown(""), [none.clone(), none.clone()], "as upstream");
    assert_eq!(
        shown("systemReserved: {memory: 1Gi}\nkubeReserved: {cpu: 300m, pid: '9'}\n"),
        [serde_json::json!({"memory": "1Gi", "cpu": "2"}), serde_json::json!({"pid": "9"})],
    );
    assert_eq!(shown("kubeReserved: {cpu: 300m}\n"), [none.clone(), none]);
}

#[test]
fn what_configz_shows_can_be_read_again() {
    let first = with_document(
        "maxPods: 5\nclusterDNS: [10.96.0.10]\nregisterWithTaints: [{key: a, effect: NoExecute}]\n",
        &[],
    )
    .unwrap();
    let json = first.config.document_json();
    let files = Files::new(&[]);
    std::fs::write(files.path("configz.json"), json.to_string()).unwrap();
    let second = invoke(&["--config", &files.path("configz.json")]).unwrap();
    assert_eq!(second.config.document_json(), json);
}

/// kubernetes/kubernetes#59666: flags kept the old defaults, a document has safe ones.
#[test]
fn without_a_document_the_api_is_open_as_it_always_was() {
    let config = invoke(&[]).unwrap().config;
    let server = config.server.unwrap();
    assert!(server.authentication.anonymous);
    assert_eq!(server.authentication.webhook, None);
    assert_eq!(server.authorization, Authorization::AlwaysAllow);
    assert_eq!(server.read_only.unwrap().port(), 10_255);
    assert_eq!(config.node.eviction.thresholds, []);
}

#[test]
fn every_flag_has_its_place_and_the_default_it_claims() {
    let mut document = KubeletConfiguration::default();
    fill(&mut document, &CommandLine::default(), &mut Findings::default());
    defaults::apply_legacy(&mut document);
    let local = local(&CommandLine::default(), &mut Findings::default());
    let (document, local) = (document.encode(), local.encode());
    for flag in FLAGS {
        let place = match flag.place {
            Place::Document(field) => document.pointer(&format!("/{}", field.replace('.', "/"))).cloned(),
            Place::Local => local.get(flag.name).cloned(),
            Place::Ignored | Place::Print => continue,
        };
        let value = match place {
            None => String::new(),
            Some(serde_json::Value::String(text)) => text,
            Some(serde_json::Value::Array(items)) => {
                items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(",")
            }
            Some(other) => other.to_string(),
        };
        let claimed = if flag.default == "false" || flag.default == "0" { "" } else { flag.default };
        let value = if value == "false" || value == "0" { "" } else { &value };
        assert_eq!(value, claimed, "--{}", flag.name);
    }
}

#[test]
fn every_flag_is_accepted_with_a_value_of_its_kind() {
    for flag in FLAGS.iter().filter(|flag| flag.place != Place::Print) {
        let text = match flag.kind {
            Kind::Bool => "true",
            Kind::Int32 | Kind::Int64 | Kind::Level => "7",
            Kind::Text | Kind::Version => "/x",
            Kind::Duration => "7s",
            Kind::Ip => "10.0.0.7",
            Kind::Quantity => "7Ki",
            Kind::TextList => "a,b",
            Kind::Map | Kind::MapWhole | Kind::Labels => "a=b",
            Kind::Thresholds => "memory.available<1Gi",
            Kind::Gates => "TaintTolerationComparisonOperators=true",
            Kind::Headers => "A:b",
            Kind::Taints => "a=b:NoSchedule",
            Kind::ReservedMemory => "0:memory=1Gi",
            Kind::Vmodule => "a=7",
        };
        let mut findings = Findings::default();
        let line = flags::parse(&[format!("--{}={text}", flag.name)], &mut findings);
        let mut document = KubeletConfiguration::default();
        let before = document.clone();
        apply_flags(&line, &mut document, &mut findings);
        let local = local(&line, &mut findings);
        assert!(!findings.has_errors(), "--{}: {findings:?}", flag.name);
        match flag.place {
            Place::Document(_) => assert_ne!(document, before, "--{}", flag.name),
            Place::Local => {
                assert_ne!(local, super::local(&CommandLine::default(), &mut findings), "--{}", flag.name);
            }
            Place::Ignored | Place::Print => {}
        }
    }
}

#[test]
fn flags_win_over_drop_ins_over_the_file() {
    let files = Files::new(&[
        ("config.yaml", "maxPods: 1\npodsPerCore: 1\nport: 1001\nclusterDomain: file\n"),
        ("d/20-b.conf", "maxPods: 3\n"),
        ("d/10-a.conf", "maxPods: 2\npodsPerCore: 2\nport: 1002\nclusterDNS: [10.0.0.1]\n"),
        ("d/30-sub/x.conf", "clusterDNS: [10.0.0.2]\n"),
        ("d/ignored.yaml", "nonsense: true\n"),
    ]);
    let (file, folder) = (files.path("config.yaml"), files.path("d"));
    let arguments = ["--config", &file, "--config-dir", &folder, "--port=1003"];
    let config = invoke(&arguments).unwrap().config;
    assert_eq!(config.node.max_pods, 3);
    assert_eq!(config.node.pods_per_core, 2);
    assert_eq!(config.server.unwrap().address.port(), 1003);
    assert_eq!(config.pods.cluster_domain, "file");
    assert_eq!(config.pods.cluster_dns, ["10.0.0.2".parse::<std::net::IpAddr>().unwrap()]);
}

/// As upstream, whose walk does not follow the link it begins with.
#[test]
fn a_link_to_a_folder_of_drop_ins_is_not_followed() {
    let files = Files::new(&[("config.yaml", "maxPods: 1\n"), ("d/a.conf", "maxPods: 2\n")]);
    let (file, link, named) = (files.path("config.yaml"), files.path("link"), files.path("link.conf"));
    std::os::unix::fs::symlink(files.path("d"), &link).unwrap();
    std::os::unix::fs::symlink(files.path("d/a.conf"), &named).unwrap();
    let loaded = |folder: &str| invoke(&["--config", &file, "--config-dir", folder]).unwrap();
    assert_eq!(loaded(&files.path("d")).config.node.max_pods, 2);
    let followed = loaded(&link);
    assert_eq!(followed.config.node.max_pods, 1);
    let said: Vec<_> = followed.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(said, ["--config-dir"]);
    // One that leads to a drop-in is that drop-in.
    assert_eq!(loaded(&named).config.node.max_pods, 2);
}

#[test]
fn a_drop_in_merges_maps_replaces_lists_and_resets_with_null() {
    let files = Files::new(&[
        ("config.yaml", "evictionHard: {memory.available: 1Gi, pid.available: 5%}\nmaxPods: 7\n"),
        ("d/a.conf", "evictionHard: {memory.available: null, nodefs.available: 3%}\nmaxPods: null\n"),
    ]);
    let (file, folder) = (files.path("config.yaml"), files.path("d"));
    let config = invoke(&["--config", &file, "--config-dir", &folder]).unwrap().config;
    let signals: Vec<_> = config.node.eviction.thresholds.iter().map(|threshold| threshold.signal).collect();
    assert_eq!(signals, [Signal::NodeFs, Signal::Pids]);
    assert_eq!(config.node.max_pods, 110);
}

#[test]
fn a_drop_in_needs_a_kind_and_its_mistakes_name_its_file() {
    let files = Files::new(&[("d/b.conf", "maxPods: many\n")]);
    std::fs::write(files.path("d/a.conf"), "maxPods: 3\n").unwrap();
    let errors = invoke(&["--config-dir", &files.path("d")]).unwrap_err();
    let errors: Vec<_> = errors.iter().map(|error| error.replace(&files.path("d"), "D")).collect();
    assert_eq!(
        errors,
        [
            "D/a.conf: apiVersion or kind is missing (want apiVersion: kubelet.config.k8s.io/v1beta1 and kind: \
             KubeletConfiguration)",
            "D/b.conf:3:10: maxPods: must be a whole number, not a string",
        ]
    );
}

#[test]
fn all_mistakes_are_found_at_once() {
    let text = "maxPod: 3\nport: 70000\nsyncFrequency: 10\nevictionHard: {memory.avail: 1Gi}\n\
                evictionSoft: {memory.available: 1Gi}\nfeatureGates: {NoSuch: true, NodeSwap: false}\n\
                maxPods: 1\nmaxPods: 2\nauthentication: {webhok: {}}\nkubeReserved: {gpu: \"1\"}\n";
    let errors = with_document(text, &["--image-gc-low-threshold=90"]).unwrap_err();
    assert_eq!(
        errors,
        [
            "syncFrequency: must be a duration such as \"30s\", not a number",
            "featureGates[NoSuch]: unrecognized feature gate: NoSuch",
            "featureGates[NodeSwap]: cannot set feature gate NodeSwap to false, feature is locked to true",
            "port: 70000 must be between 1 and 65535, inclusive",
            "imageGCLowThresholdPercent: 90 must be less than imageGCHighThresholdPercent 85 (set by \
             --image-gc-low-threshold)",
            "kubeReserved[gpu]: cannot reserve \"gpu\" resource, want cpu, memory, ephemeral-storage or pid",
            "evictionHard[memory.avail]: unsupported eviction signal memory.avail (did you mean memory.available?)",
            "evictionSoft[memory.available]: grace period must be specified for the soft eviction threshold \
             memory.available (add it to evictionSoftGracePeriod)",
        ]
    );
}

#[test]
fn single_rules() {
    for (text, expected) in [
        ("nodeLeaseDurationSeconds: -1", "nodeLeaseDurationSeconds: must be greater than 0"),
        ("kubeAPIQPS: -1", "kubeAPIQPS: -1 must not be a negative number"),
        ("maxPods: -1", "maxPods: -1 must not be a negative number"),
        ("oomScoreAdj: 1001", "oomScoreAdj: 1001 must be between -1000 and 1000, inclusive"),
        ("cpuCFSQuotaPeriod: 2s", "cpuCFSQuotaPeriod: 2s must be between 1ms and 1sec, inclusive"),
        ("runOnce: true", "runOnce: has no effect any more and must not be set"),
        ("imageMaximumGCAge: 1m", "imageMaximumGCAge: 1m0s must be greater than imageMinimumGCAge 2m0s"),
        ("maxParallelImagePulls: 0", "maxParallelImagePulls: 0 must be a positive number"),
        (
            "maxParallelImagePulls: 2\nserializeImagePulls: true",
            "maxParallelImagePulls: cannot be larger than 1 unless serializeImagePulls is set to false",
        ),
        ("containerLogMaxFiles: 1", "containerLogMaxFiles: must be greater than 1"),
        (
            "containerLogMonitorInterval: 1s",
            "containerLogMonitorInterval: must be greater than or equal to 3s",
        ),
        (
            "containerLogMaxSize: big",
            "containerLogMaxSize: \"big\" is not a quantity: want a number with an optional suffix such as m, k, Mi, G or e3",
        ),
        ("podLogsDir: /a/../b", "podLogsDir: \"/a/../b\" must be normalized"),
        (
            "shutdownGracePeriod: 500ms",
            "shutdownGracePeriod: 500ms must be either zero or otherwise >= 1 sec",
        ),
        ("cpuManagerPolicy: dynamic", "cpuManagerPolicy: \"dynamic\" must be one of [\"none\", \"static\"]"),
        (
            "authorization: {mode: RBAC}",
            "authorization.mode: \"RBAC\" must be one of [\"AlwaysAllow\", \"Webhook\"]",
        ),
        ("address: nowhere", "address: \"nowhere\" is not an IP address"),
        (
            "tlsMinVersion: SSL3",
            "tlsMinVersion: unknown tls version \"SSL3\" (want VersionTLS12 or VersionTLS13)",
        ),
        (
            "enforceNodeAllocatable: [system-reserved]",
            "systemReservedCgroup: must be specified when \"system-reserved\" is in enforceNodeAllocatable",
        ),
        (
            "systemReserved: {cpu: -1}",
            "systemReserved[cpu]: must be a string (put it in quotes), not a number",
        ),
        (
            "systemReserved: {cpu: \"-1\"}",
            "systemReserved[cpu]: resource quantity for \"cpu\" cannot be negative: -1",
        ),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 10m}",
            "crashLoopBackOff.maxContainerRestartPeriod: 10m0s must be set between 1s and 300s",
        ),
        (
            "registerWithTaints: [{key: a, effect: Never}]",
            "registerWithTaints[0].effect: \"Never\" must be one of [\"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"]",
        ),
        (
            "defaultPodSysctls: {kernel.shm_rmid_forced: \"1\"}",
            "defaultPodSysctls: requires feature gate DefaultPodSysctls",
        ),
        (
            "logging: {options: {text: {infoBufferSize: 1Ki}}}",
            "logging.options.text.infoBufferSize: requires feature gate LoggingAlphaOptions",
        ),
        ("logging: {format: xml}", "logging.format: \"xml\" must be one of [\"text\", \"json\"]"),
        (
            "logging: {format: json}\nfeatureGates: {LoggingBetaOptions: false}",
            "logging.format: log format json requires feature gate LoggingBetaOptions",
        ),
        ("port: 1.5", "port: must be a whole number, not a number"),
        ("port: 3000000000", "port: 3000000000 is out of range (-2147483648 to 2147483647)"),
    ] {
        assert_eq!(with_document(text, &[]).unwrap_err(), [expected], "{text}");
    }
}

#[test]
fn zero_is_unset_in_a_file_but_not_on_the_command_line() {
    assert_eq!(with_document("maxPods: 0\n", &[]).unwrap().config.node.max_pods, 110);
    assert_eq!(with_document("", &["--max-pods=0"]).unwrap().config.node.max_pods, 0);
    assert_eq!(with_document("healthzPort: 0\n", &[]).unwrap().config.healthz, None);
}

#[test]
fn the_report_interval_follows_an_update_interval_set_by_hand() {
    let node = with_document("nodeStatusUpdateFrequency: 7s\n", &[]).unwrap().config.node;
    assert_eq!(node.status_report_interval, Duration::from_secs(7));
    let node = with_document("", &["--node-status-update-frequency=7s"]).unwrap().config.node;
    assert_eq!(node.status_report_interval, Duration::from_secs(300));
}

#[test]
fn flags_replace_lists_and_maps_but_merge_gates() {
    let text = "evictionHard: {memory.available: 1Gi}\nfeatureGates: {EnvFiles: false, MemoryQoS: false}\n";
    let flags = [
        "--eviction-hard=nodefs.available<1%",
        "--feature-gates=EnvFiles=true,TaintTolerationComparisonOperators=true",
    ];
    let config = with_document(text, &flags).unwrap().config;
    assert_eq!(config.node.eviction.thresholds.len(), 1);
    assert_eq!(config.node.eviction.thresholds[0].signal, Signal::NodeFs);
    for (gate, expected) in
        [("EnvFiles", true), ("MemoryQoS", false), ("TaintTolerationComparisonOperators", true)]
    {
        assert_eq!(config.gates.enabled(gate), expected, "{gate}");
    }
}

#[test]
fn log_levels_of_files_add_up_and_a_number_stays_a_number() {
    let text = "logging: {flushFrequency: 1000000000, vmodule: [{filePattern: a, verbosity: 1}]}\n";
    let config = with_document(text, &["--vmodule=b=2", "--vmodule=c=3"]).unwrap().config;
    assert_eq!(config.logging.modules, [("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 3)]);
    assert_eq!(config.document_json()["logging"]["flushFrequency"], 1_000_000_000);
}

#[test]
fn default_thresholds_fill_gaps_only_when_asked_to() {
    let count = |text| with_document(text, &[]).unwrap().config.node.eviction.thresholds.len();
    assert_eq!(count(""), 5);
    assert_eq!(count("evictionHard: {memory.available: 1Gi}\n"), 1);
    assert_eq!(count("evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true\n"), 5);
    assert_eq!(count("evictionHard: {}\n"), 0);
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let files = Files::new(&[("a/config.yaml", "staticPodPath: ../manifests\nresolvConf: \"\"\n")]);
    let config = invoke(&["--config", &files.path("a/config.yaml")]).unwrap().config;
    assert_eq!(config.sources.static_pod_path, Some(files.0.path().join("manifests")));
    assert_eq!(config.pods.resolv_conf, None);
}

#[test]
fn what_is_not_implemented_is_said() {
    let loaded = with_document(
        "cpuManagerPolicy: static\nkernelMemcgNotification: true\n",
        &["--housekeeping-interval=1s"],
    )
    .unwrap();
    let said = |warning: &Finding| format!("{}: {}", warning.path, warning.message);
    let warnings: Vec<_> = loaded.warnings.iter().map(said).collect();
    assert_eq!(
        warnings,
        [
            "--housekeeping-interval: this flag has no effect yet",
            "cpuManagerPolicy: not implemented yet: no container gets CPUs of its own",
            "kernelMemcgNotification: not implemented yet: memory is measured at intervals",
        ]
    );
}

/// All that Go 1.26's `crypto/tls` knows and upstream accepts.
#[test]
fn every_key_exchange_group_is_there_or_said_not_to_be() {
    for (group, is_there) in
        [(23, true), (24, true), (25, false), (29, true), (4587, false), (4588, false), (4589, false)]
    {
        // One that is there beside it: alone, one that is not would be refused.
        let document = format!("tlsCurvePreferences: [{}, {group}]", if group == 29 { 23 } else { 29 });
        let loaded = with_document(&document, &[]).unwrap();
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let is_said =
            warnings.iter().any(|text| text.contains(&format!("group {group} is not implemented yet")));
        assert_eq!(is_said, !is_there, "{group}: {warnings:?}");
        let alone = with_document(&format!("tlsCurvePreferences: [{group}]"), &[]);
        assert_eq!(alone.is_ok(), is_there, "{group}");
    }
}

#[test]
fn the_runtime_outranks_the_documents_cgroup_driver() {
    for (text, asked) in [("", CgroupDriver::Cgroupfs), ("cgroupDriver: systemd\n", CgroupDriver::Systemd)] {
        let mut config = with_document(text, &[]).unwrap().config;
        assert_eq!(config.pods.cgroup_driver, asked);
        for driver in [CgroupDriver::Systemd, CgroupDriver::Cgroupfs] {
            config.set_cgroup_driver(driver);
            assert_eq!(config.pods.cgroup_driver, driver);
            assert_eq!(config.configz_json()["cgroupDriver"], driver.name());
        }
    }
}

#[test]
fn reserved_cgroups_are_limited_where_that_is_enforced() {
    let of = |enforced: &str| {
        let text = format!(
            "enforceNodeAllocatable: [{enforced}]\nsystemReservedCgroup: /system.slice\n\
             kubeReservedCgroup: /kube.slice\nsystemReserved: {{cpu: \"1\"}}\n"
        );
        let node = with_document(&text, &[]).unwrap().config.node;
        let said = |group: Option<ReservedCgroup>| group.map(|g| (g.name, g.is_compressible_only));
        (node.enforce_pods, said(node.system_reserved_cgroup), said(node.kube_reserved_cgroup))
    };
    let named = |name: &str, is_compressible_only| Some((name.to_owned(), is_compressible_only));
    assert_eq!(of("pods"), (true, None, None));
    assert_eq!(of("none"), (false, None, None));
    assert_eq!(of("pods, system-reserved"), (true, named("/system.slice", false), None));
    assert_eq!(
        of("pods, system-reserved-compressible, kube-reserved"),
        (true, named("/system.slice", true), named("/kube.slice", false))
    );
}

#[test]
fn upstreams_node_suite_can_start_it() {
    let files = Files::new(&[(
        "config.yaml",
        "failCgroupV1: false\nfeatureGates: {TaintTolerationComparisonOperators: true}\nserializeImagePulls: false\nfailSwapOn: false\n\
         volumeStatsAggPeriod: 10s\nstaticPodPath: /tmp/static\nkubeletCgroups: \"\"\nevictionHard: {memory.available: 250Mi}\n",
    )]);
    std::fs::create_dir(files.path("d")).unwrap();
    let (file, folder) = (files.path("config.yaml"), files.path("d"));
    let loaded = invoke(&[
        "--kubeconfig",
        "/tmp/kubeconfig",
        "--root-dir",
        "/var/lib/kubelet",
        "--v",
        "4",
        "--config-dir",
        &folder,
        "--hostname-override",
        " Node-1 ",
        "--container-runtime-endpoint",
        "unix:///run/x.sock",
        "--config",
        &file,
        "--feature-gates=EnvFiles=false",
        "--node-ip=10.1.2.3",
        "--runtime-cgroups=/containerd",
    ])
    .unwrap();
    let config = loaded.config;
    assert_eq!(config.identity.node_name("host").unwrap(), "node-1");
    assert_eq!(config.logging.verbosity, 4);
    assert_eq!(config.logging.format, LogFormat::Text);
    assert_eq!(config.runtime.endpoint, "unix:///run/x.sock");
    assert_eq!(config.runtime.image_endpoint, "unix:///run/x.sock");
    assert_eq!(config.runtime.cgroup.as_deref(), Some("/containerd"));
    assert_eq!(config.pods.parallel_pulls, None);
    assert!(!config.pods.fail_cgroup_v1);
    assert!(!config.gates.enabled("EnvFiles"));
    assert!(config.gates.enabled("TaintTolerationComparisonOperators"));
}

#[test]
fn kubeadm_can_start_it() {
    let text = "authentication:\n  anonymous: {enabled: false}\n  webhook: {cacheTTL: 0s, enabled: true}\n  x509: \
                {clientCAFile: /etc/kubernetes/pki/ca.crt}\nauthorization: {mode: Webhook, webhook: \
                {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}\nclusterDNS: [10.96.0.10]\nclusterDomain: \
                cluster.local\ncpuManagerReconcilePeriod: 0s\nlogging:\n  flushFrequency: 0\n  options:\n    json: \
                {infoBufferSize: \"0\"}\n    text: {infoBufferSize: \"0\"}\n  verbosity: 0\nrotateCertificates: \
                true\nstaticPodPath: /etc/kubernetes/manifests\nstreamingConnectionIdleTimeout: 0s\n";
    let flags =
        ["--bootstrap-kubeconfig=/b", "--kubeconfig=/k", "--container-runtime-endpoint=unix:///run/x.sock"];
    let config = with_document(text, &flags).unwrap().config;
    assert_eq!(config.api.bootstrap_kubeconfig, Some("/b".into()));
    let server = config.server.unwrap();
    assert_eq!(server.authentication.webhook, Some(Duration::from_secs(120)));
    assert_eq!(server.authentication.client_ca, Some("/etc/kubernetes/pki/ca.crt".into()));
}

#[test]
fn verification_of_images_is_upstreams_and_goes_with_its_gate() {
    let policy = "imagePullCredentialsVerificationPolicy";
    let listed = ImageVerification::Unlisted(vec!["r.example/a".to_owned(), "r.example/b/*".to_owned()]);
    for (text, expected) in [
        (String::new(), Some(ImageVerification::Pulled)),
        (format!("{policy}: NeverVerifyPreloadedImages"), Some(ImageVerification::Pulled)),
        (format!("{policy}: NeverVerify"), Some(ImageVerification::Never)),
        (format!("{policy}: AlwaysVerify"), Some(ImageVerification::Always)),
        (
            format!(
                "{policy}: NeverVerifyAllowlistedImages\n\
                 preloadedImagesVerificationAllowlist: [r.example/a, r.example/b/*]"
            ),
            Some(listed),
        ),
        ("featureGates: {KubeletEnsureSecretPulledImages: false}".to_owned(), None),
    ] {
        let loaded = with_document(&text, &[]).unwrap();
        assert_eq!(loaded.config.pods.image_verification, expected, "{text}");
        assert_eq!(loaded.warnings, [], "{text}");
    }
}

/// The longest wait has a default in the document, unless its own gate is off.
#[test]
fn waits_of_crash_loops() {
    for (text, initial, max) in [
        ("", 10, 300),
        ("crashLoopBackOff: {maxContainerRestartPeriod: 5s}", 10, 5),
        ("featureGates: {ReduceDefaultCrashLoopBackOffDecay: true}", 1, 300),
        (
            "featureGates: {ReduceDefaultCrashLoopBackOffDecay: true}\ncrashLoopBackOff: {maxContainerRestartPeriod: 5s}",
            1,
            5,
        ),
        ("featureGates: {KubeletCrashLoopBackOffMax: false}", 10, 300),
        (
            "featureGates: {ReduceDefaultCrashLoopBackOffDecay: true, KubeletCrashLoopBackOffMax: false}",
            1,
            60,
        ),
    ] {
        let pods = with_document(text, &[]).unwrap().config.pods;
        let waits = (pods.crash_loop_initial.as_secs(), pods.crash_loop_max.as_secs());
        assert_eq!(waits, (initial, max), "{text}");
    }
}

#[test]
fn prints_and_leaves() {
    assert_eq!(printed("--version"), "Kubernetes v1.37.2\n");
    assert!(printed("--help").contains("--kubeconfig"));
    assert!(printed("--version=raw").contains("gitVersion=v1.37.2"));
    assert!(invoke(&["--version=false"]).is_ok());
    assert_eq!(invoke(&["--version=x"]).unwrap_err(), ["--version: \"x\" is neither true, false nor raw"]);
}

#[test]
fn node_flags_are_checked() {
    for (flag, expected) in [
        (
            "--node-ip=10.0.0.1,10.0.0.2",
            Some("--node-ip: \"10.0.0.1,10.0.0.2\" must be a single address or one address of each family"),
        ),
        ("--node-ip=10.0.0.1,fd00::1", None),
        ("--node-ip=::", None),
        (
            "--cloud-provider=aws",
            Some("--cloud-provider: \"aws\" is not supported, want \"external\" or nothing"),
        ),
        ("--node-labels=node.kubernetes.io/x=y,a=b", None),
        (
            "--node-labels=a=b c",
            Some(
                "--node-labels: a=b c: a value must be at most 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit",
            ),
        ),
        ("--seccomp-default", None),
    ] {
        let errors = invoke(&[flag]).err().unwrap_or_default();
        assert_eq!(errors, expected.into_iter().collect::<Vec<_>>(), "{flag}");
    }
    let labels = invoke(&["--node-labels=kubernetes.io/role=x"]).unwrap_err();
    assert!(labels[0].starts_with("--node-labels: unknown 'kubernetes.io' or 'k8s.io' label"), "{labels:?}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let files = Files::new(&[]);
    std::fs::write(files.path("empty.yaml"), "").unwrap();
    std::fs::write(files.path("broken.yaml"), "a: [1\nb: }").unwrap();
    std::fs::write(files.path("other.yaml"), "apiVersion: v1\nkind: Pod\n").unwrap();
    for (name, expected) in [
        ("missing.yaml", "cannot read the kubelet configuration"),
        ("empty.yaml", "the kubelet configuration is empty"),
        ("broken.yaml", "cannot parse it"),
        ("other.yaml", "unknown apiVersion and kind \"v1\", \"Pod\""),
    ] {
        let errors = invoke(&["--config", &files.path(name)]).unwrap_err();
        assert!(errors[0].contains(name) && errors[0].contains(expected), "{errors:?}");
    }
    assert!(invoke(&["--config-dir=/no/such/folder"]).unwrap_err()[0].contains("/no/such/folder"));
}

#[test]
fn credentials_in_headers_stay_out_of_log_and_debug_form() {
    let flags = ["--manifest-url=http://x/", "--manifest-url-header=Authorization:s3cret"];
    let loaded = with_document("", &flags).unwrap();
    assert_eq!(loaded.config.sources.static_pod_url_headers.0["Authorization"], ["s3cret"]);
    assert!(!format!("{loaded:?}").contains("s3cret"));
    assert!(!loaded.config.document_json_for_log().to_string().contains("s3cret"));
}

proptest::proptest! {
    #[test]
    fn no_document_makes_it_panic(text in "[a-zA-Z:{}\\[\\], \n\"0-9.%-]{0,80}") {
        let tree = Tree::parse(&text);
        if let Ok(tree) = tree {
            let mut findings = Findings::default();
            let mut document = KubeletConfiguration::decode(&tree, "", &mut findings).unwrap_or_default();
            fill(&mut document, &CommandLine::default(), &mut Findings::default());
            validate::check(&document, &FeatureGates::default(), &mut findings);
        }
    }
}
