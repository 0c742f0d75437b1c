//! How the server speaks TLS, as it is configured to.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustix::process::Signal;
use rustls::version::TLS12;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, NamedGroup, RootCertStore,
};

use crate::exit_codes::started;
use crate::process::{Lab, ended, signal};
use crate::runtime;

/// A server on a free port, and that.
fn lab(fields: &str) -> (Lab, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lab = Lab::new().with(fields).with(&format!(
        "enableServer: true\naddress: 127.0.0.1\nport: {port}\nauthorization: {{mode: AlwaysAllow}}\n\
         authentication: {{webhook: {{enabled: false}}, anonymous: {{enabled: true}}}}\n"
    ));
    (lab, port)
}

/// What a client that speaks no more than TLS 1.2, over one curve, and trusts nobody, fails at.
fn failure(port: u16) -> Error {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let config =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS12]).unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), "node".try_into().unwrap()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let error = client.complete_io(&mut stream).unwrap_err();
    *error.into_inner().unwrap().downcast::<Error>().unwrap()
}

#[tokio::test]
async fn clients_that_speak_less_than_is_wanted_are_refused() {
    for (fields, wanted) in [
        ("", Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        ("tlsMinVersion: VersionTLS13\n", Error::AlertReceived(AlertDescription::ProtocolVersion)),
        ("tlsCurvePreferences: [24]\n", Error::AlertReceived(AlertDescription::HandshakeFailure)),
    ] {
        let (lab, port) = lab(fields);
        let (_lab, child, _systemd) = started(lab).await;
        let failed = tokio::task::spawn_blocking(move || failure(port)).await.unwrap();
        assert_eq!(failed, wanted, "{fields:?}");
        signal(&child, Signal::TERM);
        assert_eq!(ended(child).await.code, Some(0));
    }
}

#[tokio::test]
async fn suites_of_which_there_is_none_keep_it_from_starting() {
    let (lab, _) = lab("tlsCipherSuites: [TLS_RSA_WITH_RC4_128_SHA]\n");
    runtime::serve(&lab.path("cri.sock"));
    let ended = lab.run().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.last().contains("none of the TLS cipher suites is supported"), "{}", ended.stderr);
}
