//! Bootstrapping against a server that signs, with real files.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::*;
use crate::certificates::testing::Authority;
use crate::fake::{Asked as Sent, Fake, Reply, list, refuse};

/// Approves and signs under the name that is asked for; `taken` is there from the start.
fn signing(authority: Arc<Authority>, taken: Option<Value>) -> impl FnMut(&Sent) -> Reply + Send + 'static {
    let mut known = taken;
    move |sent| {
        if sent.path == "/healthz" {
            return Reply::Json(200, json!("ok"));
        }
        if sent.method == "GET" && !sent.query.contains("fieldSelector") {
            return Reply::Json(200, known.clone().unwrap());
        }
        if sent.method == "GET" {
            return list("1", json!([known]));
        }
        let name = &sent.body["metadata"]["name"];
        if known.as_ref().is_some_and(|one| one["metadata"]["name"] == *name) {
            return refuse(409, "AlreadyExists", "there");
        }
        let pem =
            base64::engine::general_purpose::STANDARD.decode(sent.body["spec"]["request"].as_str().unwrap());
        let certificate = authority.sign(&String::from_utf8(pem.unwrap()).unwrap(), -10, 900);
        let status = json!({"conditions": [{"type": "Approved", "status": "True"}],
                            "certificate": ByteString(certificate.into_bytes())});
        let object = json!({"metadata": {"name": name, "uid": "u", "resourceVersion": "1"},
                            "spec": sent.body["spec"], "status": status});
        known = Some(object.clone());
        Reply::Json(201, object)
    }
}

