//! What a kubelet says and does while it runs, and how it ends.

use rustix::process::Signal;

use crate::process::{DEADLINE, Ended, Lab, Systemd, ended, signal};
use crate::runtime;

/// A kubelet that has started, and the systemd that was told.
pub(crate) async fn started(lab: Lab) -> (Lab, tokio::process::Child, Systemd) {
    runtime::serve(&lab.path("cri.sock"));
    let path = lab.path("notify");
    let systemd = Systemd::listen(&path);
    let lab = lab.variable("NOTIFY_SOCKET", path.display().to_string());
    let mut child = lab.start();
    loop {
        if systemd.notice(&mut child).await == "READY=1" {
            return (lab, child, systemd);
        }
    }
}

#[tokio::test]
async fn a_signal_ends_it_with_status_0() {
    for (kind, last) in
        [(Signal::TERM, "Received SIGTERM, shutting down"), (Signal::INT, "Received SIGINT, shutting down")]
    {
        let (_lab, child, _systemd) = started(Lab::new()).await;
        signal(&child, kind);
        let Ended { code, stdout, stderr } = ended(child).await;
        assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
        for line in ["Kubelet version", "Standalone mode", "Started kubelet", last] {
            assert!(stderr.contains(line), "{line}: {stderr}");
        }
        assert!(!stderr.lines().any(|line| line.starts_with('E')), "{stderr}");
    }
}

#[tokio::test]
async fn the_watchdog_is_fed_until_the_end() {
    let lab = Lab::new().variable("WATCHDOG_USEC", "2000000");
    let (_lab, mut child, systemd) = started(lab).await;
    for _ in 0..2 {
        assert_eq!(systemd.notice(&mut child).await, "WATCHDOG=1");
    }
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
}

#[tokio::test]
async fn the_kernel_and_the_folders_are_set_up() {
    let lab = Lab::new();
    lab.write("sys/kernel/panic", "0");
    lab.write("sys/vm/overcommit_memory", "2");
    let (lab, child, _systemd) = started(lab).await;
    assert_eq!(lab.read("sys/kernel/panic"), "10");
    assert_eq!(lab.read("sys/vm/overcommit_memory"), "1");
    for name in ["root/pods", "root/plugins", "root/plugins_registry", "logs"] {
        assert!(lab.path(name).is_dir(), "{name}");
    }
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
}

#[tokio::test]
async fn it_gives_way_to_whoever_opens_its_lock_file() {
    let lab = Lab::new();
    let lock = lab.path("lock");
    let flag = format!("--lock-file={}", lock.display());
    let (lab, child, _systemd) = started(lab.flag(flag.clone()).flag("--exit-on-lock-contention")).await;
    // The next kubelet opens the file and waits for its lock.
    let next_runtime = Lab::new();
    runtime::serve(&next_runtime.path("cri.sock"));
    let path = next_runtime.path("notify");
    let systemd = Systemd::listen(&path);
    let next = next_runtime.flag(flag).variable("NOTIFY_SOCKET", path.display().to_string());
    let mut next_child = next.start();
    let first = ended(child).await;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stderr.contains("opened or removed the lock file"), "{}", first.stderr);
    assert_eq!(systemd.notice(&mut next_child).await, "READY=1");
    signal(&next_child, Signal::TERM);
    assert_eq!(ended(next_child).await.code, Some(0));
    drop(lab);
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_the_lock() {
    let lab = Lab::new();
    let lock = lab.path("lock");
    let held = std::fs::File::create(&lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let lab = lab.flag(format!("--lock-file={}", lock.display()));
    let mut child = lab.start();
    let mut lines = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let waiting = async {
        let mut line = String::new();
        while !line.contains("Acquiring file lock") {
            line.clear();
            let read = tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.unwrap();
            assert_ne!(read, 0, "it ended");
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap();
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
}

#[tokio::test]
async fn json_goes_to_two_streams_when_asked_to() {
    let document = "featureGates: {LoggingAlphaOptions: true}\n\
                    logging: {format: json, options: {json: {infoBufferSize: 64Ki}}}\n";
    // In the document it counts for nothing, as with upstream.
    let lab = Lab::new().with(document).flag("--log-json-split-stream");
    let ended = lab.run().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let lines = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (messages, errors) = (lines(&ended.stdout), lines(&ended.stderr));
    assert!(messages.iter().any(|line| line["msg"] == "Kubelet version" && line["v"] == 0));
    let last = errors.last().unwrap();
    assert_eq!(last["msg"], "command failed");
    assert!(last["err"].as_str().unwrap().contains("cri.sock"));
    assert!(last.get("v").is_none());
}

#[tokio::test]
async fn the_version_and_the_help_are_no_log() {
    let ended = Lab::new().flag("--version").run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.starts_with("Kubernetes v1."), "{}", ended.stdout);
    let ended = Lab::new().flag("--help").run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains("--exit-on-lock-contention"));
}
