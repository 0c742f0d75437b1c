//! Feature gates: which exist, and which of them are on.

mod consulted;
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
    /// Gates that must be on when this one is.
    pub depends_on: &'static [&'static str],
}

/// Every gate there is, by name.
pub fn all() -> &'static [Spec] {
    table::GATES
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

    /// Whether somebody turned a gate off, which says more than that it is off unless asked for.
    pub fn is_turned_off(&self, name: &str) -> bool {
        self.set.get(name) == Some(&false)
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
        gates.check_dependencies(findings);
        gates
    }

    /// A gate that is on needs those it depends on.
    fn check_dependencies(&self, findings: &mut Findings) {
        for spec in table::GATES.iter().filter(|spec| self.enabled(spec.name)) {
            let missing: Vec<&str> =
                spec.depends_on.iter().copied().filter(|other| !self.enabled(other)).collect();
            if !missing.is_empty() {
                let message = format!("is on, but depends on gates that are off: {}", missing.join(", "));
                findings.push(Finding::error(format!("featureGates[{}]", spec.name), message));
            }
        }
    }

    fn set_stage(&mut self, stage: Stage, value: bool) {
        let gates = table::GATES.iter().filter(|spec| spec.stage == stage && !spec.locked);
        self.set.extend(gates.map(|spec| (spec.name, value)));
    }
}

/// Says of each gate that is set whether it is about to go, and whether it does anything here in the direction in which it
/// is set. What upstream does by itself is no mistake to ask for, but what has to be asked for must not be missing in
/// silence. A feature that is not there is off, whoever turns it off; one that cannot be turned off says so.
pub(crate) fn check_works<'a>(settings: impl Iterator<Item = (&'a str, bool)>, findings: &mut Findings) {
    for (name, value) in settings {
        let path = format!("featureGates[{name}]");
        let passing = match spec(name).map(|spec| spec.stage) {
            Some(Stage::Ga) => Some("is generally available"),
            Some(Stage::Deprecated) => Some("is deprecated"),
            _ => None,
        };
        if let Some(what) = passing {
            let message = format!("{what}: the gate will be removed");
            findings.push(Finding::warning(path.as_str(), message).hint("delete the setting"));
        }
        if !value {
            let held = consulted::ALWAYS_ON.iter().filter(|(gate, _)| *gate == name || name == "AllBeta");
            for (gate, what) in held {
                let message = format!("{gate} cannot be turned off yet: {what} all the same");
                findings.push(Finding::warning(path.as_str(), message));
            }
            continue;
        }
        if matches!(name, "AllAlpha" | "AllBeta") {
            let message = "some of these features are not implemented yet";
            findings.push(Finding::warning(path, message).hint("docs/FEATURE_GATES.md lists them"));
            continue;
        }
        let gate = consulted::CONSULTED.iter().find(|gate| gate.name == name && !gate.works);
        let Some((gate, spec)) = gate.zip(spec(name)) else { continue };
        let message = format!("not implemented yet: {}", gate.effect);
        findings.push(if spec.default {
            Finding::warning(path, message)
        } else {
            Finding::error(path, message).hint("delete the setting")
        });
    }
}

