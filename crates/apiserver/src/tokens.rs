//! Service account tokens for pods.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use model::PodUid;
use thiserror::Error;

use crate::call::{Purpose, RequestError, call};

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
    /// The request failed.
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

impl TokenError {
    /// Whether the node may not have it, usually because the server has not seen yet that a pod of
    /// this node runs as that account.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Request { source, .. } if source.is_forbidden())
    }
}

/// Asks for a token. Nothing is kept here: whoever uses tokens knows for how long.
///
/// # Errors
/// The request failed, or its answer has no token.
pub async fn request_token(client: &Client, scope: &TokenScope) -> Result<Token, TokenError> {
    let TokenScope { namespace, service_account: name, .. } = scope;
    let purpose = Purpose::new("create token for service account", format!("{namespace}/{name}"));
    let fail = |source| TokenError::Request { namespace: namespace.clone(), name: name.clone(), source };
    let body = serde_json::to_vec(&token_request(scope)).map_err(|error| fail(purpose.build(error)))?;
    let request = Request::new(format!("/api/v1/namespaces/{namespace}/serviceaccounts")).create_subresource(
        "token",
        name,
        &PostParams::default(),
        body,
    );
    let answer: TokenRequest = call(client, &purpose, request).await.map_err(fail)?;
    let status = answer.status.unwrap_or_default();
    match (status.token.filter(|token| !token.is_empty()), status.expiration_timestamp) {
        (Some(value), Some(expires)) => Ok(Token { value: value.into(), expires: expires.0 }),
        _ => Err(TokenError::Empty { namespace: namespace.clone(), name: name.clone() }),
    }
}

/// Reads a service account. Nothing is kept here.
///
/// # Errors
/// The request failed.
pub async fn service_account(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<ServiceAccount, RequestError> {
    let purpose = Purpose::new("get service account", format!("{namespace}/{name}"));
    let request = Request::new(format!("/api/v1/namespaces/{namespace}/serviceaccounts"))
        .get(name, &GetParams::default());
    call(client, &purpose, request).await
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

#[cfg(test)]
mod tests;
