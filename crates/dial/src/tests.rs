//! Against proxies and a server on real sockets. The server says back what it hears.

use std::fmt::Write as _;
use std::net::SocketAddr;

use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::*;

/// Of a server that only its proxy knows.
const FAR: &str = "https://api.example:6443";

/// What a proxy heard, as text.
type Heard = mpsc::Receiver<String>;

/// Says back what it hears.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    address
}

async fn pass_on(near: &mut (impl AsyncRead + AsyncWrite + Unpin), server: SocketAddr) {
    let mut far = TcpStream::connect(server).await.unwrap();
    let _ = tokio::io::copy_bidirectional(near, &mut far).await;
}

/// Answers `CONNECT` with `answer`, and leads to a server after one that is a success.
async fn tunnel_to(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(head).unwrap().to_lowercase()
}

async fn http_proxy(answer: &'static str) -> (SocketAddr, Heard) {
    let server = echo().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            heard.send(tunnel_to(&mut stream, answer).await).await.unwrap();
            if answer.contains(" 200 ") {
                pass_on(&mut stream, server).await;
            }
        }
    });
    (address, hears)
}

/// How many bytes a client says, and the answer, in turn.
type Script = &'static [(usize, &'static [u8])];

async fn socks_proxy(script: Script) -> (SocketAddr, Heard) {
    let server = echo().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = mpsc::channel(8);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        for (length, answer) in script {
            let mut said = vec![0; *length];
            stream.read_exact(&mut said).await.unwrap();
            said.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push(' ');
            stream.write_all(answer).await.unwrap();
        }
        heard.send(text.trim().to_owned()).await.unwrap();
        pass_on(&mut stream, server).await;
    });
    (address, hears)
}

fn client_tls(roots: RootCertStore) -> ClientConfig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    tls
}

async fn dial_with(tls: ClientConfig, proxy: &str, server: &str) -> Result<Link, String> {
    dial_by(Proxies::always(Proxy::parse(proxy).unwrap()), tls, server).await
}

async fn dial_by(proxies: Proxies, tls: ClientConfig, server: &str) -> Result<Link, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let opened = Dial::new(tcp, proxies, tls, None).call(server.parse().unwrap()).await;
    opened.map_err(|error| {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            write!(text, ": {error}").unwrap();
            cause = error.source();
        }
        assert!(!text.contains("secret"), "{text}");
        text
    })
}

async fn dial(proxy: &str, server: &str) -> Result<Link, String> {
    dial_with(client_tls(RootCertStore::empty()), proxy, server).await
}

/// That there is a server at the other end.
async fn assert_echo(link: Link) {
    assert!(!link.connected().is_proxied());
    let mut stream = TokioIo::new(link);
    stream.write_all(b"hello").await.unwrap();
    let mut said = [0; 5];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
}

#[tokio::test]
async fn without_proxy_a_connection_is_direct() {
    let server = echo().await;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let proxies =
        Proxies::of_variables(|name| (name == "HTTPS_PROXY").then(|| "http://127.0.0.1:1".to_owned()));
    let mut dial = Dial::new(tcp, proxies, client_tls(RootCertStore::empty()), None);
    assert_echo(dial.call(format!("https://{server}").parse().unwrap()).await.unwrap()).await;
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel() {
    for (who, server, expect, authorization) in [
        ("", FAR, "api.example:6443", None),
        ("me:secret@", "https://api.example", "api.example:443", Some("basic bwu6c2vjcmv0")),
        ("me@", "https://[fd00::1]:6443/x", "[fd00::1]:6443", Some("basic bwu6")),
    ] {
        let (proxy, mut heard) = http_proxy("HTTP/1.1 200 Connection established\r\n\r\n").await;
        assert_echo(dial(&format!("http://{who}{proxy}"), server).await.unwrap()).await;
        let head = heard.recv().await.unwrap();
        assert!(head.starts_with(&format!("connect {expect} http/1.1\r\n")), "{head}");
        assert!(head.contains(&format!("\r\nhost: {expect}\r\n")), "{head}");
        let found = head.lines().find_map(|line| line.strip_prefix("proxy-authorization: "));
        assert_eq!(found, authorization);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let tls = client_tls(RootCertStore::empty());
    let dialled = dial_by(Proxies::of_variables(|_| None), tls, &format!("https://{closed}/api")).await;
    let error = dialled.unwrap_err();
    assert!(error.starts_with(&format!("connect to {closed}: ")), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_refuses_a_tunnel_is_named() {
    for (answer, reason) in [
        ("HTTP/1.1 407 Denied\r\ncontent-length: 0\r\n\r\n", "it answers 407 Proxy Authentication Required"),
        ("HTTP/1.1 403 No\r\ncontent-length: 1000\r\n\r\n", "it answers 403 Forbidden"),
        ("HTTP/1.1 204 Yes\r\n\r\n", "it answers 204 No Content"),
        ("", "its answer: connection closed before message completed"),
        ("SSH-2.0-server\r\n\r\n", "its answer: invalid HTTP version parsed"),
    ] {
        let (proxy, _heard) = http_proxy(answer).await;
        let error = dial(&format!("http://me:secret@{proxy}"), FAR).await.unwrap_err();
        let ask = format!("ask the proxy http://{proxy} for a connection to api.example:6443: ");
        assert_eq!(error, ask + reason, "{answer}");
    }
}

#[tokio::test]
async fn requests_without_tls_are_forwarded() {
    let (proxy, _heard) = http_proxy("").await;
    let link = dial(&format!("http://{proxy}"), "http://pods.example/x").await.unwrap();
    assert!(link.connected().is_proxied());
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "https", "socks5"] {
        let error = dial(&format!("{scheme}://me:secret@{proxy}"), FAR).await.unwrap_err();
        assert!(error.starts_with(&format!("connect to the proxy {scheme}://{proxy}: ")), "{error}");
    }
}

/// Time stands still, and goes on by itself once everybody waits.
#[tokio::test(start_paused = true)]
async fn a_silent_proxy_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let error = dial(&format!("socks5://{proxy}"), FAR).await.unwrap_err();
    let expect =
        format!("the proxy socks5://{proxy} has made no connection to api.example:6443 within a minute");
    assert_eq!(error, expect);
}

#[tokio::test]
async fn a_proxy_with_tls_is_verified_and_offered_no_http2() {
    let issuer_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, issuer_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let client = client_tls(roots);
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let server = echo().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, mut hears) = mpsc::channel(8);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(std::sync::Arc::new(tls));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            let head = tunnel_to(&mut stream, "HTTP/1.1 200 OK\r\n\r\n").await;
            heard.send((protocol, head)).await.unwrap();
            pass_on(&mut stream, server).await;
        }
    });
    let proxy = format!("https://me:secret@localhost:{port}");
    assert_echo(dial_with(client.clone(), &proxy, FAR).await.unwrap()).await;
    let (protocol, head) = hears.recv().await.unwrap();
    assert_eq!(protocol, None);
    assert!(head.starts_with("connect api.example:6443 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: basic bwu6c2vjcmv0\r\n"), "{head}");

    let error = dial(&proxy, FAR).await.unwrap_err();
    assert!(error.starts_with(&format!("connect to the proxy https://localhost:{port}: ")), "{error}");
    assert!(error.contains("UnknownIssuer"), "{error}");
    let error = dial_with(client, &proxy.replace("localhost", "127.0.0.1"), FAR).await.unwrap_err();
    assert!(error.contains("certificate not valid for name \"127.0.0.1\""), "{error}");
}

