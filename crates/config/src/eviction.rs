//! Eviction thresholds: `memory.available: 100Mi`, `nodefs.available: 10%`.

use std::time::Duration;

use model::{Quantity, Signal};

use crate::codec::Dict;
use crate::document::KubeletConfiguration;
use crate::duration::GoDuration;
use crate::finding::{Finding, Findings};

/// How much of it there has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ThresholdValue {
    /// An amount, in bytes, inodes or process ids.
    Amount(Quantity),
    /// A share of the capacity, from 0 to 1.
    Share(f32),
}

/// Evict pods when there is less than this.
#[derive(Clone, Debug, PartialEq)]
pub struct EvictionThreshold {
    /// What is measured.
    pub signal: Signal,
    /// How much is too little.
    pub value: ThresholdValue,
    /// How long it has to be too little; `None` for a hard threshold, which acts at once.
    pub grace: Option<Duration>,
    /// How much more than the threshold an eviction has to free.
    pub minimum_reclaim: Option<ThresholdValue>,
}

/// The thresholds of a document, hard ones first.
pub(crate) fn thresholds(document: &KubeletConfiguration, findings: &mut Findings) -> Vec<EvictionThreshold> {
    let reclaims = reclaims(&document.eviction_minimum_reclaim, findings);
    let graces = graces(&document.eviction_soft_grace_period, findings);
    let reclaim = |signal| reclaims.iter().find(|(known, _)| *known == signal).map(|(_, value)| *value);
    let mut all = Vec::new();
    for (signal, value) in values("evictionHard", &document.eviction_hard, findings) {
        all.push(EvictionThreshold { signal, value, grace: None, minimum_reclaim: reclaim(signal) });
    }
    for (signal, value) in values("evictionSoft", &document.eviction_soft, findings) {
        let Some((_, grace)) = graces.iter().find(|(known, _)| *known == signal) else {
            if document.eviction_soft_grace_period.iter().any(|(name, _)| name == signal.as_str()) {
                // The grace period is there, and its own finding says what is wrong with it.
                continue;
            }
            let path = format!("evictionSoft[{}]", signal.as_str());
            let message =
                format!("grace period must be specified for the soft eviction threshold {}", signal.as_str());
            findings.push(Finding::error(path, message).hint("add it to evictionSoftGracePeriod"));
            continue;
        };
        let grace = Some(*grace);
        all.push(EvictionThreshold { signal, value, grace, minimum_reclaim: reclaim(signal) });
    }
    all
}

fn known(place: &str, name: &str, findings: &mut Findings) -> Option<Signal> {
    let signal = Signal::from_name(name);
    if signal.is_none() {
        let mut finding =
            Finding::error(format!("{place}[{name}]"), format!("unsupported eviction signal {name}"));
        if let Some(near) = crate::similar::nearest(name, Signal::names()) {
            finding = finding.hint(format!("did you mean {near}?"));
        }
        findings.push(finding);
    }
    signal
}

fn values(place: &str, statements: &Dict<String>, findings: &mut Findings) -> Vec<(Signal, ThresholdValue)> {
    let mut all = Vec::new();
    for (name, text) in statements.iter() {
        let Some(signal) = known(place, name, findings) else { continue };
        // Both turn a threshold off.
        if matches!(text.as_str(), "0%" | "100%") {
            continue;
        }
        match value(text).and_then(|value| positive(name, text, value)) {
            Ok(value) => all.push((signal, value)),
            Err(message) => findings.push(Finding::error(format!("{place}[{name}]"), message)),
        }
    }
    all
}

fn positive(name: &str, text: &str, value: ThresholdValue) -> Result<ThresholdValue, String> {
    match value {
        ThresholdValue::Amount(amount) if amount <= Quantity::ZERO => {
            Err(format!("eviction threshold {name} must be positive: {text}"))
        }
        ThresholdValue::Share(share) if share < 0.0 => {
            Err(format!("eviction percentage threshold {name} must be >= 0%: {text}"))
        }
        ThresholdValue::Share(share) if share > 1.0 => {
            Err(format!("eviction percentage threshold {name} must be <= 100%: {text}"))
        }
        value => Ok(value),
    }
}

