//! Who asks, and may they: certificate, token or nobody; then the authorizer.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};
use http::{Method, StatusCode};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::answer::{self, Answer};
use crate::attributes::{self, Attributes};
use crate::cache::ExpiringCache;
use crate::identity::{ClientTrust, Shown};
use crate::ports::{AccessPorts, Decision, TokenReviewEvent, UserInfo};
use crate::settings::{AccessSettings, Authorization};

/// How many token reviews are remembered: the clients of one node are a handful (API server,
/// scrapers), the rest is noise that must not grow.
const TOKENS: usize = 1024;
/// How many decisions are remembered: the same clients times verbs and subresources.
const DECISIONS: usize = 8192;
/// The longest token that is reviewed, bytes; service account tokens have about 1,000.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Authentication and authorization of the main server.
pub(crate) struct Access {
    settings: AccessSettings,
    node_name: String,
    trust: Option<Arc<ClientTrust>>,
    /// By digest, so that the tokens themselves are kept nowhere.
    tokens: ExpiringCache<[u8; 32], Option<UserInfo>>,
    decisions: ExpiringCache<(UserInfo, &'static str, &'static str), Decision>,
}

impl Access {
    pub(crate) fn new(settings: AccessSettings, node_name: String, trust: Option<Arc<ClientTrust>>) -> Self {
        let (tokens, decisions) = (ExpiringCache::new(TOKENS), ExpiringCache::new(DECISIONS));
        Self { settings, node_name, trust, tokens, decisions }
    }

    /// Nothing when the request may go on, else the answer.
    pub(crate) async fn check<P: AccessPorts>(
        &self,
        ports: &P,
        shown: &Shown,
        request: &RequestHead<'_>,
    ) -> Result<(), Box<Answer>> {
        let Some(user) = self.authenticate(ports, shown, request.headers).await else {
            return Err(Box::new(answer::text(StatusCode::UNAUTHORIZED, "Unauthorized")));
        };
        self.authorize(ports, &user, request).await
    }

    /// A certificate that is good wins; then a token. A credential that is not good is nobody, even
    /// where those without any may come in.
    async fn authenticate<P: AccessPorts>(
        &self,
        ports: &P,
        shown: &Shown,
        headers: &HeaderMap,
    ) -> Option<UserInfo> {
        let mut has_failed = false;
        if let Some(trust) = self.trust.as_ref().filter(|_| !shown.is_empty()) {
            match trust.identify(shown) {
                Ok(user) => return Some(authenticated(user)),
                Err(reason) => {
                    tracing::info!(reason, "Client certificate not accepted");
                    has_failed = true;
                }
            }
        }
        if let Some(token) = bearer(headers).filter(|_| self.settings.token_cache_ttl.is_some()) {
            match self.review(ports, token).await {
                Ok(Some(user)) => return Some(authenticated(user)),
                Ok(None) => has_failed = true,
                Err(error) => {
                    tracing::warn!(error, "Token review failed");
                    has_failed = true;
                }
            }
        }
        (!has_failed && self.settings.is_anonymous_allowed).then(|| UserInfo {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..UserInfo::default()
        })
    }

    async fn review<P: AccessPorts>(&self, ports: &P, token: &str) -> Result<Option<UserInfo>, String> {
        if token.len() > MAX_TOKEN_BYTES {
            return Ok(None);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let begun = Instant::now();
        if let Some(known) = self.tokens.get(&digest) {
            ports.token_review_event(TokenReviewEvent::LookedUp { is_hit: true, took: begun.elapsed() });
            return Ok(known);
        }
        let mut review = Review { ports, begun, is_ok: false };
        ports.token_review_event(TokenReviewEvent::ReviewBegins);
        let user = ports.authenticate_token(token).await?;
        review.is_ok = true;
        self.tokens.insert(digest, user.clone(), self.settings.token_cache_ttl.unwrap_or_default());
        Ok(user)
    }

    async fn authorize<P: AccessPorts>(
        &self,
        ports: &P,
        user: &UserInfo,
        request: &RequestHead<'_>,
    ) -> Result<(), Box<Answer>> {
        let Authorization::Webhook { allowed_ttl, denied_ttl } = self.settings.authorization else {
            return Ok(());
        };
        let (verb, subresources) = (attributes::verb(request.method), attributes::subresources(request.path));
        for subresource in subresources {
            let key = (user.clone(), verb, *subresource);
            let decision = match self.decisions.get(&key) {
                Some(known) => known,
                None => {
                    let attributes = Attributes {
                        verb,
                        node_name: self.node_name.clone(),
                        subresource,
                        path: request.path.to_owned(),
                    };
                    let decision = ports.authorize(user, &attributes).await.map_err(|error| {
                        tracing::warn!(error, user = user.name, verb, subresource, "Authorization failed");
                        let text = format!(
                            "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                            user.name
                        );
                        Box::new(answer::text(StatusCode::INTERNAL_SERVER_ERROR, text))
                    })?;
                    let ttl = if decision == Decision::Allow { allowed_ttl } else { denied_ttl };
                    self.decisions.insert(key, decision, ttl);
                    decision
                }
            };
            if decision == Decision::Allow {
                return Ok(());
            }
        }
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        Err(Box::new(answer::text(StatusCode::FORBIDDEN, text)))
    }
}

/// A token review that is counted however it ends, also when the caller does not wait for it.
struct Review<'a, P: AccessPorts> {
    ports: &'a P,
    begun: Instant,
    is_ok: bool,
}

impl<P: AccessPorts> Drop for Review<'_, P> {
    fn drop(&mut self) {
        self.ports.token_review_event(TokenReviewEvent::ReviewEnded { is_ok: self.is_ok });
        self.ports
            .token_review_event(TokenReviewEvent::LookedUp { is_hit: false, took: self.begun.elapsed() });
    }
}

/// What of a request decides.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

fn authenticated(mut user: UserInfo) -> UserInfo {
    const GROUP: &str = "system:authenticated";
    if !user.groups.iter().any(|group| group == GROUP) {
        user.groups.push(GROUP.into());
    }
    user
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.split(' ').next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
