//! Kubeconfigs good and bad, and certificates that rotate, against real TLS on loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::node::get_node;

mod proxies;

struct Pki {
    folder: tempfile::TempDir,
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer =
            rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// TLS for a server that demands a client certificate.
    fn server(&self) -> rustls::ServerConfig {
        install_crypto();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let (certificate, key) = self.issue("server");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        rustls::ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }

    fn write_client(&self, name: &str) -> Vec<u8> {
        let (certificate, key) = self.issue(name);
        for (name, text) in [("node.crt", certificate.pem()), ("node.key", key.serialize_pem())] {
            // Put in its place as another file, as rotations do.
            let path = self.folder.path().join(name);
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }
        certificate.der().to_vec()
    }

    fn kubeconfig(&self, cluster: &str, user: &str) -> PathBuf {
        let path = self.folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A TLS server that demands a client certificate, hands it to the test and answers once a connection.
async fn tls_server(pki: &Pki) -> (u16, tokio::sync::mpsc::Receiver<Vec<u8>>) {
    let config = pki.server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, shown) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            seen.send(certificate).await.unwrap();
            let mut buffer = [0; 4096];
            let _ = tls.read(&mut buffer).await;
            let body = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = tls.write_all((head + body).as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    });
    (port, shown)
}

#[tokio::test]
async fn relative_files_are_found_and_a_rotated_certificate_is_used_for_the_next_connection() {
    let pki = Pki::new();
    let (port, mut shown) = tls_server(&pki).await;
    let first = pki.write_client("first");
    let cluster = format!("server: 'https://localhost:{port}', certificate-authority: ca.crt");
    let path = pki.kubeconfig(&cluster, "client-certificate: node.crt, client-key: node.key");
    let connection = connect(&path, ClientSettings::default()).await.unwrap();
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(shown.recv().await.unwrap(), first);
    let second = pki.write_client("second");
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(shown.recv().await.unwrap(), second);
    // Half a rotation: the last good pair is used.
    std::fs::write(pki.folder.path().join("node.crt"), "nothing").unwrap();
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(shown.recv().await.unwrap(), second);
}

#[tokio::test]
async fn bad_kubeconfigs_are_named() {
    let pki = Pki::new();
    let missing = pki.folder.path().join("none");
    let error = connect(&missing, ClientSettings::default()).await.unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
    let path = pki.kubeconfig(
        "server: 'https://localhost:1', certificate-authority: ca.crt",
        "client-certificate: no.crt, client-key: no.key",
    );
    let error = connect(&path, ClientSettings::default()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Identity { .. }), "{error:?}");
    assert!(model::chain(&error).contains("no.crt"));
    let path = pki.kubeconfig("server: 'https://localhost:1', certificate-authority: no-ca.crt", "token: t");
    assert!(matches!(connect(&path, ClientSettings::default()).await, Err(ConnectError::Kubeconfig { .. })));
    let path = pki.kubeconfig("server: 'https://localhost:1'", "auth-provider: {name: gcp}");
    assert!(matches!(
        connect(&path, ClientSettings::default()).await,
        Err(ConnectError::AuthProvider { .. })
    ));
    let path = pki.kubeconfig("server: 'https://localhost:1'", "tokenFile: none");
    assert!(matches!(connect(&path, ClientSettings::default()).await, Err(ConnectError::Credentials { .. })));
}

#[tokio::test]
async fn a_mistake_does_not_give_away_the_line_it_is_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, "users:\n- user:\n    token: s3cret: x\n").unwrap();
    let error = connect(&path, ClientSettings::default()).await.unwrap_err();
    let text = model::chain(&error);
    assert!(!text.contains("s3cret") && !format!("{error:?}").contains("s3cret"), "{text}");
    assert!(text.contains("line 3"), "{text}");
}

