//! What keeps a kubelet from starting: exit code 1, and the reason in the last line of the log.

use std::net::TcpListener;

use crate::process::Lab;
use crate::runtime;

/// Runs it and checks that all parts are in the reason.
async fn refused(lab: &Lab, parts: &[&str]) {
    let ended = lab.run().await;
    let reason = ended.last();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(reason.starts_with(r#""command failed" err="#), "{}", ended.stderr);
    for part in parts {
        assert!(reason.contains(part), "{part}: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn a_configuration_with_a_mistake() {
    refused(&Lab::new().with("maxPods: -1\n"), &["maxPods"]).await;
    refused(&Lab::new().flag("--nope"), &["--nope"]).await;
    refused(&Lab::new().flag("--config=/no/such/file"), &["/no/such/file"]).await;
    refused(&Lab::new().flag("start"), &["start"]).await;
}

#[tokio::test]
async fn several_mistakes_are_one_entry_of_the_log() {
    let ended = Lab::new().with("maxPods: -1\nimageGCHighThresholdPercent: 101\n").run().await;
    assert_eq!(ended.code, Some(1));
    let (_, entry) = ended.stderr.split_once(r#""command failed" err=<"#).unwrap();
    for part in ["\n\t", "maxPods", "imageGCHighThresholdPercent", "\n >\n"] {
        assert!(entry.contains(part), "{part:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn no_container_runtime() {
    refused(&Lab::new(), &["CRI v1 runtime API", "cri.sock", "No such file or directory"]).await;
}

#[tokio::test]
async fn a_root_folder_that_cannot_be_made() {
    let lab = Lab::new().flag("--root-dir=/proc/no/kubelet");
    runtime::serve(&lab.path("cri.sock"));
    refused(&lab, &["/proc/no/kubelet"]).await;
}

#[tokio::test]
async fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let lab = Lab::new().with(&format!(
        "enableServer: true\naddress: 127.0.0.1\nport: {}\nauthorization: {{mode: AlwaysAllow}}\n\
         authentication: {{webhook: {{enabled: false}}, anonymous: {{enabled: true}}}}\n",
        address.port()
    ));
    runtime::serve(&lab.path("cri.sock"));
    let holder = format!("process {}", std::process::id());
    refused(&lab, &["failed to listen on", &address.to_string(), &holder, "in use"]).await;
}

#[tokio::test]
async fn nobody_to_ask_who_is_asking() {
    let lab = Lab::new().with("enableServer: true\n");
    refused(&lab, &["cannot use webhook authentication", "--kubeconfig"]).await;
}

#[tokio::test]
async fn no_kubeconfig_where_there_should_be_one() {
    let lab = Lab::new().flag("--kubeconfig=/no/such/kubeconfig");
    runtime::serve(&lab.path("cri.sock"));
    refused(&lab, &["/no/such/kubeconfig"]).await;
}

#[tokio::test]
async fn swap() {
    let lab = Lab::new();
    lab.write("swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2\n");
    refused(&lab, &["swap", "/dev/sda2", "failSwapOn"]).await;
}

#[tokio::test]
async fn more_reserved_than_there_is() {
    let lab = Lab::new().with("systemReserved: {cpu: '100000'}\n");
    runtime::serve(&lab.path("cri.sock"));
    refused(&lab, &["Node Allocatable", "cpu", "has a reservation of 100k"]).await;
    refused(&Lab::new().with("reservedSystemCPUs: '65535'\n"), &["reservedSystemCPUs", "[65535]"]).await;
}

#[tokio::test]
async fn processes_of_the_system_in_the_root() {
    let lab = Lab::new().with("cgroupRoot: /\nsystemCgroups: /\n");
    runtime::serve(&lab.path("cri.sock"));
    refused(&lab, &["systemCgroups has to name a cgroup below the root"]).await;
}

#[tokio::test]
async fn killing_all_of_a_container_without_cgroup_v2() {
    // A host with cgroup v2 goes on to the runtime, which is not there.
    let is_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let expect = if is_v2 { "cri.sock" } else { "singleProcessOOMKill" };
    refused(&Lab::new().with("singleProcessOOMKill: false\n"), &[expect]).await;
}

#[tokio::test]
async fn a_kernel_that_is_not_to_be_changed() {
    let lab = Lab::new().with("protectKernelDefaults: true\n");
    lab.write("sys/vm/overcommit_memory", "0");
    runtime::serve(&lab.path("cri.sock"));
    refused(&lab, &["vm/overcommit_memory, expected value: 1, actual value: 0"]).await;
    assert_eq!(lab.read("sys/vm/overcommit_memory"), "0");
}

#[tokio::test]
async fn a_watchdog_that_cannot_be_fed() {
    refused(&Lab::new().variable("WATCHDOG_USEC", "soon"), &["WATCHDOG_USEC", "soon"]).await;
    refused(&Lab::new().variable("WATCHDOG_USEC", "1000"), &["watchdog", "too small"]).await;
}

#[tokio::test]
async fn a_lock_that_cannot_be_had() {
    refused(&Lab::new().flag("--exit-on-lock-contention"), &["no lock file specified"]).await;
    refused(&Lab::new().flag("--lock-file=/no/such/lock"), &["/no/such/lock"]).await;
}

#[tokio::test]
async fn whoever_is_not_root_is_told() {
    let mut lab = Lab::new();
    // In a user namespace that knows nobody, the kubelet is nobody to itself.
    lab.becomes = vec!["unshare", "--user"];
    let ended = lab.run().await;
    assert_eq!(ended.code, Some(1), "no runtime");
    let line = r#""Kubelet running with insufficient permissions" err="kubelet needs to run as uid `0`. It is being run as "#;
    assert!(ended.stderr.contains(line), "{}", ended.stderr);
}
