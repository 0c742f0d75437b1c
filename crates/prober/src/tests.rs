//! Attempts against real sockets on loopback.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::{
    ContainerPort, ExecAction, GRPCAction, HTTPGetAction, HTTPHeader, LifecycleHandler, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

async fn no_exec(_: Vec<String>, _: Duration) -> Result<ExecOutput, ExecError> {
    Err(ExecError::Runtime("no exec in this test".into()))
}

fn container(port: u16) -> Container {
    let named = ContainerPort { name: Some("web".into()), container_port: port.into(), ..Default::default() };
    Container { name: "main".into(), ports: Some(vec![named]), ..Default::default() }
}

async fn run(probe: Probe, port: u16) -> ProbeOutcome {
    run_with(probe, port, ProbeGates::default()).await
}

async fn run_with(probe: Probe, port: u16, gates: ProbeGates) -> ProbeOutcome {
    let container = container(port);
    let target = ProbeTarget { pod_ip: Some(Ipv4Addr::LOCALHOST.into()), container: &container, gates };
    attempt(&probe, &target, no_exec).await
}

fn http_get(path: &str) -> HTTPGetAction {
    HTTPGetAction { path: Some(path.into()), port: IntOrString::String("web".into()), ..Default::default() }
}

fn http(action: HTTPGetAction) -> Probe {
    Probe { http_get: Some(action), ..Default::default() }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Answers one connection after another with these texts; gives back the heads it was sent.
async fn answers(texts: Vec<String>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut heads = Vec::new();
        for text in texts {
            let (mut stream, _) = listener.accept().await.unwrap();
            heads.push(read_head(&mut stream).await);
            // The prober may hang up once it has seen enough.
            let _ = stream.write_all(text.as_bytes()).await;
        }
        heads
    });
    (address, serving)
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn refused_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn http_status_decides() {
    let big = "x".repeat(40 * 1024);
    for (status, body, want) in [
        ("200 OK", "fine", ProbeOutcome::Success),
        ("200 OK", big.as_str(), ProbeOutcome::Success),
        ("204 No Content", "", ProbeOutcome::Success),
        ("304 Not Modified", "", ProbeOutcome::Warning("Probe terminated redirects, Response body: ".into())),
        ("400 Bad Request", "", ProbeOutcome::Failure("HTTP probe failed with statuscode: 400".into())),
        ("500 Oops", "secret", ProbeOutcome::Failure("HTTP probe failed with statuscode: 500".into())),
    ] {
        let (address, _) = answers(vec![response(status, body)]).await;
        assert_eq!(run(http(http_get("/")), address.port()).await, want, "{status}");
    }
}

#[tokio::test]
async fn request_carries_the_users_headers_and_our_defaults() {
    let (address, served) = answers(vec![response("200 OK", ""), response("200 OK", "")]).await;
    assert_eq!(run(http(http_get("/z?a=b")), address.port()).await, ProbeOutcome::Success);
    let header = |name: &str, value: &str| HTTPHeader { name: name.into(), value: value.into() };
    let own = vec![
        header("Host", "example.test"),
        header("X-A", "1"),
        header("X-A", "2"),
        header("Accept", ""),
        header("User-Agent", "mine"),
        header("Content-Length", "7"),
    ];
    let action = HTTPGetAction { http_headers: Some(own), ..http_get("/") };
    assert_eq!(run(http(action), address.port()).await, ProbeOutcome::Success);
    let heads = served.await.unwrap();
    let lines = |head: &str| {
        let mut lines: Vec<_> = head.trim_end().split("\r\n").map(str::to_owned).collect();
        lines[1..].sort();
        lines
    };
    let host = format!("Host: {address}");
    let plain = [
        "GET /z?a=b HTTP/1.1",
        "Accept: */*",
        "Connection: close",
        host.as_str(),
        "User-Agent: kube-probe/1.37",
    ];
    assert_eq!(lines(&heads[0]), plain);
    let own =
        ["GET / HTTP/1.1", "Connection: close", "Host: example.test", "User-Agent: mine", "X-A: 1", "X-A: 2"];
    assert_eq!(lines(&heads[1]), own);
}

