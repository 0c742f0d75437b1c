//! Whether the core is alive: what `/healthz` and the watchdog go by.
//!
//! A driver that waits for an input is well, however long it waits. One that has been busy with its
//! inputs for long is not: a step takes microseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longer than this no round of steps takes, however busy the machine: something in it never ends.
const LONGEST_ROUND: Duration = Duration::from_secs(60);

const WAITING: u64 = 0;
const ENDED: u64 = u64::MAX;

/// The driver's pulse, written by it and read by others.
#[derive(Debug)]
pub(crate) struct Pulse {
    begun: Instant,
    // Waiting, ended, or since when (in milliseconds, plus one) the driver has been at work. No other
    // memory is published with it.
    state: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { begun: Instant::now(), state: AtomicU64::new(WAITING) }
    }
}

impl Pulse {
    /// The driver has something to do.
    pub(crate) fn works(&self) {
        self.state.store(self.now(), Ordering::Relaxed);
    }

    /// The driver waits for something to do.
    pub(crate) fn waits(&self) {
        self.state.store(WAITING, Ordering::Relaxed);
    }

    /// There is no driver any more.
    pub(crate) fn end(&self) {
        self.state.store(ENDED, Ordering::Relaxed);
    }

    /// What is wrong, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_at(self.now())
    }

    /// The same as of another time.
    pub(super) fn check_at(&self, now: u64) -> Result<(), String> {
        match self.state.load(Ordering::Relaxed) {
            WAITING => Ok(()),
            ENDED => Err("the core has ended".to_owned()),
            since => {
                let busy = Duration::from_millis(now.saturating_sub(since));
                if busy <= LONGEST_ROUND {
                    return Ok(());
                }
                Err(format!("the core has been busy with one round for {} s", busy.as_secs()))
            }
        }
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(ENDED - 2) + 1
    }
}

/// Ends the pulse when dropped, also when the driver panics.
pub(crate) struct Beating(pub(crate) std::sync::Arc<Pulse>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_does_not_end_is_ill() {
        let pulse = Pulse::default();
        let minute = 60_000;
        assert_eq!(pulse.check_at(u64::MAX - 1), Ok(()), "waits");
        pulse.state.store(1000, Ordering::Relaxed);
        for (now, is_well) in [(999, true), (1000, true), (1000 + minute, true), (1001 + minute, false)] {
            assert_eq!(pulse.check_at(now).is_ok(), is_well, "{now}");
        }
        pulse.works();
        assert_eq!(pulse.check(), Ok(()));
        pulse.waits();
        assert_eq!(pulse.check_at(u64::MAX - 1), Ok(()));
        drop(Beating(std::sync::Arc::new(Pulse::default())));
        pulse.end();
        assert!(pulse.check().is_err());
    }
}
