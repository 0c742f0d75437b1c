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

/// The driver's sync_loop, written by it and read by others.
#[derive(Debug)]
pub(crate) struct SyncLoopHealth {
    begun: Instant,
    // Waiting, ended, or since when (in milliseconds, plus one) the driver has been at work. No other
    // memory is published with it.
    state: AtomicU64,
}

impl Default for SyncLoopHealth {
    fn default() -> Self {
        Self { begun: Instant::now(), state: AtomicU64::new(WAITING) }
    }
}

impl SyncLoopHealth {
    /// The driver has something to do.
    pub(crate) fn begin_round(&self) {
        self.state.store(self.now(), Ordering::Relaxed);
    }

    /// The driver waits for something to do.
    pub(crate) fn end_round(&self) {
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
    pub(crate) fn check_at(&self, now: u64) -> Result<(), String> {
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

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(ENDED - 2) + 1
    }
}

/// Ends the sync_loop when dropped, also when the driver panics.
pub(crate) struct MarkEndedOnDrop(pub(crate) std::sync::Arc<SyncLoopHealth>);

impl Drop for MarkEndedOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_does_not_end_is_ill() {
        let sync_loop = SyncLoopHealth::default();
        let minute = 60_000;
        assert_eq!(sync_loop.check_at(u64::MAX - 1), Ok(()), "waits");
        sync_loop.state.store(1000, Ordering::Relaxed);
        for (now, is_well) in [(999, true), (1000, true), (1000 + minute, true), (1001 + minute, false)] {
            assert_eq!(sync_loop.check_at(now).is_ok(), is_well, "{now}");
        }
        sync_loop.begin_round();
        assert_eq!(sync_loop.check(), Ok(()));
        sync_loop.end_round();
        assert_eq!(sync_loop.check_at(u64::MAX - 1), Ok(()));
        drop(MarkEndedOnDrop(std::sync::Arc::new(SyncLoopHealth::default())));
        sync_loop.end();
        assert!(sync_loop.check().is_err());
    }
}
