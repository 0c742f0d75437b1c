//! The two kinds of waiting before trying again.

use std::time::Duration;

use jiff::Timestamp;
use model::Now;
use serde::{Deserialize, Serialize};

/// The delays of a back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// The first one.
    pub initial: Duration,
    /// Upper bound, which may be below the first one.
    pub max: Duration,
}

impl Delays {
    /// Of image pulls, and of restarts where nothing else is configured.
    pub const USUAL: Self = Self { initial: Duration::from_secs(10), max: Duration::from_secs(300) };
}

/// How long nothing has to go wrong for the back-off to begin anew, whatever its maximum.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Upstream's keyed back-off (`client-go/util/flowcontrol`), for restarts and pulls: doubles
/// with every use, and forgets after ten minutes without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backoff {
    entry: Option<(Duration, Duration)>,
}

impl Backoff {
    /// When an attempt that follows an end at `ended_at` may begin; `None` for at once.
    pub(crate) fn wait_until(&self, ended_at: Timestamp, now: Now) -> Option<Duration> {
        let (delay, updated) = self.entry?;
        let waited = now.since_wall(ended_at);
        if now.mono.saturating_sub(waited).saturating_sub(updated) > FORGOTTEN_AFTER {
            return None;
        }
        (waited < delay).then(|| now.after(delay - waited))
    }

    /// The current delay.
    pub(crate) fn delay(&self) -> Duration {
        self.entry.map_or(Duration::ZERO, |(delay, _)| delay)
    }

    /// Notes that an attempt is made now, for the sake of the next one.
    pub(crate) fn advance(&mut self, ran_until: Timestamp, delays: Delays, now: Now) {
        // Upstream compares the end of the last run with the last use: a container that ran
        // longer than ten minutes starts over with the initial delay.
        let ended = now.mono.saturating_sub(now.since_wall(ran_until));
        let delay = match self.entry {
            Some((delay, updated)) if ended.saturating_sub(updated) <= FORGOTTEN_AFTER => {
                (delay * 2).min(delays.max)
            }
            _ => delays.initial.min(delays.max),
        };
        self.entry = Some((delay, now.mono));
    }
}

/// A step that failed and is tried again with growing pauses. Explains the wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retry {
    /// When it first failed, monotonic.
    pub(crate) since: Duration,
    /// How often in a row.
    pub(crate) failures: u32,
    /// The last error.
    pub(crate) error: String,
    /// When it is tried next, monotonic.
    pub(crate) next_at: Duration,
}

/// The pauses of a [`Retry`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    /// After the first failure.
    pub(crate) initial: Duration,
    /// At most.
    pub(crate) max: Duration,
}

impl Pauses {
    /// Volume operations, as upstream's exponential back-off per volume.
    pub(crate) const VOLUMES: Self =
        Self { initial: Duration::from_millis(500), max: Duration::from_secs(122) };
    /// Runtime calls and API writes.
    pub(crate) const CALLS: Self = Self { initial: Duration::from_secs(1), max: Duration::from_secs(10) };
}

impl Retry {
    /// After one more failure.
    pub(crate) fn after(previous: Option<&Self>, error: String, pauses: Pauses, now: Now) -> Self {
        let failures = previous.map_or(0, |p| p.failures).saturating_add(1);
        let pause = pauses.initial.saturating_mul(1 << (failures - 1).min(16)).min(pauses.max);
        Self { since: previous.map_or(now.mono, |p| p.since), failures, error, next_at: now.after(pause) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            wall: Timestamp::from_second(1_000_000 + seconds as i64).unwrap(),
            mono: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn first_restart_is_immediate_then_delays_double_to_the_maximum() {
        for (initial, max, expected) in [
            (10, 300, [0, 10, 20, 40, 80, 160, 300, 300]),
            (1, 60, [0, 1, 2, 4, 8, 16, 32, 60]),
            (10, 3, [0, 3, 3, 3, 3, 3, 3, 3]),
        ] {
            let limits = Delays { initial: Duration::from_secs(initial), max: Duration::from_secs(max) };
            let mut backoff = Backoff::default();
            let mut clock = 100;
            let mut delays = Vec::new();
            for _ in expected {
                let ended = at(clock).wall;
                if let Some(until) = backoff.wait_until(ended, at(clock)) {
                    delays.push(until.as_secs() - clock);
                    clock = until.as_secs();
                } else {
                    delays.push(0);
                }
                backoff.advance(ended, limits, at(clock));
                clock += 1;
            }
            assert_eq!(delays, expected);
        }
    }

    #[test]
    fn a_long_run_forgets_the_delay() {
        let mut backoff = Backoff::default();
        backoff.advance(at(0).wall, Delays::USUAL, at(0));
        backoff.advance(at(20).wall, Delays::USUAL, at(20));
        assert_eq!(backoff.delay(), Duration::from_secs(20));
        assert_eq!(backoff.wait_until(at(700).wall, at(700)), None);
        backoff.advance(at(700).wall, Delays::USUAL, at(700));
        assert_eq!(backoff.delay(), Duration::from_secs(10));
    }

    /// `maxContainerRestartPeriod: 10s` makes no difference to that.
    #[test]
    fn a_small_maximum_forgets_no_sooner() {
        let delays = Delays { max: Duration::from_secs(10), ..Delays::USUAL };
        let mut backoff = Backoff::default();
        backoff.advance(at(0).wall, delays, at(0));
        assert_eq!(backoff.wait_until(at(21).wall, at(21)), Some(Duration::from_secs(31)));
        assert_eq!(backoff.wait_until(at(600).wall, at(600)), Some(Duration::from_secs(610)));
        assert_eq!(backoff.wait_until(at(601).wall, at(601)), None);
    }

    #[test]
    fn retries_remember_since_when() {
        let first = Retry::after(None, "a".into(), Pauses::CALLS, at(5));
        let second = Retry::after(Some(&first), "b".into(), Pauses::CALLS, at(6));
        assert_eq!(
            (second.since, second.failures, second.next_at),
            (Duration::from_secs(5), 2, Duration::from_secs(8))
        );
        let mut many = second;
        for n in 7..40 {
            many = Retry::after(Some(&many), "c".into(), Pauses::CALLS, at(n));
        }
        assert_eq!(many.next_at - Duration::from_secs(39), Pauses::CALLS.max);
    }
}
