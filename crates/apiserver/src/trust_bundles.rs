//! ClusterTrustBundles: certificates of authorities, which pods have projected into volumes
//! (<https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#cluster-trust-bundles>). One
//! watch of all of them, begun when somebody asks for the first time, in whichever version the API server has them.

mod selector;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Client;
use model::TrustSource;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::watch;

use crate::call::{Purpose, RequestError, call};
use crate::certificates::pem_block;
use crate::watch::{Change, Freshness, Watch, Watched};
use selector::Selector;
pub use selector::SelectorError;

/// Versions of the API, the one that is asked for first before the others.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
/// How long a read waits for the first list.
const FIRST_LIST: Duration = Duration::from_secs(10);
/// How long after a look in vain for such an API there is another.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Longest selector, bytes as text: upstream's limit.
const MAX_SELECTOR: usize = 100 * 1024;

/// Why there are no certificates. The texts are upstream's.
#[derive(Clone, Debug, Error)]
pub enum TrustError {
    /// There is no such bundle.
    #[error("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {0:?} not found")]
    NotFound(String),
    /// No bundle of the signer has such labels.
    #[error("combination of signerName and labelSelector matched zero ClusterTrustBundles")]
    NoneMatch,
    /// The selector makes no sense.
    #[error("while parsing label selector: {0}")]
    Selector(#[from] SelectorError),
    /// The selector is too long.
    #[error("label selector length ({0}) is larger than {MAX_SELECTOR}")]
    LongSelector(usize),
    /// The API server has no such objects.
    #[error("ClusterTrustBundle projection is not supported in static kubelet mode")]
    Unserved,
    /// It could not be found out whether it has.
    #[error(
        "failed to ensure informer manager for ClusterTrustBundles: failed to determine which informer manager to \
         choose: {}", model::chain(.0.as_ref())
    )]
    Discovery(Arc<RequestError>),
    /// They have not been listed yet.
    #[error("ClusterTrustBundle informer has not yet synced")]
    Pending,
}

impl TrustError {
    /// Whether there are none, which is fine with those who can do without.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::NoneMatch)
    }
}

/// A bundle, in whichever version.
#[derive(Clone, Debug, Deserialize)]
struct TrustBundle {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    signer_name: String,
    #[serde(default)]
    trust_bundle: String,
}

/// Which resources a version of the API has.
#[derive(Debug, Deserialize)]
struct Served {
    #[serde(default)]
    resources: Vec<ServedResource>,
}

#[derive(Debug, Deserialize)]
struct ServedResource {
    name: String,
}

impl Watched for TrustBundle {
    fn version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
}

/// What is kept of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bundle {
    signer: String,
    labels: BTreeMap<String, String>,
    /// In DER.
    certificates: BTreeSet<Vec<u8>>,
}

impl From<TrustBundle> for Bundle {
    fn from(object: TrustBundle) -> Self {
        // Whatever else is between them is left out.
        let parsed = CertificateDer::pem_slice_iter(object.spec.trust_bundle.as_bytes());
        let certificates = parsed.filter_map(Result::ok).map(|certificate| certificate.to_vec()).collect();
        Self {
            signer: object.spec.signer_name,
            labels: object.metadata.labels.unwrap_or_default(),
            certificates,
        }
    }
}

type Bundles = BTreeMap<String, Bundle>;

#[derive(Clone)]
enum Known {
    Pending,
    Unserved,
    Undiscovered(Arc<RequestError>),
    Listed(Arc<Bundles>),
}

/// The bundles of a cluster. Clones share them.
#[derive(Clone)]
pub struct TrustBundles {
    client: Client,
    is_wanted: Arc<watch::Sender<bool>>,
    known: Arc<watch::Sender<Known>>,
    /// What the order of certificates follows from: as upstream's, another one in each process, so that nobody comes to
    /// rely on it.
    order: Arc<RandomState>,
}

impl TrustBundles {
    /// None yet. [`Self::watch`] has to run for them to come.
    pub fn new(client: Client) -> Self {
        let (is_wanted, known) = (watch::Sender::new(false), watch::Sender::new(Known::Pending));
        Self { client, is_wanted: Arc::new(is_wanted), known: Arc::new(known), order: Arc::default() }
    }

    /// The certificates of the bundle of this name, in PEM, each once. Cancel-safe.
    ///
    /// # Errors
    /// See [`TrustError`]; a bundle that appears later is returned later.
    pub async fn named(&self, name: &str) -> Result<String, TrustError> {
        let bundles = self.bundles().await?;
        let bundle = bundles.get(name).ok_or_else(|| TrustError::NotFound(name.to_owned()))?;
        Ok(self.text([bundle].into_iter()))
    }

