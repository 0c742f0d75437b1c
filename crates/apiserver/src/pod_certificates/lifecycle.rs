//! The state machine of one `podCertificate` source: asked for, issued, refreshed, or turned down for good.

use jiff::{SignedDuration, Timestamp};

/// After this long without a trace of it, before jitter, a request counts as deleted: what is watched may lag behind.
const ASSUMED_DELETED: SignedDuration = SignedDuration::from_mins(10);
/// How long after the time for it a refresh is overdue.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);

/// What the signer has made of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing yet.
    Pending,
    /// It will not be signed.
    Denied(Refusal),
    /// It cannot be signed.
    Failed(Refusal),
    /// It was signed.
    Issued {
        /// In PEM, the leaf first.
        chain: String,
        /// When the next one is to be asked for, before jitter.
        begin_refresh_at: Timestamp,
        /// When it expires.
        not_after: Timestamp,
    },
}

/// Why there is no certificate, in the words of the signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) message: String,
}

/// A request that was made, and the key it is for.
#[derive(Clone)]
pub(super) struct Asked {
    /// Of the PodCertificateRequest.
    pub(super) name: String,
    pub(super) key_pem: String,
    pub(super) assumed_deleted_at: Timestamp,
}

impl Asked {
    /// A request of this name that was made at this time.
    pub(super) fn new(name: String, key_pem: String, created: Timestamp, jitter: SignedDuration) -> Self {
        Self { name, key_pem, assumed_deleted_at: after(created, ASSUMED_DELETED, jitter) }
    }
}

/// A certificate with its key.
#[derive(Clone)]
struct Issued {
    key_pem: String,
    chain: String,
    begin_refresh_at: Timestamp,
    not_after: Timestamp,
    overdue_told: bool,
    expiry_told: bool,
}

/// How far a source is.
#[derive(Clone, Default)]
enum State {
    /// Nothing was asked for.
    #[default]
    Initial,
    /// Its first certificate was asked for.
    Waiting(Asked),
    /// It has one, and has asked for the next if it is time.
    Holding(Issued, Option<Asked>),
    /// It gets none any more.
    Denied(Refusal),
    Failed(Refusal),
}

/// What has become different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// There is another certificate.
    Issued,
    /// The signer denied the request of this name.
    Denied(String, Refusal),
    /// The signer failed on the request of this name.
    Failed(String, Refusal),
    /// The request of this name is gone, and another one is to be made.
    Lost(String),
    /// The next certificate should be there by now.
    Overdue,
    /// The certificate has expired.
    Expired,
}

