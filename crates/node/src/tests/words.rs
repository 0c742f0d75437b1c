//! How actions and statuses read in a scenario.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use model::ImageUse;

use crate::{
    Action, ApiAction, CheckpointAction, Hook, HostAction, ImageAction, ProbeAction, RuntimeAction,
    StorageAction, VolumeAction,
};

pub(super) fn action_text(action: &Action) -> String {
    match action {
        Action::Runtime(RuntimeAction::Relist) => "relist".into(),
        Action::Runtime(RuntimeAction::Observe { .. }) => "observe".into(),
        Action::Host(HostAction::UpdateQosCgroups { amounts, .. }) => {
            format!("update QoS cgroups by {amounts:?}")
        }
        Action::Host(HostAction::EnsureCgroup { .. }) => "cgroup".into(),
        Action::Host(HostAction::ReadPodCgroups { pods }) => format!("read cgroups of {} pods", pods.len()),
        Action::Host(HostAction::RemoveCgroup { .. }) => "remove-cgroup".into(),
        Action::Volume(VolumeAction::Sync { .. }) => "volumes".into(),
        Action::Volume(VolumeAction::TearDown { .. }) => "tear-down".into(),
        Action::Volume(VolumeAction::RemoveFolder { .. }) => "remove-folder".into(),
        Action::Image(ImageAction::Inspect { used_by, .. }) => format!("inspect {}", image_text(used_by)),
        Action::Image(ImageAction::Pull { used_by, .. }) => format!("pull {}", image_text(used_by)),
        Action::Image(ImageAction::Remove { image, .. }) => format!("remove-image {image}"),
        Action::Image(ImageAction::PruneRecords) => "prune-records".into(),
        Action::Runtime(RuntimeAction::RunSandbox { attempt, .. }) => format!("sandbox {attempt}"),
        Action::Runtime(RuntimeAction::StopSandbox { id, .. }) => format!("stop-sandbox {id}"),
        Action::Runtime(RuntimeAction::RemoveSandbox { id, .. }) => format!("remove-sandbox {id}"),
        Action::Runtime(RuntimeAction::StartContainer(start)) => {
            format!("start {}#{}", start.container, start.attempt)
        }
        Action::Runtime(RuntimeAction::StopContainer { id, grace, .. }) => {
            format!("stop {id} {}s", grace.as_secs())
        }
        Action::Runtime(RuntimeAction::RemoveContainer { id, .. }) => format!("remove {id}"),
        Action::Probe(ProbeAction::Hook { id, hook, timeout, .. }) => {
            let hook = match hook {
                Hook::PostStart => "postStart",
                Hook::PreStop => "preStop",
            };
            format!("{hook} {id}{}", timeout.map(|t| format!(" {}s", t.as_secs())).unwrap_or_default())
        }
        Action::Probe(ProbeAction::Attempt { id, kind, .. }) => format!("probe {id} {}", kind.as_str()),
        Action::Api(ApiAction::WriteStatus { new, uid, .. }) => {
            format!("write {}{}", status_text(new), to(uid.as_str()))
        }
        Action::Api(ApiAction::DeletePod { uid, .. }) => format!("delete{}", to(uid.as_str())),
        Action::Api(ApiAction::CreateMirror { .. }) => "mirror".into(),
        Action::Host(HostAction::RemovePodLogs { .. }) => "remove-logs".into(),
        Action::Host(HostAction::TakeSample) => "sample".into(),
        Action::Host(HostAction::MeasurePods { pods, .. }) => format!("measure {} pods", pods.len()),
        Action::Runtime(RuntimeAction::SetPodCidr { pod_cidr }) => format!("pod-cidr {pod_cidr}"),
        Action::Api(ApiAction::RegisterNode { .. }) => "register".into(),
        Action::Api(ApiAction::WriteNodeStatus { .. }) => "write-node".into(),
        Action::Api(
            ApiAction::WriteNodeMetadata { .. }
            | ApiAction::ReadCsiNode
            | ApiAction::WriteCsiNode { .. }
            | ApiAction::DeleteCsiNode { .. },
        )
        | Action::Plugin(_)
        | Action::Api(ApiAction::ReadAttachment { .. }) => action.to_string(),
        Action::Api(ApiAction::ResolveClaim { claim }) => format!("resolve {claim}"),
        Action::Storage(StorageAction::Stage { volume, .. }) => format!("stage {}", volume.folder),
        Action::Storage(StorageAction::Unstage { handle, .. }) => format!("unstage {handle}"),
        Action::Storage(StorageAction::Publish { pod, volume, is_again, .. }) => {
            let again = if *is_again { " again" } else { "" };
            format!("publish {}{}{again}", volume.folder, to(model::pod::uid(pod).as_str()))
        }
        Action::Storage(StorageAction::Grow { volume, growth, .. }) => {
            format!("grow {} to {}", volume.folder, growth.size)
        }
        Action::Storage(StorageAction::Unpublish { uid, folder, .. }) => {
            format!("unpublish {folder}{}", to(uid.as_str()))
        }
        Action::Checkpoint(CheckpointAction::Write(write)) => format!("write {}", write.file.name()),
        Action::Checkpoint(CheckpointAction::Sync(file)) => format!("sync {}", file.name()),
    }
}

/// Containers by name alone.
fn image_text(used_by: &ImageUse) -> String {
    used_by.container().map_or_else(|| used_by.to_string(), str::to_owned)
}

/// Objects other than the pod `u` of most scenarios are named.
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