#[tokio::test]
async fn kubeconfigs_that_contradict_themselves_are_refused() {
    let pki = Pki::new();
    pki.write_client("node");
    let server = "server: 'https://localhost:1', certificate-authority: ca.crt";
    for (cluster, user, fields) in [
        ("insecure-skip-tls-verify: true", "", &["cluster.insecure-skip-tls-verify"][..]),
        ("certificate-authority-data: eA==", "", &["cluster.certificate-authority"]),
        ("", "token: s3cret, username: me, password: s3cret", &["user.token"]),
        ("proxy-url: 'ftp://me:s3cret@proxy.example'", "", &["cluster.proxy-url"]),
        ("", "client-certificate: node.crt", &["user.client-key"]),
        (
            "",
            "client-certificate: node.crt, client-certificate-data: eA==, client-key: node.key, client-key-data: eA==",
            &["user.client-certificate", "user.client-key"],
        ),
        ("", "token: s3cret, as-groups: [a], exec: {env: [{value: s3cret}]}", &["user.exec.env", "user.as"]),
    ] {
        let path = pki.kubeconfig(&format!("{server}, {cluster}"), user);
        let error = connect(&path, ClientSettings::default()).await.unwrap_err();
        let ConnectError::Contradictory { findings, .. } = &error else { panic!("{error:?}") };
        assert_eq!(findings.iter().map(|one| one.field).collect::<Vec<_>>(), fields);
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn empty_texts_and_wrapped_data_are_no_contradictions() {
    use base64::Engine as _;
    let pki = Pki::new();
    let data = base64::engine::general_purpose::STANDARD.encode(pki.issuer.pem());
    let (first, second) = data.split_at(64);
    let cluster = format!(
        "server: 'https://localhost:1', certificate-authority: '', certificate-authority-data: \"{first}\\n{second}\\n\""
    );
    let path = pki.kubeconfig(&cluster, "token: t, username: '', client-certificate: '', as: ''");
    connect(&path, ClientSettings::default()).await.unwrap();
}

#[tokio::test]
async fn credentials_are_sent_only_where_nobody_can_read_them() {
    let pki = Pki::new();
    for (server, is_sent) in [
        ("https://api.example", true),
        ("http://127.0.0.1:1", true),
        ("http://127.0.0.1:1', proxy-url: 'http://proxy.example", false),
        ("http://api.example", false),
        ("api.example:6443", false),
    ] {
        let cluster = format!("server: '{server}', certificate-authority: ca.crt");
        let path = pki.kubeconfig(&cluster, "token: t, as: somebody");
        let loaded = kubeconfig::load(&path).await.unwrap();
        assert_eq!(loaded.user.token.is_some(), is_sent, "{server}");
        assert_eq!(loaded.user.impersonate.as_deref(), Some("somebody"));
    }
}

#[tokio::test]
async fn a_token_stands_in_for_the_file_that_is_not_there_yet() {
    use crate::fake::{Fake, Reply};
    let mut fake = Fake::by(|_| Reply::Json(200, serde_json::json!({"metadata": {"name": "n"}}))).await;
    let pki = Pki::new();
    let server = fake.connection.server();
    let path = pki.kubeconfig(&format!("server: '{server}'"), "token: first, tokenFile: token");
    let connection = connect(&path, ClientSettings::default()).await.unwrap();
    std::fs::write(pki.folder.path().join("token"), "second").unwrap();
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(fake.next().await.authorization, "Bearer second");
    assert_eq!(
        crate::examine_kubeconfig(&path).await.unwrap().authorization,
        Some(format!("token file {}", pki.folder.path().join("token").display()))
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((tcp, _)) = listener.accept().await {
            held.push(tcp);
        }
    });
    let pki = Pki::new();
    let path = pki.kubeconfig(&format!("server: 'http://127.0.0.1:{port}'"), "token: t");
    let settings =
        ClientSettings { heartbeat_timeout: Duration::from_millis(20), ..ClientSettings::default() };
    let connection = connect(&path, settings).await.unwrap();
    let error = get_node(&connection.heartbeat, "n").await.unwrap_err();
    let told = format!("no answer from 127.0.0.1:{port} within 20ms");
    assert!(model::chain(&error).ends_with(&told), "{}", model::chain(&error));
    assert!(error.is_retryable());
}

/// Passes bytes on to a server, until it is told to swallow what its connections so far carry.
struct Relay {
    port: u16,
    opened: Arc<std::sync::atomic::AtomicUsize>,
    is_dead: tokio::sync::watch::Sender<u64>,
}

impl Relay {
    async fn to(server: String) -> Self {
        use std::sync::atomic::Ordering;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let opened = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (is_dead, dies) = tokio::sync::watch::channel(0);
        let count = opened.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut dies = dies.clone();
                dies.mark_unchanged();
                let mut far = tokio::net::TcpStream::connect(&server).await.unwrap();
                tokio::spawn(async move {
                    // Cancel-safe enough: what is lost is meant to be lost.
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = dies.changed() => std::future::pending::<()>().await,
                    }
                });
            }
        });
        Self { port, opened, is_dead }
    }

    fn opened(&self) -> usize {
        self.opened.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// A server over TLS and HTTP/2 that tells each request's client certificate and answers with a node,
/// or with a watch that stays open.
async fn http2_server(pki: &Pki) -> (u16, tokio::sync::mpsc::Receiver<(String, Vec<u8>)>) {
    use http_body_util::{BodyExt as _, Full, StreamBody};
    let mut config = pki.server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, shown) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            let seen = seen.clone();
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (seen, certificate) = (seen.clone(), certificate.clone());
                async move {
                    let uri = request.uri().to_string();
                    let is_watch = uri.contains("watch=true");
                    seen.send((uri, certificate)).await.unwrap();
                    let node =
                        r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","resourceVersion":"7"}}"#;
                    let body = if is_watch {
                        let line = format!("{{\"type\":\"MODIFIED\",\"object\":{node}}}\n");
                        let first = futures::stream::iter([Ok::<_, std::convert::Infallible>(
                            hyper::body::Frame::data(bytes::Bytes::from(line)),
                        )]);
                        let open = futures::StreamExt::chain(first, futures::stream::pending());
                        http_body_util::combinators::BoxBody::new(StreamBody::new(open))
                    } else if request.uri().path().ends_with("/n") {
                        Full::new(bytes::Bytes::from(node)).boxed()
                    } else {
                        let list = format!(
                            r#"{{"kind":"NodeList","apiVersion":"v1","metadata":{{"resourceVersion":"7"}},"items":[{node}]}}"#
                        );
                        Full::new(bytes::Bytes::from(list)).boxed()
                    };
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                }
            });
            tokio::spawn(async move {
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(hyper_util::rt::TokioIo::new(tls), service).await;
            });
        }
    });
    (port, shown)
}

