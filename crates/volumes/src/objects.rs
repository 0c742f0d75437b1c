//! The port to whoever has config maps, secrets, tokens and certificates: the API object cache.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PodCertificateProjection, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use model::{Pod, PodUid};

/// Where volumes get their content from. Implementations answer from a cache where they can;
/// dropping a future abandons the request.
pub trait Objects: Send + Sync + 'static {
    /// A config map.
    fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Arc<ConfigMap>, ObjectError>> + Send;

    /// A secret.
    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Arc<Secret>, ObjectError>> + Send;

    /// A new token from the API server (TokenRequest). Tokens are cached here, so that there is
    /// no need to cache them behind the port.
    fn service_account_token(
        &self,
        spec: &TokenSpec,
    ) -> impl Future<Output = Result<Token, ObjectError>> + Send;

    /// The certificates of a ClusterTrustBundle, in PEM.
    fn trust_bundle(&self, name: &str) -> impl Future<Output = Result<String, TrustBundleError>> + Send;

    /// The certificates of the ClusterTrustBundles of a signer with such labels, in PEM. Without a selector there are
    /// none.
    fn trust_bundles_of(
        &self,
        signer: &str,
        selector: Option<&LabelSelector>,
    ) -> impl Future<Output = Result<String, TrustBundleError>> + Send;

    /// The key and the certificate of a `podCertificate` source. The first time, it is asked for, and there is none until a
    /// signer has answered.
    fn pod_certificate(&self, source: &CertificateSource<'_>) -> Result<PodCredential, PodCertificateError>;

    /// The pod's volumes go: its keys and certificates are not needed any more.
    fn forget_pod_certificates(&self, uid: &PodUid);
}

/// A `podCertificate` source (KEP-4317).
#[derive(Clone, Copy, Debug)]
pub struct CertificateSource<'a> {
    /// Whose.
    pub pod: &'a Pod,
    /// The volume's name.
    pub volume: &'a str,
    /// Which of the volume's sources, from 0.
    pub index: usize,
    /// What is asked for.
    pub projection: &'a PodCertificateProjection,
}

/// A pod's key with its certificate, in PEM. Not in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PodCredential {
    /// The private key.
    pub key: String,
    /// The certificates, the leaf first.
    pub chain: String,
}

impl fmt::Debug for PodCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodCredential").finish_non_exhaustive()
    }
}

/// Why there is no certificate, in the words users know from events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PodCertificateError(pub String);

/// Why there are no certificates. The texts are those users know from events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustBundleError {
    /// There is no such bundle, which is fine with those who can do without.
    #[error("{0}")]
    Absent(String),
    /// They are not to be had.
    #[error("{0}")]
    Unavailable(String),
}

/// Why an object is not to be had. The texts are those users know from events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// There is none of that name.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// `configmap`, `secret` or `serviceaccounts`, as API errors spell them.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The node may not have it, usually because no pod here refers to it (yet).
    #[error("{0}")]
    Forbidden(String),
    /// It is not known whether there is one.
    #[error("{0}")]
    Unavailable(String),
}

/// What a token is for: bound to one pod and its service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenSpec {
    /// Of the pod it is bound to. First, so that a pod's tokens are neighbours in order.
    pub pod_uid: PodUid,
    /// Of the pod it is bound to.
    pub pod_name: String,
    /// Of the pod and the service account.
    pub namespace: String,
    /// Name of the service account.
    pub service_account: String,
    /// Who shall accept the token; the API server itself if `None`.
    pub audience: Option<String>,
    /// Wanted lifetime.
    pub expiration_seconds: u64,
}

/// A token and when it ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The credential.
    pub token: String,
    /// `status.expirationTimestamp`.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