/// The page about the gates the kubelet asks about.
#[cfg(test)]
fn page() -> String {
    use std::fmt::Write as _;

    let mut page = String::from(
        "# Feature gates\n\nThe gates that a kubelet of v1.37 asks about. Every other gate of v1.37 is accepted and has \
         no effect on a node that\ncan be seen, as upstream. Turning on a gate that is off by default and not implemented \
         yet is an error. A feature that\nis not there is off, whether its gate is turned off or not.\n\nA gate that works and can be set names what fails when it is not obeyed, in a real cluster: an \
         end-to-end test.\n\n\
         This page is written by `UPDATE_DOCS=1 cargo test -p config gates`.\n\n\
         | gate | stage | default | works | shown by | about |\n|---|---|---|---|---|---|\n",
    );
    for gate in consulted::CONSULTED {
        let Some(spec) = spec(gate.name) else { continue };
        let stage = match spec.stage {
            Stage::Alpha => "alpha",
            Stage::Beta => "beta",
            Stage::Ga => "GA",
            Stage::Deprecated => "deprecated",
        };
        let default = if spec.default { "on" } else { "off" };
        let locked = if spec.locked { ", locked" } else { "" };
        let test = consulted::TESTS.iter().find(|(name, _)| *name == gate.name).map(|(_, test)| *test);
        let works = if gate.works { "yes" } else { "not yet" };
        let shown = test.map(|scenario| format!("`{scenario}`")).unwrap_or_default();
        let (name, effect) = (gate.name, gate.effect);
        let _ = writeln!(page, "| {name} | {stage} | {default}{locked} | {works} | {shown} | {effect} |");
    }
    page.push_str("\nGates that are on by default and cannot be turned off yet, which is a warning:\n\n");
    for (name, what) in consulted::ALWAYS_ON {
        let _ = writeln!(page, "- {name}: {what}");
    }
    page
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
    use crate::finding::Severity;

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
    fn the_gates_asked_about_exist_and_are_sorted() {
        assert!(consulted::CONSULTED.windows(2).all(|pair| pair[0].name < pair[1].name));
        for gate in consulted::CONSULTED {
            assert!(spec(gate.name).is_some(), "{}", gate.name);
        }
    }

    #[test]
    fn the_gates_with_a_test_are_those_that_work_and_may_be_set() {
        assert!(consulted::TESTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let settable = consulted::CONSULTED.iter().filter(|gate| gate.works).map(|gate| gate.name);
        let settable = settable.filter(|name| spec(name).is_some_and(|spec| !spec.locked));
        let tested: Vec<&str> = consulted::TESTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(settable.collect::<Vec<_>>(), tested);
    }

    #[test]
    fn the_page_about_them_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/FEATURE_GATES.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == page(),
            "docs/FEATURE_GATES.md is old: run UPDATE_DOCS=1 cargo test -p config gates"
        );
    }

    #[test]
    fn turning_on_what_is_not_there_is_loud() {
        let mut findings = Findings::default();
        let settings = [
            ("DRAExtendedResource", true),
            ("DRANodeAllocatableResources", true),
            ("ResourceHealthStatus", true),
            ("CRIListStreaming", false),
            ("EnvFiles", true),
        ];
        check_works(settings.into_iter(), &mut findings);
        let said: Vec<_> = findings.into_list().into_iter().map(|it| (it.severity, it.path)).collect();
        assert_eq!(
            said,
            [
                (Severity::Warning, "featureGates[DRAExtendedResource]".to_owned()),
                (Severity::Warning, "featureGates[DRAExtendedResource]".to_owned()),
                (Severity::Error, "featureGates[DRANodeAllocatableResources]".to_owned()),
                (Severity::Warning, "featureGates[ResourceHealthStatus]".to_owned()),
            ]
        );
    }

    #[test]
    fn what_cannot_be_turned_off_says_so() {
        assert!(consulted::ALWAYS_ON.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, _) in consulted::ALWAYS_ON {
            assert!(spec(name).is_some_and(|spec| spec.default && !spec.locked), "{name}");
            assert!(consulted::CONSULTED.iter().all(|gate| gate.name != *name), "{name}");
        }
        let said = |settings: &[(&str, bool)]| {
            let mut findings = Findings::default();
            check_works(settings.iter().copied(), &mut findings);
            findings.into_list().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let why = "cannot be turned off yet: the file with the API server's certificate authorities is read again when it changes all the same";
        assert_eq!(
            said(&[("ClientsAllowCARotation", false)]),
            [format!("featureGates[ClientsAllowCARotation]: ClientsAllowCARotation {why}")]
        );
        assert_eq!(said(&[("ClientsAllowCARotation", true)]), [""; 0]);
        assert_eq!(said(&[("AllBeta", false)]).len(), consulted::ALWAYS_ON.len());
        assert_eq!(said(&[("KubeletSeparateDiskGC", false)]), [""; 0], "obeyed");
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
        // Some alpha gates need others that are off, which `AllAlpha` alone does not turn on.
        let is_about_others = |finding: &Finding| finding.message.contains("depends on gates that are off");
        assert!(findings.iter().all(is_about_others), "{findings:?}");
        assert!(!gates.enabled("EventedPLEG"));
        assert!(gates.enabled("ContainerStopSignals"));
    }

    #[test]
    fn a_gate_needs_those_it_depends_on() {
        let (_, findings) = gates(&[("GracefulNodeShutdown", false)]);
        let texts: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "featureGates[GracefulNodeShutdownBasedOnPodPriority]: is on, but depends on gates that are off: \
                 GracefulNodeShutdown",
                "featureGates[WindowsGracefulNodeShutdown]: is on, but depends on gates that are off: \
                 GracefulNodeShutdown",
            ]
        );
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
