//! Time as an argument: nothing below the binary reads a clock.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One reading of both clocks. Deadlines are computed on the monotonic one, so that a wall
/// clock that jumps neither fires nor starves them; what users read is written from the wall one.
/// Where a deadline counts from a time that only the API server or the runtime has noted (the start
/// of a pod or container, the end of one), a jump does move it ([`Now::since_wall`]), as it moves
/// upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    /// How long ago `wall` was; zero when it lies in the future. Wrong by as much as the wall clock
    /// jumped since.
    pub fn since_wall(self, wall: Timestamp) -> Duration {
        Duration::try_from(self.wall.duration_since(wall)).unwrap_or_default()
    }
}

/// Cuts a time to whole seconds, the precision of every `metav1.Time` the API server stores.
/// Comparing an uncut time with one that came back would see a change where there is none.
pub fn to_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