#[tokio::test]
async fn redirects_stay_on_the_host() {
    let to = |location: &str, body: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let (address, served) = answers(vec![to("/there", ""), response("200 OK", "")]).await;
    assert_eq!(run(http(http_get("/here")), address.port()).await, ProbeOutcome::Success);
    let heads = served.await.unwrap();
    assert!(heads[1].starts_with("GET /there HTTP/1.1\r\n"), "{}", heads[1]);
    assert!(heads[1].contains(&format!("Referer: http://{address}/here\r\n")), "{}", heads[1]);

    let (address, _) = answers(vec![to("http://elsewhere.test/", "bye")]).await;
    let want = ProbeOutcome::Warning("Probe terminated redirects, Response body: bye".into());
    assert_eq!(run(http(http_get("/")), address.port()).await, want);

    let (address, _) = answers(vec![to("/again", ""); 10]).await;
    let want = format!("Get \"http://{address}/again\": stopped after 10 redirects");
    assert_eq!(run(http(http_get("/")), address.port()).await, ProbeOutcome::Failure(want));
}

#[tokio::test]
async fn refusals_read_as_upstreams() {
    let port = refused_port().await;
    let why = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let want = ProbeOutcome::Failure(format!("Get \"http://127.0.0.1:{port}/\": {why}"));
    assert_eq!(run(http(http_get("/")), port).await, want);
    let tcp = TCPSocketAction { port: IntOrString::Int(port.into()), ..Default::default() };
    let probe = Probe { tcp_socket: Some(tcp), ..Default::default() };
    assert_eq!(run(probe, port).await, ProbeOutcome::Failure(why));
}

#[tokio::test]
async fn a_server_that_hangs_up_is_an_eof() {
    let (address, _) = answers(vec![String::new()]).await;
    let want = format!("Get \"http://{address}/\": EOF");
    assert_eq!(run(http(http_get("/")), address.port()).await, ProbeOutcome::Failure(want));
}

#[tokio::test]
async fn tcp_succeeds_on_connect() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let action = TCPSocketAction { port: IntOrString::String("web".into()), ..Default::default() };
    let probe = Probe { tcp_socket: Some(action), ..Default::default() };
    assert_eq!(run(probe, port).await, ProbeOutcome::Success);
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout() {
    // Listening but never accepting: the kernel completes the connection and nobody answers.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let want = format!(
        "Get \"http://{address}/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    );
    assert_eq!(run(http(http_get("/")), address.port()).await, ProbeOutcome::Failure(want));
}

#[tokio::test]
async fn impossible_targets_are_errors_not_failures() {
    let by_name = |name: &str| HTTPGetAction { port: IntOrString::String(name.into()), ..Default::default() };
    let by_number = |n: i32| HTTPGetAction { port: IntOrString::Int(n), ..Default::default() };
    for (action, want) in [
        (by_name("nope"), "port \"nope\" not found"),
        (by_number(0), "invalid port number: 0"),
        (by_number(70_000), "invalid port number: 70000"),
    ] {
        assert_eq!(run(http(action), 80).await, ProbeOutcome::unknown(want));
    }
    let container = container(80);
    let target = ProbeTarget { pod_ip: None, container: &container, gates: ProbeGates::default() };
    let outcome = attempt(&http(http_get("/")), &target, no_exec).await;
    assert_eq!(outcome, ProbeOutcome::unknown("pod has no IP address"));
    let outcome = attempt(&Probe::default(), &target, no_exec).await;
    assert_eq!(outcome, ProbeOutcome::unknown("missing probe handler for container main"));
}

#[tokio::test]
async fn exec_maps_exit_status_timeout_and_errors() {
    let exited = |code, out: &str, err: &str| {
        Ok(ExecOutput { stdout: out.into(), stderr: err.into(), exit_code: code })
    };
    let long = "y".repeat(20 * 1024);
    for (result, want) in [
        (exited(0, "ok", ""), ProbeOutcome::Success),
        (exited(1, "out", "err"), ProbeOutcome::Failure("outerr".into())),
        (exited(1, &long, ""), ProbeOutcome::Failure(long[..10 * 1024].to_owned())),
        (
            Err(ExecError::TimedOut),
            ProbeOutcome::Failure("command timed out: \"cat x\" timed out after 3s".into()),
        ),
        (Err(ExecError::Runtime("gone".into())), ProbeOutcome::unknown("gone")),
    ] {
        let action = ExecAction { command: Some(vec!["cat".into(), "$(F)".into()]) };
        let probe = Probe { exec: Some(action), timeout_seconds: Some(3), ..Default::default() };
        let mut container = container(80);
        container.env = Some(vec![k8s_openapi::api::core::v1::EnvVar {
            name: "F".into(),
            value: Some("x".into()),
            value_from: None,
        }]);
        let target = ProbeTarget { pod_ip: None, container: &container, gates: ProbeGates::default() };
        let tries = std::sync::atomic::AtomicU32::new(0);
        let outcome = attempt(&probe, &target, async |command, timeout| {
            tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert_eq!((command, timeout), (vec!["cat".into(), "x".into()], Duration::from_secs(3)));
            result.clone()
        })
        .await;
        assert_eq!(outcome, want);
        let expected = if matches!(want, ProbeOutcome::Error { .. }) { MAX_TRIES } else { 1 };
        assert_eq!(tries.into_inner(), expected);
    }
}

