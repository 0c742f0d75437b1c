//! Restarts all containers of a pod in its place (KEP-5532): ends those that run, without hooks and with the least
//! grace, removes all of them, and lets the pod begin anew in the sandbox it has, init containers first. The containers
//! whose exit asked for it go last, so that a process that takes over knows what was going on.

use std::time::Duration;

use model::pod::ContainerKind;
use model::{ContainerId, ContainerState, Pod};

use super::image_record::Image;
use super::record::PodRecord;
use super::stopping::Turn;
use crate::cx::Cx;
use crate::schedule::earliest;
use crate::status::restarting;

/// What the `Killing` event says.
const KILLING: &str = "killing";

impl PodRecord {
    /// Whether all containers are being restarted.
    pub(crate) fn is_restarting_all(&self, pod: &Pod, cx: &Cx<'_>) -> bool {
        let rules = cx.settings.restart_rules;
        self.seen.last().is_some_and(|o| restarting::is_under_way(rules, pod, o, &self.report.current))
    }

    /// One step of that. Returns whether it is over, and when the next is due by itself.
    pub(crate) fn drive_restart_all(&mut self, pod: &Pod, cx: &mut Cx<'_>) -> (bool, Option<Duration>) {
        let Some(observed) = self.seen.fresh() else { return (false, None) };
        if restarting::is_cleaned_up(pod, observed) {
            let is_over = !self.is_changing();
            if is_over {
                self.note_cleaned_up(pod, cx);
            }
            return (is_over, None);
        }
        let mut running: Vec<(ContainerKind, String, ContainerId)> = Vec::new();
        let mut removed: Vec<(bool, ContainerId)> = Vec::new();
        for part in restarting::parts(pod) {
            for held in observed.containers.iter().filter(|o| o.name == part.spec.name) {
                match &held.state {
                    ContainerState::Exited(exit) => {
                        let asked = cx.settings.restart_rules.restarts_all_after(&part.spec, exit.exit_code);
                        removed.push((asked, held.id.clone()));
                    }
                    ContainerState::Created => removed.push((false, held.id.clone())),
                    // One that the runtime lost track of may run still.
                    ContainerState::Running { .. } | ContainerState::Unknown => {
                        running.push((part.kind, held.name.clone(), held.id.clone()));
                    }
                }
            }
        }
        if !running.is_empty() {
            return (false, self.end_for_restart(running, cx));
        }
        let has_others = removed.iter().any(|(asked, _)| !asked);
        for (_, id) in removed.into_iter().filter(|(asked, _)| !(*asked && has_others)) {
            self.remove_container(&id, true, cx.out);
        }
        (false, None)
    }

    /// Regular containers end first, then the others.
    fn end_for_restart(
        &mut self,
        running: Vec<(ContainerKind, String, ContainerId)>,
        cx: &mut Cx<'_>,
    ) -> Option<Duration> {
        let has_regular = running.iter().any(|(kind, ..)| *kind == ContainerKind::Regular);
        let mut next = None;
        for (kind, name, id) in running {
            if has_regular && kind != ContainerKind::Regular {
                continue;
            }
            self.container_mut(&name).waiting = None;
            next = earliest(next, self.drive_stop(&name, &id, cx.now.mono, Turn::Now, KILLING, cx));
        }
        next
    }

    /// All are gone: the status says so, and what is remembered of them counts no more.
    fn note_cleaned_up(&mut self, pod: &Pod, cx: &Cx<'_>) {
        for part in restarting::parts(pod) {
            let record = self.container_mut(&part.spec.name);
            record.waiting = None;
            record.start_retry = None;
            record.restart_backoff = super::backoff::Backoff::default();
            if !matches!(record.image.state, Image::Outdated | Image::Wanted) {
                record.image.state = Image::Unknown;
            }
        }
        self.forget_volume_images();
        if let Some(status) = self.compute_status(cx) {
            self.report.current = std::sync::Arc::new(status);
        }
    }
}
