//! ConfigMaps, Secrets, tokens and certificates for whoever needs them, from the API server's cache.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{
    CertificateWish, Connection, ObjectCache, PodCertificates, TokenScope, TrustBundles, TrustError,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use model::{Pod, PodUid, pod};
use runtime::images::{ServiceAccountFacts, ServiceAccounts};
use volumes::{
    CertificateSource, ObjectError, Objects, PodCertificateError, PodCredential, Token, TokenSpec,
    TrustBundleError,
};

/// The port of `volumes` to the API server. A node without one has no objects.
#[derive(Clone)]
pub(crate) struct ObjectPort {
    remote: Option<(ObjectCache, Connection)>,
    trust_bundles: Option<TrustBundles>,
    pod_certificates: Option<PodCertificates>,
}

impl ObjectPort {
    /// Without the one or the other there are no such objects.
    pub(crate) fn new(
        remote: Option<(ObjectCache, Connection)>,
        trust_bundles: Option<TrustBundles>,
        pod_certificates: Option<PodCertificates>,
    ) -> Self {
        Self { remote, trust_bundles, pod_certificates }
    }

    /// The cache, for the registrations of pods.
    pub(crate) fn cache(&self) -> Option<&ObjectCache> {
        self.remote.as_ref().map(|(cache, _)| cache)
    }

    /// The cluster's ClusterTrustBundles, which have to be watched.
    pub(crate) fn trust_bundles(&self) -> Option<&TrustBundles> {
        self.trust_bundles.as_ref()
    }

    /// The certificates of pods, which have to be issued.
    pub(crate) fn pod_certificates(&self) -> Option<&PodCertificates> {
        self.pod_certificates.as_ref()
    }

    fn remote(&self) -> Result<&(ObjectCache, Connection), ObjectError> {
        self.remote.as_ref().ok_or_else(|| ObjectError::Unavailable("this node has no API server".to_owned()))
    }
}

/// How long tokens for credential providers hold: what the API server takes where nothing is said.
const TOKEN_SECONDS: u64 = 3600;
/// The API server's authorizer learns which pods are on a node, and what they name, a moment after
/// the node may have done: how often and in what rhythm a refusal is not believed yet.
const REFUSALS: u32 = 10;
const REFUSAL_PAUSE: Duration = Duration::from_millis(50);

/// Asks until the answer is anything but a refusal that may be premature.
async fn authorized<T, F>(ask: impl Fn() -> F) -> Result<T, ObjectError>
where
    F: Future<Output = Result<T, ObjectError>>,
{
    authorized_as(|error| matches!(error, ObjectError::Forbidden(_)), ask).await
}

/// The same with errors of another type.
pub(super) async fn authorized_as<T, E, F>(
    is_refusal: impl Fn(&E) -> bool,
    ask: impl Fn() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    for _ in 0..REFUSALS {
        match ask().await {
            Err(error) if is_refusal(&error) => tokio::time::sleep(REFUSAL_PAUSE).await,
            answer => return answer,
        }
    }
    ask().await
}

