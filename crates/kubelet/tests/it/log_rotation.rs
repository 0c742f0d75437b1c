//! Logs that have grown, of containers of a runtime that takes its time.

use crate::fake::{FakeRuntime, beside};
use crate::process::Lab;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, uid: web-uid}
spec:
  containers:
  - {name: a, image: 'i:1'}
  - {name: b, image: 'i:1'}
";

const NAME: &str = "default/web-node-1";

#[tokio::test]
async fn as_many_are_rotated_at_once_as_there_are_workers() {
    for (workers, wanted) in [("", "1"), ("containerLogMaxWorkers: 2\n", "2")] {
        let lab = Lab::new().with(workers);
        lab.write("manifests/web.yaml", POD);
        let folder = lab.path("manifests");
        let lab = lab
            .with(&format!("staticPodPath: {}\n", folder.display()))
            .with("containerLogMaxSize: 8Ki\ncontainerLogMonitorInterval: 3s\n")
            .flag("--hostname-override=node-1");
        let runtime = FakeRuntime::serve(&lab);
        let rotated = async {
            runtime.command(&format!("hang {NAME} ReopenContainerLog")).await;
            runtime.command("counted StartContainer 2").await;
            for name in ["a", "b"] {
                let log = format!("logs/default_web-node-1_web-uid/{name}/0.log");
                lab.write(&log, &"a line\n".repeat(2000));
            }
            runtime.command(&format!("counted ReopenContainerLog {wanted}")).await;
            let count = runtime.command("count ReopenContainerLog").await;
            runtime.command(&format!("release {NAME}")).await;
            runtime.command("counted ReopenContainerLog 2").await;
            count
        };
        assert_eq!(beside(&lab, rotated).await.0, wanted, "{workers:?}");
    }
}