fn tls_config(protocols: &[&[u8]]) -> Arc<rustls::ServerConfig> {
    let key = rcgen::generate_simple_self_signed(vec!["whoever.test".into()]).unwrap();
    let der = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], der)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Arc::new(config)
}

fn https(path: &str) -> HTTPGetAction {
    HTTPGetAction { scheme: Some("HTTPS".into()), ..http_get(path) }
}

#[tokio::test]
async fn https_needs_no_trust_and_takes_either_protocol() {
    for protocols in [&[b"http/1.1".as_slice()][..], &[b"h2".as_slice()][..], &[][..]] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tokio_rustls::TlsAcceptor::from(tls_config(protocols));
        let is_h2 = protocols.first() == Some(&b"h2".as_slice());
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut tls = acceptor.accept(tcp).await.unwrap();
            if is_h2 {
                serve_h2(tls, |_| ::http::Response::new(Full::default().boxed())).await;
            } else {
                read_head(&mut tls).await;
                tls.write_all(response("200 OK", "").as_bytes()).await.unwrap();
                let _ = tls.shutdown().await;
            }
        });
        assert_eq!(run(http(https("/")), port).await, ProbeOutcome::Success, "{protocols:?}");
    }
}

type Answer = ::http::Response<BoxBody<bytes::Bytes, Infallible>>;

async fn serve_h2<S, A>(io: S, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(::http::Request<hyper::body::Incoming>) -> Answer + Copy + Send + 'static,
{
    let service =
        hyper::service::service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(request))));
    // Ends with an error when the prober hangs up, which is how every attempt ends.
    let _ = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .serve_connection(hyper_util::rt::TokioIo::new(io), service)
        .await;
}

#[tokio::test]
async fn plain_http_behind_https_is_named() {
    let (address, _) = answers_to_anything("HTTP/1.0 400 Bad Request\r\n\r\n").await;
    let want = format!("Get \"https://{address}/\": http: server gave HTTP response to HTTPS client");
    assert_eq!(run(http(https("/")), address.port()).await, ProbeOutcome::Failure(want));
}

async fn answers_to_anything(text: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut seen = [0; 1024];
            let _ = stream.read(&mut seen).await;
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (address, serving)
}

fn grpc(port: u16, service: &str) -> Probe {
    let action = GRPCAction { port: port.into(), service: Some(service.into()), mode: None };
    Probe { grpc: Some(action), ..Default::default() }
}

/// A health service that answers every connection with this status byte, or this gRPC error.
async fn health_server(answer: Result<u8, (u32, &'static str)>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        serve_h2(tcp, move |request| health(&request, answer)).await;
    });
    port
}

fn health(
    request: &::http::Request<hyper::body::Incoming>,
    answer: Result<u8, (u32, &'static str)>,
) -> Answer {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["user-agent"], "kube-probe/1.37");
    let response = ::http::Response::builder().header("content-type", "application/grpc");
    match answer {
        Ok(status) => {
            let message = Full::new(bytes::Bytes::from(vec![0, 0, 0, 0, 2, 8, status]));
            let trailers =
                ::http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
            response.body(body.boxed()).unwrap()
        }
        // Without a body the status is in the head ("trailers-only").
        Err((code, text)) => response
            .header("grpc-status", code.to_string())
            .header("grpc-message", text)
            .body(Full::default().boxed())
            .unwrap(),
    }
}

