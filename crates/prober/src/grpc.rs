//! The gRPC health check (`grpc.health.v1`), over a connection of its own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use golang::duration;
use golang::quote::quoted;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::GRPCAction;
use model::probe::ProbeOutcome;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::body::Body;

use crate::get::drive;
use crate::preface::ServerPreface;
use crate::tls::{self, Alpn};
use crate::{KUBE_VERSION, ProbeTarget, dial, target, text};

mod proto {
    #![allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("grpc.health.v1");
}

use proto::HealthCheckRequest;
use proto::health_check_response::ServingStatus;
use proto::health_client::HealthClient;

/// Between two tries to connect within one attempt: gRPC clients wait for a connection instead of
/// failing with the first refusal, and this is their first back-off.
const REDIAL_DELAY: Duration = Duration::from_secs(1);

/// A gRPC probe within its timeout, which covers connecting and asking together.
pub(crate) async fn probe(action: &GRPCAction, target: &ProbeTarget<'_>, timeout: Duration) -> ProbeOutcome {
    let place = target::host_or_pod(None, target.pod_ip)
        .and_then(|host| target::port_number(action.port).map(|port| (host, port)));
    let (host, port) = match place {
        Ok(place) => place,
        Err(error) => return ProbeOutcome::unknown(error.to_string()),
    };
    let is_tls = target.gates.is_grpc_tls_enabled && action.mode.as_deref() == Some("TLS");
    let service = action.service.clone().unwrap_or_default();
    let address = text::join_host_port(&host, port);
    let preface = ServerPreface::default();
    let asking = async {
        loop {
            let asked = if is_tls {
                let stream = secure_until_up(&host, port).await;
                check(preface.watch(stream), "https", &address, service.clone()).await
            } else {
                let stream = dial_until_up(&host, port).await;
                check(preface.watch(stream), "http", &address, service.clone()).await
            };
            // Whoever does not greet in HTTP/2, such as a server that wants TLS, counts as not up yet.
            if asked.is_ok() || preface.has_come() {
                return asked;
            }
            tokio::time::sleep(REDIAL_DELAY).await;
        }
    };
    match tokio::time::timeout(timeout, asking).await {
        Ok(Ok(())) => ProbeOutcome::Success,
        Ok(Err(text)) => ProbeOutcome::Failure(text),
        Err(_) if preface.has_come() => ProbeOutcome::Failure(format!(
            "timeout: health rpc did not complete within {}",
            duration::text(timeout)
        )),
        Err(_) => ProbeOutcome::Failure(format!(
            "timeout: failed to connect service {} within {}: context deadline exceeded",
            quoted(&address),
            duration::text(timeout)
        )),
    }
}

/// Ends only with a connection; the caller bounds it.
async fn dial_until_up(host: &str, port: u16) -> TcpStream {
    loop {
        match dial::connect(host, port).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(REDIAL_DELAY).await,
        }
    }
}

/// The same with TLS on top: a handshake that fails is a connection that did not come about.
async fn secure_until_up(host: &str, port: u16) -> tls::Stream {
    loop {
        let tcp = dial_until_up(host, port).await;
        match tls::connect(tcp, host, Alpn::Http2).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(REDIAL_DELAY).await,
        }
    }
}

async fn check<S>(io: S, scheme: &str, address: &str, service: String) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &dyn std::fmt::Display| format!("error: health rpc probe failed: {error}");
    let origin: Uri = format!("{scheme}://{address}").parse().map_err(|error| broken(&error))?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake::<_, Body>(TokioIo::new(io))
        .await
        .map_err(|error| broken(&error))?;
    let mut client = HealthClient::with_origin(OneConnection { sender }, origin);
    let answer = drive(connection, client.check(HealthCheckRequest { service })).await;
    match answer {
        Ok(response) => match response.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(format!("service unhealthy (responded with {})", quoted(other.as_str_name()))),
        },
        Err(status) if status.code() == Code::Unimplemented => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(status) => Err(broken(&format!(
            "rpc error: code = {} desc = {}",
            code_name(status.code()),
            status.message()
        ))),
    }
}

fn code_name(code: Code) -> String {
    match code {
        Code::Cancelled => "Canceled".to_owned(),
        Code::Ok => "OK".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A connection as the service a generated client calls.
struct OneConnection {
    sender: SendRequest<Body>,
}

impl tower::Service<Request<Body>> for OneConnection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Ok(agent) = http::HeaderValue::from_str(&format!("kube-probe/{KUBE_VERSION}")) {
            request.headers_mut().insert(http::header::USER_AGENT, agent);
        }
        Box::pin(self.sender.send_request(request))
    }
}
