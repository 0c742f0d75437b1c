//! With programs that really run.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use config::List;
use serde_json::json;

use super::*;

struct Lab {
    folder: tempfile::TempDir,
    metrics: Arc<Metrics>,
    tokens: AtomicU32,
}

/// Counts its runs, keeps what it was asked, and answers with what is in a file.
const SCRIPT: &str = r#"#!/bin/sh
cat >"$0.asked"
echo "$KEY $*" >>"$0.runs"
test -e "$0.complaint" && { cat "$0.complaint" >&2; exit 3; }
cat "$0.answer"
"#;

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Self { folder, metrics: Arc::default(), tokens: AtomicU32::new(0) };
        fs::write(lab.path("text"), SCRIPT).unwrap();
        // Not written here: a program that anybody has open for writing cannot be run, and a test beside this one may just
        // be starting a process with a copy of this one's files.
        let installed = std::process::Command::new("install")
            .args(["-m", "755"])
            .args([lab.path("text"), lab.path("p")])
            .status();
        assert!(installed.unwrap().success());
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn answers(&self, mut answer: serde_json::Value) {
        answer["kind"] = json!("CredentialProviderResponse");
        answer["apiVersion"] = json!("credentialprovider.kubelet.k8s.io/v1");
        fs::write(self.path("p.answer"), answer.to_string()).unwrap();
    }

    fn programs(&self, token_attributes: Option<ServiceAccountTokenAttributes>) -> CredentialProviders {
        let settings = CredentialProvider {
            name: "p".to_owned(),
            match_images: List(Some(vec!["*.example".to_owned(), "r.example:5000/team".to_owned()])),
            default_cache_duration: Some(config::GoDuration::from_secs(60)),
            api_version: "credentialprovider.kubelet.k8s.io/v1".to_owned(),
            args: List(Some(vec!["one".to_owned(), "two".to_owned()])),
            env: List(Some(vec![config::ExecEnvVar {
                name: "KEY".into(),
                value: config::Secret("hunter2".into()),
            }])),
            token_attributes,
        };
        CredentialProviders::new(&[settings], self.folder.path(), &self.metrics)
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("p.runs")).unwrap_or_default().lines().count()
    }

    fn asked(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("p.asked")).unwrap()).unwrap()
    }
}

impl ServiceAccounts for Lab {
    async fn account(&self, namespace: &str, name: &str) -> Result<ServiceAccountFacts, String> {
        match name {
            "gone" => Err("not found".to_owned()),
            _ => Ok(ServiceAccountFacts {
                uid: format!("uid of {namespace}/{name}"),
                annotations: BTreeMap::from([("a/b".to_owned(), "c".to_owned())]),
            }),
        }
    }

    async fn token(&self, pod: &Pod, account: &str, audience: &str) -> Result<String, String> {
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        Ok(format!("{}/{account}/{audience}/{number}", pod::key(pod)))
    }
}

fn pod_of(account: &str) -> Pod {
    let pod = json!({"metadata": {"namespace": "ns", "name": "web", "uid": "u"},
        "spec": {"containers": [], "serviceAccountName": account}});
    serde_json::from_value(pod).unwrap()
}

async fn users(lab: &Lab, programs: &CredentialProviders, image: &str, account: &str) -> Vec<String> {
    programs.lookup(image, &pod_of(account), lab).await.into_iter().map(|known| known.username).collect()
}

fn attributes(cache_type: &str, required: &[&str]) -> Option<ServiceAccountTokenAttributes> {
    Some(ServiceAccountTokenAttributes {
        service_account_token_audience: "registry".to_owned(),
        cache_type: cache_type.to_owned(),
        require_service_account: Some(true),
        required_service_account_annotation_keys: List(Some(
            required.iter().map(|key| (*key).to_owned()).collect(),
        )),
        optional_service_account_annotation_keys: List(Some(vec!["x/y".to_owned()])),
    })
}

