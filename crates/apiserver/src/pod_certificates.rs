//! Certificates of pods (KEP-4317): an issuer that keeps one PodCertificateRequest under way for each `podCertificate` source
//! of a projected volume, until it is issued, and again when the certificate is to be refreshed.
//!
//! Keys are in memory alone, as upstream has it: after a restart of the kubelet all are asked for anew, and the files of an
//! earlier process stay until then.

mod keys;
mod lifecycle;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, Stream, StreamExt as _};
use golang::quote::quoted;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::PodCertificateProjection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use model::{PodKey, PodUid};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::call::{Purpose, RequestError, call};
use crate::certificates::pem_block;
use crate::node::get_node;
use crate::tokens::service_account;
use crate::watch::{Change, Freshness, Watch};
use keys::{KeyError, KeyWithRequest};
use lifecycle::{Answer, Asked, Held, Lifecycle, Move, Refusal};

/// Times are moved by up to this much, so that sources do not all ask at the same time.
const MAX_JITTER_MILLIS: i64 = 5 * 60 * 1000;
/// First pause after a request that could not be made; doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(5);
/// Longest such pause: upstream looks at all sources again after one to two minutes.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// Refusals that may be due to the authorizer, which learns of a pod on the node a moment later than the node may: together
/// they take about a second.
const LATE_AUTHORIZATIONS: u32 = 8;
/// Longest sleep, so that a clock that was set is noticed.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// Requests made at a time; a key for one takes up to seconds of processor time.
const AT_ONCE: usize = 4;

/// One `podCertificate` source of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateSource {
    /// Of the pod. First, so that a pod's sources are neighbours in order.
    pub pod_uid: PodUid,
    /// The volume's name.
    pub volume: String,
    /// Which of the volume's sources, from 0.
    pub index: usize,
}

/// What it asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateWish {
    /// The pod's name.
    pub pod: PodKey,
    /// The service account that the pod runs as.
    pub service_account: String,
    /// Signer, kind of key, longest life and the signer's own annotations.
    pub projection: PodCertificateProjection,
}

/// A pod's key with its certificate, in PEM. Not in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PodCredential {
    /// PKCS #8.
    pub key: String,
    /// The leaf first.
    pub chain: String,
}

impl fmt::Debug for PodCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodCredential").finish_non_exhaustive()
    }
}

/// Why a pod has no certificate. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PodCertificateError {
    /// It has been asked for.
    #[error("credential bundle is not issued yet")]
    Pending,
    /// The signer does not want to.
    #[error(
        "PodCertificateRequest was permanently denied: reason={} message={}",
        quoted(reason),
        quoted(message)
    )]
    Denied {
        /// Of the condition.
        reason: String,
        /// Of the condition.
        message: String,
    },
    /// The signer cannot.
    #[error(
        "PodCertificateRequest was permanently failed: reason={} message={}",
        quoted(reason),
        quoted(message)
    )]
    Failed {
        /// Of the condition.
        reason: String,
        /// Of the condition.
        message: String,
    },
}

/// What became of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodCertificateNews {
    /// The volumes of this pod are to be made from what there is now.
    Changed(PodUid),
    /// A warning about this pod.
    Warning {
        /// The pod's name.
        pod: PodKey,
        /// The pod.
        uid: PodUid,
        /// Of the event.
        reason: &'static str,
        /// Of the event.
        message: String,
    },
}