const DONE: &[u8] = &[5, 0, 0, 1, 10, 0, 0, 1, 0, 80];

#[tokio::test]
async fn a_socks_proxy_makes_connections() {
    let name = "05010003 0b 6170692e6578616d706c65 192b".replace(' ', "");
    let cases: &[(&str, &str, Script, String)] = &[
        ("", FAR, &[(3, &[5, 0]), (18, DONE)], format!("050100 {name}")),
        // It gives its own address as a name, or as one of IPv6.
        ("", FAR, &[(3, &[5, 0]), (18, &[5, 0, 0, 3, 1, b'p', 0, 80])], format!("050100 {name}")),
        (
            "",
            "https://[fd00::1]",
            &[(3, &[5, 0]), (22, &[5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80])],
            "050100 05010004fd00000000000000000000000000000101bb".to_owned(),
        ),
        ("", "http://10.0.0.1", &[(3, &[5, 0]), (10, DONE)], "050100 050100010a0000010050".to_owned()),
        (
            "me:se%63ret@",
            FAR,
            &[(4, &[5, 2]), (11, &[1, 0]), (18, DONE)],
            format!("05020002 01026d6506736563726574 {name}"),
        ),
        // It wants no password.
        ("me:secret@", FAR, &[(4, &[5, 0]), (18, DONE)], format!("05020002 {name}")),
    ];
    for (who, server, script, said) in cases {
        let (proxy, mut heard) = socks_proxy(script).await;
        assert_echo(dial(&format!("socks5://{who}{proxy}"), server).await.unwrap()).await;
        assert_eq!(heard.recv().await.unwrap(), *said);
    }
}

#[tokio::test]
async fn a_socks_proxy_that_refuses_is_named() {
    let long = format!("https://{}", ["a".repeat(63).as_str(); 4].join(".") + ".example");
    let cases: &[(&str, &str, Script, &str)] = &[
        ("", FAR, &[(3, &[5, 0xff])], "it wants other credentials than there are"),
        ("", FAR, &[(3, &[5, 2])], "it wants other credentials than there are"),
        ("me:secret@", FAR, &[(4, &[5, 2]), (11, &[1, 1])], "it refuses user or password"),
        ("me:secret@", FAR, &[(4, &[5, 2]), (11, &[5, 0])], "it does not speak SOCKS 5"),
        (":secret@", FAR, &[(4, &[5, 2])], "a user has to have 1 to 255 bytes, and a password at most 255"),
        ("", FAR, &[(3, &[5, 0]), (18, &[5, 2, 0, 1])], "its rules do not allow it"),
        ("", FAR, &[(3, &[5, 0]), (18, &[5, 99, 0, 1])], "it answers with the unknown code 99"),
        ("", FAR, &[(3, &[5, 0]), (18, &[5, 0, 0, 9])], "it does not speak SOCKS 5"),
        ("", FAR, &[(3, b"HTTP/1.1 400 Bad Request\r\n\r\n")], "it does not speak SOCKS 5"),
        ("", &long, &[(3, &[5, 0])], "the server's name is longer than 255 bytes"),
    ];
    for (who, server, script, reason) in cases {
        let (proxy, _heard) = socks_proxy(script).await;
        let error = dial(&format!("socks5://{who}{proxy}"), server).await.unwrap_err();
        assert!(
            error.starts_with(&format!("ask the proxy socks5://{proxy} for a connection to ")),
            "{error}"
        );
        assert!(error.ends_with(&format!(": {reason}")), "{error}");
    }
}
