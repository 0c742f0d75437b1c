//! Questions the node's HTTP server asks about its callers. Answers are cached there, not here.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;

use crate::call::{Purpose, RequestError, call};

/// Somebody the API server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Name, e.g. `system:serviceaccount:ns:name`.
    pub user: String,
    /// Uid, empty when there is none.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Whatever else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a bearer token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// It is this caller's, for these of the audiences asked for.
    Known(Caller, Vec<String>),
    /// It is nobody's; the server's word on why, possibly empty.
    Unknown(String),
}

/// What a caller wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessQuestion {
    /// `verb` on a (sub)resource of the Node.
    Node {
        /// `get`, `create`, `update`, `patch`, `delete`, `proxy` …
        verb: String,
        /// The Node's name.
        name: String,
        /// `proxy`, `stats`, `log`, `metrics`, `healthz`, `configz`, `pods` …
        subresource: String,
    },
    /// `verb` on a path.
    Path {
        /// `get`, `post`, …
        verb: String,
        /// `/healthz` …
        path: String,
    },
}

/// Whether a caller may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessAnswer {
    /// Whether some authorizer allows it.
    pub is_allowed: bool,
    /// Why, in the server's words.
    pub reason: String,
}

/// Asks whose a bearer token is.
///
/// # Errors
/// The request failed, which says nothing about the token.
pub async fn review_token(
    client: &Client,
    token: &str,
    audiences: &[String],
) -> Result<TokenAnswer, RequestError> {
    let purpose = Purpose::new("create token review for", "a bearer token");
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.to_owned(),
            audiences: (!audiences.is_empty()).then(|| audiences.to_vec()),
        },
        ..TokenReview::default()
    };
    let body = serde_json::to_vec(&review).map_err(|error| purpose.build(error))?;
    let request =
        Request::new("/apis/authentication.k8s.io/v1/tokenreviews").create(&PostParams::default(), body);
    let review: TokenReview = call(client, &purpose, request).await?;
    let status = review.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        return Ok(TokenAnswer::Unknown(status.error.unwrap_or_default()));
    }
    Ok(TokenAnswer::Known(status.user.map(caller).unwrap_or_default(), status.audiences.unwrap_or_default()))
}

fn caller(user: UserInfo) -> Caller {
    Caller {
        user: user.username.unwrap_or_default(),
        uid: user.uid.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    }
}

/// Asks whether a caller may do something.
///
/// # Errors
/// The request failed, which is not a no.
pub async fn review_access(
    client: &Client,
    caller: &Caller,
    question: &AccessQuestion,
) -> Result<AccessAnswer, RequestError> {
    let purpose = Purpose::new("create subject access review for", caller.user.clone());
    let review =
        SubjectAccessReview { spec: access_spec(caller, question), ..SubjectAccessReview::default() };
    let body = serde_json::to_vec(&review).map_err(|error| purpose.build(error))?;
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let review: SubjectAccessReview =
        call(client, &purpose, Request::new(path).create(&PostParams::default(), body)).await?;
    let status = review.status.unwrap_or_default();
    Ok(AccessAnswer {
        is_allowed: status.allowed,
        reason: status.reason.or(status.evaluation_error).unwrap_or_default(),
    })
}

fn access_spec(caller: &Caller, question: &AccessQuestion) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(caller.user.clone()),
        uid: (!caller.uid.is_empty()).then(|| caller.uid.clone()),
        groups: Some(caller.groups.clone()),
        extra: (!caller.extra.is_empty()).then(|| caller.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match question {
        AccessQuestion::Node { verb, name, subresource } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: Some(verb.clone()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: (!subresource.is_empty()).then(|| subresource.clone()),
                name: Some(name.clone()),
                ..ResourceAttributes::default()
            });
        }
        AccessQuestion::Path { verb, path } => {
            spec.non_resource_attributes =
                Some(NonResourceAttributes { verb: Some(verb.clone()), path: Some(path.clone()) });
        }
    }
    spec
}

#[cfg(test)]
mod tests;
