//! Kubeconfigs good and bad, and certificates that rotate, against real TLS on loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::node::get_node;

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

    fn write_client(&self, name: &str) -> Vec<u8> {
        let (certificate, key) = self.issue(name);
        std::fs::write(self.folder.path().join("node.crt"), certificate.pem()).unwrap();
        std::fs::write(self.folder.path().join("node.key"), key.serialize_pem()).unwrap();
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
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.issuer.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let (certificate, key) = pki.issue("server");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
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
    assert!(crate::call::chain(&error).contains("no.crt"));
    let path = pki.kubeconfig("server: 'https://localhost:1', certificate-authority: no-ca.crt", "token: t");
    assert!(matches!(connect(&path, ClientSettings::default()).await, Err(ConnectError::Kubeconfig { .. })));
    let path = pki.kubeconfig(
        "server: 'https://localhost:1', certificate-authority: ca.crt, proxy-url: 'http://p:1'",
        "token: t",
    );
    assert!(matches!(connect(&path, ClientSettings::default()).await, Err(ConnectError::Proxy { .. })));
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
    assert!(crate::call::chain(&error).ends_with("no answer within 20ms"), "{}", crate::call::chain(&error));
    assert!(error.is_retryable());
}