/// What pods get: none, or the key and the chain.
pub(super) enum Held<'a> {
    NotYet,
    Denied(&'a Refusal),
    Failed(&'a Refusal),
    Certificate { key_pem: &'a str, chain: &'a str },
}

/// One source's state. In memory alone: another process asks for another certificate.
#[derive(Clone, Default)]
pub(super) struct Lifecycle(State);

impl Lifecycle {
    /// The request whose answer matters.
    fn asked(&self) -> Option<&Asked> {
        match &self.0 {
            State::Waiting(asked) | State::Holding(_, Some(asked)) => Some(asked),
            State::Initial | State::Holding(_, None) | State::Denied(_) | State::Failed(_) => None,
        }
    }

    /// The name of the request whose answer matters.
    pub(super) fn request(&self) -> Option<&str> {
        self.asked().map(|asked| asked.name.as_str())
    }

    /// Whether a request is to be made.
    pub(super) fn wants_request(&self, now: Timestamp) -> bool {
        match &self.0 {
            State::Initial => true,
            State::Holding(issued, None) => issued.begin_refresh_at <= now,
            State::Waiting(_) | State::Holding(_, Some(_)) | State::Denied(_) | State::Failed(_) => false,
        }
    }

    /// A request was made.
    pub(super) fn asked_for(&mut self, asked: Asked) {
        self.0 = match std::mem::take(&mut self.0) {
            State::Initial => State::Waiting(asked),
            State::Holding(issued, None) => State::Holding(issued, Some(asked)),
            other => other,
        };
    }

    /// Moves on with what is known of its request: the answer, or `None` where no such request is seen.
    pub(super) fn advance(
        &mut self,
        now: Timestamp,
        answer: Option<&Answer>,
        jitter: SignedDuration,
    ) -> Vec<Move> {
        let mut moves = Vec::new();
        if let Some(asked) = self.asked().cloned() {
            moves.extend(self.answered(now, asked, answer, jitter));
        }
        if let State::Holding(issued, _) = &mut self.0 {
            if overdue_at(issued) < now && !std::mem::replace(&mut issued.overdue_told, true) {
                moves.push(Move::Overdue);
            }
            if issued.not_after < now && !std::mem::replace(&mut issued.expiry_told, true) {
                moves.push(Move::Expired);
            }
        }
        moves
    }

    fn answered(
        &mut self,
        now: Timestamp,
        asked: Asked,
        answer: Option<&Answer>,
        jitter: SignedDuration,
    ) -> Option<Move> {
        let (next, outcome) = match answer {
            Some(Answer::Pending) => return None,
            None if now <= asked.assumed_deleted_at => return None,
            None => {
                let before = match std::mem::take(&mut self.0) {
                    State::Holding(issued, _) => State::Holding(issued, None),
                    _ => State::Initial,
                };
                (before, Move::Lost(asked.name))
            }
            Some(Answer::Denied(refusal)) => {
                (State::Denied(refusal.clone()), Move::Denied(asked.name, refusal.clone()))
            }
            Some(Answer::Failed(refusal)) => {
                (State::Failed(refusal.clone()), Move::Failed(asked.name, refusal.clone()))
            }
            Some(Answer::Issued { chain, begin_refresh_at, not_after }) => {
                let issued = Issued {
                    key_pem: asked.key_pem,
                    chain: chain.clone(),
                    begin_refresh_at: after(*begin_refresh_at, SignedDuration::ZERO, jitter),
                    not_after: *not_after,
                    overdue_told: false,
                    expiry_told: false,
                };
                (State::Holding(issued, None), Move::Issued)
            }
        };
        self.0 = next;
        Some(outcome)
    }

    /// When time alone makes a difference; the wish for a request, which may wait for other reasons, is none.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let lost = self.asked().map(|asked| asked.assumed_deleted_at);
        let told = match &self.0 {
            State::Holding(issued, _) => [
                Some(issued.begin_refresh_at).filter(|at| now < *at),
                Some(overdue_at(issued)).filter(|_| !issued.overdue_told),
                Some(issued.not_after).filter(|_| !issued.expiry_told),
            ],
            _ => [None; 3],
        };
        told.into_iter().flatten().chain(lost).min()
    }

    /// What the pod gets of it.
    pub(super) fn held(&self) -> Held<'_> {
        match &self.0 {
            State::Initial | State::Waiting(_) => Held::NotYet,
            State::Holding(issued, _) => Held::Certificate { key_pem: &issued.key_pem, chain: &issued.chain },
            State::Denied(refusal) => Held::Denied(refusal),
            State::Failed(refusal) => Held::Failed(refusal),
        }
    }

    /// The state as upstream's metric has it.
    pub(super) fn label(&self, now: Timestamp) -> &'static str {
        match &self.0 {
            State::Initial | State::Waiting(_) => "not_yet_issued",
            State::Denied(_) => "denied",
            State::Failed(_) => "failed",
            State::Holding(issued, _) if issued.not_after < now => "expired",
            State::Holding(issued, _) if overdue_at(issued) < now => "overdue_for_refresh",
            State::Holding(..) => "fresh",
        }
    }
}

fn overdue_at(issued: &Issued) -> Timestamp {
    after(issued.begin_refresh_at, OVERDUE, SignedDuration::ZERO)
}

