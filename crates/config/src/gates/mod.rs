//! Feature gates: which exist, and which of them are on.

mod table;

use std::collections::BTreeMap;

use crate::finding::{Finding, Findings};
use crate::similar;

/// How mature the feature behind a gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off unless asked for.
    Alpha,
    /// Usually on.
    Beta,
    /// Always meant to be on; the gate is about to go.
    Ga,
    /// The behaviour behind the gate is about to go.
    Deprecated,
}

impl Stage {
    /// As the metric `kubernetes_feature_enabled` writes it: GA has no name there.
    pub fn as_metric_label(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
            Self::Ga => "",
            Self::Deprecated => "DEPRECATED",
        }
    }
}

/// One gate as upstream's v1.37 defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name, such as `NodeSwap`.
    pub name: &'static str,
    /// Its maturity.
    pub stage: Stage,
    /// Whether it is on unless something else is asked for.
    pub default: bool,
    /// Whether it must stay at its default.
    pub locked: bool,
}

/// The state of every gate. A plain value: nothing in this program looks gates up elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    /// The gates that differ from their default, or were set to it.
    set: BTreeMap<&'static str, bool>,
}

impl FeatureGates {
    /// Whether a gate is on. A gate that does not exist is off.
    pub fn enabled(&self, name: &str) -> bool {
        match (self.set.get(name), spec(name)) {
            (Some(value), _) => *value,
            (None, Some(spec)) => spec.default,
            (None, None) => false,
        }
    }

    /// Every gate with its state, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Spec, bool)> {
        table::GATES.iter().map(|spec| (spec, self.set.get(spec.name).copied().unwrap_or(spec.default)))
    }

    /// Applies what a configuration sets. `AllAlpha` and `AllBeta` come first, whatever the order,
    /// so that a gate set by name wins over them.
    pub(crate) fn from_settings<'a>(
        settings: impl Iterator<Item = (&'a str, bool)>,
        findings: &mut Findings,
    ) -> Self {
        let mut gates = Self::default();
        let mut single = Vec::new();
        for (name, value) in settings {
            match spec(name) {
                None => findings.push(unknown(name)),
                Some(spec) if spec.locked && spec.default != value => findings.push(Finding::error(
                    format!("featureGates[{name}]"),
                    format!(
                        "cannot set feature gate {name} to {value}, feature is locked to {}",
                        spec.default
                    ),
                )),
                Some(spec) => match name {
                    "AllAlpha" => gates.set_stage(Stage::Alpha, value),
                    "AllBeta" => gates.set_stage(Stage::Beta, value),
                    _ => single.push((spec.name, value)),
                },
            }
        }
        gates.set.extend(single);
        gates
    }

    fn set_stage(&mut self, stage: Stage, value: bool) {
        let gates = table::GATES.iter().filter(|spec| spec.stage == stage && !spec.locked);
        self.set.extend(gates.map(|spec| (spec.name, value)));
    }
}

fn spec(name: &str) -> Option<&'static Spec> {
    let index = table::GATES.binary_search_by(|spec| spec.name.cmp(name)).ok()?;
    table::GATES.get(index)
}

fn unknown(name: &str) -> Finding {
    let finding =
        Finding::error(format!("featureGates[{name}]"), format!("unrecognized feature gate: {name}"));
    if table::REMOVED.contains(&name) {
        return finding
            .hint("it was removed in v1.37: what it switched on is now always on; delete the setting");
    }
    match similar::nearest(name, table::GATES.iter().map(|spec| spec.name)) {
        Some(near) => finding.hint(format!("did you mean {near}?")),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(settings: &[(&str, bool)]) -> (FeatureGates, Vec<Finding>) {
        let mut findings = Findings::default();
        let gates = FeatureGates::from_settings(settings.iter().copied(), &mut findings);
        (gates, findings.into_list())
    }

    #[test]
    fn the_table_is_sorted_and_has_no_repetition() {
        assert!(table::GATES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn defaults_apply_unless_set() {
        let (gates, findings) = gates(&[("ContainerStopSignals", true), ("EnvFiles", false)]);
        assert_eq!(findings, []);
        for (name, expected) in [
            ("ContainerStopSignals", true),
            ("EnvFiles", false),
            ("MemoryQoS", true),
            ("EventedPLEG", false),
            ("NoSuchGate", false),
        ] {
            assert_eq!(gates.enabled(name), expected, "{name}");
        }
    }

    #[test]
    fn a_single_gate_wins_over_a_whole_stage() {
        let (gates, findings) = gates(&[("EventedPLEG", false), ("AllAlpha", true)]);
        assert_eq!(findings, []);
        assert!(!gates.enabled("EventedPLEG"));
        assert!(gates.enabled("ContainerStopSignals"));
    }

    #[test]
    fn refuses_unknown_and_locked_gates() {
        let (_, findings) = gates(&[
            ("NodeSwaps", true),
            ("NodeSwap", false),
            ("NodeSwap", true),
            ("SidecarContainers", true),
        ]);
        let texts: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "featureGates[NodeSwaps]: unrecognized feature gate: NodeSwaps (did you mean NodeSwap?)",
                "featureGates[NodeSwap]: cannot set feature gate NodeSwap to false, feature is locked to true",
                "featureGates[SidecarContainers]: unrecognized feature gate: SidecarContainers (it was removed in \
                 v1.37: what it switched on is now always on; delete the setting)",
            ]
        );
    }
}
