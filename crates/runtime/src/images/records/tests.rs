//! With files in a real folder, some of them as upstream's kubelet leaves them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;

use super::document::{
    AccountCredential, CredentialMapping, SecretCredential, decode_intent, encode_intent, file_name,
};
use super::*;
use crate::images::keyring::{Coordinates, Origin};

const IMAGE: &str = "r.example/team/app:1";
const REPOSITORY: &str = "r.example/team/app";
const ID: &str = "sha256:1";

struct Lab {
    root: tempfile::TempDir,
    metrics: Arc<Metrics>,
}

impl Lab {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), metrics: Arc::default() }
    }

    fn open(&self, verification: ImageVerification) -> PullRecords {
        self.open_for(verification, 110)
    }

    fn open_for(&self, verification: ImageVerification, pods: usize) -> PullRecords {
        let limits = PullLimits { pods, parallel: 1 };
        PullRecords::open(self.root.path(), verification, limits, self.metrics.clone()).unwrap()
    }

    fn path(&self, folder: &str, of: &str) -> PathBuf {
        self.root.path().join("image_manager").join(folder).join(file_name(of))
    }

    fn put(&self, folder: &str, of: &str, text: &str) {
        let path = self.path(folder, of);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, folder: &str, of: &str) -> Option<String> {
        fs::read_to_string(self.path(folder, of)).ok()
    }

    /// What is noted of who opened the repository.
    fn mapping(&self) -> serde_json::Value {
        let text = self.text("pulled", ID).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        record["credentialMapping"][REPOSITORY].clone()
    }

    fn is_pulling(&self) -> bool {
        self.text("pulling", IMAGE).is_some()
    }

    fn checks(&self, result: &str) -> u64 {
        self.metrics.image_pull_checks.with([result]).get()
    }
}

fn of_secret(name: &str, uid: &str, password: &str) -> Credentials {
    let place = Coordinates { namespace: "ns".into(), name: name.into(), uid: uid.into() };
    Credentials { password: password.into(), origin: Origin::Secret(place), ..Credentials::default() }
}

fn of_account(name: &str, uid: &str) -> Credentials {
    let place = Coordinates { namespace: "ns".into(), name: name.into(), uid: uid.into() };
    Credentials { origin: Origin::ServiceAccount(place), ..Credentials::default() }
}

fn of_node() -> Credentials {
    Credentials { password: "node's".into(), ..Credentials::default() }
}

async fn pulled(records: &PullRecords, used: Option<&Credentials>) {
    records.begin(IMAGE).await.unwrap().succeeded(&ID.into(), used).await;
}

async fn allowed(records: &PullRecords, image: &str, offered: &[Credentials]) -> bool {
    records.allow(image, &ID.into(), async |_| offered.to_vec()).await
}

/// Who asks for credentials that decide nothing costs each start a file or a program.
async fn allowed_to_anybody(records: &PullRecords, image: &str) -> bool {
    records.allow(image, &ID.into(), async |_| panic!("credentials are asked for")).await
}

// ---- documents ----

/// As upstream's kubelet v1.37 writes them, to the byte.
const WRITTEN: [&str; 4] = [
    "{\"kind\":\"ImagePulledRecord\",\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\
     \"lastUpdatedTime\":\"2026-02-03T04:05:06Z\",\"imageRef\":\"sha256:1\"}\n",
    "{\"kind\":\"ImagePulledRecord\",\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\
     \"lastUpdatedTime\":\"2026-02-03T04:05:06Z\",\"imageRef\":\"sha256:1\",\"credentialMapping\":\
     {\"a/b\":{\"nodePodsAccessible\":true}}}\n",
    "{\"kind\":\"ImagePulledRecord\",\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\
     \"lastUpdatedTime\":\"2026-02-03T04:05:06Z\",\"imageRef\":\"sha256:1\",\"credentialMapping\":\
     {\"a/b\":{\"kubernetesSecrets\":[{\"uid\":\"u\",\"namespace\":\"n\",\"name\":\"s\",\
     \"credentialHash\":\"00ff\"}],\"kubernetesServiceAccounts\":[{\"uid\":\"u\",\"namespace\":\"n\",\
     \"name\":\"sa\"}]},\"c\":{}}}\n",
    "{\"kind\":\"ImagePulledRecord\",\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\
     \"lastUpdatedTime\":null,\"imageRef\":\"\"}\n",
];