#[tokio::test]
async fn a_rotated_certificate_is_used_at_once_and_watches_move_without_listing_again() {
    let pki = Pki::new();
    let (port, mut shown) = http2_server(&pki).await;
    let path = pki.kubeconfig(
        &format!("server: 'https://localhost:{port}', certificate-authority: ca.crt"),
        "token: only-for-others",
    );
    let pair = |name: &str| {
        let (certificate, key) = pki.issue(name);
        crate::certificates::CertificatePair::parse(
            certificate.pem().as_bytes(),
            key.serialize_pem().as_bytes(),
        )
        .unwrap()
    };
    let (first, second) = (pair("first"), pair("second"));
    let loaded = kubeconfig::load(&path).await.unwrap();
    let (connection, identity, renewals) = connect_rotating(loaded, ClientSettings::default()).unwrap();
    identity.show(&first);
    renewals.renew();
    let mut watch = Box::pin(crate::node::watch_node(connection.api.clone(), "n"));
    let next = futures::StreamExt::next(&mut watch);
    assert!(next.await.is_some());
    let (uri, certificate) = shown.recv().await.unwrap();
    assert!(!uri.contains("watch=true"), "{uri}");
    assert_eq!(certificate, first.certified().cert[0].to_vec());
    assert!(futures::StreamExt::next(&mut watch).await.is_some());
    assert_eq!(shown.recv().await.unwrap().1, first.certified().cert[0].to_vec());
    identity.show(&second);
    renewals.renew();
    assert!(futures::StreamExt::next(&mut watch).await.is_some());
    let (uri, certificate) = shown.recv().await.unwrap();
    assert!(uri.contains("watch=true") && uri.contains("resourceVersion=7"), "goes on where it was: {uri}");
    assert_eq!(certificate, second.certified().cert[0].to_vec());
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(shown.recv().await.unwrap().1, second.certified().cert[0].to_vec());
}