/// Why no request could be made. The texts are upstream's.
#[derive(Debug, Error)]
enum AskError {
    #[error("while fetching service account")]
    Account(#[source] RequestError),
    #[error("while getting node object")]
    Node(#[source] RequestError),
    #[error("while getting node object: node {0:?} not found")]
    NoNode(String),
    #[error("while creating PodCertificateRequest: while generating keypair")]
    Key(#[source] KeyError),
    #[error("while creating PodCertificateRequest: interrupted")]
    Interrupted,
    #[error("while creating PodCertificateRequest: while creating on API")]
    Create(#[source] RequestError),
}

impl AskError {
    fn is_forbidden(&self) -> bool {
        match self {
            Self::Account(error) | Self::Node(error) | Self::Create(error) => error.is_forbidden(),
            Self::NoNode(_) | Self::Key(_) | Self::Interrupted => false,
        }
    }
}

/// A source, and how far it is.
struct Tracked {
    wish: CertificateWish,
    lifecycle: Lifecycle,
    is_asking: bool,
    failures: u32,
    /// Whether the log says that requests fail.
    is_told: bool,
    /// No request is made before.
    not_before: Timestamp,
}

impl Tracked {
    fn new(wish: CertificateWish) -> Self {
        Self {
            wish,
            lifecycle: Lifecycle::default(),
            is_asking: false,
            failures: 0,
            is_told: false,
            not_before: Timestamp::MIN,
        }
    }

    fn wants_request(&self, now: Timestamp) -> bool {
        !self.is_asking && self.lifecycle.wants_request(now)
    }

    /// The next request has to wait, ever longer.
    fn pause(&mut self, now: Timestamp) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(20)).min(PAUSE_MAX);
        self.failures += 1;
        self.not_before = later(now, pause);
    }

    fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let request = self.wants_request(now).then_some(self.not_before).filter(|at| now < *at);
        request.into_iter().chain(self.lifecycle.next_at(now)).min()
    }
}

type Sources = BTreeMap<CertificateSource, Tracked>;

/// The certificates of a node's pods. Clones share them.
#[derive(Clone)]
pub struct PodCertificates {
    client: Client,
    node_name: Arc<str>,
    sources: Arc<Mutex<Sources>>,
    /// There is a source more.
    woken: Arc<Notify>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl PodCertificates {
    /// None yet. [`Self::issue`] has to run for them to come.
    pub fn new(client: Client, node_name: &str) -> Self {
        Self {
            client,
            node_name: node_name.into(),
            sources: Arc::default(),
            woken: Arc::default(),
            clock: Arc::new(Timestamp::now),
        }
    }

    /// The source's certificate; the first time it is asked for.
    ///
    /// # Errors
    /// There is none yet, or never.
    pub fn credential(
        &self,
        source: &CertificateSource,
        wish: &CertificateWish,
    ) -> Result<PodCredential, PodCertificateError> {
        let mut sources = self.lock();
        let Some(tracked) = sources.get(source) else {
            sources.insert(source.clone(), Tracked::new(wish.clone()));
            self.woken.notify_one();
            return Err(PodCertificateError::Pending);
        };
        let refused = |refusal: &Refusal| (refusal.reason.clone(), refusal.message.clone());
        match tracked.lifecycle.held() {
            Held::NotYet => Err(PodCertificateError::Pending),
            Held::Certificate { key_pem, chain } => {
                Ok(PodCredential { key: key_pem.to_owned(), chain: chain.to_owned() })
            }
            Held::Denied(refusal) => {
                let (reason, message) = refused(refusal);
                Err(PodCertificateError::Denied { reason, message })
            }
            Held::Failed(refusal) => {
                let (reason, message) = refused(refusal);
                Err(PodCertificateError::Failed { reason, message })
            }
        }
    }

    /// Forgets a pod's keys and certificates.
    pub fn forget(&self, uid: &PodUid) {
        self.lock().retain(|source, _| source.pod_uid != *uid);
    }

    /// How many sources there are, by signer and upstream's word for how far they are.
    pub fn counts(&self) -> BTreeMap<(String, &'static str), u32> {
        let (mut counts, now) = (BTreeMap::new(), (self.clock)());
        for tracked in self.lock().values() {
            let signer = tracked.wish.projection.signer_name.clone();
            *counts.entry((signer, tracked.lifecycle.label(now))).or_default() += 1;
        }
        counts
    }

    /// Has them issued and refreshed, and tells what became of them. Never ends. Nothing is asked of the API server before the
    /// first source is there.
    pub fn issue(self) -> impl Stream<Item = PodCertificateNews> + Send {
        let issuer = Issuer {
            certificates: self,
            watch: None,
            answers: Answers::new(),
            asking: FuturesUnordered::new(),
            news: VecDeque::new(),
        };
        futures::stream::unfold(issuer, |mut issuer| async move { Some((issuer.next().await, issuer)) })
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What signers have made of this node's requests, by namespace and name.
type Answers = BTreeMap<(String, String), Answer>;

/// Makes requests and follows them.
struct Issuer {
    certificates: PodCertificates,
    watch: Option<Watch<PodCertificateRequest>>,
    answers: Answers,
    asking: FuturesUnordered<BoxFuture<'static, (CertificateSource, Result<Asked, AskError>)>>,
    news: VecDeque<PodCertificateNews>,
}

impl Issuer {
    async fn next(&mut self) -> PodCertificateNews {
        loop {
            let wait = self.advance((self.certificates.clock)());
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            let woken = self.certificates.woken.clone();
            // Cancel-safe: a watch loses nothing, requests stay among those under way, and the others hold nothing.
            tokio::select! {
                change = changed(self.watch.as_mut()) => self.take(change),
                Some((source, asked)) = self.asking.next() => self.asked(&source, asked),
                () = woken.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Moves all sources on, and makes the requests they want. Returns for how long time alone changes nothing.
    fn advance(&mut self, now: Timestamp) -> Duration {
        let Self { certificates, watch, answers, asking, news } = self;
        let mut sources = certificates.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.is_none() && !sources.is_empty() {
            *watch = Some(certificates.watch());
        }
        let mut next_at: Option<Timestamp> = None;
        for (source, tracked) in sources.iter_mut() {
            let answer = tracked
                .lifecycle
                .request()
                .and_then(|name| answers.get(&(tracked.wish.pod.namespace.to_string(), name.to_owned())));
            for moved in tracked.lifecycle.advance(now, answer, jitter()) {
                tell(source, &tracked.wish, &moved, news);
                if let Move::Lost(_) = moved {
                    tracked.pause(now);
                }
            }
            if tracked.wants_request(now) && tracked.not_before <= now && asking.len() < AT_ONCE {
                tracked.is_asking = true;
                asking.push(certificates.clone().ask(source.clone(), tracked.wish.clone()).boxed());
            }
            next_at = next_at.into_iter().chain(tracked.next_at(now)).min();
        }
        let wait = next_at.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        wait.map_or(LOOK_AGAIN, |wait| wait.min(LOOK_AGAIN))
    }

    fn take(&mut self, change: Change<PodCertificateRequest>) {
        match change {
            Change::Listed(all) => self.answers = all.into_iter().map(|request| answer(&request)).collect(),
            Change::Applied(request) => self.answers.extend([answer(&request)]),
            Change::Deleted(request) => {
                self.answers.remove(&answer(&request).0);
            }
        }
    }

    /// A request was made, or not.
    fn asked(&mut self, source: &CertificateSource, asked: Result<Asked, AskError>) {
        let now = (self.certificates.clock)();
        let mut sources = self.certificates.lock();
        // It may have been forgotten meanwhile.
        let Some(tracked) = sources.get_mut(source) else { return };
        let CertificateSource { volume, index, .. } = source;
        let pod = tracked.wish.pod.to_string();
        tracked.is_asking = false;
        match asked {
            Ok(asked) => {
                info!(
                    v = 4,
                    pod,
                    volumeName = volume,
                    sourceIndex = index,
                    request = asked.name,
                    "PodCertificateRequest created"
                );
                tracked.failures = 0;
                tracked.is_told = false;
                // A clock that is ahead makes a new certificate look old: no more of them than upstream asks for.
                tracked.not_before = later(now, PAUSE_MAX);
                tracked.lifecycle.asked_for(asked);
            }
            Err(error) => {
                let (is_late, is_told) =
                    (error.is_forbidden() && tracked.failures < LATE_AUTHORIZATIONS, tracked.is_told);
                let err = model::chain(&error);
                if is_late || is_told {
                    debug!(
                        pod,
                        volumeName = volume,
                        sourceIndex = index,
                        err,
                        "Failed again to ask for a pod's certificate"
                    );
                } else {
                    warn!(
                        pod,
                        volumeName = volume,
                        sourceIndex = index,
                        err,
                        "Failed to ask for a pod's certificate, will retry"
                    );
                    tracked.is_told = true;
                }
                tracked.pause(now);
            }
        }
    }
}

/// The next change; none ever comes before there is a watch.
async fn changed(watch: Option<&mut Watch<PodCertificateRequest>>) -> Change<PodCertificateRequest> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

/// Tells whom it concerns what has become different.
fn tell(
    source: &CertificateSource,
    wish: &CertificateWish,
    moved: &Move,
    news: &mut VecDeque<PodCertificateNews>,
) {
    let uid = source.pod_uid.clone();
    let warning = |reason, message| {
        let (pod, uid) = (wish.pod.clone(), uid.clone());
        PodCertificateNews::Warning { pod, uid, reason, message }
    };
    let refused = |name: &str, how: &str, refusal: &Refusal| {
        let Refusal { reason, message } = refusal;
        let namespace = &wish.pod.namespace;
        // Upstream gives the reason as the format of the message, which Go says of all that is left over.
        format!(
            "{reason}%!(EXTRA string=PodCertificateRequest {namespace}/{name} {how}, reason={}, message={})",
            quoted(reason),
            quoted(message)
        )
    };
    let (pod, volume, index) = (wish.pod.to_string(), &source.volume, source.index);
    match moved {
        Move::Issued => {
            info!(v = 4, pod, volumeName = volume, sourceIndex = index, "PodCertificateRequest issued");
            news.push_back(PodCertificateNews::Changed(uid));
        }
        Move::Denied(name, refusal) => {
            news.push_back(warning("Denied", refused(name, "was denied", refusal)));
            news.push_back(PodCertificateNews::Changed(uid));
        }
        Move::Failed(name, refusal) => {
            news.push_back(warning("Failed", refused(name, "failed", refusal)));
            news.push_back(PodCertificateNews::Changed(uid));
        }
        Move::Lost(name) => warn!(
            pod,
            volumeName = volume,
            sourceIndex = index,
            request = name,
            "PodCertificateRequest appears to have been deleted; another one is made"
        ),
        Move::Overdue => {
            let message = "PodCertificate refresh overdue".to_owned();
            news.push_back(warning("CertificateOverdueForRefresh", message));
        }
        Move::Expired => {
            news.push_back(warning("CertificateExpired", "PodCertificate expired".to_owned()));
        }
    }
}

/// What the signer has made of a request. Whichever condition comes first counts, as upstream has it.
fn answer(request: &PodCertificateRequest) -> ((String, String), Answer) {
    let metadata = &request.metadata;
    let key = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let status = request.status.clone().unwrap_or_default();
    let found = status.conditions.iter().flatten().find_map(|condition| {
        let refusal = || Refusal { reason: condition.reason.clone(), message: condition.message.clone() };
        match condition.type_.as_str() {
            "Denied" => Some(Answer::Denied(refusal())),
            "Failed" => Some(Answer::Failed(refusal())),
            // The API server takes no such condition without the rest.
            "Issued" => Some(Answer::Issued {
                chain: certificates(status.certificate_chain.as_deref().unwrap_or_default()),
                begin_refresh_at: status.begin_refresh_at.as_ref()?.0,
                not_after: status.not_after.as_ref()?.0,
            }),
            _ => None,
        }
    });
    (key, found.unwrap_or(Answer::Pending))
}

/// The certificates of a chain, without whatever else is between and in the blocks.
fn certificates(chain: &str) -> String {
    // A line of a certificate has no colon, a header of a block has.
    let without_headers: Vec<&str> = chain.lines().filter(|line| !line.contains(':')).collect();
    let text = without_headers.join("\n");
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok);
    found.map(|certificate| pem_block("CERTIFICATE", &certificate)).collect()
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).ok();
    by.and_then(|by| now.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

fn jitter() -> SignedDuration {
    SignedDuration::from_millis(fastrand::i64(0..MAX_JITTER_MILLIS))
}

impl PodCertificates {
    /// Follows the node's requests: a node may not see those of others.
    fn watch(&self) -> Watch<PodCertificateRequest> {
        const COLLECTION: &str = "/apis/certificates.k8s.io/v1/podcertificaterequests";
        let selector = format!("spec.nodeName={}", self.node_name);
        let purpose = Purpose::new("watch pod certificate requests of node", &*self.node_name);
        Watch::new(self.client.clone(), COLLECTION, Some(selector), Freshness::Cached, purpose)
    }

    async fn ask(
        self,
        source: CertificateSource,
        wish: CertificateWish,
    ) -> (CertificateSource, Result<Asked, AskError>) {
        let asked = self.request(&source, wish).await;
        (source, asked)
    }

    /// Makes a key and a request for a certificate of it.
    async fn request(&self, source: &CertificateSource, wish: CertificateWish) -> Result<Asked, AskError> {
        let CertificateWish { pod, service_account: account_name, projection } = wish;
        let account = service_account(&self.client, &pod.namespace, &account_name).await;
        let account = account.map_err(AskError::Account)?;
        let node = get_node(&self.client, &self.node_name).await.map_err(AskError::Node)?;
        let node = node.ok_or_else(|| AskError::NoNode(self.node_name.to_string()))?;
        let key_type = projection.key_type.clone();
        let made = tokio::task::spawn_blocking(move || keys::generate(&key_type)).await;
        let KeyWithRequest { key_pem, request_der } =
            made.map_err(|_| AskError::Interrupted)?.map_err(AskError::Key)?;
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name.to_string(),
            uid: source.pod_uid.to_string(),
            ..OwnerReference::default()
        };
        let request = PodCertificateRequest {
            metadata: ObjectMeta {
                namespace: Some(pod.namespace.to_string()),
                generate_name: Some("req-".to_owned()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: PodCertificateRequestSpec {
                max_expiration_seconds: projection.max_expiration_seconds,
                node_name: self.node_name.to_string(),
                node_uid: node.metadata.uid.unwrap_or_default(),
                pod_name: pod.name.to_string(),
                pod_uid: source.pod_uid.to_string(),
                service_account_name: account_name,
                service_account_uid: account.metadata.uid.unwrap_or_default(),
                signer_name: projection.signer_name,
                stub_pkc_s10_request: ByteString(request_der),
                unverified_user_annotations: projection.user_annotations,
            },
            status: None,
        };
        let metadata = self.create(&pod, &request).await.map_err(AskError::Create)?.metadata;
        let created = metadata.creation_timestamp.map_or_else(|| (self.clock)(), |time| time.0);
        Ok(Asked::new(metadata.name.unwrap_or_default(), key_pem, created, jitter()))
    }

    async fn create(
        &self,
        pod: &PodKey,
        request: &PodCertificateRequest,
    ) -> Result<PodCertificateRequest, RequestError> {
        let purpose = Purpose::new("create pod certificate request for pod", pod.to_string());
        let body = serde_json::to_vec(request).map_err(|error| purpose.build(error))?;
        let path =
            format!("/apis/certificates.k8s.io/v1/namespaces/{}/podcertificaterequests", pod.namespace);
        call(&self.client, &purpose, Request::new(path).create(&PostParams::default(), body)).await
    }
}

#[cfg(test)]
mod tests;
