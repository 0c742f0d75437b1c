//! Time as an argument: nothing below the binary reads a clock.

use std::time::Duration;

use jiff::Timestamp;

/// One reading of both clocks. Deadlines are computed on the monotonic one, so that a wall
/// clock that jumps neither fires nor starves them; what users read is written from the wall one.
/// Where a deadline counts from a time that only the API server or the runtime has noted (the start
/// of a pod or container, the end of one), a jump does move it ([`Now::since_wall`]), as it moves
/// upstream's.
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

/// A duration as Go prints it: `1.5s`, `250ms`, `1m30s`. Texts that users compare carry it.
pub fn go_duration(duration: std::time::Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let fraction = |value: u128, unit: u128, name: &str| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() || digits == 0 {
            format!("{whole}{name}")
        } else {
            format!("{whole}.{rest}{name}")
        }
    };
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => rest,
                (0, m) => format!("{m}m{rest}"),
                (h, m) => format!("{h}h{m}m{rest}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (2_000_000_001, "2.000000001s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }
}
