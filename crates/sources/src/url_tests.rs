//! Against a web server on a real socket.

use std::net::SocketAddr;

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'i:1'}]}\n";
const LIST: &str = r#"{"apiVersion": "v1", "kind": "PodList", "items": [
    {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}},
    {"metadata": {"name": "b"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}]}"#;

/// Gives one answer after the other, the last one for ever, and passes on what it was asked.
async fn serve(answers: Vec<String>) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, asked) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut answers = answers.into_iter().peekable();
        let mut answer = String::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer = answers.next().unwrap_or(answer);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let _ = sender.try_send(String::from_utf8(head).unwrap().to_lowercase());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn settings(address: SocketAddr) -> UrlSettings {
    UrlSettings {
        url: format!("http://user:hunter2@{address}/pods?key=hunter3"),
        headers: BTreeMap::from([("x-token".to_owned(), vec!["one".to_owned(), "two".to_owned()])]),
        node_name: "Node-1".to_owned(),
        gates: ManifestGates::default(),
        check_every: Duration::from_millis(1),
    }
}

/// An update as text: names of pods, or the error with its causes.
fn text(update: UrlUpdate) -> String {
    match update {
        Ok(pods) => pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>().join(","),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text += &format!(": {cause}");
                source = cause.source();
            }
            text
        }
    }
}

#[tokio::test]
async fn follows_what_the_server_has() {
    let bad = LIST.replace(r#""name": "b""#, r#""name": "B""#);
    let (address, mut asked) = serve(vec![
        answer("200 OK", POD),
        answer("200 OK", POD),
        answer("200 OK", LIST),
        answer("500 Internal Server Error", "no"),
        answer("200 OK", &bad),
        answer("200 OK", "hello: hunter4"),
        answer("200 OK", ""),
        answer("200 OK", POD),
    ])
    .await;
    let mut updates = std::pin::pin!(watch_url(settings(address)));
    let mut said = Vec::new();
    for _ in 0..8 {
        said.push(text(updates.next().await.unwrap()).replace(&address.to_string(), "@"));
    }
    assert_eq!(said[0], "web-node-1");
    assert_eq!(said[1], "a-node-1,b-node-1");
    assert_eq!(said[2], "fetch static pods from http://@/pods: answer 500 Internal Server Error");
    assert!(said[3].starts_with("static pods from http://@/pods: invalid pod: metadata.name"), "{}", said[3]);
    assert!(said[4].contains("expected a v1 Pod or PodList"), "{}", said[4]);
    assert_eq!(said[5], "");
    assert_eq!(said[6], "fetch static pods from http://@/pods: the answer is empty");
    assert_eq!(said[7], "web-node-1");
    assert!(!said.iter().any(|text| text.contains("hunter")), "{said:?}");
    let head = asked.recv().await.unwrap();
    for line in ["get /pods?key=hunter3 http/1.1", "x-token: one", "x-token: two"] {
        assert!(head.contains(line), "{line}: {head}");
    }
}

#[tokio::test]
async fn a_pod_from_a_url_says_so() {
    let (address, _asked) = serve(vec![answer("200 OK", POD)]).await;
    let mut updates = std::pin::pin!(watch_url(settings(address)));
    let pod = updates.next().await.unwrap().unwrap().pop().unwrap();
    let annotations = pod.metadata.annotations.clone().unwrap();
    assert_eq!(annotations[model::pod::ANNOTATION_CONFIG_SOURCE], "http");
    assert_eq!(annotations[model::pod::ANNOTATION_CONFIG_HASH], pod.metadata.uid.clone().unwrap());
    assert_eq!(pod.spec.as_ref().unwrap().tolerations.clone().unwrap_or_default(), []);
    assert!(model::pod::is_static(&pod));
}

#[tokio::test]
async fn follows_to_the_same_host_only() {
    let (address, _asked) = serve(vec![
        answer("302 Found", "").replace("\r\n\r\n", "\r\nlocation: /x\r\n\r\n"),
        answer("200 OK", POD),
    ])
    .await;
    let mut updates = std::pin::pin!(watch_url(settings(address)));
    assert_eq!(text(updates.next().await.unwrap()), "web-node-1");
    let away = answer("302 Found", "").replace("\r\n\r\n", "\r\nlocation: http://example.invalid/x\r\n\r\n");
    let (address, _asked) = serve(vec![away]).await;
    let mut updates = std::pin::pin!(watch_url(settings(address)));
    assert!(text(updates.next().await.unwrap()).ends_with("answer 302 Found"));
}

#[tokio::test]
async fn what_cannot_be_sent_is_said() {
    let (address, _asked) = serve(vec![answer("200 OK", POD)]).await;
    let mut bad = settings(address);
    bad.headers.insert("x-bad".to_owned(), vec!["hunter5\n".to_owned()]);
    let said = text(std::pin::pin!(watch_url(bad)).next().await.unwrap());
    assert!(said.contains("x-bad") && !said.contains("hunter"), "{said}");
    let mut bad = settings(address);
    bad.url = "http://".to_owned();
    assert!(text(std::pin::pin!(watch_url(bad)).next().await.unwrap()).contains("static pods"));
}

fn http_proxy(value: &str) -> Proxies {
    Proxies::of_variables(|name| (name == "HTTP_PROXY").then(|| value.to_owned()))
}

/// The name of the server means nothing here: it is the proxy that knows it.
#[tokio::test]
async fn the_proxy_of_the_environment_is_asked() {
    let (proxy, mut asked) = serve(vec![answer("200 OK", POD)]).await;
    let settings = UrlSettings { url: "http://pods.example:81/all?x=1".to_owned(), ..settings(proxy) };
    let proxies = http_proxy(&format!("http://user:secret@{proxy}"));
    let mut updates = std::pin::pin!(watch_through(settings, proxies));
    assert_eq!(text(updates.next().await.unwrap()), "web-node-1");
    let head = asked.recv().await.unwrap();
    assert!(head.starts_with("get http://pods.example:81/all?x=1 http/1.1\r\n"), "{head}");
    for line in ["host: pods.example:81", "x-token: one", "proxy-authorization: basic dxnlcjpzzwnyzxq="] {
        assert!(head.contains(line), "{line} in {head}");
    }
}

#[test]
fn authorities_are_read_only_for_tls() {
    for (url, proxy, is_plain) in [
        ("http://pods.example", "", true),
        ("HTTP://pods.example", "http://p", true),
        ("http://pods.example", "socks5://p", true),
        ("http://pods.example", "https://p", false),
        ("http://localhost", "https://p", true),
        ("https://pods.example", "", false),
    ] {
        let settings = UrlSettings { url: url.to_owned(), ..settings(([127, 0, 0, 1], 1).into()) };
        assert_eq!(Fetcher::new(settings, http_proxy(proxy)).is_plain(), is_plain, "{url} {proxy}");
    }
}

#[tokio::test]
async fn other_kinds_of_proxies_are_refused() {
    let (address, _asked) = serve(vec![answer("200 OK", POD)]).await;
    let settings = UrlSettings { url: "http://pods.example/all".to_owned(), ..settings(address) };
    let mut updates = std::pin::pin!(watch_through(settings, http_proxy("socks4://user:secret@p:1")));
    let said = text(updates.next().await.unwrap());
    assert!(said.contains("the proxy \"socks4://p:1\" is none of"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}
