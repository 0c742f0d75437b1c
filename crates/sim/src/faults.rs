//! Fault injection: which faults a history has, and how often. Each history draws its own mix, so that some are
//! all about one kind of fault and some about none.

use std::time::Duration;

use crate::rng::SimRng;

/// The mix of one history; numbers are percentages unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultProfile {
    /// An action fails and has done nothing.
    pub(crate) fails: u32,
    /// An action fails and has taken effect.
    pub(crate) fails_after: u32,
    /// An action fails, and takes effect after that.
    pub(crate) fails_before_effect: u32,
    /// An action takes up to two minutes.
    pub(crate) hangs: u32,
    /// A cancelled action takes effect all the same, later.
    pub(crate) outlives_cancel: u32,
    /// A hint is lost.
    pub(crate) hint_lost: u32,
    /// A hint is repeated.
    pub(crate) hint_repeated: u32,
    /// A watch breaks and lists again, at every change.
    pub(crate) relists: u32,
    /// A watch event is repeated.
    pub(crate) watch_repeated: u32,
    /// A regular container ends by itself.
    pub(crate) exits: u32,
    /// … with an error.
    pub(crate) crashes: u32,
    /// A probe fails.
    pub(crate) probe_fails: u32,
    /// A hook fails.
    pub(crate) hook_fails: u32,
    /// How many sandboxes die.
    pub(crate) sandbox_deaths: u32,
    /// How often the node agent restarts.
    pub(crate) restarts: u32,
    /// It takes a process up to forty seconds to find what earlier ones have left.
    pub(crate) slow_starts: u32,
    /// How often the runtime is away.
    pub(crate) runtime_outages: u32,
    /// How often the API server is away.
    pub(crate) api_outages: u32,
    /// How often the node's clock is set to another time, forth or back.
    pub(crate) clock_jumps: u32,
    /// How often the disk is full.
    pub(crate) disk_outages: u32,
    /// A state file is damaged when the node agent restarts.
    pub(crate) file_damaged: u32,
    /// The node agent is killed at the write of a state file, or at a call of a driver of volumes.
    pub(crate) killed_at_write: u32,
    /// How often a plugin comes, goes or is made anew.
    pub(crate) plugin_changes: u32,
    /// What the controller says of attached volumes is lost for a moment.
    pub(crate) attachments_lost: u32,
    /// How often others use more, or less, of memory and disk.
    pub(crate) pressure_changes: u32,
    /// Milliseconds an action takes at most when nothing is wrong.
    pub(crate) slowness: u32,
    /// How long faults are injected.
    pub(crate) lasts: Duration,
}

impl FaultProfile {
    /// The mix of a history.
    pub(crate) fn of_history(rng: &mut SimRng) -> Self {
        let some = |c: &mut SimRng, max: u32| if c.percent(50) { 0 } else { c.number(1, max) };
        Self {
            fails: some(rng, 25),
            fails_after: some(rng, 20),
            fails_before_effect: some(rng, 10),
            hangs: some(rng, 6),
            outlives_cancel: some(rng, 60),
            hint_lost: some(rng, 60),
            hint_repeated: some(rng, 30),
            relists: some(rng, 15),
            watch_repeated: some(rng, 30),
            exits: some(rng, 70),
            crashes: some(rng, 90),
            probe_fails: some(rng, 40),
            hook_fails: some(rng, 30),
            sandbox_deaths: some(rng, 4),
            restarts: some(rng, 4),
            slow_starts: some(rng, 60),
            runtime_outages: some(rng, 2),
            api_outages: some(rng, 2),
            clock_jumps: some(rng, 2),
            disk_outages: some(rng, 2),
            file_damaged: some(rng, 40),
            killed_at_write: some(rng, 20),
            plugin_changes: some(rng, 6),
            attachments_lost: some(rng, 30),
            pressure_changes: if rng.percent(70) { 0 } else { rng.number(1, 8) },
            slowness: if rng.percent(50) { 50 } else { rng.number(1, 3000) },
            lasts: Duration::from_secs(u64::from(rng.number(10, 120))),
        }
    }

    /// No faults: what a history ends with.
    pub(crate) fn none() -> Self {
        Self { slowness: 50, ..Self::default() }
    }
}
