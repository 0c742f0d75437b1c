//! The API server behind proxies of every kind.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Makes a tunnel to the server's port, whatever it is asked.
async fn tunnel(near: &mut (impl AsyncRead + AsyncWrite + Unpin), port: u16, heads: mpsc::Sender<String>) {
    heads.send(head(near).await).await.unwrap();
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    pass_on(near, port).await;
}

async fn pass_on(near: &mut (impl AsyncRead + AsyncWrite + Unpin), port: u16) {
    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _ = tokio::io::copy_bidirectional(near, &mut far).await;
}

/// A listener's port, and what is done with each of its connections.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    mut each: impl FnMut(TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
    port
}

async fn through(pki: &Pki, server: u16, proxy: String) -> Connection {
    let cluster =
        format!("server: 'https://localhost:{server}', certificate-authority: ca.crt, proxy-url: '{proxy}'");
    let path = pki.kubeconfig(&cluster, "client-certificate: node.crt, client-key: node.key");
    connect(&path, ClientSettings::default()).await.unwrap()
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel() {
    let pki = Pki::new();
    let (server, mut shown) = http2_server(&pki).await;
    let client = pki.write_client("node");
    let (heads, mut seen) = mpsc::channel(10);
    let port = serve(move |mut near| {
        let heads = heads.clone();
        async move { tunnel(&mut near, server, heads).await }
    })
    .await;
    let connection = through(&pki, server, format!("http://me:pass@127.0.0.1:{port}")).await;
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(shown.recv().await.unwrap().1, client);
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with(&format!("CONNECT localhost:{server} ")), "{head}");
    assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic bwu6cgfzcw=="), "{head}");
}

/// As in Go, which has one TLS configuration for both.
#[tokio::test]
async fn a_proxy_with_tls_is_trusted_and_shown_what_the_server_is() {
    let pki = Pki::new();
    let (server, mut shown) = http2_server(&pki).await;
    let client = pki.write_client("node");
    let (heads, mut seen) = mpsc::channel(10);
    let (certificates, mut shown_first) = mpsc::channel(10);
    let acceptor = TlsAcceptor::from(Arc::new(pki.server()));
    let port = serve(move |near| {
        let (acceptor, heads, certificates) = (acceptor.clone(), heads.clone(), certificates.clone());
        async move {
            let mut near = acceptor.accept(near).await.unwrap();
            let certificate = near.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            certificates.send(certificate).await.unwrap();
            tunnel(&mut near, server, heads).await;
        }
    })
    .await;
    let connection = through(&pki, server, format!("https://localhost:{port}")).await;
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(shown_first.recv().await.unwrap(), client);
    assert_eq!(shown.recv().await.unwrap().1, client);
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with(&format!("CONNECT localhost:{server} ")), "{head}");
}

#[tokio::test]
async fn a_socks_proxy_leads_to_the_server() {
    let pki = Pki::new();
    let (server, mut shown) = http2_server(&pki).await;
    let client = pki.write_client("node");
    let port = serve(move |mut near| async move {
        let mut offer = [0; 4];
        near.read_exact(&mut offer).await.unwrap();
        near.write_all(&[5, 2]).await.unwrap();
        let mut who = [0; 9];
        near.read_exact(&mut who).await.unwrap();
        assert_eq!(&who, b"\x01\x02me\x04pass");
        near.write_all(&[1, 0]).await.unwrap();
        let mut wish = [0; 16];
        near.read_exact(&mut wish).await.unwrap();
        assert_eq!(&wish[3..14], b"\x03\x09localhost");
        near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        pass_on(&mut near, server).await;
    })
    .await;
    let connection = through(&pki, server, format!("socks5://me:pass@localhost:{port}")).await;
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    assert_eq!(shown.recv().await.unwrap().1, client);
}

#[tokio::test]
async fn without_tls_the_proxy_passes_requests_on() {
    let (heads, mut seen) = mpsc::channel(10);
    let port = serve(move |mut near| {
        let heads = heads.clone();
        async move {
            heads.send(head(&mut near).await).await.unwrap();
            let body = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            near.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let pki = Pki::new();
    let cluster = format!("server: 'http://api.example:81', proxy-url: 'http://me:pass@127.0.0.1:{port}'");
    let connection = connect(&pki.kubeconfig(&cluster, "token: t"), ClientSettings::default()).await.unwrap();
    assert!(get_node(&connection.api, "n").await.unwrap().is_some());
    let head = seen.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get http://api.example:81/api/v1/nodes/n "), "{head}");
    assert!(head.contains("proxy-authorization: basic bwu6cgfzcw=="), "{head}");
    assert!(!head.contains("\r\nauthorization:"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let port = serve(|mut near| async move {
        head(&mut near).await;
        near.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    let pki = Pki::new();
    pki.write_client("node");
    let connection = through(&pki, 1, format!("http://me:s3cret@127.0.0.1:{port}")).await;
    let error = get_node(&connection.api, "n").await.unwrap_err();
    let said = model::chain(&error);
    let expect = format!(
        "ask the proxy http://127.0.0.1:{port} for a connection to localhost:1: \
         it answers 407 Proxy Authentication Required"
    );
    assert!(said.ends_with(&expect), "{said}");
    assert!(!format!("{said} {error:?} {connection:?}").contains("s3cret"), "{error:?}");
}