#[tokio::test]
async fn grpc_status_decides() {
    let port = health_server(Ok(1)).await;
    assert_eq!(run(grpc(port, "x"), port).await, ProbeOutcome::Success);
    for (answer, want) in [
        (Ok(2), "service unhealthy (responded with \"NOT_SERVING\")"),
        (
            Err((12, "no")),
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no",
        ),
        (Err((5, "who")), "error: health rpc probe failed: rpc error: code = NotFound desc = who"),
    ] {
        let port = health_server(answer).await;
        assert_eq!(run(grpc(port, "x"), port).await, ProbeOutcome::Failure(want.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_waits_for_a_server_until_its_timeout() {
    let port = refused_port().await;
    let want = format!(
        "timeout: failed to connect service \"127.0.0.1:{port}\" within 1s: context deadline exceeded"
    );
    assert_eq!(run(grpc(port, ""), port).await, ProbeOutcome::Failure(want));
}

/// A server that takes TLS only: the mode counts if the gate is on.
#[tokio::test]
async fn grpc_over_tls_needs_its_gate() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(tls_config(&[b"h2"]));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(tcp).await {
                serve_h2(tls, |request| {
                    assert_eq!(request.uri().scheme_str(), Some("https"));
                    health(&request, Ok(1))
                })
                .await;
            }
        }
    });
    let probe = |mode: Option<&str>| {
        let mut probe = grpc(port, "x");
        probe.grpc.as_mut().unwrap().mode = mode.map(str::to_owned);
        probe
    };
    let on = ProbeGates { is_grpc_tls_enabled: true, ..ProbeGates::default() };
    assert_eq!(run_with(probe(Some("TLS")), port, on).await, ProbeOutcome::Success);
    for (mode, gates) in [
        (Some("TLS"), ProbeGates::default()),
        (Some("Plaintext"), on),
        (None, on),
        (None, ProbeGates::default()),
    ] {
        let want = format!(
            "timeout: failed to connect service \"127.0.0.1:{port}\" within 1s: context deadline exceeded"
        );
        assert_eq!(
            run_with(probe(mode), port, gates).await,
            ProbeOutcome::Failure(want),
            "{mode:?} {gates:?}"
        );
    }
}

/// Neither of what answers in another protocol nor of what says nothing is it known whether it is healthy.
#[tokio::test]
async fn grpc_waits_for_a_greeting() {
    for text in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\x15\x03\x01\x00\x02\x02\x46", ""] {
        let (address, _) = answers_to_anything(text).await;
        let want =
            format!("timeout: failed to connect service \"{address}\" within 1s: context deadline exceeded");
        assert_eq!(
            run(grpc(address.port(), ""), address.port()).await,
            ProbeOutcome::Failure(want),
            "{text:?}"
        );
    }
}

/// Upstream's client takes a failed handshake for a server that is not up yet.
#[tokio::test]
async fn grpc_over_tls_waits_for_a_server_until_its_timeout() {
    let (address, _) = answers_to_anything("no TLS\r\n").await;
    let port = address.port();
    let mut probe = grpc(port, "");
    probe.grpc.as_mut().unwrap().mode = Some("TLS".to_owned());
    let on = ProbeGates { is_grpc_tls_enabled: true, ..ProbeGates::default() };
    let want =
        format!("timeout: failed to connect service \"{address}\" within 1s: context deadline exceeded");
    assert_eq!(run_with(probe, port, on).await, ProbeOutcome::Failure(want));
}

/// A server that takes HTTP/2 without TLS only: the protocol counts if the gate is on.
#[tokio::test]
async fn http2_without_tls_needs_its_gate() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            serve_h2(tcp, |request| {
                assert_eq!(request.uri().scheme_str(), Some("http"));
                ::http::Response::new(Full::default().boxed())
            })
            .await;
        }
    });
    let probe = |protocol: Option<&str>| {
        http(HTTPGetAction { protocol: protocol.map(str::to_owned), ..http_get("/") })
    };
    let on = ProbeGates { is_h2c_enabled: true, ..ProbeGates::default() };
    assert_eq!(run_with(probe(Some("HTTP2")), port, on).await, ProbeOutcome::Success);
    for (protocol, gates) in [
        (Some("HTTP2"), ProbeGates::default()),
        (Some("HTTP1"), on),
        (None, on),
        (None, ProbeGates::default()),
    ] {
        let outcome = run_with(probe(protocol), port, gates).await;
        assert!(matches!(outcome, ProbeOutcome::Failure(_)), "{protocol:?} {gates:?}: {outcome:?}");
    }
}

