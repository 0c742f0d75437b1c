//! Time as an argument: nothing below the binary reads a clock.

use std::time::Duration;

use jiff::Timestamp;

/// One reading of both clocks. Deadlines are computed on the monotonic one, so that a wall
/// clock that jumps neither fires nor starves them; what users read is written from the wall one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall-clock time, for status fields and events.
    pub wall: Timestamp,
    /// Time since an arbitrary fixed point, never going back. All deadlines are on this scale.
    pub mono: Duration,
}

impl Now {
    /// The monotonic instant `delay` from now.
    pub fn after(self, delay: Duration) -> Duration {
        self.mono.saturating_add(delay)
    }

    /// How long ago `wall` was; zero when it lies in the future.
    pub fn since_wall(self, wall: Timestamp) -> Duration {
        Duration::try_from(self.wall.duration_since(wall)).unwrap_or_default()
    }
}

/// Cuts a time to whole seconds, the precision of every `metav1.Time` the API server stores.
/// Comparing an uncut time with one that came back would see a change where there is none.
pub fn to_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