/// A time that cannot be told is never reached.
fn after(at: Timestamp, by: SignedDuration, jitter: SignedDuration) -> Timestamp {
    at.checked_add(by).and_then(|at| at.checked_add(jitter)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn seconds(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    fn asked(name: &str, created: i64) -> Asked {
        Asked::new(name.to_owned(), format!("key of {name}"), at(created), seconds(7))
    }

    fn refusal() -> Refusal {
        Refusal { reason: "No".to_owned(), message: "not you".to_owned() }
    }

    fn issued(chain: &str, begin: i64, end: i64) -> Answer {
        Answer::Issued { chain: chain.to_owned(), begin_refresh_at: at(begin), not_after: at(end) }
    }

    fn held(lifecycle: &Lifecycle) -> String {
        match lifecycle.held() {
            Held::NotYet => "not yet".to_owned(),
            Held::Denied(refusal) => format!("denied: {}", refusal.reason),
            Held::Failed(refusal) => format!("failed: {}", refusal.reason),
            Held::Certificate { key_pem, chain } => format!("{key_pem}, {chain}"),
        }
    }

    /// One that holds the chain `one`, to be refreshed from 1000 seconds on, until 5000.
    fn holding() -> Lifecycle {
        let mut lifecycle = Lifecycle::default();
        lifecycle.asked_for(asked("first", 0));
        let answer = issued("one", 995, 5000);
        assert_eq!(lifecycle.advance(at(1), Some(&answer), seconds(5)), [Move::Issued]);
        lifecycle
    }

    #[test]
    fn the_first_certificate_is_asked_for_and_waited_for() {
        let mut lifecycle = Lifecycle::default();
        assert!(lifecycle.wants_request(at(0)));
        assert_eq!((lifecycle.request(), lifecycle.next_at(at(0))), (None, None));
        lifecycle.asked_for(asked("first", 0));
        assert!(!lifecycle.wants_request(at(1)));
        assert_eq!((lifecycle.request(), lifecycle.next_at(at(1))), (Some("first"), Some(at(607))));
        assert_eq!(lifecycle.advance(at(1), None, seconds(0)), []);
        assert_eq!(lifecycle.advance(at(1), Some(&Answer::Pending), seconds(0)), []);
        assert_eq!((held(&lifecycle).as_str(), lifecycle.label(at(1))), ("not yet", "not_yet_issued"));
        let holding = holding();
        assert_eq!((held(&holding).as_str(), holding.label(at(1))), ("key of first, one", "fresh"));
        assert_eq!(holding.request(), None);
    }

    #[test]
    fn a_refusal_is_final() {
        for (answer, label, moved) in [
            (Answer::Denied(refusal()), "denied", Move::Denied("r".to_owned(), refusal())),
            (Answer::Failed(refusal()), "failed", Move::Failed("r".to_owned(), refusal())),
        ] {
            for mut lifecycle in [Lifecycle::default(), holding()] {
                lifecycle.asked_for(asked("r", 1000));
                let moves = lifecycle.advance(at(1000), Some(&answer), seconds(0));
                assert_eq!(moves, std::slice::from_ref(&moved));
                assert_eq!((held(&lifecycle), lifecycle.label(at(1000))), (format!("{label}: No"), label));
                assert!(!lifecycle.wants_request(at(99_999)));
                assert_eq!(lifecycle.advance(at(99_999), None, seconds(0)), []);
                assert_eq!(lifecycle.next_at(at(99_999)), None);
            }
        }
    }

    #[test]
    fn a_request_that_stays_away_is_made_again() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.asked_for(asked("r", 0));
        assert_eq!(lifecycle.advance(at(607), None, seconds(0)), []);
        assert_eq!(lifecycle.advance(at(608), None, seconds(0)), [Move::Lost("r".to_owned())]);
        assert!(lifecycle.wants_request(at(608)));
        let mut lifecycle = holding();
        lifecycle.asked_for(asked("r", 1000));
        assert_eq!(lifecycle.advance(at(1608), None, seconds(0)).first(), Some(&Move::Lost("r".to_owned())));
        assert!(lifecycle.wants_request(at(1608)));
        assert_eq!(held(&lifecycle), "key of first, one");
    }

    #[test]
    fn a_certificate_is_replaced_when_it_is_time() {
        let mut lifecycle = holding();
        assert_eq!((lifecycle.wants_request(at(999)), lifecycle.next_at(at(999))), (false, Some(at(1000))));
        assert_eq!((lifecycle.wants_request(at(1000)), lifecycle.next_at(at(1000))), (true, Some(at(1600))));
        lifecycle.asked_for(asked("second", 1000));
        assert!(!lifecycle.wants_request(at(1001)));
        assert_eq!(held(&lifecycle), "key of first, one");
        let answer = issued("two", 9000, 9999);
        assert_eq!(lifecycle.advance(at(1001), Some(&answer), seconds(0)), [Move::Issued]);
        assert_eq!((held(&lifecycle).as_str(), lifecycle.label(at(1001))), ("key of second, two", "fresh"));
        assert_eq!(lifecycle.next_at(at(1001)), Some(at(9000)));
    }

    #[test]
    fn a_certificate_that_is_not_replaced_is_told_of_once() {
        for has_asked in [false, true] {
            let mut lifecycle = holding();
            if has_asked {
                lifecycle.asked_for(asked("second", 1000));
            }
            let mut pending = |at: Timestamp| {
                (lifecycle.advance(at, Some(&Answer::Pending), seconds(0)), lifecycle.label(at))
            };
            assert_eq!(pending(at(1600)), (vec![], "fresh"));
            assert_eq!(pending(at(1601)), (vec![Move::Overdue], "overdue_for_refresh"));
            assert_eq!(pending(at(5000)), (vec![], "overdue_for_refresh"));
            assert_eq!(pending(at(5001)), (vec![Move::Expired], "expired"));
            assert_eq!(pending(at(6000)), (vec![], "expired"));
            assert_eq!(held(&lifecycle), "key of first, one");
        }
    }
}
