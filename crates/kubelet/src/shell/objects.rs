//! ConfigMaps, Secrets and tokens for whoever needs them, from the API server's cache.

use std::sync::Arc;

use apiserver::{ObjectCache, TokenCache, TokenScope};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use volumes::{ObjectError, Objects, Token, TokenSpec};

use super::failure;

/// The port of `volumes` to the API server. A node without one has no objects.
#[derive(Clone)]
pub(crate) struct ObjectPort {
    remote: Option<(ObjectCache, TokenCache)>,
}

impl ObjectPort {
    pub(crate) fn new(remote: Option<(ObjectCache, TokenCache)>) -> Self {
        Self { remote }
    }

    /// The cache, for the registrations of pods.
    pub(crate) fn cache(&self) -> Option<&ObjectCache> {
        self.remote.as_ref().map(|(cache, _)| cache)
    }

    fn remote(&self) -> Result<&(ObjectCache, TokenCache), ObjectError> {
        self.remote.as_ref().ok_or_else(|| ObjectError::Unavailable("this node has no API server".to_owned()))
    }
}

impl Objects for ObjectPort {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        self.remote()?.0.config_map(namespace, name).await.map_err(|e| object_error("configmap", name, &e))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        self.remote()?.0.secret(namespace, name).await.map_err(|e| object_error("secret", name, &e))
    }

    async fn service_account_token(&self, spec: &TokenSpec) -> Result<Token, ObjectError> {
        let scope = TokenScope {
            namespace: spec.namespace.clone(),
            service_account: spec.service_account.clone(),
            audiences: spec.audience.iter().cloned().collect(),
            expiration_seconds: i64::try_from(spec.expiration_seconds).unwrap_or(i64::MAX),
            pod: Some(apiserver::BoundPod { name: spec.pod_name.clone(), uid: spec.pod_uid.clone() }),
        };
        let token = self.remote()?.1.get(&scope).await;
        let token = token.map_err(|error| ObjectError::Unavailable(failure::chain(&error)))?;
        Ok(Token { token: token.value.to_string(), expires_at: token.expires })
    }
}

fn object_error(kind: &'static str, name: &str, error: &apiserver::ObjectError) -> ObjectError {
    match error {
        apiserver::ObjectError::NotFound(_) => ObjectError::NotFound { kind, name: name.to_owned() },
        apiserver::ObjectError::Forbidden(..) => ObjectError::Forbidden(failure::chain(error)),
        _ => ObjectError::Unavailable(failure::chain(error)),
    }
}
