//! Sessions whose program ends while its input still flows: the runtime closes a socket that it has not read to the end,
//! which resets it, and the client sends on without looking at what it is told.

use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;

/// More than all buffers on the way hold.
const INPUT_PIECES: usize = 512;
const PIECE_BYTES: usize = 32 << 10;

const UPGRADE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
const STATUS: &str = r#"{"metadata":{},"reason":"NonZeroExitCode","status":"Failure"}"#;

/// What does not come fails a test instead of holding it up.
async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), what).await.unwrap()
}

/// A streaming server whose program ends as soon as some input is there: it reads the opening of so many streams, says
/// this, and closes with input unread.
async fn ending_runtime(streams: usize, says: Vec<u8>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut stream = opened(&listener, streams).await;
        stream.write_all(&says).await.unwrap();
        assert_eq!(stream.peek(&mut [0]).await.unwrap(), 1);
    });
    url
}

/// One that waits, as containerd does, for a pipe that nobody reads, before it says how the program ended.
async fn stuck_runtime(streams: usize, [before, after]: [Vec<u8>; 2], freed: Arc<Notify>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut stream = opened(&listener, streams).await;
        stream.write_all(&before).await.unwrap();
        freed.notified().await;
        stream.write_all(&after).await.unwrap();
    });
    url
}

async fn opened(listener: &TcpListener, streams: usize) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await;
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    for _ in 0..streams {
        let mut head = [0; 8];
        stream.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize];
        stream.read_exact(&mut body).await.unwrap();
    }
    stream
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

async fn upgraded(node: &Node, request: Request<Empty<Bytes>>) -> TokioIo<hyper::upgrade::Upgraded> {
    let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    let mut response = send(io, request).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap())
}

