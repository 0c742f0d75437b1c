//! RuntimeClasses: which handler of the runtime a pod asks for
//! (<https://kubernetes.io/docs/concepts/containers/runtime-class/>).

use model::{Pod, RuntimeHandler, pod};

use crate::cx::NodeState;
use crate::wait::WaitOn;

/// Why it is not known which handler runs a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoHandler {
    /// The RuntimeClasses have not been listed yet.
    Unlisted,
    /// The runtime has not said yet what its handlers can do, and the pod asks for something that not all can.
    Silent,
    /// There is no RuntimeClass of this name.
    Missing(String),
}

impl NoHandler {
    /// What is waited for; `None` for what is an error.
    pub(crate) fn wait(&self) -> Option<WaitOn> {
        match self {
            Self::Unlisted => Some(WaitOn::RuntimeClasses),
            Self::Silent => Some(WaitOn::RuntimeStatus),
            Self::Missing(_) => None,
        }
    }
}

/// The handler that runs a pod. Without an API server there are no classes, and as upstream every pod gets the default one,
/// which makes no mounts recursively read-only.
pub(crate) fn handler_of(pod: &Pod, node: NodeState<'_>) -> Result<RuntimeHandler, NoHandler> {
    let has_classes = node.settings.has_api;
    let name = match class_of(pod).filter(|_| has_classes) {
        None => String::new(),
        Some(class) => {
            let classes = node.runtime_classes.ok_or(NoHandler::Unlisted)?;
            classes.get(class).cloned().ok_or_else(|| NoHandler::Missing(class.to_owned()))?
        }
    };
    if node.runtime.is_none() && asks_for_features(pod) {
        return Err(NoHandler::Silent);
    }
    let known = node.runtime.and_then(|runtime| runtime.handlers.iter().find(|known| known.name == name));
    let (has_mounts, has_users) = known.map_or((false, false), |known| {
        (known.has_recursive_read_only_mounts && has_classes, known.has_user_namespaces)
    });
    Ok(RuntimeHandler { name, has_recursive_read_only_mounts: has_mounts, has_user_namespaces: has_users })
}

/// The class a pod names.
pub(crate) fn class_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.runtime_class_name.as_deref().filter(|class| !class.is_empty())
}

/// Whether it asks for something that not all handlers can do.
fn asks_for_features(pod: &Pod) -> bool {
    let has_own_users = pod.spec.as_ref().is_some_and(|spec| spec.host_users == Some(false));
    has_own_users
        || pod::containers(pod).any(|container| {
            let mut mounts = container.spec.volume_mounts.iter().flatten();
            mounts.any(|mount| {
                mount.recursive_read_only.as_deref().is_some_and(|mode| !matches!(mode, "" | "Disabled"))
            })
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{RuntimeCondition, RuntimeFeatures, RuntimeHealth};
    use serde_json::{Value, json};

    use super::*;
    use crate::node_status::Readings;
    use crate::pressure::{PressureGauge, Pressures};
    use crate::settings::Settings;

    /// The handler's name, with `+m` for one that makes mounts recursively read-only and `+u` for one with user namespaces.
    fn handler(spec: Value, has_api: bool, are_listed: bool, is_silent: bool) -> Result<String, NoHandler> {
        let met = RuntimeCondition { is_met: true, reason: String::new(), message: String::new() };
        let able = |name: &str, has_recursive_read_only_mounts, has_user_namespaces| RuntimeHandler {
            name: name.to_owned(),
            has_recursive_read_only_mounts,
            has_user_namespaces,
        };
        let health = RuntimeHealth {
            runtime: met.clone(),
            network: met,
            handlers: vec![able("", true, true), able("kata", false, true)],
            features: RuntimeFeatures::default(),
        };
        let classes: BTreeMap<String, String> =
            [("vm", "kata"), ("odd", "gone")].map(|(n, h)| (n.to_owned(), h.to_owned())).into();
        let node = NodeState {
            settings: &Settings { has_api, ..Settings::for_tests() },
            machine: None,
            readings: &Readings::default(),
            runtime_classes: are_listed.then_some(&classes),
            object: None,
            reported: None,
            reporting: None,
            host_ips: &[],
            runtime: (!is_silent).then_some(&health),
            network_wait: None,
            pressures: Pressures::default(),
            gauge: &PressureGauge::default(),
        };
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
        handler_of(&pod, node).map(|handler| {
            let mark = |is_able, text| if is_able { text } else { "" };
            let (mounts, users) =
                (mark(handler.has_recursive_read_only_mounts, "+m"), mark(handler.has_user_namespaces, "+u"));
            format!("{}{mounts}{users}", handler.name)
        })
    }

    #[test]
    fn a_pod_runs_with_the_handler_of_its_class() {
        let of = |class: &str| json!({ "containers": [], "runtimeClassName": class });
        let missing = |class: &str| Err(NoHandler::Missing(class.to_owned()));
        for (spec, expected) in [
            (json!({ "containers": [] }), Ok("+m+u")),
            (of(""), Ok("+m+u")),
            (of("vm"), Ok("kata+u")),
            // The runtime may have it all the same.
            (of("odd"), Ok("gone")),
            (of("none"), missing("none")),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(handler(spec.clone(), true, true, false), expected, "{spec}");
        }
        assert_eq!(handler(of("vm"), true, false, false), Err(NoHandler::Unlisted));
        assert_eq!(handler(of("none"), false, false, false), Ok("+u".to_owned()), "no API server");
    }

    #[test]
    fn what_not_all_handlers_can_do_is_not_guessed_at() {
        let mounting = |mode: &str| {
            let mount = json!({ "name": "v", "mountPath": "/v", "recursiveReadOnly": mode });
            json!({ "containers": [{ "name": "a", "volumeMounts": [mount] }] })
        };
        for (spec, is_waiting) in [
            (json!({ "containers": [] }), false),
            (json!({ "containers": [], "hostUsers": true }), false),
            (json!({ "containers": [], "hostUsers": false }), true),
            (mounting("Disabled"), false),
            (mounting("IfPossible"), true),
            (mounting("Enabled"), true),
        ] {
            let expected = if is_waiting { Err(NoHandler::Silent) } else { Ok(String::new()) };
            assert_eq!(handler(spec.clone(), true, true, true), expected, "{spec}");
        }
    }
}