    /// The certificates of all bundles of a signer with such labels, in PEM, each once. Without a selector there are none.
    /// Cancel-safe.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub async fn of_signer(
        &self,
        signer: &str,
        selector: Option<&LabelSelector>,
    ) -> Result<String, TrustError> {
        let bundles = self.bundles().await?;
        let selector = selector.map(Selector::new).transpose()?;
        let length = selector.as_ref().map(|selector| selector.text().len()).unwrap_or_default();
        if length > MAX_SELECTOR {
            return Err(TrustError::LongSelector(length));
        }
        let matches = |bundle: &&Bundle| {
            bundle.signer == signer
                && selector.as_ref().is_some_and(|selector| selector.matches(&bundle.labels))
        };
        let mut found = bundles.values().filter(matches).peekable();
        match found.peek() {
            Some(_) => Ok(self.text(found)),
            None => Err(TrustError::NoneMatch),
        }
    }

    async fn bundles(&self) -> Result<Arc<Bundles>, TrustError> {
        self.is_wanted.send_if_modified(|is_wanted| !std::mem::replace(is_wanted, true));
        let mut known = self.known.subscribe();
        let first = known.wait_for(|known| !matches!(known, Known::Pending));
        match tokio::time::timeout(FIRST_LIST, first).await {
            Ok(Ok(known)) => match &*known {
                Known::Listed(bundles) => Ok(bundles.clone()),
                Known::Unserved => Err(TrustError::Unserved),
                Known::Undiscovered(error) => Err(TrustError::Discovery(error.clone())),
                Known::Pending => Err(TrustError::Pending),
            },
            Ok(Err(_)) | Err(_) => Err(TrustError::Pending),
        }
    }

    fn text<'a>(&self, bundles: impl Iterator<Item = &'a Bundle>) -> String {
        let certificates: BTreeSet<&Vec<u8>> = bundles.flat_map(|bundle| &bundle.certificates).collect();
        let mut ordered: Vec<_> = certificates.into_iter().collect();
        ordered.sort_by_cached_key(|certificate| self.order.hash_one(certificate));
        ordered.into_iter().map(|certificate| pem_block("CERTIFICATE", certificate)).collect()
    }

    /// Keeps them true once somebody has asked, and tells what has become different. Never ends.
    pub fn watch(self) -> impl Stream<Item = BTreeSet<TrustSource>> + Send {
        futures::stream::unfold((self, None), |(this, mut following)| async move {
            loop {
                if following.is_none() {
                    following = Some(this.begin().await);
                }
                let Some(watch) = &mut following else { continue };
                let changed = this.take(watch.next().await);
                if !changed.is_empty() {
                    return Some((changed, (this, following)));
                }
            }
        })
    }

    /// Waits until they are asked for, and for an API server that has them.
    async fn begin(&self) -> Watch<TrustBundle> {
        let mut is_wanted = self.is_wanted.subscribe();
        // Its sender is here.
        let _ = is_wanted.wait_for(|is_wanted| *is_wanted).await;
        loop {
            match self.collection().await {
                Ok(Some(path)) => {
                    self.known.send_replace(Known::Pending);
                    let purpose = Purpose::new("watch cluster trust bundles in", "the cluster");
                    return Watch::new(self.client.clone(), &path, None, Freshness::Cached, purpose);
                }
                Ok(None) => self.known.send_replace(Known::Unserved),
                Err(error) => self.known.send_replace(Known::Undiscovered(Arc::new(error))),
            };
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Where the API server has them; `None` when it has none.
    async fn collection(&self) -> Result<Option<String>, RequestError> {
        for version in VERSIONS {
            let group = format!("/apis/certificates.k8s.io/{version}");
            let purpose = Purpose::new("list resources of", group.clone());
            let request =
                http::Request::get(&group).body(Vec::new()).map_err(kube::core::request::Error::BuildRequest);
            let served: Result<Served, _> = call(&self.client, &purpose, request).await;
            match served {
                Ok(served)
                    if served.resources.iter().any(|resource| resource.name == "clustertrustbundles") =>
                {
                    return Ok(Some(format!("{group}/clustertrustbundles")));
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes in what happened. Returns who has to look again.
    fn take(&self, change: Change<TrustBundle>) -> BTreeSet<TrustSource> {
        let before = match &*self.known.borrow() {
            Known::Listed(bundles) => Some(bundles.clone()),
            Known::Pending | Known::Unserved | Known::Undiscovered(_) => None,
        };
        let mut after = before.as_deref().cloned().unwrap_or_default();
        apply(&mut after, change);
        // Whoever asked before the first list has failed, and asks again.
        let changed = differences(before.as_deref().unwrap_or(&Bundles::new()), &after);
        self.known.send_replace(Known::Listed(Arc::new(after)));
        changed
    }
}

fn apply(bundles: &mut Bundles, change: Change<TrustBundle>) {
    let named =
        |object: TrustBundle| (object.metadata.name.clone().unwrap_or_default(), Bundle::from(object));
    match change {
        Change::Listed(all) => *bundles = all.into_iter().map(named).collect(),
        Change::Applied(object) => bundles.extend([named(object)]),
        Change::Deleted(object) => {
            bundles.remove(&named(object).0);
        }
    }
}

/// The names of bundles that differ, and those of their signers.
fn differences(before: &Bundles, after: &Bundles) -> BTreeSet<TrustSource> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let sources = differing.flat_map(|name| {
        let signers = [before.get(name), after.get(name)].into_iter().flatten().map(|bundle| &bundle.signer);
        let signers = signers.filter(|signer| !signer.is_empty()).cloned().map(TrustSource::OfSigner);
        signers.chain([TrustSource::Named(name.clone())]).collect::<Vec<_>>()
    });
    sources.collect()
}

#[cfg(test)]
mod tests;
