//! Versions of plugins' interfaces: two or more numbers with dots between them, and anything after that.

use std::cmp::Ordering;
use std::fmt;

use golang::quote::quoted;
use serde::{Deserialize, Serialize};

/// A version. What stands after its numbers does not count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Version(Vec<u64>);

impl Version {
    /// Reads one.
    ///
    /// # Errors
    /// Upstream's text.
    fn parse(text: &str) -> Result<Self, String> {
        let unparsed = || format!("could not parse {} as version", quoted(text));
        let rest = text.trim_start_matches([' ', '\t', '\n', '\x0c', '\r']);
        let rest = rest.strip_prefix('v').unwrap_or(rest);
        let mut numbers = Vec::new();
        let mut left = rest;
        loop {
            let end = left.find(|c: char| !c.is_ascii_digit()).unwrap_or(left.len());
            let (digits, after) = left.split_at(end);
            if digits.is_empty() {
                break;
            }
            numbers.push(digits);
            left = after;
            // A dot without a number after it belongs to what does not count.
            match after.strip_prefix('.').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        if numbers.is_empty() || left.contains('\n') {
            return Err(unparsed());
        }
        if numbers.len() < 2 {
            return Err(format!("illegal version string {}", quoted(text)));
        }
        if numbers[0].len() > 1 && numbers[0].starts_with('0') {
            let (part, text) = (quoted(numbers[0]), quoted(text));
            return Err(format!("illegal zero-prefixed version component {part} in {text}"));
        }
        let number = |digits: &&str| {
            digits.parse().map_err(|_| {
                let (part, text) = (quoted(digits), quoted(text));
                format!(
                    "illegal non-numeric version component {part} in {text}: strconv.ParseUint: parsing {part}: value \
                     out of range"
                )
            })
        };
        numbers.iter().map(number).collect::<Result<_, _>>().map(Self)
    }

    fn major(&self) -> u64 {
        self.0.first().copied().unwrap_or_default()
    }

    /// Without zeros at the end: `1.0` is `1.0.0`.
    fn significant(&self) -> &[u64] {
        let end = self.0.iter().rposition(|number| *number != 0).map_or(0, |last| last + 1);
        &self.0[..end]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if index > 0 { "." } else { "" })?;
        }
        Ok(())
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.significant().cmp(other.significant())
    }
}

/// The highest version below 2 of those that a plugin names, which has to be 1 or higher.
///
/// # Errors
/// There is none; upstream's text.
pub(crate) fn highest_supported(versions: &[String]) -> Result<Version, String> {
    let (mut highest, mut last_error): (Option<Version>, _) = (None, None);
    for text in versions.iter().rev() {
        match Version::parse(text) {
            Ok(version) if version.major() > 1 => {}
            Ok(version) if highest.as_ref().is_some_and(|known| *known >= version) => {}
            Ok(version) => highest = Some(version),
            Err(error) => last_error = Some(error),
        }
    }
    let Some(highest) = highest else {
        return Err(format!(
            "could not find a highest supported version from versions ([{}]) reported: {}",
            versions.join(" "),
            last_error.as_deref().unwrap_or("<nil>")
        ));
    };
    if highest.major() != 1 {
        return Err(format!("highest supported version reported is {highest}, must be v1.x"));
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn highest(versions: &[&str]) -> Result<String, String> {
        let versions: Vec<String> = versions.iter().map(|text| (*text).to_owned()).collect();
        highest_supported(&versions).map(|version| version.to_string())
    }

    #[test]
    fn the_highest_below_two_counts() {
        for (versions, expected) in [
            (&["1.0.0"][..], "1.0.0"),
            (&["v1.2", "1.1.0"], "1.2"),
            (&["1.0", "2.0.0", "1.10.0", "1.9.0"], "1.10.0"),
            (&["0.3.0", "1.0.0"], "1.0.0"),
            (&[" 1.0.0-rc1", "nothing"], "1.0.0"),
            (&["1.5.x"], "1.5"),
            (&["1.0", "1.0.0"], "1.0.0"),
        ] {
            assert_eq!(highest(versions).as_deref(), Ok(expected), "{versions:?}");
        }
    }

    #[test]
    fn what_is_no_version_is_told_in_upstreams_words() {
        let none = |text: &str, why: &str| {
            format!("could not find a highest supported version from versions ([{text}]) reported: {why}")
        };
        for (versions, expected) in [
            (&["2.0.0"][..], none("2.0.0", "<nil>")),
            (&["x", "2.0.0"], none("x 2.0.0", "could not parse \"x\" as version")),
            (&["1"], none("1", "illegal version string \"1\"")),
            (&["1."], none("1.", "illegal version string \"1.\"")),
            (&["01.2"], none("01.2", "illegal zero-prefixed version component \"01\" in \"01.2\"")),
            (&["v"], none("v", "could not parse \"v\" as version")),
            (&["1.0\nx"], none("1.0\nx", "could not parse \"1.0\\nx\" as version")),
            (
                &["1.99999999999999999999"],
                none(
                    "1.99999999999999999999",
                    "illegal non-numeric version component \"99999999999999999999\" in \"1.99999999999999999999\": \
                     strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
                ),
            ),
            (&["0.3.0", "0.2"], "highest supported version reported is 0.3.0, must be v1.x".to_owned()),
        ] {
            assert_eq!(highest(versions), Err(expected), "{versions:?}");
        }
    }

    #[test]
    fn zeros_at_the_end_make_no_difference() {
        let version = |text: &str| Version::parse(text).unwrap();
        assert_eq!(version("1.0"), version("1.0.0"));
        assert!(version("1.0") < version("1.0.1"));
        assert!(version("1.2") < version("1.10"));
        assert!(version("1.2.0") > version("1.1.9"));
    }
}
