//! How actions and statuses read in a story.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use crate::{Action, Hook};

pub(super) fn action_text(action: &Action) -> String {
    match action {
        Action::Relist => "relist".into(),
        Action::Observe { .. } => "observe".into(),
        Action::LimitClasses { amounts, .. } => format!("limit classes by {amounts:?}"),
        Action::EnsureCgroup { .. } => "cgroup".into(),
        Action::RemoveCgroup { .. } => "remove-cgroup".into(),
        Action::SyncVolumes { .. } => "volumes".into(),
        Action::TearDownVolumes { .. } => "tear-down".into(),
        Action::InspectImage { container, .. } => format!("inspect {container}"),
        Action::PullImage { container, .. } => format!("pull {container}"),
        Action::RunSandbox { attempt, .. } => format!("sandbox {attempt}"),
        Action::StopSandbox { id, .. } => format!("stop-sandbox {id}"),
        Action::RemoveSandbox { id, .. } => format!("remove-sandbox {id}"),
        Action::StartContainer { container, attempt, .. } => format!("start {container}#{attempt}"),
        Action::StopContainer { id, grace, .. } => format!("stop {id} {}s", grace.as_secs()),
        Action::RemoveContainer { id, .. } => format!("remove {id}"),
        Action::RunHook { id, hook, timeout, .. } => {
            let hook = match hook {
                Hook::PostStart => "postStart",
                Hook::PreStop => "preStop",
            };
            format!("{hook} {id}{}", timeout.map(|t| format!(" {}s", t.as_secs())).unwrap_or_default())
        }
        Action::Probe { id, kind, .. } => format!("probe {id} {}", kind.as_str()),
        Action::WriteStatus { new, uid, .. } => format!("write {}{}", status_text(new), to(uid.as_str())),
        Action::DeletePod { uid, .. } => format!("delete{}", to(uid.as_str())),
        Action::CreateMirror { .. } => "mirror".into(),
        Action::RemovePodLogs { .. } => "remove-logs".into(),
        Action::SetPodCidr { pod_cidr } => format!("pod-cidr {pod_cidr}"),
        Action::RegisterNode { .. } => "register".into(),
        Action::WriteNodeStatus { .. } => "write-node".into(),
    }
}

/// Objects other than the pod `u` of most stories are named.
fn to(uid: &str) -> String {
    if uid == "u" { String::new() } else { format!(" of {uid}") }
}

/// Phase, readiness, and every container's state; `!` stands for ready.
fn status_text(status: &PodStatus) -> String {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    let mut words = vec![
        status.phase.clone().unwrap_or_default(),
        format!("ready={}", ready.map_or("?", |c| c.status.as_str())),
    ];
    let all =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    words.extend(all.into_iter().flatten().flatten().map(container_text));
    words.join(" ")
}

fn container_text(status: &ContainerStatus) -> String {
    let state = status.state.clone().unwrap_or_default();
    let text = match (state.waiting, state.running, state.terminated) {
        (Some(waiting), ..) => waiting.reason.unwrap_or_default(),
        (_, Some(_), _) => "running".into(),
        (.., Some(ended)) => format!("exit {}", ended.exit_code),
        _ => "?".into(),
    };
    format!("{}={text}{}", status.name, if status.ready { "!" } else { "" })
}