#[tokio::test]
async fn files_that_have_changed_are_noticed_while_connections_are_open() {
    let pki = Pki::new();
    let (port, mut shown) = http2_server(&pki).await;
    let first = pki.write_client("first");
    let cluster = format!("server: 'https://localhost:{port}', certificate-authority: ca.crt");
    let path = pki.kubeconfig(&cluster, "client-certificate: node.crt, client-key: node.key");
    let loaded = kubeconfig::load(&path).await.unwrap();
    let (certificate, key) = (pki.folder.path().join("node.crt"), pki.folder.path().join("node.key"));
    let files = Arc::new(FileIdentity::open(&certificate, &key, Duration::ZERO).unwrap());
    let settings = ClientSettings::default();
    let template = ClientTemplate::new(
        loaded,
        &settings,
        files.clone(),
        Some(files),
        Renewals::new(),
        Credentials::None,
    );
    let connection = template.unwrap().connection(&settings).unwrap();
    for _ in 0..2 {
        assert!(get_node(&connection.api, "n").await.unwrap().is_some());
        assert_eq!(shown.recv().await.unwrap().1, first);
    }
    let second = pki.write_client("second");
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(shown.recv().await.unwrap().1, second);
}

#[tokio::test]
async fn a_connection_that_died_silently_is_replaced() {
    let pki = Pki::new();
    let (port, mut shown) = http2_server(&pki).await;
    pki.write_client("node");
    let relay = Relay::to(format!("127.0.0.1:{port}")).await;
    let cluster = format!("server: 'https://localhost:{}', certificate-authority: ca.crt", relay.port);
    let path = pki.kubeconfig(&cluster, "client-certificate: node.crt, client-key: node.key");
    let ping = Ping { after: Duration::from_millis(100), answer: Duration::from_secs(3) };
    let connection = connect(&path, ClientSettings { ping, ..ClientSettings::default() }).await.unwrap();
    let mut watch = Box::pin(crate::node::watch_node(connection.api.clone(), "n"));
    assert!(futures::StreamExt::next(&mut watch).await.is_some(), "listed");
    assert!(futures::StreamExt::next(&mut watch).await.is_some(), "watched");
    let before = relay.opened();
    relay.is_dead.send_modify(|count| *count += 1);
    assert!(futures::StreamExt::next(&mut watch).await.is_some(), "watched again");
    assert!(relay.opened() > before);
    let mut lists = 0;
    while let Ok((uri, _)) = shown.try_recv() {
        lists += usize::from(!uri.contains("watch=true"));
    }
    assert_eq!(lists, 1, "the watch went on without a list");
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
}