#[tokio::test]
async fn asks_and_uses_the_answer() {
    let lab = Lab::new();
    lab.answers(json!({"cacheKeyType": "Image", "auth": {
        "r.example": {"username": "all", "password": "p"},
        "r.example/a": {"username": "a", "password": "p"},
        "other.example": {"username": "no", "password": "p"}}}));
    let programs = lab.programs(None);
    assert_eq!(users(&lab, &programs, "r.example/a/b:1@sha256:00", "").await, ["a", "all"]);
    let asked = json!({"kind": "CredentialProviderRequest",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": "r.example/a/b"});
    assert_eq!(lab.asked(), asked);
    assert_eq!(fs::read_to_string(lab.path("p.runs")).unwrap(), "hunter2 one two\n");
    assert!(users(&lab, &programs, "docker.io/library/busybox:1", "").await.is_empty());
    assert_eq!(lab.runs(), 1, "the image is none of its own");
    assert_eq!(lab.metrics.credential_provider_duration.with(["p"]).count(), 1);
    assert!(!format!("{programs:?}").contains("hunter2"));
}

#[tokio::test]
async fn keeps_answers_as_far_and_as_long_as_they_say() {
    // Asked for r.example/a, then r.example/b, then s.example/a, then r.example/a.
    for (answer, runs) in [
        (json!({"cacheKeyType": "Image"}), [1, 2, 3, 3]),
        (json!({"cacheKeyType": "Registry"}), [1, 1, 2, 2]),
        (json!({"cacheKeyType": "Global", "cacheDuration": "5m"}), [1, 1, 1, 1]),
        (json!({"cacheKeyType": "Global", "cacheDuration": "0s"}), [1, 2, 3, 4]),
        (json!({"cacheKeyType": "Global", "cacheDuration": "1ns"}), [1, 2, 3, 4]),
        // Not used at all.
        (json!({"cacheKeyType": "Everything"}), [1, 2, 3, 4]),
        (json!({"cacheKeyType": "Global", "cacheDuration": "soon"}), [1, 2, 3, 4]),
        (json!({"cacheKeyType": "Global", "more": 1}), [1, 2, 3, 4]),
    ] {
        let lab = Lab::new();
        lab.answers(answer.clone());
        let programs = lab.programs(None);
        let mut seen = Vec::new();
        for image in ["r.example/a:1", "r.example/b:1", "s.example/a:1", "r.example/a:2"] {
            users(&lab, &programs, image, "").await;
            seen.push(lab.runs());
        }
        assert_eq!(seen, runs, "{answer}");
    }
}

#[tokio::test]
async fn one_run_serves_all_who_want_the_same() {
    let lab = Lab::new();
    lab.answers(json!({"cacheKeyType": "Image", "auth": {"r.example": {"username": "u", "password": "p"}}}));
    let programs = lab.programs(None);
    let all = futures::future::join_all((0..8).map(|_| users(&lab, &programs, "r.example/a:1", "")));
    assert!(all.await.iter().all(|users| users == &["u"]));
    assert_eq!(lab.runs(), 1);
}

#[tokio::test]
async fn a_failure_costs_only_the_credentials() {
    let lab = Lab::new();
    lab.answers(json!({"cacheKeyType": "Image", "auth": {"r.example": {"username": "u", "password": "p"}}}));
    fs::write(lab.path("p.complaint"), "no network").unwrap();
    let programs = lab.programs(None);
    let error = programs.0[0].provide("r.example/a", &pod_of(""), &lab).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("no network"), "{error}");
    assert!(users(&lab, &programs, "r.example/a", "").await.is_empty());
    assert_eq!(lab.metrics.credential_provider_errors.with(["p"]).get(), 2);
    fs::remove_file(lab.path("p.complaint")).unwrap();
    assert_eq!(users(&lab, &programs, "r.example/a", "").await, ["u"]);
    fs::remove_file(lab.path("p")).unwrap();
    assert!(users(&lab, &programs, "r.example/b", "").await.is_empty());
    let other = fs::read_to_string(lab.path("p.answer")).unwrap().replace("k8s.io/v1", "k8s.io/v1beta1");
    let error = programs.0[0].program.read(other.as_bytes()).err().unwrap().to_string();
    assert!(error.contains("apiVersion"), "{error}");
}

#[tokio::test]
async fn a_service_account_is_told_and_keeps_its_answers() {
    let lab = Lab::new();
    lab.answers(json!({"cacheKeyType": "Global", "auth": {"r.example": {"username": "u", "password": "p"}}}));
    let programs = lab.programs(attributes("ServiceAccount", &["a/b"]));
    assert_eq!(users(&lab, &programs, "r.example/a", "one").await, ["u"]);
    let asked = lab.asked();
    assert_eq!(asked["serviceAccountToken"], "ns/web/one/registry/0");
    assert_eq!(asked["serviceAccountAnnotations"], json!({"a/b": "c"}));
    let known = programs.lookup("r.example/a", &pod_of("one"), &lab).await;
    let account = Coordinates { namespace: "ns".into(), name: "one".into(), uid: "uid of ns/one".into() };
    assert_eq!(known[0].origin, Origin::ServiceAccount(account), "kept answers are the account's too");
    users(&lab, &programs, "r.example/a", "one").await;
    assert_eq!(lab.runs(), 1);
    users(&lab, &programs, "r.example/a", "two").await;
    assert_eq!(lab.runs(), 2);
    for without in ["", "gone"] {
        assert!(users(&lab, &programs, "r.example/a", without).await.is_empty());
    }
    assert_eq!(lab.runs(), 2);
    // Every token is another one here.
    let programs = lab.programs(attributes("Token", &[]));
    users(&lab, &programs, "r.example/a", "one").await;
    users(&lab, &programs, "r.example/a", "one").await;
    assert_eq!(lab.runs(), 4);
    let programs = lab.programs(attributes("Token", &["not/there"]));
    assert!(users(&lab, &programs, "r.example/a", "one").await.is_empty());
    assert_eq!(lab.runs(), 4);
}

#[tokio::test]
async fn a_token_is_no_password_unless_answers_are_kept_by_token() {
    let lab = Lab::new();
    for (cache_type, expect) in [("ServiceAccount", 0), ("Token", 1)] {
        let number = lab.tokens.load(Ordering::Relaxed);
        let token = format!("ns/web/one/registry/{number}");
        lab.answers(json!({"cacheKeyType": "Image",
            "auth": {"r.example": {"username": "u", "password": token}}}));
        let programs = lab.programs(attributes(cache_type, &[]));
        assert_eq!(users(&lab, &programs, "r.example/a", "one").await.len(), expect, "{cache_type}");
    }
}

#[test]
fn answers_end() {
    let mut answers = Answers::default();
    let now = Instant::now();
    let key = |scope: &str| Key { scope: scope.to_owned(), account: String::new() };
    answers.keep(key("r"), Kept::default(), now + Duration::from_secs(5));
    assert!(answers.find("r/a", "", now).is_some());
    assert!(answers.find("r/a", "other", now).is_none());
    assert!(answers.find("r/a", "", now + Duration::from_secs(6)).is_none());
}
