//! Whether the host can enforce the AppArmor profiles that a pod asks for.

use k8s_openapi::api::core::v1::AppArmorProfile;
use model::reason::Refusal;
use model::{Pod, pod};

use super::Rejection;

/// In its place static pods may still name a profile, one annotation a container.
pub(crate) const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const UNCONFINED: &str = "Unconfined";

/// Only a pod that has not run yet is asked about: what runs does so with its profile.
pub(super) fn check(pod: &Pod, is_enabled: bool) -> Result<(), Rejection> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if !matches!(phase, "" | "Pending") || !is_asked_for(pod) {
        return Ok(());
    }
    if !is_enabled {
        return Err(refusal("AppArmor is not enabled on the host"));
    }
    match pod::containers(pod).find_map(|container| nameless(pod, &container)) {
        Some(profile) => Err(refusal(&format!("invalid empty AppArmor profile name: {profile:?}"))),
        None => Ok(()),
    }
}

fn refusal(why: &str) -> Rejection {
    Rejection::new(Refusal::AppArmor, format!("Cannot enforce AppArmor: {why}"))
}

fn is_asked_for(pod: &Pod) -> bool {
    let is_confining = |profile: Option<&AppArmorProfile>| profile.is_some_and(|p| p.type_ != UNCONFINED);
    is_confining(of_pod(pod))
        || pod::containers(pod).any(|container| is_confining(of_container(&container)))
        || annotations(pod).any(|(_, value)| value != "unconfined")
}

/// A profile of the host without a name, as Go prints it; the container's own comes first, then its annotation,
/// then the pod's.
fn nameless(pod: &Pod, container: &pod::ContainerRef<'_>) -> Option<String> {
    const OF_HOST: &str = "Localhost";
    let annotated = annotations(pod).find(|(name, _)| *name == container.spec.name).map(|(_, value)| value);
    let (kind, name) = match (of_container(container), annotated) {
        (Some(own), _) => (own.type_.as_str(), own.localhost_profile.as_deref()),
        (None, Some("runtime/default" | "unconfined")) => return None,
        (None, Some(text)) if text.starts_with("localhost/") => (OF_HOST, text.strip_prefix("localhost/")),
        (None, _) => {
            let whole = of_pod(pod)?;
            (whole.type_.as_str(), whole.localhost_profile.as_deref())
        }
    };
    let is_nameless = kind == OF_HOST && name.is_none_or(|name| name.trim().is_empty());
    is_nameless.then(|| {
        let name = name.map_or_else(|| "nil".to_owned(), |name| format!("*{name}"));
        format!("&AppArmorProfile{{Type:{kind},LocalhostProfile:{name},}}")
    })
}

fn of_pod(pod: &Pod) -> Option<&AppArmorProfile> {
    pod.spec.as_ref()?.security_context.as_ref()?.app_armor_profile.as_ref()
}

fn of_container<'a>(container: &'a pod::ContainerRef<'_>) -> Option<&'a AppArmorProfile> {
    container.spec.security_context.as_ref()?.app_armor_profile.as_ref()
}

/// The containers named by annotations, each with what is said of it.
fn annotations(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let all = pod.metadata.annotations.iter().flatten();
    all.filter_map(|(key, value)| Some((key.strip_prefix(ANNOTATION)?, value.as_str())))
}
