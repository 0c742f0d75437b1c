//! Where effects leave the core: gives each its id and remembers who waits for its result.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Now;
use serde::{Deserialize, Serialize};

use crate::effect::{Action, Effect, EffectId, EventRecord};
use crate::tasks::{InFlight, Owner, Tasks};

/// Effects decided in the current step, and the owners of all that are under way.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outbox {
    next_id: u64,
    /// Monotonic time of the step.
    at: Duration,
    /// None between steps.
    #[serde(skip)]
    effects: Vec<Effect>,
    owners: BTreeMap<EffectId, Owner>,
    /// Those of them that are no pods'. A pod's record has its own.
    tasks: Tasks<Owner>,
}

impl Outbox {
    /// A step begins.
    pub(crate) fn begin(&mut self, now: Now) {
        self.at = now.mono;
    }

    /// Starts an action, whose result the owner gets.
    pub(crate) fn start(&mut self, owner: Owner, action: impl Into<Action>) -> InFlight {
        let id = EffectId(self.next_id);
        self.next_id += 1;
        let in_flight = InFlight { id, since: self.at };
        if !matches!(owner, Owner::Pod(..)) {
            debug_assert!(!self.tasks.is_open(&owner), "{owner:?} is under way");
            self.tasks.begin(owner.clone(), in_flight);
        }
        self.owners.insert(id, owner);
        self.effects.push(Effect::Start { id, action: action.into() });
        in_flight
    }

    /// Whether that task, which is no pod's, is under way.
    pub(crate) fn is_open(&self, owner: &Owner) -> bool {
        self.tasks.is_open(owner)
    }

    /// Since when it is, monotonic; `None` when it is not.
    pub(crate) fn since(&self, owner: &Owner) -> Option<Duration> {
        self.tasks.get(owner).map(|task| task.since)
    }

    /// Asks for an action to stop. Its result still comes.
    pub(crate) fn cancel(&mut self, id: EffectId) {
        self.effects.push(Effect::Cancel(id));
    }

    /// The same for that task, which is no pod's, if it is under way.
    pub(crate) fn cancel_task(&mut self, owner: &Owner) {
        if let Some(task) = self.tasks.get(owner) {
            self.cancel(task.id);
        }
    }

    /// Records an event.
    pub(crate) fn record(&mut self, event: EventRecord) {
        self.effects.push(Effect::Record(event));
    }

    /// Who waited for this result; `None` for an id that was never given or has
    /// already ended, so that a repeated result changes nothing.
    pub(crate) fn finish(&mut self, id: EffectId) -> Option<Owner> {
        let owner = self.owners.remove(&id)?;
        self.tasks.end(&owner);
        Some(owner)
    }

    /// What the step decided.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// How many actions are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.owners.len()
    }
}