fn websocket(path: &str, protocol: &'static str) -> Request<Empty<Bytes>> {
    let headers = [
        ("authorization", "Bearer root"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    request("GET", path, &headers)
}

/// What passes through as it is.
#[tokio::test]
async fn the_end_reaches_a_client_that_is_still_sending() {
    for request in [
        request("POST", "/exec/ns/web/main?command=sh&input=1&output=1", &SPDY),
        request("POST", "/attach/ns/web/main?input=1&output=1", &SPDY),
        request("POST", "/portForward/ns/web", &SPDY),
        websocket("/exec/ns/web/main?command=sh&input=1&output=1", "v4.channel.k8s.io"),
    ] {
        let path = request.uri().path().to_owned();
        let stream_url = ending_runtime(0, STATUS.into()).await;
        let node = start(Fake { stream_url, ..fake() }, |_| {}).await;
        let mut stream = upgraded(&node, request).await;
        let piece = vec![7; PIECE_BYTES];
        for _ in 0..INPUT_PIECES {
            soon(stream.write_all(&piece)).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        stream.flush().await.unwrap();
        let mut said = String::new();
        soon(stream.read_to_string(&mut said)).await.unwrap();
        assert_eq!(said, STATUS, "{path}");
    }
}

/// What is translated, and a port-forward within a WebSocket.
#[tokio::test]
async fn a_websocket_is_closed_in_good_order_while_its_client_is_still_sending() {
    // The output and how it ended; no stream but that is at its end.
    let mut frames = [&[0, 0, 0, 5, 0, 0, 0, 3][..], b"out"].concat();
    frames.extend([0, 0, 0, 1, 1, 0, 0, u8::try_from(STATUS.len()).unwrap()]);
    frames.extend(STATUS.as_bytes());
    let exec = "/exec/ns/web/main?command=sh&input=1&output=1&error=1";
    let attach = "/attach/ns/web/main?input=1&output=1&error=1";
    let told = ["\u{1}".to_owned(), "\u{1}out".to_owned(), format!("\u{3}{STATUS}")];
    let within = ("/portForward/ns/web", "SPDY/3.1+portforward.k8s.io");
    for (path, protocol, streams, says, want) in [
        (exec, "v5.channel.k8s.io", 4, frames.clone(), &told[..]),
        (attach, "v5.channel.k8s.io", 4, frames.clone(), &told[..]),
        (within.0, within.1, 0, STATUS.into(), &[STATUS.to_owned()][..]),
    ] {
        let stream_url = ending_runtime(streams, says).await;
        let node = start(Fake { stream_url, ..fake() }, |_| {}).await;
        let stream = upgraded(&node, websocket(path, protocol)).await;
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        let piece = Bytes::from(vec![0; PIECE_BYTES]);
        for _ in 0..INPUT_PIECES {
            let sent = soon(futures::SinkExt::send(&mut socket, Message::Binary(piece.clone()))).await;
            sent.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        let mut said = Vec::new();
        let code = loop {
            match soon(socket.next()).await.unwrap().unwrap() {
                Message::Binary(bytes) => said.push(String::from_utf8(bytes.to_vec()).unwrap()),
                Message::Close(frame) => break frame.map(|frame| frame.code),
                other => panic!("{path}: {other:?}"),
            }
        };
        assert_eq!((said.as_slice(), code), (want, Some(CloseCode::Normal)), "{path}");
    }
}

/// What a program has left of its input is read away, so that the runtime says how it ended.
#[tokio::test]
async fn a_runtime_that_waits_for_input_to_be_read_is_freed() {
    let piece = vec![0; PIECE_BYTES];
    for path in ["/exec/ns/web/main?command=sh&input=1&output=1", "/attach/ns/web/main?input=1&output=1"] {
        let ports = fake();
        let says = ["out".into(), STATUS.into()];
        let stream_url = stuck_runtime(0, says, ports.freed.clone()).await;
        let node = start(Fake { stream_url, ..ports }, |_| {}).await;
        let mut stream = upgraded(&node, request("POST", path, &SPDY)).await;
        for _ in 0..INPUT_PIECES {
            soon(stream.write_all(&piece)).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        stream.flush().await.unwrap();
        let mut said = String::new();
        soon(stream.read_to_string(&mut said)).await.unwrap();
        assert_eq!(said, format!("out{STATUS}"), "{path}");

        let ports = fake();
        let mut end = vec![0, 0, 0, 1, 1, 0, 0, u8::try_from(STATUS.len()).unwrap()];
        end.extend(STATUS.as_bytes());
        let says = [vec![0, 0, 0, 5, 1, 0, 0, 0], end];
        let stream_url = stuck_runtime(3, says, ports.freed.clone()).await;
        let node = start(Fake { stream_url, ..ports }, |_| {}).await;
        let stream = upgraded(&node, websocket(path, "v5.channel.k8s.io")).await;
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        for _ in 0..INPUT_PIECES {
            let message = Message::Binary(Bytes::from(piece.clone()));
            let sent = soon(futures::SinkExt::send(&mut socket, message)).await;
            sent.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        let first = soon(socket.next()).await.unwrap().unwrap();
        assert_eq!(first.into_data(), "\u{1}", "{path}: it is connected");
        let end = soon(socket.next()).await.unwrap().unwrap();
        assert_eq!(end.into_data(), format!("\u{3}{STATUS}"), "{path}");
    }
}

/// A client that reads nothing holds up its own session only, and takes it along when it goes.
#[tokio::test]
async fn a_client_that_does_not_read_can_go() {
    let output = "/exec/ns/web/main?command=sh&output=1";
    for request in [request("POST", output, &SPDY), websocket(output, "v5.channel.k8s.io")] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream_url = format!("http://{}/exec/token", listener.local_addr().unwrap());
        let node = start(Fake { stream_url, ..fake() }, |_| {}).await;
        let runtime = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(UPGRADE.as_bytes()).await.unwrap();
            let frame = [&[0, 0, 0, 3, 0, 0, 0x80, 0][..], &[7; 0x8000]].concat();
            let mut written = 0;
            while stream.write_all(&frame).await.is_ok() {
                written += 1;
            }
            written
        });
        let mut stream = upgraded(&node, request).await;
        soon(stream.read_exact(&mut [0; 100_000])).await.unwrap();
        drop(stream);
        assert!(soon(runtime).await.unwrap() > 0);
    }
}
