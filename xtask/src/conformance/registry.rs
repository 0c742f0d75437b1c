//! The registry of the suite's images: whatever name a pod asks for, containerd asks here.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::images::Store;
use crate::workspace;

/// Where it listens, in the node's own network.
const ADDRESS: &str = "127.0.0.1:5001";
/// The registries it stands in for.
const REGISTRIES: &[&str] = &["registry.k8s.io", "gcr.io", "docker.io", "quay.io"];

/// Serves the images of the archive until the end of the process.
pub(super) async fn serve(archive: &Path) -> Result<()> {
    let store = Arc::new(Store::open(archive)?);
    let listener = TcpListener::bind(ADDRESS).await.context("listen for those who pull images")?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let store = store.clone();
            let service = service_fn(move |request| {
                let answer = answer(&store, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // How a connection ends is the client's affair.
            tokio::spawn(async move {
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(())
}

/// Writes, for each of the registries, where containerd finds this one.
pub(super) fn write_hosts(folder: &Path) -> Result<()> {
    for registry in REGISTRIES {
        let own = folder.join(registry);
        workspace::create_dir(&own)?;
        let text = format!(
            "server = \"http://{ADDRESS}\"\n[host.\"http://{ADDRESS}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        workspace::write(&own.join("hosts.toml"), text)?;
    }
    Ok(())
}

/// The pull half of the distribution protocol.
fn answer(store: &Store, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path == "/v2/" || path == "/v2" {
        return Response::new(Full::new(Bytes::from_static(b"{}")));
    }
    let found = find(store, path);
    let Some((media_type, digest, content)) = found else {
        let text = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *answer.status_mut() = StatusCode::NOT_FOUND;
        return answer;
    };
    let size = content.len();
    let body = if request.method() == Method::HEAD { Vec::new() } else { content };
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    let headers = answer.headers_mut();
    for (name, value) in
        [(CONTENT_TYPE, media_type), (HeaderName::from_static("docker-content-digest"), digest)]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    answer
}

/// Media type, digest and content of what a path names.
fn find(store: &Store, path: &str) -> Option<(String, String, Vec<u8>)> {
    let mut parts = path.strip_prefix("/v2/")?.rsplitn(3, '/');
    let (reference, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
    let (media_type, digest) = if kind == "manifests" && !reference.starts_with("sha256:") {
        store.manifest(&format!("{name}:{reference}"))?
    } else if kind == "manifests" {
        (store.media_type(reference)?, reference)
    } else {
        ("application/octet-stream", reference)
    };
    Some((media_type.to_owned(), digest.to_owned(), store.blob(digest)?))
}
