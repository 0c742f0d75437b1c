//! Inputs in words, as histories of the simulation and replays tell them.

use std::fmt;

use model::pod::{key, uid};
use model::{ContainerState, Pod, PodObservation};

use super::Input;
use crate::effect::{ApiOutcome, Outcome, RuntimeOutcome};

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restored(restored) => {
                write!(f, "found on the host: {:?}", restored.pods)?;
                for (file, content) in &restored.files {
                    match content {
                        Ok(content) => write!(f, ", {} with {} pods", file.name(), content.pods.len())?,
                        Err(damaged) => write!(f, ", {} damaged: {}", file.name(), damaged.error)?,
                    }
                }
                Ok(())
            }
            Self::PodsListed { source, pods } => {
                write!(f, "{} lists ", source.as_str())?;
                separated(f, ", ", pods, |f, p| pod(f, p))
            }
            Self::PodApplied { source, pod: p } => {
                write!(f, "{} applied ", source.as_str())?;
                pod(f, p)
            }
            Self::PodDeleted { source, uid } => write!(f, "{} deleted {uid}", source.as_str()),
            Self::RuntimeHint { uid, container, change } => write!(f, "hint {uid} {container} {change:?}"),
            Self::EventStream { is_connected } => {
                write!(f, "event stream {}", if *is_connected { "up" } else { "down" })
            }
            Self::RuntimeHealth(Ok(health)) => {
                let word = |is_met| if is_met { "ready" } else { "not ready" };
                let (runtime, network) = (word(health.runtime.is_met), word(health.network.is_met));
                write!(f, "runtime {runtime}, network {network}")
            }
            Self::RuntimeHealth(Err(error)) => write!(f, "runtime does not answer: {error}"),
            Self::Finished { id, outcome: o } => {
                write!(f, "#{} ends: ", id.0)?;
                outcome(f, o)
            }
            Self::NodeObject(_) => f.write_str("node object"),
            Self::NodeAddresses(Some(addresses)) => write!(f, "node addresses {}", addresses.join(", ")),
            Self::NodeAddresses(None) => f.write_str("no node addresses found"),
            Self::RuntimeVersion { name, version } => write!(f, "runtime is {name} {version}"),
            Self::RuntimeClasses(classes) => write!(f, "{} runtime classes", classes.len()),
            Self::CsiDrivers(drivers) => write!(f, "{} CSIDriver objects", drivers.len()),
            Self::PluginSockets(sockets) => {
                f.write_str("plugin sockets")?;
                sockets.iter().try_for_each(|(path, number)| write!(f, " {path}#{number}"))
            }
            Self::Images(images) => write!(f, "{} images", images.len()),
            Self::Sample(_) => f.write_str("sample of signals"),
            Self::ObjectChanged(name) => {
                write!(f, "{:?} {}/{} changed", name.kind, name.namespace, name.name)
            }
            Self::ManyObjectsChanged => f.write_str("objects changed"),
            Self::TrustBundlesChanged(sources) => write!(f, "{} sources of trust changed", sources.len()),
            Self::PodCertificateChanged(uid) => write!(f, "certificate of {uid} changed"),
            Self::Tick => f.write_str("tick"),
        }
    }
}

fn outcome(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    match outcome {
        Outcome::Failed(failure) => write!(f, "failed ({:?}): {}", failure.kind, failure.message),
        Outcome::Runtime(RuntimeOutcome::Relisted(pods)) => {
            f.write_str("relisted ")?;
            separated(f, "; ", pods, observation)
        }
        Outcome::Runtime(RuntimeOutcome::Observed(pod)) => {
            f.write_str("observed ")?;
            observation(f, pod)
        }
        Outcome::Runtime(RuntimeOutcome::SandboxStarted(s)) => write!(f, "started {}", s.id),
        Outcome::Runtime(RuntimeOutcome::ContainerStarted(c)) => {
            write!(f, "started {} ({:?})", c.id, c.state)
        }
        Outcome::Runtime(RuntimeOutcome::ContainerStopped(c)) => {
            write!(f, "stopped {:?}", c.as_ref().map(|c| &c.state))
        }
        Outcome::Api(ApiOutcome::Registered(_)) => f.write_str("registered"),
        Outcome::Api(ApiOutcome::Node(_)) => f.write_str("node object"),
        Outcome::Api(ApiOutcome::CsiNode(None)) => f.write_str("no CSINode"),
        Outcome::Api(ApiOutcome::CsiNode(Some(object))) => {
            let names: Vec<&str> = object.spec.drivers.iter().map(|driver| driver.name.as_str()).collect();
            write!(f, "CSINode with drivers [{}]", names.join(" "))
        }
        other => write!(f, "{other:?}"),
    }
}

fn observation(f: &mut fmt::Formatter<'_>, pod: &PodObservation) -> fmt::Result {
    write!(f, "{}:", pod.uid)?;
    for s in &pod.sandboxes {
        write!(f, " {}#{}{}", s.id, s.attempt, if s.is_ready { "+" } else { "-" })?;
    }
    for c in &pod.containers {
        write!(f, " {}={}#{} ", c.id, c.name, c.attempt)?;
        match &c.state {
            ContainerState::Created => f.write_str("created")?,
            ContainerState::Running { .. } => f.write_str("running")?,
            ContainerState::Exited(exit) => write!(f, "exited {}", exit.exit_code)?,
            ContainerState::Unknown => f.write_str("unknown")?,
        }
        write!(f, " in {}", c.sandbox_id)?;
    }
    Ok(())
}

fn pod(f: &mut fmt::Formatter<'_>, pod: &Pod) -> fmt::Result {
    let version = pod.metadata.resource_version.as_deref().unwrap_or("-");
    write!(f, "{} {} v{version}", key(pod), uid(pod))?;
    match pod.metadata.deletion_grace_period_seconds {
        Some(grace) => write!(f, " deleted within {grace}s"),
        None => Ok(()),
    }
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    separator: &str,
    items: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write(f, item)?;
    }
    Ok(())
}