fn value(text: &str) -> Result<ThresholdValue, String> {
    match text.strip_suffix('%') {
        Some(number) => match number.parse::<f32>() {
            Ok(percent) if percent.is_finite() => Ok(ThresholdValue::Share(percent / 100.0)),
            _ => Err(format!("{text:?} is not a percentage")),
        },
        None => text
            .parse()
            .map(ThresholdValue::Amount)
            .map_err(|error: model::quantity::ParseQuantityError| error.to_string()),
    }
}

fn graces(statements: &Dict<String>, findings: &mut Findings) -> Vec<(Signal, Duration)> {
    let mut all = Vec::new();
    for (name, text) in statements.iter() {
        let Some(signal) = known("evictionSoftGracePeriod", name, findings) else { continue };
        let message = match text.parse::<GoDuration>() {
            Ok(grace) if grace < GoDuration::ZERO => {
                format!("invalid eviction grace period specified: {text}, must be a positive value")
            }
            Ok(grace) => {
                all.push((signal, grace.to_std()));
                continue;
            }
            Err(error) => error.to_string(),
        };
        findings.push(Finding::error(format!("evictionSoftGracePeriod[{name}]"), message));
    }
    all
}

fn reclaims(statements: &Dict<String>, findings: &mut Findings) -> Vec<(Signal, ThresholdValue)> {
    let mut all = Vec::new();
    for (name, text) in statements.iter() {
        let Some(signal) = known("evictionMinimumReclaim", name, findings) else { continue };
        let message = match value(text) {
            Ok(ThresholdValue::Share(share)) if share <= 0.0 => {
                format!("eviction percentage minimum reclaim {name} must be positive: {text}")
            }
            Ok(ThresholdValue::Amount(amount)) if amount < Quantity::ZERO => {
                format!("negative eviction minimum reclaim specified for {name}")
            }
            Ok(value) => {
                all.push((signal, value));
                continue;
            }
            Err(message) => message,
        };
        findings.push(Finding::error(format!("evictionMinimumReclaim[{name}]"), message));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(entries: &[(&str, &str)]) -> Dict<String> {
        let each = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Dict(Some(each.collect()))
    }

    #[test]
    fn reads_hard_and_soft_thresholds() {
        let document = KubeletConfiguration {
            eviction_hard: dict(&[("memory.available", "100Mi"), ("nodefs.available", "0%")]),
            eviction_soft: dict(&[("nodefs.available", "25%")]),
            eviction_soft_grace_period: dict(&[("nodefs.available", "1m30s")]),
            eviction_minimum_reclaim: dict(&[("memory.available", "50Mi")]),
            ..KubeletConfiguration::default()
        };
        let mut findings = Findings::default();
        let all = thresholds(&document, &mut findings);
        assert!(!findings.has_errors());
        assert_eq!(
            all,
            [
                EvictionThreshold {
                    signal: Signal::Memory,
                    value: ThresholdValue::Amount(Quantity::from_units(100 << 20)),
                    grace: None,
                    minimum_reclaim: Some(ThresholdValue::Amount(Quantity::from_units(50 << 20))),
                },
                EvictionThreshold {
                    signal: Signal::NodeFs,
                    value: ThresholdValue::Share(0.25),
                    grace: Some(Duration::from_secs(90)),
                    minimum_reclaim: None,
                },
            ]
        );
    }

    #[test]
    fn names_every_mistake() {
        let document = KubeletConfiguration {
            eviction_hard: dict(&[
                ("memory.avail", "1Gi"),
                ("memory.available", "0"),
                ("nodefs.available", "101%"),
                ("nodefs.inodesFree", "x%"),
                ("pid.available", "1Gib"),
            ]),
            eviction_soft: dict(&[("imagefs.available", "5%"), ("memory.available", "1Gi")]),
            eviction_soft_grace_period: dict(&[("memory.available", "-5s")]),
            eviction_minimum_reclaim: dict(&[("memory.available", "0%")]),
            ..KubeletConfiguration::default()
        };
        let mut findings = Findings::default();
        thresholds(&document, &mut findings);
        let paths: Vec<_> = findings.into_list().into_iter().map(|finding| finding.path).collect();
        assert_eq!(
            paths,
            [
                "evictionMinimumReclaim[memory.available]",
                "evictionSoftGracePeriod[memory.available]",
                "evictionHard[memory.avail]",
                "evictionHard[memory.available]",
                "evictionHard[nodefs.available]",
                "evictionHard[nodefs.inodesFree]",
                "evictionHard[pid.available]",
                "evictionSoft[imagefs.available]",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,16}%?") {
            let _ = value(&text);
        }
    }
}
