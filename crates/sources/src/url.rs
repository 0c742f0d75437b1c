//! Follows static pods that a web server has: one manifest or a list of them, fetched every so often.
//!
//! As upstream: an answer that is the same as before is no update, an empty one means no pods, and an
//! answer that is none, or in which one pod is wrong, leaves everything as it was. A proxy that the environment names is
//! gone through.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dial::{Dial, Proxies, Proxy};
use futures::Stream;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use model::Pod;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::ConfigVerifierExt as _;
use thiserror::Error;

use crate::manifest::{ManifestError, ManifestGates, Origin, Place, parse_all};

/// For the whole answer; upstream's number.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, bytes; upstream's number.
const MAX_ANSWER: usize = 10 << 20;
/// How often an answer may send elsewhere; Go's number.
const MAX_REDIRECTS: usize = 10;

/// Where to fetch static pods.
#[derive(Clone)]
pub struct UrlSettings {
    /// `staticPodURL`.
    pub url: String,
    /// `staticPodURLHeader`; values may be secret.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The node's name.
    pub node_name: String,
    /// `httpCheckFrequency`, 20 s by default: from the end of one fetch to the next.
    pub check_every: Duration,
    /// What feature gates say about manifests.
    pub gates: ManifestGates,
}

/// Without what may be secret.
impl fmt::Debug for UrlSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSettings").field("url", &shown(&self.url)).finish_non_exhaustive()
    }
}

/// What a fetch came to, if that is update.
pub type UrlUpdate = Result<Vec<Arc<Pod>>, UrlError>;

