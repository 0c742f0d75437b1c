//! Who may ask, by the word of the API server.

use std::time::Instant;

use apiserver::{AccessQuestion, Caller, RequestError, TokenAnswer};
use server::ports::{AccessPorts, TokenReviewEvent};
use server::{Attributes, Decision, UserInfo};
use telemetry::metrics::{Counter, Histogram, Labelled};

use super::NodePorts;

/// Counts a question to the API server about a caller, by its HTTP status.
fn count_review(
    count: &Labelled<Counter, 1>,
    took: &Labelled<Histogram, 1>,
    begun: Instant,
    error: Option<&RequestError>,
) {
    let code = match error {
        // What is asked is an object that the server creates.
        None => "201".to_owned(),
        Some(error) => error.code().map_or_else(|| "<error>".to_owned(), |code| code.to_string()),
    };
    count.with([&code]).increment();
    took.with([&code]).observe_duration(begun.elapsed());
}

impl AccessPorts for NodePorts {
    async fn authenticate_token(&self, token: &str) -> Result<Option<UserInfo>, String> {
        let Some(connection) = self.api.connection() else { return Ok(None) };
        let begun = Instant::now();
        let review = apiserver::review_token(&connection.api, token, &[]).await;
        let (count, took) = (&self.metrics.token_reviews, &self.metrics.token_review_duration);
        count_review(count, took, begun, review.as_ref().err());
        match review {
            Ok(TokenAnswer::Known(caller, _)) => Ok(Some(UserInfo {
                name: caller.user,
                uid: caller.uid,
                groups: caller.groups,
                extra: caller.extra,
            })),
            Ok(TokenAnswer::Unknown(_)) => Ok(None),
            Err(error) => Err(model::chain(&error)),
        }
    }

    async fn authorize(&self, user: &UserInfo, attributes: &Attributes) -> Result<Decision, String> {
        let Some(connection) = self.api.connection() else { return Ok(Decision::Deny) };
        let caller = Caller {
            user: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        };
        let question = AccessQuestion::Node {
            verb: attributes.verb.to_owned(),
            name: attributes.node_name.clone(),
            subresource: attributes.subresource.to_owned(),
        };
        let begun = Instant::now();
        let review = apiserver::review_access(&connection.api, &caller, &question).await;
        let (count, took) = (&self.metrics.access_reviews, &self.metrics.access_review_duration);
        count_review(count, took, begun, review.as_ref().err());
        match review {
            Ok(answer) if answer.is_allowed => Ok(Decision::Allow),
            Ok(_) => Ok(Decision::Deny),
            Err(error) => Err(model::chain(&error)),
        }
    }

    fn token_review_event(&self, event: TokenReviewEvent) {
        // Whoever asks waits for the answer, so that as many wait as are asked.
        let under_way = |change| {
            for status in ["blocked", "in_flight"] {
                self.metrics.token_reviews_active.with([status]).add(change);
            }
        };
        match event {
            TokenReviewEvent::LookedUp { is_hit, took } => {
                let status = [if is_hit { "hit" } else { "miss" }];
                self.metrics.token_cache_requests.with(status).increment();
                self.metrics.token_cache_duration.with(status).observe_duration(took);
            }
            TokenReviewEvent::ReviewBegins => under_way(1.0),
            TokenReviewEvent::ReviewEnded { is_ok } => {
                under_way(-1.0);
                self.metrics.token_reviews_ended.with([if is_ok { "ok" } else { "error" }]).increment();
            }
        }
    }
}
