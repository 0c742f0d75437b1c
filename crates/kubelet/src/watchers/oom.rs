//! Tells of processes that the kernel has killed because the machine ran out of memory.

use std::sync::Arc;

use host::kernel_log::{self, KernelLog};
use host::oom::{OomKill, OomMessages};
use model::reason::event;
use node::{EventObject, EventRecord};
use tracing::{info, warn};

use crate::executor::api::Api;

/// Records an event for each of them, those included that the log still has from before the start, as upstream does: the
/// kubelet may have been among them. What hits the limit of a cgroup is told by the status of its container.
pub(crate) async fn machine_oom_kills(api: Arc<Api>) {
    let log = match KernelLog::open(kernel_log::PATH) {
        Ok(log) => log,
        Err(error) => {
            warn!(path = kernel_log::PATH, err = %error, "Failed to open the kernel's log; OOM kills of the machine are not told");
            return;
        }
    };
    let mut messages = OomMessages::default();
    loop {
        match log.next().await {
            Ok(message) => {
                if let Some(kill) = messages.take(&message).filter(|kill| kill.limited_group.is_none()) {
                    info!(process = kill.process, pid = kill.pid, "Got sys oom event");
                    api.record(event_of(&kill));
                }
            }
            Err(error) => {
                warn!(err = %error, "Failed to read the kernel's log; OOM kills of the machine are not told any more");
                return;
            }
        }
    }
}

fn event_of(kill: &OomKill) -> EventRecord {
    let OomKill { process, pid, .. } = kill;
    EventRecord {
        about: EventObject::Node,
        is_warning: true,
        reason: event::SYSTEM_OOM.into(),
        message: format!("System OOM encountered, victim process: {process}, pid: {pid}"),
    }
}
