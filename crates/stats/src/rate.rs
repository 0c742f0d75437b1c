//! How fast processor time is used: the difference between two samples of a counter.

use std::collections::HashMap;
use std::time::Duration;

/// Samples closer together say more about the kernel's ticks than about the group.
const SHORTEST: Duration = Duration::from_millis(500);
/// A group this young that was not seen before is judged by its whole life. An older one is not: what it
/// did last week is no rate of late.
const YOUNG: Duration = Duration::from_secs(60);

/// The last sample of each group's counter.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: HashMap<String, Last>,
    round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    mono: Duration,
    nanos: u64,
    rate: Option<u64>,
    round: u64,
}

impl Rates {
    /// Takes a sample of a group's processor time in nanoseconds and returns its rate in billionths of a
    /// core since the sample before; `None` as long as there is nothing to compare with. `age` is how long
    /// the group has been there, `mono` the time.
    pub(crate) fn sample(
        &mut self,
        group: &str,
        nanos: u64,
        age: Option<Duration>,
        mono: Duration,
    ) -> Option<u64> {
        let round = self.round;
        let Some(last) = self.last.get_mut(group) else {
            let age = age.filter(|age| (SHORTEST..YOUNG).contains(age));
            let rate = age.map(|age| per_second(nanos, age));
            self.last.insert(group.to_owned(), Last { mono, nanos, rate, round });
            return rate;
        };
        last.round = round;
        let past = mono.saturating_sub(last.mono);
        if let Some(used) = nanos.checked_sub(last.nanos) {
            if past < SHORTEST {
                return last.rate;
            }
            last.rate = Some(per_second(used, past));
        } else {
            // Another group of the same name.
            last.rate = None;
        }
        (last.nanos, last.mono) = (nanos, mono);
        last.rate
    }

    /// Ends a round in which every group was to be sampled: those that were not are forgotten.
    pub(crate) fn end_round(&mut self) {
        let round = self.round;
        self.last.retain(|_, last| last.round == round);
        self.round += 1;
    }
}

fn per_second(nanos: u64, past: Duration) -> u64 {
    let rate = u128::from(nanos) * 1_000_000_000 / past.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_A_CORE: Option<u64> = Some(500_000_000);

    #[test]
    fn rates_follow_from_two_samples() {
        let mut rates = Rates::default();
        let at = Duration::from_secs;
        let old = Some(at(3600));
        let second = 1_000_000_000;
        for (case, nanos, age, mono, expected) in [
            ("nothing to compare with", 100 * second, old, at(10), None),
            ("five seconds in ten", 105 * second, old, at(20), HALF_A_CORE),
            ("too soon: as before", 106 * second, old, at(20) + Duration::from_millis(100), HALF_A_CORE),
            ("idle since", 105 * second, old, at(30), Some(0)),
            ("made anew", second, Some(at(100)), at(40), None),
            ("and compared again", 2 * second, old, at(42), HALF_A_CORE),
        ] {
            assert_eq!(rates.sample("/g", nanos, age, mono), expected, "{case}");
        }
    }

    #[test]
    fn the_young_are_judged_by_their_life() {
        let mut rates = Rates::default();
        let ages = [(2, HALF_A_CORE), (0, None), (60, None)];
        for (n, (age, expected)) in ages.into_iter().enumerate() {
            let age = Duration::from_secs(age);
            let nanos = u64::try_from(age.as_nanos() / 2).unwrap();
            assert_eq!(rates.sample(&n.to_string(), nanos, Some(age), Duration::from_secs(99)), expected);
        }
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut rates = Rates::default();
        rates.sample("/a", 1, None, Duration::ZERO);
        rates.sample("/b", 1, None, Duration::ZERO);
        rates.end_round();
        rates.sample("/a", 2, None, Duration::from_secs(1));
        rates.end_round();
        assert_eq!(rates.last.keys().collect::<Vec<_>>(), ["/a"]);
    }
}