impl Objects for ObjectPort {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        let cache = &self.remote()?.0;
        authorized(|| async {
            cache.config_map(namespace, name).await.map_err(|e| object_error("configmap", name, &e))
        })
        .await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        let cache = &self.remote()?.0;
        authorized(|| async {
            cache.secret(namespace, name).await.map_err(|e| object_error("secret", name, &e))
        })
        .await
    }

    async fn service_account_token(&self, spec: &TokenSpec) -> Result<Token, ObjectError> {
        let scope = TokenScope {
            namespace: spec.namespace.clone(),
            service_account: spec.service_account.clone(),
            audiences: spec.audience.iter().cloned().collect(),
            expiration_seconds: i64::try_from(spec.expiration_seconds).unwrap_or(i64::MAX),
            pod: Some(apiserver::BoundPod { name: spec.pod_name.clone(), uid: spec.pod_uid.clone() }),
        };
        let client = &self.remote()?.1.api;
        let token = authorized(|| async {
            apiserver::request_token(client, &scope).await.map_err(|error| token_error(&error))
        })
        .await?;
        Ok(Token { token: token.value.to_string(), expires_at: token.expires })
    }

    async fn trust_bundle(&self, name: &str) -> Result<String, TrustBundleError> {
        let bundles = self.trust_bundles.as_ref().ok_or_else(|| trust_error(&TrustError::Unserved))?;
        bundles.named(name).await.map_err(|error| trust_error(&error))
    }

    async fn trust_bundles_of(
        &self,
        signer: &str,
        selector: Option<&LabelSelector>,
    ) -> Result<String, TrustBundleError> {
        let bundles = self.trust_bundles.as_ref().ok_or_else(|| trust_error(&TrustError::Unserved))?;
        bundles.of_signer(signer, selector).await.map_err(|error| trust_error(&error))
    }

    fn pod_certificate(&self, source: &CertificateSource<'_>) -> Result<PodCredential, PodCertificateError> {
        // Upstream's word without an API server or with the gate off.
        let certificates = self.pod_certificates.as_ref();
        let certificates = certificates.ok_or_else(|| PodCertificateError("unimplemented".to_owned()))?;
        let CertificateSource { pod, volume, index, projection } = *source;
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let wish = CertificateWish {
            pod: pod::key(pod),
            service_account: account.unwrap_or_default(),
            projection: projection.clone(),
        };
        let source =
            apiserver::CertificateSource { pod_uid: pod::uid(pod), volume: volume.to_owned(), index };
        let found = certificates.credential(&source, &wish);
        let found = found.map_err(|error| PodCertificateError(error.to_string()))?;
        Ok(PodCredential { key: found.key, chain: found.chain })
    }

    fn forget_pod_certificates(&self, uid: &PodUid) {
        if let Some(certificates) = &self.pod_certificates {
            certificates.forget(uid);
        }
    }
}

/// For programs that know registries' credentials.
impl ServiceAccounts for ObjectPort {
    async fn account(&self, namespace: &str, name: &str) -> Result<ServiceAccountFacts, String> {
        let client = &self.remote().map_err(|error| error.to_string())?.1.api;
        let account = authorized(|| async {
            apiserver::service_account(client, namespace, name).await.map_err(|error| account_error(&error))
        });
        let metadata = account.await.map_err(|error| error.to_string())?.metadata;
        let annotations = metadata.annotations.unwrap_or_default();
        Ok(ServiceAccountFacts { uid: metadata.uid.unwrap_or_default(), annotations })
    }

    async fn token(&self, pod: &Pod, account: &str, audience: &str) -> Result<String, String> {
        let key = pod::key(pod);
        let spec = TokenSpec {
            pod_uid: pod::uid(pod),
            pod_name: key.name.to_string(),
            namespace: key.namespace.to_string(),
            service_account: account.to_owned(),
            audience: Some(audience.to_owned()),
            expiration_seconds: TOKEN_SECONDS,
        };
        let token = self.service_account_token(&spec).await.map_err(|error| error.to_string())?;
        Ok(token.token)
    }
}

fn account_error(error: &apiserver::RequestError) -> ObjectError {
    let text = model::chain(error);
    if error.is_forbidden() { ObjectError::Forbidden(text) } else { ObjectError::Unavailable(text) }
}

fn object_error(kind: &'static str, name: &str, error: &apiserver::ObjectError) -> ObjectError {
    match error {
        apiserver::ObjectError::NotFound(_) => ObjectError::NotFound { kind, name: name.to_owned() },
        apiserver::ObjectError::Forbidden(..) => ObjectError::Forbidden(model::chain(error)),
        _ => ObjectError::Unavailable(model::chain(error)),
    }
}

fn trust_error(error: &TrustError) -> TrustBundleError {
    let text = error.to_string();
    if error.is_absence() { TrustBundleError::Absent(text) } else { TrustBundleError::Unavailable(text) }
}

fn token_error(error: &apiserver::TokenError) -> ObjectError {
    let text = model::chain(error);
    if error.is_forbidden() { ObjectError::Forbidden(text) } else { ObjectError::Unavailable(text) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn asked(refusals: u32) -> (Result<(), ObjectError>, u32) {
        let count = AtomicU32::new(0);
        let ask = || async {
            match count.fetch_add(1, Ordering::Relaxed) {
                n if n < refusals => Err(ObjectError::Forbidden("no".into())),
                _ => Ok(()),
            }
        };
        let answer = authorized(ask).await;
        (answer, count.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_only_when_it_stays() {
        assert_eq!(asked(0).await, (Ok(()), 1));
        assert_eq!(asked(3).await, (Ok(()), 4));
        assert_eq!(asked(99).await, (Err(ObjectError::Forbidden("no".into())), REFUSALS + 1));
    }
}