fn hook(http_get: HTTPGetAction) -> LifecycleHandler {
    LifecycleHandler { http_get: Some(http_get), ..Default::default() }
}

async fn run_hook(handler: LifecycleHandler, port: u16) -> Result<hook::HookReport, hook::HookError> {
    let container = container(port);
    let gates = ProbeGates::default();
    let target = ProbeTarget { pod_ip: Some(Ipv4Addr::LOCALHOST.into()), container: &container, gates };
    hook::run(&handler, &target, async |_| {
        Ok(ExecOutput { stdout: b"out".to_vec(), stderr: b"err".to_vec(), exit_code: 3 })
    })
    .await
}

#[tokio::test]
async fn any_answer_satisfies_an_http_hook() {
    let (address, served) = answers(vec![response("500 Oops", "")]).await;
    assert_eq!(run_hook(hook(http_get("/")), address.port()).await, Ok(hook::HookReport::default()));
    assert!(served.await.unwrap()[0].contains("User-Agent: kube-lifecycle/1.37\r\n"));
}

#[tokio::test]
async fn https_hook_falls_back_to_http_without_credentials() {
    let (address, _) = answers_to_anything("HTTP/1.0 200 OK\r\n\r\n").await;
    let report = run_hook(hook(https("/")), address.port()).await.unwrap();
    let want =
        format!("request to HTTPS lifecycle hook {address} got HTTP response, retry with HTTP succeeded");
    assert_eq!(report.http_fallback, Some(want));
    let mut request = get::build(
        &https("/"),
        &ProbeTarget {
            pod_ip: Some(Ipv4Addr::LOCALHOST.into()),
            container: &container(1),
            gates: ProbeGates::default(),
        },
        get::Purpose::Lifecycle,
    )
    .unwrap_or_else(|_| panic!("the action is valid"));
    request.headers.insert("authorization", "Bearer x".parse().unwrap());
    let plain = get::as_plain_http(request);
    assert!(!plain.headers.contains_key("authorization"));
    assert!(plain.url.to_string().starts_with("http://"));
}

#[tokio::test(start_paused = true)]
async fn hooks_that_fail_say_which_and_where() {
    let port = refused_port().await;
    let error = run_hook(hook(http_get("/bye")), port).await.unwrap_err();
    let why = format!(
        "Get \"http://127.0.0.1:{port}/bye\": dial tcp 127.0.0.1:{port}: connect: connection refused"
    );
    assert_eq!(error.to_string(), why);
    // In the log there is the cause, and not the path, which may hold a token.
    assert_eq!(
        error.without_output(),
        format!("the request got no answer: dial tcp 127.0.0.1:{port}: connect: connection refused")
    );
    assert_eq!(
        error.status_message("main", "web_default(u)"),
        format!(
            "HTTP lifecycle hook (/bye) for Container \"main\" in Pod \"web_default(u)\" failed - error: {why}"
        )
    );
    let exec = ExecAction { command: Some(vec!["sh".into(), "-c".into(), "x".into()]) };
    let error = run_hook(LifecycleHandler { exec: Some(exec), ..Default::default() }, 1).await.unwrap_err();
    assert_eq!(
        error.status_message("main", "p"),
        "Exec lifecycle hook ([sh -c x]) for Container \"main\" in Pod \"p\" failed - error: \
         command 'sh -c x' exited with 3: err, message: \"outerr\""
    );
    assert_eq!(error.without_output(), "the command ended with exit code 3");
    let sleep = LifecycleHandler { sleep: Some(SleepAction { seconds: 30 }), ..Default::default() };
    assert_eq!(run_hook(sleep, 1).await, Ok(hook::HookReport::default()));
    assert_eq!(run_hook(LifecycleHandler::default(), 1).await, Err(hook::HookError::Invalid));
}

#[tokio::test]
async fn attempts_can_move_between_threads() {
    let port = refused_port().await;
    let outcome = tokio::spawn(async move {
        let container = container(port);
        let target = ProbeTarget {
            pod_ip: Some(Ipv4Addr::LOCALHOST.into()),
            container: &container,
            gates: ProbeGates::default(),
        };
        attempt(&http(http_get("/")), &target, no_exec).await
    })
    .await
    .unwrap();
    assert!(matches!(outcome, ProbeOutcome::Failure(_)));
}
