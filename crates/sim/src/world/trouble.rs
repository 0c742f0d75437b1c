//! What befalls the node beside single actions: outages, a clock that is set, files that are damaged, restarts, sandboxes that die.

use jiff::SignedDuration;
use model::SandboxId;
use node::{Input, StateFile};

use super::{SimEvent, World};
use crate::process::{Process, is_own_work};

impl World {
    pub(super) fn runtime_away(&mut self, is_away: bool) {
        self.note(|_| format!("---- the runtime is {}", if is_away { "away" } else { "back" }));
        self.runtime.is_away = is_away;
        let delay = self.delay();
        let input = Box::new(Input::EventStream { is_connected: !is_away });
        self.after(delay, SimEvent::Tell(self.process.number, input));
        if is_away {
            self.process.has_events = false;
            let lasts = self.rng.millis(100, 60_000);
            self.after(lasts, SimEvent::RuntimeAway(false));
        }
    }

    pub(super) fn api_away(&mut self, is_away: bool) {
        self.note(|_| format!("---- the API server is {}", if is_away { "away" } else { "back" }));
        self.api.is_away = is_away;
        if is_away {
            let lasts = self.rng.millis(100, 60_000);
            self.after(lasts, SimEvent::ApiAway(false));
        } else {
            self.tell_of_node();
            self.list_api();
        }
    }

    pub(super) fn disk_full(&mut self, is_full: bool) {
        self.note(|_| format!("---- the disk {}", if is_full { "is full" } else { "has room again" }));
        self.host.is_disk_full = is_full;
        if is_full {
            let lasts = self.rng.millis(100, 60_000);
            self.after(lasts, SimEvent::DiskFull(false));
        }
    }

    /// By up to ten minutes: a node that was set up wrong, or was asleep.
    pub(super) fn clock_jumps(&mut self) {
        let by = self.rng.millis(0, 600_000);
        let by = SignedDuration::try_from(by).unwrap_or_default();
        self.clock_ahead += if self.rng.percent(50) { by } else { -by };
        self.most_ahead = self.most_ahead.max(self.clock_ahead);
        self.note(|w| format!("---- the node's clock is ahead by {:#}", w.clock_ahead));
    }

    pub(super) fn restart(&mut self) {
        self.note(|_| "---- the node agent restarts".to_owned());
        let number = self.process.number + 1;
        // What was under way is abandoned; some of it goes on to its end all the same.
        let ids: Vec<_> = self.in_flight.keys().copied().collect();
        for id in ids {
            let is_lost = self.rng.percent(50);
            let Some(pending) = self.in_flight.get_mut(&id) else { continue };
            pending.is_told = true;
            if (is_lost || is_own_work(&pending.action)) && !pending.has_taken_effect {
                pending.is_void = true;
                if let Some(name) = pending.reserved.take() {
                    self.runtime.reserved.remove(&name);
                }
            }
        }
        for file in StateFile::ALL {
            if self.rng.percent(self.faults.file_damaged) {
                self.note(|_| format!("{} is damaged", file.name()));
                self.host.damage(file);
            }
        }
        self.process = Process::start(number, self.at, self.host.max_pods);
        self.begin_recording();
        self.begin_process();
    }

    pub(super) fn sandbox_dies(&mut self) {
        let ready: Vec<SandboxId> =
            self.runtime.sandboxes.values().filter(|s| s.seen.is_ready).map(|s| s.seen.id.clone()).collect();
        let Some(id) = self.rng.pick(&ready).cloned() else { return };
        self.note(|_| format!("{id} dies"));
        let is_removed = self.rng.percent(20);
        self.end_sandbox(&id);
        if is_removed {
            self.runtime.remove_sandbox(&id);
        }
    }
}