#[test]
fn records_are_read_and_written_as_upstream_does() {
    for text in WRITTEN {
        let read = Record::decode(text.as_bytes()).unwrap();
        assert_eq!((read.is_current, read.content.encode().unwrap().as_str()), (true, text));
        let former = text.replace("v1beta1", "v1alpha1");
        let read = Record::decode(former.as_bytes()).unwrap();
        assert_eq!((read.is_current, read.content.encode().unwrap().as_str()), (false, text));
    }
    let intent = "{\"kind\":\"ImagePullIntent\",\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\
                  \"image\":\"a/b:1\"}\n";
    assert_eq!(encode_intent("a/b:1").unwrap(), intent);
    assert_eq!(decode_intent(intent.as_bytes()).unwrap().content, "a/b:1");
}

#[test]
fn what_is_no_record_is_refused_without_showing_it() {
    let good = WRITTEN[1];
    for text in [
        "",
        "hunter2",
        "[]",
        &good[..good.len() - 2],
        &good.replace("v1beta1", "v2"),
        &good.replace("ImagePulledRecord", "ImagePullIntent"),
        // Upstream is strict too.
        &good.replace("\"imageRef\"", "\"more\":\"hunter2\",\"imageRef\""),
        &good.replace("true", "\"yes\""),
    ] {
        let error = Record::decode(text.as_bytes()).err().unwrap_or_else(|| panic!("{text:?} is read"));
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(decode_intent(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn files_are_named_by_the_digest_of_what_they_are_about() {
    assert_eq!(
        file_name("busybox"),
        "sha256-9d75f0d7c398df565d7ac04c6819b62d6d8f9560f5eb4672596ecd8f7e96ae91"
    );
}

// ---- rules ----

fn opener(name: &str, uid: &str, password: &str) -> SecretCredential {
    match Proof::of(Some(&of_secret(name, uid, password))) {
        Proof::Secret(secret) => secret,
        other => panic!("{other:?}"),
    }
}

fn account(name: &str, uid: &str) -> AccountCredential {
    AccountCredential { uid: uid.into(), namespace: "ns".into(), name: name.into() }
}

fn known(secrets: Vec<SecretCredential>, accounts: Vec<AccountCredential>) -> CredentialMapping {
    CredentialMapping {
        kubernetes_secrets: secrets,
        kubernetes_service_accounts: accounts,
        node_pods_accessible: false,
    }
}

#[test]
fn a_pod_fits_by_content_or_place_of_a_secret_or_by_its_account() {
    let both = || known(vec![opener("s", "1", "p")], vec![account("sa", "1")]);
    let noteworthy =
        |name: &str, uid: &str, password: &str| Fit::Noteworthy(Proof::Secret(opener(name, uid, password)));
    for (offered, expected) in [
        (vec![], Fit::Unknown),
        (vec![of_node()], Fit::Unknown),
        (vec![of_secret("s", "1", "p")], Fit::Known),
        (vec![of_secret("other", "2", "p")], noteworthy("other", "2", "p")),
        (vec![of_secret("s", "1", "new")], noteworthy("s", "1", "new")),
        // One of that name, made anew.
        (vec![of_secret("s", "2", "new")], Fit::Unknown),
        (vec![of_secret("other", "2", "new"), of_secret("s", "1", "p")], Fit::Known),
        (vec![of_account("sa", "1")], Fit::Known),
        (vec![of_account("sa", "2")], Fit::Unknown),
        (vec![of_secret("other", "2", "new"), of_account("sa", "1")], Fit::Known),
    ] {
        assert_eq!(fit(&both(), &offered), expected, "{offered:?}");
    }
}

#[test]
fn a_digest_that_could_not_be_made_fits_nothing() {
    let broken = SecretCredential { credential_hash: String::new(), ..opener("s", "1", "p") };
    assert_eq!(fit(&known(vec![broken], vec![]), &[of_secret("other", "2", "p")]), Fit::Unknown);
}

#[test]
fn with_a_hundred_secrets_no_more_are_noted_without_a_pull() {
    let all = (0..100).map(|number| opener(&format!("s{number}"), "1", "p")).collect();
    let full = known(all, vec![]);
    assert_eq!(fit(&full, &[of_secret("other", "2", "p")]), Fit::Known);
    assert_eq!(fit(&full, &[of_secret("s5", "1", "new")]), Fit::Unknown);
}

#[test]
fn proofs_add_up() {
    let node = || CredentialMapping { node_pods_accessible: true, ..CredentialMapping::default() };
    let one = || known(vec![opener("b", "1", "p")], vec![]);
    let secret = |name: &str, password: &str| Proof::Secret(opener(name, "1", password));
    for (before, proof, after) in [
        (None, secret("b", "p"), Some(one())),
        (None, Proof::Everybody, Some(node())),
        (Some(one()), secret("b", "p"), None),
        (Some(one()), secret("b", "q"), Some(known(vec![opener("b", "1", "q")], vec![]))),
        (
            Some(one()),
            secret("a", "p"),
            Some(known(vec![opener("a", "1", "p"), opener("b", "1", "p")], vec![])),
        ),
        (
            Some(one()),
            Proof::Account(account("sa", "1")),
            Some(known(vec![opener("b", "1", "p")], vec![account("sa", "1")])),
        ),
        (Some(known(vec![], vec![account("sa", "1")])), Proof::Account(account("sa", "1")), None),
        (
            Some(known(vec![], vec![account("sa", "2")])),
            Proof::Account(account("sa", "1")),
            Some(known(vec![], vec![account("sa", "1"), account("sa", "2")])),
        ),
        // Nobody has to prove anything any more.
        (Some(one()), Proof::Everybody, Some(node())),
        (Some(node()), secret("b", "p"), None),
        (Some(node()), Proof::Everybody, None),
    ] {
        let mut record = Record::new(ID);
        record.credential_mapping.extend(before.clone().map(|mapping| (REPOSITORY.to_owned(), mapping)));
        record.credential_mapping.insert("other".to_owned(), one());
        let now = Timestamp::from_nanosecond(5_700_000_000).unwrap();
        let changed = with_proof(&record, REPOSITORY, &proof, now);
        let noted = changed.as_ref().map(|record| record.credential_mapping[REPOSITORY].clone());
        assert_eq!(noted, after, "{before:?} {proof:?}");
        if let Some(changed) = changed {
            assert_eq!(changed.last_updated_time, Timestamp::from_second(5).ok());
            assert_eq!(changed.credential_mapping["other"], one());
        }
    }
}

// ---- pulls and their notes ----

#[tokio::test]
async fn a_pull_leaves_a_note_of_what_opened_the_image() {
    for (used, expected) in [
        (None, json!({"nodePodsAccessible": true})),
        (Some(of_node()), json!({"nodePodsAccessible": true})),
        (
            Some(of_secret("s", "1", "p")),
            json!({"kubernetesSecrets": [{"uid": "1", "namespace": "ns", "name": "s",
                "credentialHash": of_secret("s", "1", "p").digest()}]}),
        ),
        (
            Some(of_account("sa", "1")),
            json!({"kubernetesServiceAccounts": [{"uid": "1", "namespace": "ns", "name": "sa"}]}),
        ),
    ] {
        let lab = Lab::new();
        let records = lab.open(ImageVerification::Pulled);
        let pull = records.begin(IMAGE).await.unwrap();
        let intent = "{\"kind\":\"ImagePullIntent\",\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\
                      \"image\":\"r.example/team/app:1\"}\n";
        assert_eq!(lab.text("pulling", IMAGE).as_deref(), Some(intent));
        assert_eq!(lab.metrics.pull_intents_on_disk.get(), 1.0);
        pull.succeeded(&ID.into(), used.as_ref()).await;
        assert_eq!((lab.mapping(), lab.is_pulling()), (expected, false));
        let gauges = [&lab.metrics.pull_intents_on_disk, &lab.metrics.pull_records_on_disk];
        assert_eq!(gauges.map(|gauge| gauge.get()), [0.0, 1.0]);
        for (path, mode) in [
            (lab.path("pulled", ID), 0o600),
            (lab.root.path().join("image_manager/pulled"), 0o700),
            (lab.root.path().join("image_manager/pulling"), 0o700),
        ] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }
}

#[tokio::test]
async fn the_last_pull_that_ends_deletes_the_note_of_them() {
    let lab = Lab::new();
    let records = lab.open(ImageVerification::Pulled);
    let (one, two) = (records.begin(IMAGE).await.unwrap(), records.begin(IMAGE).await.unwrap());
    one.failed().await;
    assert!(lab.is_pulling());
    two.failed().await;
    assert!(!lab.is_pulling() && lab.text("pulled", ID).is_none());
    assert!(allowed_to_anybody(&records, IMAGE).await, "no kubelet has pulled it");
}

#[tokio::test]
async fn a_pull_given_up_may_have_succeeded() {
    let lab = Lab::new();
    let records = lab.open(ImageVerification::Pulled);
    drop(records.begin(IMAGE).await.unwrap());
    assert!(!allowed(&records, IMAGE, &[]).await);
    // That says nothing of the first.
    records.begin(IMAGE).await.unwrap().failed().await;
    assert!(lab.is_pulling() && !allowed(&records, IMAGE, &[]).await);
    // Nor does the next process know, whatever becomes of its own.
    let next = lab.open(ImageVerification::Pulled);
    assert!(!allowed(&next, IMAGE, &[]).await);
    next.begin(IMAGE).await.unwrap().failed().await;
    assert!(!allowed(&next, IMAGE, &[]).await);
    let other = records.begin(IMAGE).await.unwrap();
    pulled(&records, Some(&of_secret("s", "1", "p"))).await;
    assert!(lab.is_pulling(), "one is still under way");
    other.failed().await;
    assert!(!lab.is_pulling());
    assert!(allowed(&records, IMAGE, &[of_secret("s", "1", "p")]).await);
}

#[tokio::test]
async fn an_image_that_is_being_pulled_is_nobodys_yet() {
    let lab = Lab::new();
    let records = lab.open(ImageVerification::Pulled);
    let pull = records.begin(IMAGE).await.unwrap();
    assert!(!allowed(&records, IMAGE, &[of_secret("s", "1", "p")]).await);
    assert!(allowed_to_anybody(&records, "r.example/other:1").await);
    pull.failed().await;
    assert!(allowed_to_anybody(&records, IMAGE).await);
    assert_eq!((lab.checks("mustAuthenticate"), lab.checks("credentialPolicyAllowed")), (1, 2));
}

#[tokio::test]
async fn a_note_that_cannot_be_written_forbids_the_pull() {
    let lab = Lab::new();
    let records = lab.open(ImageVerification::Pulled);
    fs::remove_dir(lab.root.path().join("image_manager/pulling")).unwrap();
    let error = records.begin(IMAGE).await.unwrap_err();
    assert!(error.to_string().starts_with("replace "), "{error}");
    assert!(allowed_to_anybody(&records, IMAGE).await);
}

// ---- who may use an image ----

#[tokio::test]
async fn policies_differ_where_no_kubelet_pulled_the_image() {
    let listed = || ImageVerification::Unlisted(vec![REPOSITORY.to_owned()]);
    for (verification, is_pulled, is_allowed) in [
        (ImageVerification::Never, false, true),
        (ImageVerification::Never, true, true),
        (ImageVerification::Pulled, false, true),
        (ImageVerification::Pulled, true, false),
        (listed(), true, true),
        (ImageVerification::Unlisted(vec![]), false, false),
        (ImageVerification::Always, false, false),
        (ImageVerification::Always, true, false),
    ] {
        let lab = Lab::new();
        let records = lab.open(verification.clone());
        if is_pulled {
            pulled(&records, Some(&of_secret("s", "1", "p"))).await;
        }
        assert_eq!(allowed(&records, IMAGE, &[]).await, is_allowed, "{verification:?} {is_pulled}");
        // A start after a restart is none of another kind.
        let again = lab.open(verification.clone());
        assert_eq!(allowed(&again, IMAGE, &[]).await, is_allowed, "{verification:?} {is_pulled}");
        let result = if is_allowed { "credentialPolicyAllowed" } else { "mustAuthenticate" };
        assert_eq!(lab.checks(result), 2);
    }
}

#[tokio::test]
async fn what_anybody_can_pull_anybody_can_use() {
    let lab = Lab::new();
    let records = lab.open(ImageVerification::Always);
    pulled(&records, None).await;
    assert!(allowed_to_anybody(&records, IMAGE).await);
    assert!(allowed_to_anybody(&records, "r.example/team/app@sha256:00").await, "tags do not matter");
    // Another name for the same image is another repository, which may have other readers.
    assert!(!allowed_to_anybody(&records, "r.example/mirror/app:1").await);
    assert_eq!((lab.checks("credentialRecordFound"), lab.checks("mustAuthenticate")), (2, 1));
}

#[tokio::test]
async fn only_credentials_that_can_decide_it_are_asked_for() {
    for (used, wanted) in [
        (of_secret("s", "1", "p"), Wanted { secrets: true, accounts: false }),
        (of_account("sa", "1"), Wanted { secrets: false, accounts: true }),
    ] {
        let lab = Lab::new();
        let records = lab.open(ImageVerification::Pulled);
        pulled(&records, Some(&used)).await;
        let offers = async |asked| {
            assert_eq!(asked, wanted);
            vec![used.clone()]
        };
        assert!(records.allow(IMAGE, &ID.into(), offers).await);
    }
}

#[tokio::test]
async fn what_fits_is_noted_for_the_next_time() {
    let lab = Lab::new();
    let records = lab.open(ImageVerification::Pulled);
    pulled(&records, Some(&of_secret("s", "1", "p"))).await;
    assert!(!allowed(&records, IMAGE, &[of_secret("copy", "2", "q")]).await);
    assert!(allowed(&records, IMAGE, &[of_secret("copy", "2", "p")]).await);
    // It is known by its place now, with whatever is in it.
    assert!(allowed(&records, IMAGE, &[of_secret("copy", "2", "q")]).await);
    assert!(allowed(&lab.open(ImageVerification::Pulled), IMAGE, &[of_secret("third", "3", "q")]).await);
    let names: Vec<String> = serde_json::from_value(
        lab.mapping()["kubernetesSecrets"].as_array().unwrap().iter().map(|s| s["name"].clone()).collect(),
    )
    .unwrap();
    assert_eq!(names, ["copy", "s", "third"]);
}

// ---- files that others left ----

#[tokio::test]
async fn records_of_upstreams_kubelet_are_taken_over() {
    let lab = Lab::new();
    let digest = of_secret("s", "1", "p").digest();
    let record = format!(
        "{{\"kind\":\"ImagePulledRecord\",\"apiVersion\":\"kubelet.config.k8s.io/v1alpha1\",\
         \"lastUpdatedTime\":\"2025-06-07T08:09:10Z\",\"imageRef\":\"{ID}\",\"credentialMapping\":\
         {{\"{REPOSITORY}\":{{\"kubernetesSecrets\":[{{\"uid\":\"1\",\"namespace\":\"ns\",\"name\":\"s\",\
         \"credentialHash\":\"{digest}\"}}]}}}}}}\n"
    );
    let intent = "{\"kind\":\"ImagePullIntent\",\"apiVersion\":\"kubelet.config.k8s.io/v1alpha1\",\
                  \"image\":\"a:1\"}\n";
    lab.put("pulled", ID, &record);
    lab.put("pulling", "a:1", intent);
    let records = lab.open(ImageVerification::Pulled);
    assert!(!allowed(&records, IMAGE, &[]).await);
    assert!(allowed(&records, IMAGE, &[of_secret("s", "1", "p")]).await);
    // In the form of today, and the same otherwise.
    assert_eq!(lab.text("pulled", ID).unwrap(), record.replace("v1alpha1", "v1beta1"));
    assert_eq!(lab.text("pulling", "a:1").unwrap(), intent.replace("v1alpha1", "v1beta1"));
}

#[tokio::test]
async fn what_cannot_be_read_has_to_be_pulled_and_is_replaced_then() {
    let lab = Lab::new();
    lab.put("pulled", ID, "damaged");
    let records = lab.open(ImageVerification::Never);
    assert!(!allowed(&records, IMAGE, &[]).await, "as upstream, whatever the policy");
    assert_eq!(lab.checks("error"), 1);
    assert_eq!(lab.text("pulled", ID).as_deref(), Some("damaged"));
    let other = records.allow(IMAGE, &"sha256:2".into(), async |_| vec![]).await;
    assert!(other, "others are not affected");
    pulled(&records, None).await;
    assert_eq!(lab.mapping(), json!({"nodePodsAccessible": true}));
    assert!(allowed_to_anybody(&lab.open(ImageVerification::Always), IMAGE).await);
}

#[tokio::test]
async fn a_note_of_a_pull_that_cannot_be_read_is_in_doubt() {
    let lab = Lab::new();
    lab.put("pulling", IMAGE, "damaged");
    let records = lab.open(ImageVerification::Pulled);
    assert!(!allowed(&records, IMAGE, &[]).await);
    assert!(allowed_to_anybody(&records, "r.example/other:1").await);
    assert_eq!(lab.checks("error"), 1);
}

#[tokio::test]
async fn other_files_are_left_alone() {
    let lab = Lab::new();
    lab.open(ImageVerification::Pulled);
    let folder = lab.root.path().join("image_manager/pulled");
    let unfinished = format!("{}.tmp", file_name(ID));
    for name in [unfinished.as_str(), "notes", ".hidden"] {
        fs::write(folder.join(name), "damaged").unwrap();
    }
    fs::create_dir(folder.join("sha256-folder")).unwrap();
    let records = lab.open(ImageVerification::Pulled);
    assert_eq!(lab.metrics.pull_records_on_disk.get(), 0.0);
    assert!(allowed_to_anybody(&records, IMAGE).await);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 4);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_read() {
    let lab = Lab::new();
    let records = lab.open(ImageVerification::Always);
    let ids: Vec<String> = (0..8).map(|number| format!("sha256:{number}")).collect();
    for id in &ids {
        records.begin(IMAGE).await.unwrap().succeeded(&id.as_str().into(), None).await;
    }
    // For one pod, five are kept.
    let records = lab.open_for(ImageVerification::Always, 1);
    assert_eq!(lab.metrics.pull_records_in_memory.get(), 100.0);
    for id in &ids {
        assert!(records.allow(IMAGE, &id.as_str().into(), async |_| vec![]).await, "{id}");
    }
    assert!(!records.allow(IMAGE, &"sha256:9".into(), async |_| vec![]).await);
}
