//! What log lines say of an action: what is done, and to which object.

use node::Action;
use telemetry::traces::{self, Tracer};
use tracing::{Span, field, info_span};

const POST_START: &str = "run postStart hook";
const PRE_STOP: &str = "run preStop hook";

/// An action's name and its object. Fields that do not apply are empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// What is done, in the imperative: `start container`.
    pub(crate) what: &'static str,
    /// What has been done then, if an operator wants to know without asking for details.
    pub(crate) done: Option<&'static str>,
    /// `namespace/name`.
    pod: Option<String>,
    pod_uid: Option<String>,
    container: Option<String>,
    container_id: Option<String>,
    sandbox_id: Option<String>,
}

impl About {
    /// Reads it off an action.
    pub(crate) fn action(action: &Action) -> Self {
        let of = |what: &'static str| Self { what, done: done(what), ..Self::default() };
        let pod = |what, pod: &model::Pod| Self {
            pod: Some(model::pod::key(pod).to_string()),
            pod_uid: Some(model::pod::uid(pod).to_string()),
            ..of(what)
        };
        let key = |what, key: &model::PodKey, uid: Option<&model::PodUid>| Self {
            pod: Some(key.to_string()),
            pod_uid: uid.map(ToString::to_string),
            ..of(what)
        };
        let uid = |what, uid: &model::PodUid| Self { pod_uid: Some(uid.to_string()), ..of(what) };
        let container = |about: Self, name: &String| Self { container: Some(name.clone()), ..about };
        let id = |about: Self, id: &model::ContainerId| Self { container_id: Some(id.to_string()), ..about };
        let sandbox = |about: Self, id: &model::SandboxId| Self { sandbox_id: Some(id.to_string()), ..about };
        match action {
            Action::Relist => of("list pods of the runtime"),
            Action::Observe { key: name, uid } => key("read pod of the runtime", name, Some(uid)),
            Action::Probe { pod: p, container: c, kind, .. } => {
                let what = match kind {
                    model::probe::ProbeKind::Startup => "probe startup",
                    model::probe::ProbeKind::Liveness => "probe liveness",
                    model::probe::ProbeKind::Readiness => "probe readiness",
                };
                container(pod(what, p), c)
            }
            Action::EnsureCgroup { pod: p } => pod("make cgroup of pod", p),
            Action::LimitClasses { .. } => of("weigh and limit the QoS classes"),
            Action::RemoveCgroup { uid: u } => uid("remove cgroup of pod", u),
            Action::SyncVolumes { pod: p, .. } => pod("mount volumes of pod", p),
            Action::TearDownVolumes { uid: u } => uid("unmount volumes of pod", u),
            Action::InspectImage { pod: p, container: c } => container(pod("inspect image", p), c),
            Action::PullImage { pod: p, container: c } => container(pod("pull image", p), c),
            Action::RunSandbox { pod: p, .. } => pod("start pod sandbox", p),
            Action::StopSandbox { uid: u, id } => sandbox(uid("stop pod sandbox", u), id),
            Action::RemoveSandbox { uid: u, id } => sandbox(uid("remove pod sandbox", u), id),
            Action::StartContainer { pod: p, container: c, .. } => container(pod("start container", p), c),
            Action::StopContainer { uid: u, id: c, .. } => id(uid("stop container", u), c),
            Action::RemoveContainer { uid: u, id: c, .. } => id(uid("remove container", u), c),
            Action::RunHook { pod: p, container: c, hook, .. } => {
                let is_first = matches!(hook, node::Hook::PostStart);
                container(pod(if is_first { POST_START } else { PRE_STOP }, p), c)
            }
            Action::WriteStatus { key: name, uid, .. } => key("write status of pod", name, Some(uid)),
            Action::DeletePod { key: name, uid } => key("remove pod from the API server", name, Some(uid)),
            Action::CreateMirror { pod: p, .. } => pod("create mirror of static pod", p),
            Action::RemovePodLogs { uid, key: name } => key("remove logs of pod", name, Some(uid)),
            Action::SetPodCidr { .. } => of("set pod CIDR of the runtime"),
            Action::RegisterNode { .. } => of("register node"),
            Action::WriteNodeStatus { .. } => of("write node status"),
        }
    }

    /// Names the pod where the action has its uid only.
    pub(crate) fn named(mut self, name: impl FnOnce(&str) -> Option<String>) -> Self {
        if self.pod.is_none() {
            self.pod = self.pod_uid.as_deref().and_then(name);
        }
        self
    }

    /// Names the container where the action has its id only.
    pub(crate) fn of_container(mut self, name: impl FnOnce(&str, &str) -> Option<String>) -> Self {
        if let (None, Some(uid), Some(id)) = (&self.container, &self.pod_uid, &self.container_id) {
            self.container = name(uid, id);
        }
        self
    }