fn node(folder: &Path, bootstrap: Option<&Path>, is_rotating: bool) -> NodeIdentity {
    NodeIdentity {
        node_name: "n1".into(),
        certificate_folder: folder.join("pki"),
        kubeconfig: folder.join("kubelet.conf"),
        bootstrap_kubeconfig: bootstrap.map(Path::to_owned),
        is_rotating,
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_token_becomes_a_certificate_and_a_kubeconfig() {
    let authority = Arc::new(Authority::new());
    let mut fake = Fake::by(signing(authority.clone(), None)).await;
    let folder = tempfile::tempdir().unwrap();
    let identity = node(folder.path(), Some(&fake.kubeconfig), false);
    let (_, task) = connect_node(&identity, ClientSettings::default()).await.unwrap();
    assert!(task.is_none());
    assert_eq!(fake.next().await.path, "/healthz");
    let sent = fake.next().await;
    assert_eq!(sent.authorization, "Bearer secret-token");
    assert!(sent.body["metadata"]["name"].as_str().unwrap().starts_with("node-csr-"));
    let pki = files(&identity.certificate_folder);
    assert_eq!(pki.len(), 2, "{pki:?}");
    assert_eq!(pki[1], "kubelet-client-current.pem", "the key's own file is gone");
    let mode = std::fs::metadata(&identity.kubeconfig).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(files(folder.path()), ["kubelet.conf", "pki"], "nothing else is left");
    assert!(is_still_valid(&identity.kubeconfig).await.unwrap());
    // The next start needs no bootstrap credentials.
    let again = node(folder.path(), Some(Path::new("/no/such/file")), false);
    connect_node(&again, ClientSettings::default()).await.unwrap();
}

/// Whoever waits for the first certificate can tell on whom.
#[tokio::test]
async fn what_the_first_certificate_waits_for_is_told() {
    let authority = Arc::new(Authority::new());
    for (silent, refused, told) in
        [("/healthz", 503, "starting"), ("", 500, "no room"), ("", 201, "node-csr-")]
    {
        let mut signs = signing(authority.clone(), None);
        let fake = Fake::by(move |sent| {
            let is_refused = sent.path == silent || sent.method == "POST" && refused == 500;
            if is_refused { refuse(refused, "InternalError", told) } else { signs(sent) }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let identity = node(folder.path(), Some(&fake.kubeconfig), false);
        let (heard, mut events) = tokio::sync::mpsc::channel(10);
        let observer = Observer::new(move |one| drop(heard.try_send(one)));
        let settings = ClientSettings { observer, ..ClientSettings::default() };
        let connecting = tokio::spawn(async move { connect_node(&identity, settings).await.map(drop) });
        let text = match events.recv().await.unwrap() {
            CredentialEvent::First(RotationEvent::Failed { error, .. }) => error,
            CredentialEvent::First(RotationEvent::Asked { request }) => request,
            other => panic!("{other:?}"),
        };
        assert!(text.contains(told), "{text}");
        connecting.abort();
    }
}

#[tokio::test]
async fn a_request_made_before_a_restart_is_taken_up() {
    let authority = Arc::new(Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let pki = folder.path().join("pki");
    std::fs::create_dir(&pki).unwrap();
    let key = new_key(&pki.join(KEY_FILE)).unwrap();
    assert_eq!(std::fs::metadata(pki.join(KEY_FILE)).unwrap().permissions().mode() & 0o7777, 0o600);
    let template = Template::for_client("n1");
    let name = digested_name(&key, &template, &["digital signature", "client auth"]);
    let certificate = authority.certificate("n1", &key, -10, 900);
    let taken = |request: &str| {
        json!({"metadata": {"name": name, "uid": "u", "resourceVersion": "1"},
               "spec": {"request": ByteString(request.as_bytes().to_vec()), "signerName": Use::Client.signer()},
               "status": {"conditions": [{"type": "Approved", "status": "True"}],
                          "certificate": ByteString(certificate.clone().into_bytes())}})
    };
    let good = taken(&template.request_pem(&key).unwrap());
    let fake = Fake::by(signing(authority.clone(), Some(good))).await;
    let identity = node(folder.path(), Some(&fake.kubeconfig), false);
    connect_node(&identity, ClientSettings::default()).await.unwrap();
    let store = CertificateStore::open(&pki, PREFIX, None).unwrap();
    assert_eq!(store.current().unwrap().unwrap().key_pem(), key.pem());
    // One that is of no use is replaced under the name of another key.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("pki")).unwrap();
    std::fs::write(folder.path().join("pki").join(KEY_FILE), key.pem()).unwrap();
    let fake = Fake::by(signing(authority, Some(taken("nonsense")))).await;
    let identity = node(folder.path(), Some(&fake.kubeconfig), false);
    connect_node(&identity, ClientSettings::default()).await.unwrap();
    let store = CertificateStore::open(&identity.certificate_folder, PREFIX, None).unwrap();
    assert_ne!(store.current().unwrap().unwrap().key_pem(), key.pem());
}

#[tokio::test]
async fn a_denied_request_ends_the_start() {
    let denied = json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": "1"},
        "spec": {"request": "", "signerName": "s"},
        "status": {"conditions": [{"type": "Denied", "status": "True", "reason": "No", "message": "not you"}]}});
    let fake = Fake::scripted(vec![
        Reply::Json(200, json!("ok")),
        Reply::Json(201, denied.clone()),
        list("1", json!([denied])),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let identity = node(folder.path(), Some(&fake.kubeconfig), false);
    let error = connect_node(&identity, ClientSettings::default()).await.unwrap_err();
    assert!(chain(&error).ends_with("certificate request x is denied: No: not you"), "{}", chain(&error));
    assert_eq!(files(&identity.certificate_folder), [KEY_FILE], "the key is kept for the next start");
    assert!(!identity.kubeconfig.exists());
}

#[tokio::test]
async fn with_rotation_the_start_does_not_wait() {
    let authority = Arc::new(Authority::new());
    let fake = Fake::by(signing(authority, None)).await;
    let folder = tempfile::tempdir().unwrap();
    let identity = node(folder.path(), Some(&fake.kubeconfig), true);
    let (heard, mut events) = tokio::sync::mpsc::channel(10);
    let observer = Observer::new(move |one| heard.try_send(one).unwrap());
    let settings = ClientSettings { observer, ..ClientSettings::default() };
    let (connection, task) = connect_node(&identity, settings).await.unwrap();
    assert_eq!(files(folder.path()), ["kubelet.conf"], "the kubeconfig is there before the certificate");
    let text = std::fs::read_to_string(&identity.kubeconfig).unwrap();
    assert!(text.contains("pki/kubelet-client-current.pem"), "{text}");
    assert!(text.contains(&connection.server().trim_end_matches('/').to_owned()), "{text}");
    let running = tokio::spawn(task.unwrap().run());
    let asked = events.recv().await.unwrap();
    assert!(matches!(asked, CredentialEvent::Client(RotationEvent::Asked { .. })), "{asked:?}");
    let CredentialEvent::Client(RotationEvent::Current(pair)) = events.recv().await.unwrap() else {
        panic!("no certificate")
    };
    assert_eq!(pair.leaf().common_name, "system:node:n1");
    assert!(is_still_valid(&identity.kubeconfig).await.unwrap());
    running.abort();
}

#[tokio::test]
async fn with_rotation_an_inline_certificate_is_used_kept_and_replaced() {
    let authority = Arc::new(Authority::new());
    let fake = Fake::by(signing(authority.clone(), None)).await;
    let folder = tempfile::tempdir().unwrap();
    let identity = node(folder.path(), None, true);
    let (certificate, key) = authority.pair("master", -10, 900);
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let text = std::fs::read_to_string(&fake.kubeconfig).unwrap().replace(
        "token: secret-token",
        &format!("client-certificate-data: {}, client-key-data: {}", encode(&certificate), encode(&key)),
    );
    std::fs::write(&identity.kubeconfig, text).unwrap();
    let (heard, mut events) = tokio::sync::mpsc::channel(10);
    let observer = Observer::new(move |one| heard.try_send(one).unwrap());
    let settings = ClientSettings { observer, ..ClientSettings::default() };
    let (_, task) = connect_node(&identity, settings).await.unwrap();
    let mut names = Vec::new();
    let running = tokio::spawn(task.unwrap().run());
    while names.len() < 2 {
        if let CredentialEvent::Client(RotationEvent::Current(pair)) = events.recv().await.unwrap() {
            names.push(pair.leaf().common_name.clone());
        }
    }
    assert_eq!(names, ["system:node:master", "system:node:n1"]);
    running.abort();
}

#[tokio::test]
async fn what_makes_a_kubeconfig_worth_bootstrapping_again() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubelet.conf");
    assert!(!is_still_valid(&path).await.unwrap(), "missing");
    let write = |from, to| {
        let (chain, key) = authority.pair("n1", from, to);
        std::fs::write(folder.path().join("pair.pem"), chain + &key).unwrap();
    };
    let cluster = "clusters: [{name: c, cluster: {server: 'https://localhost:1'}}]";
    let document = |user: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\n{cluster}\n\
             users: [{{name: u, user: {{{user}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
        )
    };
    for (text, from, to, want) in [
        (document("client-certificate: pair.pem, client-key: pair.pem"), -10, 900, true),
        (document("client-certificate: pair.pem, client-key: pair.pem"), -10, -1, false),
        (document("client-certificate: none.pem, client-key: none.pem"), -10, 900, false),
        (document("client-certificate: pair.pem"), -10, 900, false),
        (document("token: t"), -10, 900, false),
        ("no: kubeconfig".to_owned(), -10, 900, false),
        (String::new(), -10, 900, false),
    ] {
        write(from, to);
        std::fs::write(&path, &text).unwrap();
        assert_eq!(is_still_valid(&path).await.unwrap(), want, "{text} {from} {to}");
    }
    let error = is_still_valid(&path.join("below a file")).await.unwrap_err();
    assert!(matches!(error, BootstrapError::Kubeconfig { .. }), "{error}");
}
