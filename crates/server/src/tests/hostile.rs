//! Callers who mean ill, or who are many. Each vulnerability of upstream's kubelet that this API could have is
//! named at its test.

use std::collections::BTreeSet;

use super::*;

/// The oldest connections without credentials make room, whoever has proved itself stays, and newcomers get in.
#[tokio::test]
async fn idle_connections_lock_nobody_out() {
    let node = start(fake(), |_| {}).await;
    let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    let (mut known, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let root = [("authorization", "Bearer root")];
    let reply = finish(known.send_request(request("GET", "/pods", &root)).await.unwrap()).await;
    assert_eq!(reply.status, StatusCode::OK);
    let healthz = node.addresses.healthz.unwrap();
    let mut idle = Vec::new();
    for _ in 0..2 * crate::unauthenticated::MAX_UNAUTHENTICATED {
        idle.push(TcpStream::connect(node.addresses.main).await.unwrap());
        idle.push(TcpStream::connect(healthz).await.unwrap());
    }
    // The first ones were closed for those that came after them.
    for stream in &mut idle[..2] {
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    }
    let reply = finish(known.send_request(request("GET", "/pods", &root)).await.unwrap()).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(node.get_as("root", "/pods").await.status, StatusCode::OK);
    assert_eq!(node.plain(healthz, "GET", "/healthz").await.text(), "ok");
}

/// CVE-2020-8551: whatever is asked, the labels of the metrics are those of the endpoints, and nobody without
/// credentials makes the node ask the API server.
#[tokio::test]
async fn random_paths_make_up_no_labels() {
    let fake = fake();
    let node = start(fake.clone(), |_| {}).await;
    let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let roots = ["", "/exec", "/metrics", "/logs", "/pods", "/stats", "/debug/pprof", "/healthz"];
    for (i, root) in (0..2000).zip(roots.iter().cycle()) {
        let method = ["GET", "POST", "PROPFIND", "X"][i % 4];
        let asked = request(method, &format!("{root}/{i:x}/{i}?{i}"), &[]);
        let reply = finish(sender.send_request(asked).await.unwrap()).await;
        assert!(matches!(reply.status.as_u16(), 401 | 404), "{root}: {}", reply.status);
    }
    let seen = fake.seen.lock().unwrap();
    let labels: BTreeSet<_> = seen.iter().map(|request| (request.method, request.path)).collect();
    assert_eq!(seen.len(), 2000);
    assert!(labels.len() < 40, "{labels:?}");
    assert_eq!((fake.reviews.load(Ordering::SeqCst), fake.questions.load(Ordering::SeqCst)), (0, 0));
}

/// A body that nobody wants is not waited for, and not kept.
#[tokio::test]
async fn bodies_of_strangers_are_not_read() {
    let node = start(fake(), |_| {}).await;
    for (path, length) in [("/exec/ns/web/main", "104857600"), ("/debug/flags/v", "9223372036854775807")] {
        let mut stream = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: node-1\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert!(matches!(&status, b"HTTP/1.1 401" | b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&status));
    }
}

/// A head that never ends is cut off at its limit.
#[tokio::test]
async fn endless_heads_are_cut_off() {
    let node = start(fake(), |_| {}).await;
    let mut stream = TcpStream::connect(node.addresses.healthz.unwrap()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let line = b"x-more: and more and more and more and more and more\r\n".repeat(100);
    let mut sent = 0;
    // Until the other side has closed, which it does long before this.
    while sent < 8 << 20 && stream.write_all(&line).await.is_ok() {
        sent += line.len();
    }
    assert!(sent < 8 << 20);
}

/// CVE-2019-11248, CVE-2025-0426: the ports that ask nobody who they are show health, and the few harmless endpoints.
#[tokio::test]
async fn open_ports_show_nothing_that_is_protected() {
    let node = start(fake(), |settings| settings.endpoints.has_profiling = true).await;
    let (read_only, healthz) = (node.addresses.read_only.unwrap(), node.addresses.healthz.unwrap());
    for path in [
        "/debug/pprof/",
        "/debug/pprof/heap",
        "/debug/flags/v",
        "/configz",
        "/exec/ns/web/main?command=sh&output=1",
        "/attach/ns/web/main?output=1",
        "/run/ns/web/main?cmd=sh",
        "/portForward/ns/web",
        "/containerLogs/ns/web/main",
        "/checkpoint/ns/web/main",
        "/logs/",
        "/logs/?query=kubelet",
        "/runningpods/",
        "/allocatedPods",
        "/flagz",
        "/statusz",
    ] {
        for method in ["GET", "POST"] {
            let status = node.plain(healthz, method, path).await.status;
            assert_eq!(status, StatusCode::NOT_FOUND, "health: {method} {path}");
            let status = node.plain(read_only, method, path).await.status;
            assert!(matches!(status.as_u16(), 404 | 405), "read-only: {method} {path}: {status}");
        }
    }
    for path in ["/pods", "/metrics", "/metrics/cadvisor", "/stats/summary"] {
        assert_eq!(node.plain(healthz, "GET", path).await.status, StatusCode::NOT_FOUND, "health: {path}");
    }
}

/// CVE-2018-1002102, CVE-2020-8559: a runtime that sends callers elsewhere is not obeyed, nor does its answer reach
/// them as one that they would obey.
#[tokio::test]
async fn redirects_of_the_runtime_go_nowhere() {
    for line in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let answer =
            format!("HTTP/1.1 {line}\r\nLocation: http://10.0.0.1/secret\r\nContent-Length: 0\r\n\r\n");
        let (stream_url, _head) = streaming_server(answer.leak()).await;
        let node = start(Fake { stream_url, ..fake() }, |_| {}).await;
        let reply = node.ask(None, request("POST", "/exec/ns/web/main?command=sh&output=1", &SPDY)).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{line}");
        assert!(!reply.headers.contains_key("location"), "{line}");
    }
}

/// kubernetes/kubernetes#119640: a WebSocket is opened with GET, so that `get` on `nodes/proxy` runs commands, as
/// upstream has it; no right on anything else does.
#[tokio::test]
async fn a_websocket_needs_the_right_of_its_method() {
    let (stream_url, _head) =
        streaming_server("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!").await;
    let node = start(Fake { stream_url, ..fake() }, |_| {}).await;
    let with = |token: &'static str| {
        [
            ("authorization", token),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v4.channel.k8s.io"),
        ]
    };
    for path in [
        "/exec/ns/web/main?command=sh&output=1",
        "/attach/ns/web/main?output=1",
        "/portForward/ns/web?port=80",
        "/run/ns/web/main?cmd=sh",
        "/containerLogs/ns/web/main",
    ] {
        let reply = node.ask(None, request("GET", path, &with("Bearer reader"))).await;
        assert_eq!(reply.status.as_u16(), 403, "{path}: {}", reply.text());
        assert!(reply.text().contains("verb=get"), "{path}: {}", reply.text());
    }
    // Let through to the runtime, which is the one to refuse here.
    let exec = "/exec/ns/web/main?command=sh&output=1";
    let reply = node.ask(None, request("GET", exec, &with("Bearer root"))).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (403, "no!"));
}

/// As many streams as the issue of a busy node asks for, at the same time, each with its own bytes.
#[tokio::test]
async fn a_thousand_streams_at_once() {
    const STREAMS: usize = 1000;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream_url = format!("http://{}/exec/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let upgrade =
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
                stream.write_all(upgrade).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            });
        }
    });
    let node = start(Fake { stream_url, ..fake() }, |_| {}).await;
    let before = resident_kib();
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
        let mut response = send(io, request("POST", "/exec/ns/web/main?command=cat&input=1", &SPDY)).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        streams.push(TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap()));
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.write_all(format!("{i:06}").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        let mut echo = [0; 6];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, format!("{i:06}").as_bytes());
    }
    // All of them are open now, with both ends of each connection in this process.
    let each = resident_kib().saturating_sub(before) / STREAMS;
    assert!(each < 400, "{each} KiB a stream");
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
