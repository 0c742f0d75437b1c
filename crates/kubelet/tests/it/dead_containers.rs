//! How many dead containers stay, by the deprecated flags that say so.

use std::time::Duration;

use crate::fake::{Call, FakeRuntime, beside};
use crate::process::Lab;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: 'i:1'}
  - {name: b, image: 'i:1'}
  - {name: stays, image: 'i:1'}
";

const NAME: &str = "default/web-node-1";

/// The calls for a pod of whose three containers two have ended, when that many were removed.
async fn removed(flags: &[&str], number: usize) -> Vec<Call> {
    let mut lab = Lab::new();
    lab.write("manifests/web.yaml", POD);
    let folder = lab.path("manifests");
    lab = lab.with(&format!("staticPodPath: {}\n", folder.display())).flag("--hostname-override=node-1");
    for flag in flags {
        lab = lab.flag(*flag);
    }
    let runtime = FakeRuntime::serve(&lab);
    let ends = async {
        runtime.command("counted StartContainer 3").await;
        for name in ["a", "b"] {
            runtime.command(&format!("end {NAME} 0 {name}")).await;
        }
        runtime.command(&format!("counted RemoveContainer {number}")).await;
    };
    beside(&lab, ends).await;
    runtime.calls(NAME).await
}

#[tokio::test]
async fn none_of_each_stays() {
    removed(&["--maximum-dead-containers-per-container=0"], 2).await;
}

#[tokio::test]
async fn one_on_the_node_stays() {
    removed(&["--maximum-dead-containers=1"], 1).await;
}

#[tokio::test]
async fn a_young_one_stays_until_it_is_old_enough() {
    let age = Duration::from_secs(3);
    let flags = ["--maximum-dead-containers-per-container=0", "--minimum-container-ttl-duration=3s"];
    let calls = removed(&flags, 1).await;
    let first = |name: &str| calls.iter().find(|call| call.name == name).unwrap().start;
    let lived = Duration::from_nanos(first("RemoveContainer") - first("CreateContainer"));
    assert!(lived >= age, "it is removed after {lived:?}");
}
