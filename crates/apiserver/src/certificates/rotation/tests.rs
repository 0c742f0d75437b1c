//! Rotation against a server that signs what it is asked to.

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::testing::Authority;
use super::*;
use crate::connect::ClientSettings;
use crate::fake::{Asked, Fake, Reply, list, refuse};

/// What a signer does with requests.
#[derive(Clone, Copy)]
enum Signer {
    /// Signs them, for this many seconds from and to now.
    Signs(i64, i64),
    /// Leaves them pending.
    Sleeps,
    /// Does not know who asks.
    Refuses,
}

/// Answers creations and lists of requests.
fn signer(authority: &Arc<Authority>, what: Signer) -> impl FnMut(&Asked) -> Reply + Send + 'static {
    let authority = authority.clone();
    let mut requests: Vec<Value> = Vec::new();
    move |asked| {
        if matches!(what, Signer::Refuses) {
            return refuse(401, "Unauthorized", "who is it");
        }
        if asked.method == "POST" {
            let text = asked.body["spec"]["request"].as_str().unwrap();
            let pem = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            let pem = String::from_utf8(pem).unwrap();
            let number = requests.len();
            let mut request = json!({"metadata": {"name": format!("csr-{number}"), "uid": format!("u{number}"), "resourceVersion": "1"}, "spec": asked.body["spec"]});
            if let Signer::Signs(from, to) = what {
                let certificate = authority.sign(&pem, from, to);
                let certificate = base64::engine::general_purpose::STANDARD.encode(certificate);
                request["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": certificate});
            }
            requests.push(request.clone());
            return Reply::Json(201, request);
        }
        if asked.query.contains("watch=true") {
            return Reply::Lines(Vec::new());
        }
        let wanted: Vec<&Value> = requests
            .iter()
            .filter(|one| asked.query.contains(one["metadata"]["name"].as_str().unwrap()))
            .collect();
        list("1", json!(wanted))
    }
}

struct Setup {
    folder: tempfile::TempDir,
    authority: Arc<Authority>,
    events: mpsc::Receiver<RotationEvent>,
    listener: Listener,
}

impl Setup {
    fn new() -> Self {
        let (heard, events) = mpsc::channel(100);
        let listener = Arc::new(move |one| heard.try_send(one).unwrap());
        Self { folder: tempfile::tempdir().unwrap(), authority: Arc::new(Authority::new()), events, listener }
    }

    fn store(&self) -> CertificateStore {
        CertificateStore::open(self.folder.path(), "kubelet-client", None).unwrap()
    }

    /// A pair on disk, valid for this many seconds from and to now.
    fn has(&self, from: i64, to: i64) {
        let (chain, key) = self.authority.pair("n1", from, to);
        self.store().update(chain.as_bytes(), &key, Timestamp::now()).unwrap();
    }

    fn task(
        &self,
        requester: Requester,
        template: Option<Template>,
    ) -> (RotationTask, watch::Sender<Option<Template>>) {
        let (wanted, template) = watch::channel(template);
        let task = RotationTask::new(Use::Client, self.store(), template, requester, self.listener.clone());
        (task, wanted)
    }

    async fn current(&mut self) -> Arc<CertificatePair> {
        loop {
            if let RotationEvent::Current(pair) = self.events.recv().await.unwrap() {
                return pair;
            }
        }
    }
}

fn client_template() -> Option<Template> {
    Some(Template::for_client("n1"))
}

#[test]
fn the_deadline_is_a_share_of_the_life() {
    let authority = Authority::new();
    let (chain, key) = authority.pair("n1", -100, 900);
    let pair = CertificatePair::parse(chain.as_bytes(), key.as_bytes()).unwrap();
    let start = pair.leaf().not_before;
    for share in [0.7, 0.8, 0.9] {
        let after = deadline(&pair, share).duration_since(start).as_secs_f64();
        assert!((after - 1000.0 * share).abs() < 1.0, "{share}: {after}");
    }
}

#[tokio::test]
async fn what_is_valid_complete_and_young_is_left_alone() {
    let mut setup = Setup::new();
    setup.has(-100, 900);
    let fake = Fake::by(signer(&setup.authority, Signer::Signs(-1, 900))).await;
    let (mut task, _wanted) = setup.task(Requester::Node(fake.connection.api.clone()), client_template());
    assert_eq!(setup.current().await.leaf().common_name, "system:node:n1");
    let now = Timestamp::now();
    assert!(task.time_left(0.7, now) > Duration::from_secs(500));
    assert_eq!(task.time_left(0.7, now + SignedDuration::from_secs(601)), Duration::ZERO, "due");
    task.is_forced = true;
    assert_eq!(task.time_left(0.7, now), Duration::ZERO, "forced");
    task.is_forced = false;
    let mut other = Template::for_client("n1");
    other.dns_names.insert("other".to_owned());
    task.template = watch::channel(Some(other)).1;
    assert_eq!(task.time_left(0.7, now), Duration::ZERO, "lacks a name");
    task.current = None;
    assert_eq!(task.time_left(0.7, now), Duration::ZERO, "missing");
}

