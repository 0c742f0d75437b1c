//! Processes that are no pod's: the kubelet keeps itself in the cgroup `kubeletCgroups` names, and what the machine runs
//! outside of any cgroup in the one `systemCgroups` names.

use std::time::Duration;

use config::Config;
use host::cgroup::{CgroupError, CgroupMounts, ProcessGroup};
use tracing::{info, warn};

use super::node::PrepareError;
use crate::executor::failure::FailureLog;

/// Others may move processes again, and new ones appear; upstream looks as often.
const INTERVAL: Duration = Duration::from_secs(60);

/// Which processes go where.
#[derive(Clone, Debug, Default)]
struct Places {
    kubelet: Option<ProcessGroup>,
    system: Option<ProcessGroup>,
}

/// Sees to it, now and every minute from then on, that processes are where they are configured to be.
///
/// # Errors
///
/// When a name cannot be that of a group for processes. That one cannot be moved is said to the log.
pub(crate) async fn keep(config: &Config, mounts: &CgroupMounts) -> Result<(), PrepareError> {
    let places = places(config, mounts)?;
    if places.kubelet.is_none() && places.system.is_none() {
        return Ok(());
    }
    let (failures, oom_score_adj) = (FailureLog::default(), config.process.oom_score_adj);
    look(&places, oom_score_adj, &failures).await;
    #[expect(clippy::disallowed_methods, reason = "ends with the process")]
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            look(&places, oom_score_adj, &failures).await;
        }
    });
    Ok(())
}

async fn look(places: &Places, oom_score_adj: i32, failures: &FailureLog) {
    let places = places.clone();
    let done = tokio::task::spawn_blocking(move || places.put(oom_score_adj)).await;
    for (field, result) in done.into_iter().flatten() {
        told(failures, field, result);
    }
}

fn places(config: &Config, mounts: &CgroupMounts) -> Result<Places, PrepareError> {
    let group = |field: &'static str, name: &Option<String>| {
        let group = name.as_ref().map(|name| ProcessGroup::new(mounts.clone(), name));
        group.transpose().map_err(|source| PrepareError::NoPlace { field, source })
    };
    Ok(Places {
        kubelet: group("kubeletCgroups", &config.process.cgroup)?,
        system: group("systemCgroups", &config.process.system_cgroup)?,
    })
}

impl Places {
    /// Puts processes where they belong; what came of it, by the field that says so.
    fn put(&self, oom_score_adj: i32) -> Vec<(&'static str, Result<(), CgroupError>)> {
        let mut all = Vec::new();
        if let Some(group) = &self.system {
            let moved = group.gather("/");
            if let Ok(count) = moved.as_ref()
                && *count > 0
            {
                info!(v = 3, count, cgroup = group.name(), "Moved system processes to the system cgroup");
            }
            all.push(("systemCgroups", moved.map(drop)));
        }
        if let Some(group) = &self.kubelet {
            all.push(("kubeletCgroups", stay(group, oom_score_adj)));
        }
        all
    }
}

/// Keeps the kubelet in a group, and as likely to be killed when memory runs out as configured.
fn stay(group: &ProcessGroup, oom_score_adj: i32) -> Result<(), CgroupError> {
    // As upstream: in a container, what the host calls a group may be another one.
    if !host::process::is_in_pid_namespace_of_proc() {
        info!(v = 2, "Not running in the host's PID namespace: the kubelet stays in its cgroup");
        return Ok(());
    }
    let present = host::machine::group_of_process("self").ok().flatten();
    let result =
        if present.as_deref() == Some(group.name()) { Ok(()) } else { group.enter(std::process::id()) };
    if let Err(error) = host::process::set_oom_score_adj(oom_score_adj) {
        info!(v = 3, err = %error, oomScoreAdj = oom_score_adj, "Failed to apply oom_score_adj to process");
    }
    result
}

/// Says what came of it, once.
fn told(failures: &FailureLog, field: &'static str, result: Result<(), CgroupError>) {
    match result {
        Ok(()) => {
            if failures.succeeded(|| field.to_owned()) {
                info!(field, "Moved processes to their cgroup after failures");
            }
        }
        Err(error) => {
            let message = model::chain(&error);
            if failures.is_new(field, &message) {
                warn!(
                    err = message,
                    field, "Failed to move processes to their cgroup, will retry every minute"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::config;
    use super::*;

    #[test]
    fn the_root_holds_no_processes_of_the_system() {
        let mounts = CgroupMounts::detect().unwrap();
        let text = "cgroupRoot: /\nsystemCgroups: /\n";
        let error = places(&config(text), &mounts).unwrap_err().to_string();
        assert!(error.contains("systemCgroups has to name a cgroup below the root"), "{error}");
        let places = places(&config("cgroupRoot: /\nsystemCgroups: /system\n"), &mounts).unwrap();
        assert!(places.kubelet.is_none());
        assert_eq!(places.system.unwrap().name(), "/system");
    }
}
