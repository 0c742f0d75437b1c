//! The policy of image garbage collection: how full the file system of images may get, and how young or old an image may be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pressure::Amount;

/// When images are removed that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageGcPolicy {
    /// From which usage on space is freed, percent (`imageGCHighThresholdPercent`).
    pub high_percent: u8,
    /// Down to which usage it is, percent (`imageGCLowThresholdPercent`).
    pub low_percent: u8,
    /// Younger images stay when space is freed (`imageMinimumGCAge`): they may have been pulled for a pod to come.
    pub minimum_age: Duration,
    /// Images that nobody has used for longer go, space or not (`imageMaximumGCAge`); `None` for no such age.
    pub maximum_age: Option<Duration>,
}

/// Upstream's defaults.
impl Default for ImageGcPolicy {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, minimum_age: Duration::from_secs(120), maximum_age: None }
    }
}

/// What is to be done about a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Excess {
    /// How much of it is used, percent.
    pub(super) used_percent: u64,
    /// All of it, bytes.
    pub(super) capacity: u64,
    /// How much to free, bytes.
    pub(super) bytes: u64,
}

impl ImageGcPolicy {
    /// Whether nothing is ever removed, which is how upstream is told so.
    pub(super) fn is_off(&self) -> bool {
        self.high_percent >= 100 && self.maximum_age.is_none()
    }

    /// What is too much on a file system; `None` when nothing is.
    pub(super) fn excess(&self, file_system: Amount) -> Option<Excess> {
        let used_percent = used_percent(file_system)?;
        if used_percent < u64::from(self.high_percent) {
            return None;
        }
        let capacity = file_system.capacity;
        let wanted = u128::from(capacity) * u128::from(100 - self.low_percent.min(100)) / 100;
        let bytes = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(file_system.available);
        Some(Excess { used_percent, capacity, bytes })
    }
}

/// Upstream's arithmetic, which rounds usage up; `None` without any capacity.
fn used_percent(Amount { available, capacity }: Amount) -> Option<u64> {
    let free = u128::from(available.min(capacity)) * 100;
    let free_percent = free.checked_div(u128::from(capacity))?;
    Some(100 - u64::try_from(free_percent).unwrap_or(100))
}

/// A size as upstream's messages have it.
pub(super) fn size_text(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match UNITS.into_iter().find(|(bits, _)| bytes >> bits > 0) {
        #[allow(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
        Some((bits, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << bits) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's `TestGarbageCollectBelowLowThreshold`, `…CadvisorFailure`, `…BelowSuccess`, `…NotEnoughFreed` and
    /// `TestGarbageCollectImageNotOldEnough` have policies of 90 and 80 percent and a disk of 1,000 bytes.
    #[test]
    fn usage_is_rounded_up() {
        let policy = ImageGcPolicy { high_percent: 90, low_percent: 80, ..ImageGcPolicy::default() };
        let excess = |available, capacity| {
            policy.excess(Amount { available, capacity }).map(|excess| (excess.used_percent, excess.bytes))
        };
        for (available, capacity, expected) in [
            (600, 1000, None),
            (110, 1000, None),
            // 89.1 percent are used.
            (109, 1000, Some((90, 91))),
            (50, 1000, Some((95, 150))),
            (0, 1000, Some((100, 200))),
            // More than there is counts as all of it.
            (2000, 1000, None),
            (0, 0, None),
            (0, u64::MAX, Some((100, u64::MAX / 5))),
        ] {
            assert_eq!(excess(available, capacity), expected, "{available} of {capacity}");
        }
    }

    #[test]
    fn a_threshold_of_all_and_no_age_turn_it_off() {
        let policy = |high_percent, maximum_age| ImageGcPolicy {
            high_percent,
            maximum_age,
            ..ImageGcPolicy::default()
        };
        assert!(policy(100, None).is_off());
        assert!(!policy(99, None).is_off());
        assert!(!policy(100, Some(Duration::from_secs(1))).is_off());
    }

    /// Upstream's `TestFormatSize`.
    #[test]
    fn sizes_are_upstreams() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 29, "2.5 GiB"),
            (1 << 40, "1.0 TiB"),
            (3 << 50, "3072.0 TiB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