#[tokio::test]
async fn an_old_certificate_is_replaced_at_once_and_written() {
    let mut setup = Setup::new();
    setup.has(-95, 5);
    let mut fake = Fake::by(signer(&setup.authority, Signer::Signs(-1, 900))).await;
    let (task, _wanted) = setup.task(Requester::Node(fake.connection.api.clone()), client_template());
    let old = setup.current().await;
    let running = tokio::spawn(task.run());
    let new = setup.current().await;
    assert_ne!(new.certified().cert, old.certified().cert);
    let RotationEvent::Replaced { age } = setup.events.recv().await.unwrap() else { panic!("not replaced") };
    assert!(age >= Duration::from_secs(94), "{age:?}");
    assert_eq!(setup.store().current().unwrap().unwrap().leaf(), new.leaf());
    assert_eq!(fake.next().await.body["metadata"], json!({"generateName": "csr-"}));
    running.abort();
}

#[tokio::test]
async fn nothing_is_asked_for_before_it_is_known_what_and_again_when_that_changes() {
    let mut setup = Setup::new();
    let mut fake = Fake::by(signer(&setup.authority, Signer::Sleeps)).await;
    let (task, wanted) = setup.task(Requester::Node(fake.connection.api.clone()), None);
    let running = tokio::spawn(task.run());
    let serving = |name: &str| Template::for_serving("n1", [("InternalIP", name)], false);
    wanted.send(serving("10.0.0.1")).unwrap();
    assert_eq!(fake.next().await.method, "POST", "the first request is the one for the first names");
    assert_eq!(fake.next().await.method, "GET");
    // The request is pending; its names are not those that are wanted any more.
    wanted.send(serving("10.0.0.2")).unwrap();
    let second = loop {
        let asked = fake.next().await;
        if asked.method == "POST" {
            break asked;
        }
    };
    assert_eq!(second.method, "POST");
    while let Ok(event) = setup.events.try_recv() {
        assert!(matches!(event, RotationEvent::Asked { .. }), "neither counts as a failure: {event:?}");
    }
    running.abort();
}

#[tokio::test]
async fn an_expired_certificate_is_replaced_with_the_credentials_to_start_with() {
    let mut setup = Setup::new();
    setup.has(-100, -1);
    let node = Fake::by(signer(&setup.authority, Signer::Refuses)).await;
    let mut bootstrap = Fake::by(signer(&setup.authority, Signer::Signs(-1, 900))).await;
    let initial = Initial { kubeconfig: bootstrap.kubeconfig.clone(), settings: ClientSettings::default() };
    let requester = Requester::Starting { node: node.connection.api.clone(), initial };
    let (task, _wanted) = setup.task(requester, client_template());
    let running = tokio::spawn(task.run());
    assert!(!setup.current().await.is_expired(Timestamp::now()));
    assert_eq!(bootstrap.next().await.authorization, "Bearer secret-token");
    running.abort();
}

#[tokio::test]
async fn a_certificate_that_expires_while_its_request_is_pending_does_not_end_the_node() {
    let mut setup = Setup::new();
    setup.has(-100, 1);
    let node = Fake::by(signer(&setup.authority, Signer::Sleeps)).await;
    let bootstrap = Fake::by(signer(&setup.authority, Signer::Signs(-1, 900))).await;
    let initial = Initial { kubeconfig: bootstrap.kubeconfig.clone(), settings: ClientSettings::default() };
    let requester = Requester::Starting { node: node.connection.api.clone(), initial };
    let (mut task, _wanted) = setup.task(requester, client_template());
    task.is_forced = true;
    let running = tokio::spawn(task.run());
    let pair = loop {
        let pair = setup.current().await;
        if !pair.is_expired(Timestamp::now()) && pair.leaf().dns_names.is_empty() {
            break pair;
        }
    };
    assert!(!pair.is_expired(Timestamp::now()));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_the_certificate_is_asked_with_the_others_next() {
    let mut setup = Setup::new();
    setup.has(-95, 50);
    let node = Fake::by(signer(&setup.authority, Signer::Refuses)).await;
    let bootstrap = Fake::by(signer(&setup.authority, Signer::Signs(-1, 900))).await;
    let initial = Initial { kubeconfig: bootstrap.kubeconfig.clone(), settings: ClientSettings::default() };
    let requester = Requester::Starting { node: node.connection.api.clone(), initial };
    let (mut task, _wanted) = setup.task(requester, client_template());
    task.is_forced = true;
    setup.current().await;
    assert!(matches!(
        task.attempt().await,
        Err(RotationError::Signing(SigningError::Submit(error))) if error.code() == Some(401)
    ));
    assert!(matches!(task.attempt().await, Ok(Attempt::Renewed(_))));
}

#[tokio::test]
async fn a_pair_somebody_put_there_is_taken_instead_of_asking() {
    let mut setup = Setup::new();
    setup.has(-100, -1);
    let fake = Fake::by(signer(&setup.authority, Signer::Refuses)).await;
    let (mut task, _wanted) = setup.task(Requester::Node(fake.connection.api.clone()), client_template());
    assert!(task.attempt().await.is_err());
    setup.has(-10, 900);
    assert!(matches!(task.attempt().await, Ok(Attempt::Renewed(_))));
    assert!(setup.events.try_recv().is_err(), "an expired pair is never in use");
}

#[tokio::test]
async fn a_damaged_pair_does_not_keep_the_node_from_another() {
    let setup = Setup::new();
    setup.has(-10, 900);
    std::fs::write(setup.store().current_path(), "damaged").unwrap();
    let fake = Fake::by(signer(&setup.authority, Signer::Signs(-1, 900))).await;
    let (mut task, _wanted) = setup.task(Requester::Node(fake.connection.api.clone()), client_template());
    assert!(task.current.is_none());
    let Ok(Attempt::Renewed(pair)) = task.attempt().await else { panic!("no certificate") };
    assert_eq!(setup.store().current().unwrap().unwrap().leaf(), pair.leaf());
}
