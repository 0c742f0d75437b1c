//! Service account tokens for pods, asked for when needed and used again while they are young.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use model::PodUid;
use thiserror::Error;

use crate::call::{Purpose, RequestError, call, chain};

/// A token is not used longer than this, however long it is valid.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Renewals of tokens issued together are spread over this.
const JITTER: Duration = Duration::from_secs(10);

/// The pod a token is bound to: it dies with the pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundPod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: PodUid,
}

/// Which token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenScope {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// Whom it is shown to; empty: the API server.
    pub audiences: Vec<String>,
    /// Wished life, seconds.
    pub expiration_seconds: i64,
    /// The pod it is bound to.
    pub pod: Option<BoundPod>,
}

/// A token and its end. Its text is not in `Debug`.
#[derive(Clone)]
pub struct Token {
    /// The bearer token.
    pub value: Arc<str>,
    /// When the API server stops accepting it.
    pub expires: Timestamp,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A token could not be had.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The request failed and there is no valid older token.
    #[error("no token for service account {namespace}/{name}")]
    Request {
        /// Namespace.
        namespace: String,
        /// Service account.
        name: String,
        /// Why.
        #[source]
        source: RequestError,
    },
    /// The answer has no token or no end.
    #[error("answer for service account {namespace}/{name} has no token")]
    Empty {
        /// Namespace.
        namespace: String,
        /// Service account.
        name: String,
    },
}

/// Tokens by scope. Clones share it.
#[derive(Clone)]
pub struct TokenCache {
    client: Client,
    // Held for a look-up only, never across a request.
    held: Arc<Mutex<HashMap<TokenScope, Held>>>,
}

#[derive(Clone)]
struct Held {
    token: Token,
    /// From here on a younger one is asked for.
    renew_at: Timestamp,
}

impl TokenCache {
    /// An empty cache.
    pub fn new(client: Client) -> Self {
        Self { client, held: Arc::default() }
    }

    /// A token of that scope that is valid for a good while. When a renewal fails, the old token
    /// is returned as long as it is valid.
    ///
    /// # Errors
    /// No valid token could be had.
    pub async fn get(&self, scope: &TokenScope) -> Result<Token, TokenError> {
        let held = self.lookup(scope);
        if let Some(held) = &held
            && Timestamp::now() < held.renew_at
        {
            return Ok(held.token.clone());
        }
        match self.request(scope).await {
            Ok(token) => {
                let renew_at = renew_at(&token, scope.expiration_seconds, JITTER.mul_f64(fastrand::f64()));
                self.keep(scope, Held { token: token.clone(), renew_at });
                Ok(token)
            }
            Err(error) => match held {
                Some(held) if Timestamp::now() < held.token.expires => {
                    tracing::warn!(error = chain(&error), "token is not renewed, the old one is still valid");
                    Ok(held.token)
                }
                _ => Err(error),
            },
        }
    }

    /// Forgets the tokens of a pod that is gone.
    pub fn forget_pod(&self, uid: &PodUid) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|scope, _| scope.pod.as_ref().is_none_or(|pod| pod.uid != *uid));
    }

    fn lookup(&self, scope: &TokenScope) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get(scope).cloned()
    }

    fn keep(&self, scope: &TokenScope, fresh: Held) {
        let now = Timestamp::now();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, old| now < old.token.expires);
        held.insert(scope.clone(), fresh);
    }

    async fn request(&self, scope: &TokenScope) -> Result<Token, TokenError> {
        let TokenScope { namespace, service_account: name, .. } = scope;
        let purpose = Purpose::new("create token for service account", format!("{namespace}/{name}"));
        let fail = |source| TokenError::Request { namespace: namespace.clone(), name: name.clone(), source };
        let body = serde_json::to_vec(&token_request(scope)).map_err(|error| fail(purpose.build(error)))?;
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/serviceaccounts"))
            .create_subresource("token", name, &PostParams::default(), body);
        let answer: TokenRequest = call(&self.client, &purpose, request).await.map_err(fail)?;
        let status = answer.status.unwrap_or_default();
        match (status.token.filter(|token| !token.is_empty()), status.expiration_timestamp) {
            (Some(value), Some(expires)) => Ok(Token { value: value.into(), expires: expires.0 }),
            _ => Err(TokenError::Empty { namespace: namespace.clone(), name: name.clone() }),
        }
    }
}

fn token_request(scope: &TokenScope) -> TokenRequest {
    let pod = scope.pod.as_ref().map(|pod| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.as_str().to_owned()),
    });
    TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(scope.audiences.clone()),
            bound_object_ref: pod,
            expiration_seconds: Some(scope.expiration_seconds),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    }
}

/// At 80 % of its life or after a day, whichever is first, a little earlier by `jitter`. The
/// server may give less time than asked for, so the issue time is counted back from its end.
fn renew_at(token: &Token, asked_seconds: i64, jitter: Duration) -> Timestamp {
    let life = SignedDuration::from_secs(asked_seconds.max(0));
    let jitter = SignedDuration::try_from(jitter).unwrap_or_default();
    let minus = |from: Timestamp, by: SignedDuration| from.checked_sub(by).unwrap_or(Timestamp::MIN);
    let by_life = minus(minus(token.expires, life / 5), jitter);
    let issued = minus(token.expires, life);
    let by_age = minus(issued.checked_add(MAX_AGE).unwrap_or(Timestamp::MAX), jitter);
    by_life.min(by_age)
}

#[cfg(test)]
mod tests;
