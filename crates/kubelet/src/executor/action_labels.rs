//! Labels of an action for log lines and spans: what is done, and to which object.

use node::{Action, ActionKind, Worker};
use telemetry::traces::{self, Tracer};
use tracing::{Span, field, info_span};

/// An action's kind and its object. Fields that do not apply are empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ActionLabels {
    pub(crate) kind: ActionKind,
    /// `namespace/name`.
    pod: Option<String>,
    pod_uid: Option<String>,
    container: Option<String>,
    volume: Option<String>,
    image: Option<String>,
    container_id: Option<String>,
    sandbox_id: Option<String>,
    /// A plugin's socket, or a driver's name.
    plugin: Option<String>,
}

impl ActionLabels {
    /// Reads it off an action.
    pub(crate) fn of(action: &Action) -> Self {
        let subject = action.subject();
        Self {
            kind: action.kind(),
            pod: subject.key.map(|key| key.to_string()),
            pod_uid: subject.uid.map(|uid| uid.to_string()),
            container: subject.container.map(str::to_owned),
            volume: subject.volume.map(str::to_owned),
            image: subject.image.map(ToString::to_string),
            container_id: subject.container_id.map(ToString::to_string),
            sandbox_id: subject.sandbox_id.map(ToString::to_string),
            plugin: subject.plugin.map(str::to_owned),
        }
    }

    /// Everything logged within says which object it is labels.
    pub(crate) fn span(&self) -> Span {
        let span = info_span!(
            "action",
            pod = field::Empty,
            podUID = field::Empty,
            containerName = field::Empty,
            volumeName = field::Empty,
            imageID = field::Empty,
            containerID = field::Empty,
            podSandboxID = field::Empty,
            plugin = field::Empty,
        );
        let fields = [
            ("pod", &self.pod),
            ("podUID", &self.pod_uid),
            ("containerName", &self.container),
            ("volumeName", &self.volume),
            ("imageID", &self.image),
            ("containerID", &self.container_id),
            ("podSandboxID", &self.sandbox_id),
            ("plugin", &self.plugin),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                span.record(name, value);
            }
        }
        span
    }

    /// What a collector of traces sees of it: upstream's names, of which each covers several actions.
    pub(crate) fn traced(&self, tracer: &Tracer) -> traces::Span {
        let Some(worker) = self.kind.worker() else { return traces::Span::default() };
        tracer.work(span_name(worker), || {
            let (namespace, pod) = self.pod.as_deref().and_then(|pod| pod.split_once('/')).unzip();
            let action = self.kind.to_string();
            let known = [
                ("k8s.pod.uid", self.pod_uid.as_deref()),
                ("k8s.pod", self.pod.as_deref()),
                ("k8s.pod.name", pod),
                ("k8s.namespace.name", namespace),
                ("k8s.container.name", self.container.as_deref()),
                ("kubelet.action", Some(action.as_str())),
            ];
            known
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?.to_owned().into())))
                .collect::<Vec<_>>()
        })
    }

    /// Whether it is a container's hook, whose failure holds what the hook printed.
    pub(crate) fn is_hook(&self) -> bool {
        matches!(self.kind, ActionKind::RunHook(_))
    }

    /// Tells one action on one object from all others.
    pub(crate) fn identity(&self) -> String {
        let volume = self.volume.as_ref().map(|name| format!("volume {name}"));
        let parts = [
            &self.pod_uid,
            &self.pod,
            &self.container,
            &volume,
            &self.image,
            &self.container_id,
            &self.sandbox_id,
            &self.plugin,
        ];
        let mut all = self.kind.to_string();
        for part in parts.into_iter().flatten() {
            all.push('/');
            all.push_str(part);
        }
        all
    }
}

/// The span of upstream's that an action is a part of.
fn span_name(worker: Worker) -> &'static str {
    match worker {
        Worker::Sync => "syncPod",
        Worker::SyncTerminating => "syncTerminatingPod",
        Worker::SyncTerminated => "syncTerminatedPod",
        Worker::ContainerGc => "Containers/GarbageCollect",
        Worker::ImageGc => "Images/GarbageCollect",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use node::{HostAction, ImageAction, RuntimeAction};

    use super::*;

    #[test]
    fn an_action_has_a_name_and_an_object() {
        let mut pod = model::Pod::default();
        pod.metadata.name = Some("web".into());
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.uid = Some("u".into());
        let pod = model::AllocatedPod::granted(Arc::new(pod));
        let start = Action::Image(ImageAction::Pull {
            pod: pod.clone(),
            used_by: model::ImageUse::Container("c".into()),
            handler: model::RuntimeHandler::default(),
        });
        let mount = Action::Image(ImageAction::Pull {
            pod,
            used_by: model::ImageUse::Volume("c".into()),
            handler: model::RuntimeHandler::default(),
        });
        let (uid, key) = (model::PodUid::from("u"), model::PodKey::new("ns", "web"));
        let stop = Action::Runtime(RuntimeAction::StopContainer {
            uid: uid.clone(),
            key: key.clone(),
            container: "c".into(),
            id: "x".into(),
            sandbox: "y".into(),
            grace: std::time::Duration::ZERO,
        });
        let stop_sandbox =
            Action::Runtime(RuntimeAction::StopSandbox { uid: uid.clone(), key, id: "y".into() });
        for (action, what, identity) in [
            (start, "pull image", "pull image/u/ns/web/c"),
            (mount, "pull image", "pull image/u/ns/web/volume c"),
            (stop, "stop container", "stop container/u/ns/web/c/x"),
            (stop_sandbox, "stop pod sandbox", "stop pod sandbox/u/ns/web/y"),
            (Action::Runtime(RuntimeAction::Relist), "list pods of the runtime", "list pods of the runtime"),
        ] {
            let labels = ActionLabels::of(&action);
            assert_eq!((labels.kind.to_string().as_str(), labels.identity().as_str()), (what, identity));
        }
        // Found on disk, and nowhere else.
        let labels = ActionLabels::of(&Action::Host(HostAction::RemoveCgroup {
            uid,
            key: model::PodKey::new("", ""),
        }));
        assert_eq!((labels.kind.done(), labels.identity().as_str()), (None, "remove cgroup of pod/u"));
    }
}
