//! What is noted of pulls at a real socket, and what becomes of it when the process ends.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use config::ImageVerification;
use runtime::images::{Coordinates, Credentials, Origin, PullLimits, PullRecords};
use runtime::sandbox::{self, SandboxInputs, SandboxSpec};
use runtime::wire::Image;
use runtime::{NodeSettings, RuntimeSettings};
use tonic::Status;

use crate::fake::{Fake, Served};

const IMAGE: &str = "r.example/app:1";

fn open(root: &Path) -> PullRecords {
    let limits = PullLimits { pods: 110, parallel: 1 };
    PullRecords::open(root, ImageVerification::Pulled, limits, Arc::default()).unwrap()
}

fn of_secret(name: &str, password: &str) -> Credentials {
    let place = Coordinates { namespace: "ns".into(), name: name.into(), uid: "u".into() };
    Credentials {
        username: name.into(),
        password: password.into(),
        origin: Origin::Secret(place),
        ..Credentials::default()
    }
}

fn sandbox() -> SandboxSpec {
    let pod = serde_json::from_str(r#"{"metadata": {"name": "p", "namespace": "n"}}"#).unwrap();
    sandbox::spec(&pod, &SandboxInputs::default(), &NodeSettings::default()).unwrap()
}

async fn is_allowed(records: &PullRecords, image: &str, id: &str, offered: &[Credentials]) -> bool {
    records.allow(image, &id.into(), async |_| offered.to_vec()).await
}

fn files(root: &Path, folder: &str) -> usize {
    fs::read_dir(root.join("image_manager").join(folder)).unwrap().count()
}

#[tokio::test]
async fn the_secret_that_was_accepted_opens_the_image_and_no_other_does() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    let served = Served::start(&fake, dir.path());
    let runtime = served.connect(RuntimeSettings::default());
    fake.0.lock().unwrap().pull_answers = vec![Err(Status::unauthenticated("denied")), Ok("sha256:1".into())];
    let records = open(dir.path());
    let credentials = [of_secret("wrong", "hunter1"), of_secret("right", "hunter2")];
    let pull = records.begin(IMAGE).await.unwrap();
    let (id, used) = runtime.pull(IMAGE, &credentials, &sandbox()).await.unwrap();
    pull.succeeded(&id, used).await;
    for records in [records, open(dir.path())] {
        assert!(is_allowed(&records, IMAGE, "sha256:1", &credentials[1..]).await);
        assert!(!is_allowed(&records, IMAGE, "sha256:1", &credentials[..1]).await);
        assert!(!is_allowed(&records, IMAGE, "sha256:1", &[]).await);
    }
    for entry in fs::read_dir(dir.path().join("image_manager/pulled")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.contains("\"right\"") && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn pulls_that_an_earlier_process_did_not_see_the_end_of_are_looked_up() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    let served = Served::start(&fake, dir.path());
    let runtime = served.connect(RuntimeSettings::default());
    let digest = format!("r.example/other@sha256:{}", "0".repeat(64));
    let records = open(dir.path());
    for image in [IMAGE, &digest, "r.example/absent:1"] {
        drop(records.begin(image).await.unwrap());
    }
    let known = of_secret("s", "p");
    records.begin("r.example/known:1").await.unwrap().succeeded(&"sha256:3".into(), Some(&known)).await;
    drop(records.begin("r.example/known:1").await.unwrap());
    fake.0.lock().unwrap().images = vec![
        Image { id: "sha256:1".into(), repo_tags: vec![IMAGE.into()], ..Default::default() },
        Image { id: "sha256:2".into(), repo_digests: vec![digest.clone()], ..Default::default() },
        Image { id: "sha256:3".into(), repo_tags: vec!["r.example/known:1".into()], ..Default::default() },
        Image { id: "sha256:4".into(), repo_tags: vec!["r.example/loaded:1".into()], ..Default::default() },
    ];
    let records = open(dir.path());
    records.adopt(&runtime).await;
    // They are here, and nobody has shown that it may use them.
    for (image, id) in [(IMAGE, "sha256:1"), (&digest, "sha256:2")] {
        assert!(!is_allowed(&records, image, id, std::slice::from_ref(&known)).await, "{image}");
    }
    assert!(is_allowed(&records, "r.example/known:1", "sha256:3", &[known]).await, "what was known stays");
    assert!(is_allowed(&records, "r.example/loaded:1", "sha256:4", &[]).await, "no kubelet pulled that");
    // What is not here may still come.
    assert_eq!((files(dir.path(), "pulling"), files(dir.path(), "pulled")), (1, 3));
    assert!(!is_allowed(&records, "r.example/absent:1", "sha256:5", &[]).await);
}

#[tokio::test]
async fn without_an_answer_of_the_runtime_notes_stay() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    let served = Served::start(&fake, dir.path());
    let runtime = served.connect(RuntimeSettings::default());
    drop(open(dir.path()).begin(IMAGE).await.unwrap());
    served.end().await;
    let records = open(dir.path());
    records.adopt(&runtime).await;
    assert_eq!(files(dir.path(), "pulling"), 1);
    assert!(!is_allowed(&records, IMAGE, "sha256:1", &[]).await);
}

#[tokio::test]
async fn records_go_with_their_images_unless_one_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    let served = Served::start(&fake, dir.path());
    let runtime = served.connect(RuntimeSettings::default());
    let records = open(dir.path());
    for id in ["sha256:1", "sha256:2", "r.example/named@sha256:3"] {
        records.begin(IMAGE).await.unwrap().succeeded(&id.into(), None).await;
    }
    fake.0.lock().unwrap().images = vec![
        Image { id: "sha256:1".into(), ..Default::default() },
        Image {
            id: "sha256:3".into(),
            repo_digests: vec!["r.example/named@sha256:3".into()],
            ..Default::default()
        },
    ];
    let pull = records.begin("r.example/other:1").await.unwrap();
    records.prune(&runtime).await.unwrap();
    assert_eq!(files(dir.path(), "pulled"), 3, "a pull is under way");
    pull.failed().await;
    records.prune(&runtime).await.unwrap();
    assert_eq!(files(dir.path(), "pulled"), 2);
    let is_known = async |id: &str| is_allowed(&records, IMAGE, id, &[]).await;
    assert!(is_known("sha256:1").await);
    // As if somebody had put it here: by this policy it is everybody's.
    assert!(is_known("sha256:2").await);
    assert_eq!(files(&dir.path().join("."), "pulling"), 0);
}