    /// Everything logged within says which object it is about.
    pub(crate) fn span(&self) -> Span {
        let span = info_span!(
            "action",
            pod = field::Empty,
            podUID = field::Empty,
            containerName = field::Empty,
            containerID = field::Empty,
            podSandboxID = field::Empty,
        );
        let fields = [
            ("pod", &self.pod),
            ("podUID", &self.pod_uid),
            ("containerName", &self.container),
            ("containerID", &self.container_id),
            ("podSandboxID", &self.sandbox_id),
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
        let Some(name) = sync(self.what) else { return traces::Span::default() };
        tracer.work(name, || {
            let (namespace, pod) = self.pod.as_deref().and_then(|pod| pod.split_once('/')).unzip();
            let known = [
                ("k8s.pod.uid", self.pod_uid.as_deref()),
                ("k8s.pod", self.pod.as_deref()),
                ("k8s.pod.name", pod),
                ("k8s.namespace.name", namespace),
                ("k8s.container.name", self.container.as_deref()),
                ("kubelet.action", Some(self.what)),
            ];
            known
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?.to_owned().into())))
                .collect::<Vec<_>>()
        })
    }

    /// Whether it is a container's hook, whose failure holds what the hook printed.
    pub(crate) fn is_hook(&self) -> bool {
        matches!(self.what, POST_START | PRE_STOP)
    }

    /// Tells one action on one object from all others.
    pub(crate) fn identity(&self) -> String {
        let parts = [&self.pod_uid, &self.pod, &self.container, &self.container_id, &self.sandbox_id];
        let mut all = self.what.to_owned();
        for part in parts.into_iter().flatten() {
            all.push('/');
            all.push_str(part);
        }
        all
    }
}

/// The span of upstream's that an action is a part of. Reading from the runtime is none: its calls are
/// spans of their own.
fn sync(what: &str) -> Option<&'static str> {
    Some(match what {
        "make cgroup of pod"
        | "mount volumes of pod"
        | "inspect image"
        | "pull image"
        | "start pod sandbox"
        | "start container"
        | POST_START
        | "write status of pod"
        | "create mirror of static pod" => "syncPod",
        PRE_STOP | "stop container" | "stop pod sandbox" => "syncTerminatingPod",
        "unmount volumes of pod"
        | "remove cgroup of pod"
        | "remove logs of pod"
        | "remove pod from the API server" => "syncTerminatedPod",
        "remove container" | "remove pod sandbox" => "Containers/GarbageCollect",
        _ => return None,
    })
}

/// The actions that make the story of a pod.
fn done(what: &str) -> Option<&'static str> {
    Some(match what {
        "pull image" => "Pulled image",
        "start pod sandbox" => "Started pod sandbox",
        "stop pod sandbox" => "Stopped pod sandbox",
        "start container" => "Started container",
        "stop container" => "Stopped container",
        "remove pod from the API server" => "Removed pod from the API server",
        "create mirror of static pod" => "Created mirror of static pod",
        "register node" => "Successfully registered node",
        "set pod CIDR of the runtime" => "Set pod CIDR of the runtime",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_action_has_a_name_and_an_object() {
        let mut pod = model::Pod::default();
        pod.metadata.name = Some("web".into());
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.uid = Some("u".into());
        let pod = Arc::new(pod);
        let start = Action::PullImage { pod, container: "c".into() };
        let stop =
            Action::StopContainer { uid: "u".into(), id: "x".into(), grace: std::time::Duration::ZERO };
        let stop_sandbox = Action::StopSandbox { uid: "u".into(), id: "y".into() };
        for (action, what, identity) in [
            (start, "pull image", "pull image/u/ns/web/c"),
            (stop, "stop container", "stop container/u/x"),
            (stop_sandbox, "stop pod sandbox", "stop pod sandbox/u/y"),
            (Action::Relist, "list pods of the runtime", "list pods of the runtime"),
        ] {
            let about = About::action(&action);
            assert_eq!((about.what, about.identity().as_str()), (what, identity));
        }
        let about = About::action(&Action::RemoveCgroup { uid: "u".into() });
        assert_eq!(about.done, None);
        let about = about.named(|uid| (uid == "u").then(|| "ns/web".to_owned()));
        assert_eq!(about.identity(), "remove cgroup of pod/u/ns/web");
        let remove = About::action(&Action::RemoveContainer { uid: "u".into(), id: "x".into() });
        let remove = remove.of_container(|uid, id| ((uid, id) == ("u", "x")).then(|| "app".to_owned()));
        assert_eq!(remove.container.as_deref(), Some("app"));
    }
}