#[tokio::test]
async fn every_request_is_told_of() {
    let pki = Pki::new();
    pki.write_client("node");
    let (port, _shown) = tls_server(&pki).await;
    let cluster = format!("server: \"https://localhost:{port}\", certificate-authority: ca.crt");
    let kubeconfig = pki.kubeconfig(&cluster, "client-certificate: node.crt, client-key: node.key");
    let (tell, mut told) = tokio::sync::mpsc::channel(4);
    let requests = Observer::new(move |event| tell.try_send(event).unwrap());
    let settings = ClientSettings { requests, ..ClientSettings::default() };
    let connection = connect(&kubeconfig, settings).await.unwrap();
    let node = get_node(&connection.api, "n").await.unwrap();
    let host = format!("localhost:{port}");
    let RequestEvent::Resolved { host: name, .. } = told.try_recv().unwrap() else { panic!("not looked up") };
    assert_eq!(name, "localhost");
    let RequestEvent::Answered(event) = told.try_recv().unwrap() else { panic!("not answered") };
    assert_eq!((event.method, &event.host, event.code), (http::Method::GET, &host, Some(200)));
    assert_eq!(event.sent_bytes, None, "it has no body");
    let RequestEvent::Received { method, host: from, bytes } = told.try_recv().unwrap() else {
        panic!("nothing received")
    };
    assert_eq!((method, from), (http::Method::GET, host));
    assert!(node.is_some() && bytes > 0);
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_heartbeat_does_not_wait_for_the_limit() {
    let pki = Pki::new();
    let (port, _shown) = http2_server(&pki).await;
    pki.write_client("node");
    let cluster = format!("server: 'https://localhost:{port}', certificate-authority: ca.crt");
    let path = pki.kubeconfig(&cluster, "client-certificate: node.crt, client-key: node.key");
    // One request in an hour.
    let settings = ClientSettings { qps: 1.0 / 3600.0, burst: 1, ..ClientSettings::default() };
    let connection = connect(&path, settings).await.unwrap();
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    let waits = tokio::spawn({
        let api = connection.api.clone();
        async move { get_node(&api, "n").await.map(drop) }
    });
    assert!(get_node(&connection.heartbeat, "n").await.unwrap().is_some());
    assert!(!waits.is_finished());
    waits.abort();
}

#[tokio::test]
async fn a_token_that_was_refused_is_read_again_for_the_next_request() {
    use crate::fake::{Fake, Reply, refuse};
    let mut fake = Fake::by(|asked| match asked.authorization.as_str() {
        "Bearer new" => Reply::Json(200, serde_json::json!({"metadata": {"name": "n"}})),
        _ => refuse(401, "Unauthorized", "who is it"),
    })
    .await;
    let pki = Pki::new();
    let token = pki.folder.path().join("token");
    std::fs::write(&token, "old\n").unwrap();
    let server = fake.connection.server();
    let path = pki.kubeconfig(&format!("server: '{server}'"), "tokenFile: token, as: somebody");
    let connection = connect(&path, ClientSettings::default()).await.unwrap();
    assert_eq!(get_node(&connection.api, "n").await.unwrap_err().code(), Some(401));
    assert_eq!(fake.next().await.authorization, "Bearer old");
    std::fs::write(&token, "new\n").unwrap();
    assert!(get_node(&connection.heartbeat, "n").await.unwrap().is_some(), "all clients share it");
}

#[tokio::test]
async fn a_plugin_is_run_when_something_is_sent() {
    use crate::fake::{Fake, Reply};
    let mut fake = Fake::by(|_| Reply::Json(200, serde_json::json!({"metadata": {"name": "n"}}))).await;
    let pki = Pki::new();
    let plugin = pki.folder.path().join("plugin");
    let answer = r#"{"apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "t"}}"#;
    let server = fake.connection.server();
    // By a shell: a file that was just written cannot be executed itself while another test forks.
    let user = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: ['{}'], interactiveMode: Never}}",
        plugin.display()
    );
    let path = pki.kubeconfig(&format!("server: '{server}'"), &user);
    // It need not be there yet when the node starts.
    let connection = connect(&path, ClientSettings::default()).await.unwrap();
    let error = get_node(&connection.api, "n").await.unwrap_err();
    assert!(model::chain(&error).contains("exec plugin \"sh\" ended with"), "{}", model::chain(&error));
    std::fs::write(&plugin, format!("echo '{answer}'")).unwrap();
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(fake.next().await.authorization, "Bearer t");
}
