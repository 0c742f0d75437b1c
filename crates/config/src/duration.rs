//! Durations as Go writes them: `1m30s`, `100ms`, `0s`, `-1.5h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A span of time with a sign, exact to the nanosecond, as Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration {
    nanos: i64,
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: want numbers with units, such as 1h30m, 10s or 100ms")]
pub struct ParseDurationError {
    text: String,
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self { nanos: 0 };

    /// A whole number of nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// A whole number of milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis * 1_000_000 }
    }

    /// A whole number of seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self { nanos: seconds * 1_000_000_000 }
    }

    /// The nanoseconds it lasts.
    pub const fn nanos(self) -> i64 {
        self.nanos
    }

    /// The same as an unsigned duration; a negative one counts as zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

impl FromStr for GoDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(|nanos| Self { nanos }).ok_or_else(|| ParseDurationError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(amount(number, i128::from(scale))?)?;
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return None;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// `number` times `scale`, cut off below one nanosecond as Go does.
fn amount(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let units: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Eighteen places are finer than a nanosecond even for hours.
    let digits = fraction.get(..fraction.len().min(18))?;
    let part: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let places = u32::try_from(digits.len()).ok()?;
    units.checked_mul(scale)?.checked_add(part.checked_mul(scale)? / 10_i128.pow(places))
}

impl fmt::Display for GoDuration {
    /// Go's shortest form: `1h0m0s`, `1m30s`, `1.5s`, `100ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        write!(f, "{sign}{}", golang::duration::text(Duration::from_nanos(self.nanos.unsigned_abs())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_as_go_does() {
        for (text, nanos, written) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("100ms", 100_000_000, "100ms"),
            ("1500us", 1_500_000, "1.5ms"),
            ("2\u{b5}s", 2_000, "2\u{b5}s"),
            ("7ns", 7, "7ns"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("1.25s", 1_250_000_000, "1.25s"),
            ("-1.5h", -5_400_000_000_000, "-1h30m0s"),
            ("+5s", 5_000_000_000, "5s"),
            ("2562047h47m16.854775807s", i64::MAX, "2562047h47m16.854775807s"),
        ] {
            let parsed: GoDuration = text.parse().unwrap();
            assert_eq!((parsed.nanos(), parsed.to_string().as_str()), (nanos, written), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "-", "5", "s", "1x", "1 s", ".s", "1..2s", "2562048h", "1m30", "--1s", "1S"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,24}") {
            let _ = text.parse::<GoDuration>();
        }

        #[test]
        fn reads_what_it_writes(nanos in proptest::num::i64::ANY) {
            proptest::prop_assume!(nanos != i64::MIN);
            let duration = GoDuration::from_nanos(nanos);
            proptest::prop_assert_eq!(duration.to_string().parse::<GoDuration>().unwrap(), duration);
        }
    }
}
