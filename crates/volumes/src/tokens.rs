//! Service account tokens: asked for once, kept until it is time for the next.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::PodUid;

use crate::objects::{ObjectError, Objects, Token, TokenSpec};

/// `expirationSeconds` where the pod gives none.
pub(crate) const DEFAULT_EXPIRATION_SECONDS: u64 = 3600;
/// However long a token lives, it is replaced daily.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Spreads the requests of pods that started together.
const MAX_JITTER_MILLIS: u64 = 10_000;
/// When to try again after a token could not be replaced while the old one is still good.
const RETRY: Duration = Duration::from_secs(60);

/// The tokens in use. In memory only: after a restart new ones are asked for.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    tokens: Mutex<BTreeMap<TokenSpec, Token>>,
}

/// A token and when to come back for the next.
pub(crate) struct IssuedToken {
    pub(crate) token: String,
    pub(crate) expires_at: Timestamp,
    pub(crate) refresh_after: Duration,
}

impl TokenCache {
    /// The cached token, or a new one if it is time. If there is no new one to be had, a token
    /// that has not expired is good enough.
    pub(crate) async fn get<O: Objects>(
        &self,
        objects: &O,
        spec: &TokenSpec,
        now: Timestamp,
    ) -> Result<IssuedToken, ObjectError> {
        let cached = self.lock().get(spec).cloned();
        let fresh = |token: Token| IssuedToken {
            refresh_after: until(refresh_at(spec, &token), now),
            expires_at: token.expires_at,
            token: token.token,
        };
        if let Some(token) = cached.clone().filter(|t| refresh_at(spec, t) > now) {
            return Ok(fresh(token));
        }
        match objects.service_account_token(spec).await {
            Ok(token) => {
                self.lock().insert(spec.clone(), token.clone());
                Ok(fresh(token))
            }
            Err(error) => match cached.filter(|t| t.expires_at > now) {
                Some(token) => {
                    tracing::warn!(
                        pod = %spec.pod_uid, service_account = %spec.service_account, %error,
                        "Failed to refresh service account token; using the cached one"
                    );
                    let Token { token, expires_at } = token;
                    Ok(IssuedToken { token, expires_at, refresh_after: RETRY })
                }
                None => Err(error),
            },
        }
    }

    /// Forgets a pod's tokens.
    pub(crate) fn forget(&self, uid: &PodUid) {
        self.lock().retain(|spec, _| spec.pod_uid != *uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TokenSpec, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After 80 % of the token's life, after a day at the latest, a little earlier by pod.
fn refresh_at(spec: &TokenSpec, token: &Token) -> Timestamp {
    let lifetime = i64::try_from(spec.expiration_seconds).unwrap_or(i64::MAX);
    let before_end = SignedDuration::from_secs(lifetime / 5);
    let late = token.expires_at.checked_sub(before_end).unwrap_or(Timestamp::MIN);
    let issued = token.expires_at.checked_sub(SignedDuration::from_secs(lifetime)).unwrap_or(Timestamp::MIN);
    let aged = issued.checked_add(MAX_AGE).unwrap_or(Timestamp::MAX);
    let mut hasher = DefaultHasher::new();
    spec.pod_uid.as_str().hash(&mut hasher);
    let jitter = SignedDuration::from_millis(i64::try_from(hasher.finish() % MAX_JITTER_MILLIS).unwrap_or(0));
    late.min(aged).checked_sub(jitter).unwrap_or(Timestamp::MIN)
}

fn until(then: Timestamp, now: Timestamp) -> Duration {
    // Not at once, even if the API server hands out tokens that are as good as expired.
    Duration::try_from(then.duration_since(now)).unwrap_or_default().max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(expiration_seconds: u64) -> TokenSpec {
        TokenSpec {
            pod_uid: PodUid::from("u"),
            pod_name: "p".to_owned(),
            namespace: "n".to_owned(),
            service_account: "s".to_owned(),
            audience: None,
            expiration_seconds,
        }
    }

    #[test]
    fn renewal_comes_at_four_fifths_or_after_a_day() {
        let now = Timestamp::UNIX_EPOCH;
        for (lifetime, seconds) in [(3600, 2880), (600, 480), (7 * 86_400, 86_400)] {
            let expires_at = now + SignedDuration::from_secs(lifetime);
            let token = Token { token: "secret".to_owned(), expires_at };
            let at = until(refresh_at(&spec(lifetime.try_into().unwrap()), &token), now).as_secs();
            assert!((seconds - 10..=seconds).contains(&at), "{lifetime}: {at}");
            assert!(!format!("{token:?}").contains("secret"));
        }
    }

    #[test]
    fn odd_lifetimes_do_not_panic() {
        let token = Token { token: String::new(), expires_at: Timestamp::MIN };
        assert_eq!(until(refresh_at(&spec(u64::MAX), &token), Timestamp::MAX), Duration::from_secs(1));
    }
}
