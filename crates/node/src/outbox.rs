//! Where effects leave the core: gives each its id and remembers what waits for its result.

use std::collections::BTreeMap;

use model::PodUid;

use crate::effect::{Action, Effect, EffectId, EventRecord};
use crate::slot::Slot;

/// What a started action belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The full relist.
    Relist,
    /// The registration of the node.
    Register,
    /// The node's status.
    NodeStatus,
    /// The ranges of pods' addresses.
    PodCidr,
    /// The weight and the limits of the QoS classes.
    ClassLimits,
    /// The removal of a mirror pod that no static pod stands behind.
    StrayMirror(PodUid),
    /// One slot of one pod.
    Pod(PodUid, Slot),
}

/// Effects decided in the current step, and the places of all that are under way.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    next_id: u64,
    effects: Vec<Effect>,
    places: BTreeMap<EffectId, Place>,
}

impl Outbox {
    /// Starts an action on behalf of a place.
    pub(crate) fn start(&mut self, place: Place, action: impl Into<Action>) -> EffectId {
        let id = EffectId(self.next_id);
        self.next_id += 1;
        self.places.insert(id, place);
        self.effects.push(Effect::Start { id, action: action.into() });
        id
    }

    /// Asks for an action to stop. Its result still comes.
    pub(crate) fn cancel(&mut self, id: EffectId) {
        self.effects.push(Effect::Cancel(id));
    }

    /// Records an event.
    pub(crate) fn record(&mut self, event: EventRecord) {
        self.effects.push(Effect::Record(event));
    }

    /// The place that waited for this result; `None` for an id that was never given or has
    /// already ended, so that a repeated result changes nothing.
    pub(crate) fn finish(&mut self, id: EffectId) -> Option<Place> {
        self.places.remove(&id)
    }

    /// What the step decided.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// How many actions are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.places.len()
    }
}