/// Why pods could not be fetched. Says nothing of what was received, which may hold passwords.
#[derive(Debug, Error)]
pub enum UrlError {
    /// The URL or a header cannot be sent.
    #[error("ask {url} for static pods: {problem}")]
    Request {
        /// Where, without user and password.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No answer.
    #[error("fetch static pods from {url}")]
    Fetch {
        /// Where, without user and password.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another answer than 200.
    #[error("fetch static pods from {url}: answer {status}")]
    Status {
        /// Where, without user and password.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// Nothing in it. There are no pods then.
    #[error("fetch static pods from {url}: the answer is empty")]
    Empty {
        /// Where, without user and password.
        url: String,
    },
    /// No pods in it that this node can run.
    #[error("static pods from {url}")]
    Manifest {
        /// Where, without user and password.
        url: String,
        /// What is wrong with them.
        #[source]
        source: ManifestError,
    },
}

/// Fetches static pods, for ever. Each item is all of them, or an error that changes nothing; an empty
/// answer is both.
pub fn watch_url(settings: UrlSettings) -> impl Stream<Item = UrlUpdate> + Send + use<> {
    watch_through(settings, Proxies::of_environment())
}

fn watch_through(settings: UrlSettings, proxies: Proxies) -> impl Stream<Item = UrlUpdate> + Send + use<> {
    futures::stream::unfold(Fetcher::new(settings, proxies), |mut fetcher| async {
        let update = fetcher.next().await;
        Some((update, fetcher))
    })
}

type WebClient = Client<HttpsConnector<Dial<HttpConnector>>, Empty<Bytes>>;

struct Fetcher {
    settings: UrlSettings,
    proxies: Proxies,
    /// Made when first needed: reading the system's authorities takes a moment.
    client: Option<WebClient>,
    last: Option<Bytes>,
    has_waited: bool,
    /// A second item of the same fetch.
    next: Option<UrlUpdate>,
}

impl Fetcher {
    fn new(settings: UrlSettings, proxies: Proxies) -> Self {
        Self { settings, proxies, client: None, last: None, has_waited: true, next: None }
    }

    async fn next(&mut self) -> UrlUpdate {
        if let Some(update) = self.next.take() {
            return update;
        }
        loop {
            if !std::mem::take(&mut self.has_waited) {
                tokio::time::sleep(self.settings.check_every).await;
            }
            let answer = match tokio::time::timeout(TIMEOUT, self.fetch()).await {
                Ok(answer) => answer,
                Err(elapsed) => Err(self.failed(elapsed)),
            };
            match answer {
                Err(error) => return Err(error),
                Ok(body) if body.is_empty() => {
                    self.next = Some(Err(UrlError::Empty { url: self.shown() }));
                    return Ok(Vec::new());
                }
                Ok(body) if self.last.as_ref() == Some(&body) => {}
                Ok(body) => {
                    let update = self.read(&body);
                    self.last = Some(body);
                    return update;
                }
            }
        }
    }

    fn read(&self, body: &[u8]) -> UrlUpdate {
        let place = Place::Url(&self.settings.url);
        let origin = Origin {
            place,
            node_name: &self.settings.node_name,
            seen: Timestamp::now(),
            gates: self.settings.gates,
        };
        match parse_all(body, origin) {
            Ok(pods) => Ok(pods.into_iter().map(Arc::new).collect()),
            Err(source) => Err(UrlError::Manifest { url: self.shown(), source }),
        }
    }

    async fn fetch(&mut self) -> Result<Bytes, UrlError> {
        let mut url: Uri = self.settings.url.parse().map_err(|error| self.unsendable(error))?;
        for _ in 0..=MAX_REDIRECTS {
            let request = self.request(&url)?;
            let answer = match self.client().await {
                Ok(client) => client.request(request).await.map_err(|error| self.failed(error))?,
                Err(error) => return Err(self.failed(error)),
            };
            if answer.status() == StatusCode::OK {
                let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
                return Ok(body.map_err(|source| UrlError::Fetch { url: self.shown(), source })?.to_bytes());
            }
            url = match elsewhere(&url, &answer) {
                Some(next) => next,
                None => return Err(UrlError::Status { url: self.shown(), status: answer.status() }),
            };
        }
        Err(self.unsendable("sent elsewhere too often"))
    }

    fn request(&self, url: &Uri) -> Result<Request<Empty<Bytes>>, UrlError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url.clone();
        if let Some(authorization) = self.proxies.authorization(url) {
            request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, authorization);
        }
        for (name, values) in &self.settings.headers {
            let bad = || self.unsendable(format!("header {name:?} cannot be sent"));
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            for value in values {
                let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
                value.set_sensitive(true);
                request.headers_mut().append(key.clone(), value);
            }
        }
        Ok(request)
    }

    async fn client(&mut self) -> Result<&WebClient, rustls::Error> {
        if self.client.is_none() {
            // A host without authorities can still do without TLS.
            let tls = if self.is_plain() {
                ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
            } else {
                let tls = tokio::task::spawn_blocking(ClientConfig::with_platform_verifier).await;
                tls.map_err(|error| rustls::Error::General(error.to_string()))??
            };
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            let dial = Dial::new(tcp, self.proxies.clone(), tls.clone(), None);
            let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
            let connector = connector.enable_all_versions().wrap_connector(dial);
            // Fetches are far apart: no connection is kept for the next one.
            let mut client = Client::builder(TokioExecutor::new());
            self.client = Some(client.pool_max_idle_per_host(0).build(connector));
        }
        self.client.as_ref().ok_or_else(|| rustls::Error::General("no client".to_owned()))
    }

    /// Whether neither the server nor a proxy is spoken to by TLS.
    fn is_plain(&self) -> bool {
        let Ok(server) = self.settings.url.parse::<Uri>() else { return false };
        let proxy = self.proxies.for_server(&server).ok().flatten();
        server.scheme() == Some(&http::uri::Scheme::HTTP) && !proxy.is_some_and(Proxy::has_tls)
    }

    fn shown(&self) -> String {
        shown(&self.settings.url)
    }

    fn unsendable(&self, problem: impl fmt::Display) -> UrlError {
        UrlError::Request { url: self.shown(), problem: problem.to_string() }
    }

    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> UrlError {
        UrlError::Fetch { url: self.shown(), source: Box::new(error) }
    }
}

/// Where an answer sends us. Another host does not get the headers that may be secret, so that
/// only the same one is followed to.
fn elsewhere(from: &Uri, answer: &Response<Incoming>) -> Option<Uri> {
    if !answer.status().is_redirection() {
        return None;
    }
    let location = answer.headers().get(http::header::LOCATION)?.to_str().ok()?;
    let next = if location.starts_with('/') {
        format!("{}://{}{location}", from.scheme_str()?, from.authority()?)
    } else {
        location.to_owned()
    };
    let next: Uri = next.parse().ok()?;
    (next.host() == from.host()).then_some(next)
}

/// A URL without user, password and query.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
