//! The log lines about actions: one when it is done, one when it fails otherwise than the last time.

use model::ContainerState;
use node::{ApiOutcome, FailureKind, Outcome, RuntimeOutcome, VolumeOutcome};
use tracing::{debug, info, trace, warn};

use super::action_labels::ActionLabels;
use super::exit_log::ExitLog;
use super::failure::FailureLog;
use super::messages;

/// What the log was told already.
#[derive(Default)]
pub(crate) struct ActionLog {
    failures: FailureLog,
    /// The ends of containers.
    exits: ExitLog,
}

impl ActionLog {
    fn failed(&self, labels: &ActionLabels, message: &str, is_told: bool) {
        let what = labels.kind;
        if is_told && self.failures.is_new(&labels.identity(), message) {
            // Whether it is tried again, the core decides: what is never restarted is not.
            warn!(err = message, "Failed to {what}");
        } else {
            debug!(err = message, "Failed again to {what}");
        }
    }

    pub(super) fn tell(&self, labels: &ActionLabels, outcome: &Outcome) {
        let what = labels.kind;
        match outcome {
            // Told where it failed, without what it printed: that may be secret.
            Outcome::Failed(_) if labels.is_hook() => {}
            Outcome::Failed(failure) => {
                // The runtime's absence is told by the health feed, once.
                let is_told = failure.kind != FailureKind::RuntimeUnavailable;
                self.failed(labels, &failure.message, is_told);
            }
            Outcome::Volume(VolumeOutcome::Failed(volumes)) => self.failed(labels, &messages(volumes), true),
            Outcome::Cancelled => debug!("Cancelled: {what}"),
            _ => {
                self.tell_endings(outcome);
                if self.failures.succeeded(|| labels.identity()) {
                    info!("Succeeded after failures: {what}");
                }
                match (outcome, labels.kind.done()) {
                    // The one line that says of a start that all went well.
                    (Outcome::Api(ApiOutcome::Registered(node)), Some(done)) => {
                        info!(node = node.metadata.name.as_deref().unwrap_or_default(), "{done}");
                    }
                    (Outcome::Runtime(RuntimeOutcome::SandboxStarted(sandbox)), Some(done)) => {
                        info!(v = 2, podSandboxID = %sandbox.id, "{done}");
                    }
                    (Outcome::Runtime(RuntimeOutcome::ContainerStarted(container)), Some(done)) => {
                        info!(v = 2, containerID = %container.id, "{done}");
                    }
                    (Outcome::Runtime(RuntimeOutcome::ContainerStopped(Some(container))), Some(done)) => {
                        match &container.state {
                            ContainerState::Exited(exit) => {
                                self.exits.reported(&container.id);
                                info!(v = 2, exitCode = exit.exit_code, reason = exit.reason, "{done}");
                            }
                            _ => info!(v = 2, "{done}"),
                        }
                    }
                    (_, Some(done)) => info!(v = 2, "{done}"),
                    // Every few seconds for every container: of interest to nobody but who debugs them.
                    (
                        Outcome::Probed(_)
                        | Outcome::Runtime(RuntimeOutcome::Observed(_))
                        | Outcome::Runtime(RuntimeOutcome::Relisted(_)),
                        None,
                    ) => {
                        trace!("Completed: {what}");
                    }
                    (_, None) => debug!("Completed: {what}"),
                }
            }
        }
    }

    /// Tells of containers that have ended by themselves.
    fn tell_endings(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Runtime(RuntimeOutcome::Relisted(pods)) => self.exits.relisted(pods),
            Outcome::Runtime(RuntimeOutcome::Observed(pod)) => {
                for container in self.exits.unreported(pod) {
                    let ContainerState::Exited(exit) = &container.state else { continue };
                    info!(
                        v = 2,
                        containerName = container.name,
                        containerID = %container.id,
                        exitCode = exit.exit_code,
                        reason = exit.reason,
                        "Container exited"
                    );
                }
            }
            _ => {}
        }
    }
}
