//! How many images are pulled at once, and how often.

use crate::fake::{FakeRuntime, beside, until_logged};
use crate::process::Lab;

/// Three images that are always pulled.
const PULLS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: pulls}
spec:
  containers:
  - {name: a, image: 'a:1', imagePullPolicy: Always}
  - {name: b, image: 'b:1', imagePullPolicy: Always}
  - {name: c, image: 'c:1', imagePullPolicy: Always}
";

/// One that is there.
const OTHER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  containers:
  - {name: main, image: 'd:1', imagePullPolicy: IfNotPresent}
";

fn lab(document: &str) -> Lab {
    let lab = Lab::new().with(document);
    lab.write("manifests/pulls.yaml", PULLS);
    lab.write("manifests/other.yaml", OTHER);
    let folder = lab.path("manifests");
    lab.with(&format!("staticPodPath: {}\n", folder.display())).flag("--hostname-override=node-1")
}

#[tokio::test]
async fn as_many_are_under_way_as_may_be() {
    for (document, wanted) in [
        ("", "1"),
        ("serializeImagePulls: false\nmaxParallelImagePulls: 2\n", "2"),
        ("serializeImagePulls: false\n", "3"),
    ] {
        let lab = lab(document);
        let runtime = FakeRuntime::serve(&lab);
        runtime.command("hang default/pulls-node-1 PullImage").await;
        let pulled = async {
            runtime.command(&format!("counted PullImage {wanted}")).await;
            // Whoever has come this far has begun whatever else it may.
            runtime.command("asked CreateContainer default/other-node-1").await;
            let count = runtime.command("count PullImage").await;
            runtime.command("release default/pulls-node-1").await;
            runtime.command("counted PullImage 3").await;
            count
        };
        assert_eq!(beside(&lab, pulled).await.0, wanted, "{document:?}");
    }
}

#[tokio::test]
async fn one_too_many_a_second_fails() {
    let lab = lab("serializeImagePulls: false\nregistryPullQPS: 1\nregistryBurst: 1\n");
    FakeRuntime::serve(&lab);
    until_logged(&lab, "pull QPS exceeded").await;
}
