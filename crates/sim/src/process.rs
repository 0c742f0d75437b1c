//! One life of the node agent: a core with empty memory, its clock, and what it was told.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use node::{Action, CapacitySettings, Node, Outcome, Settings, Source};

use crate::checks::Knowledge;
use crate::images;
use crate::pressure;
use crate::specs::NODE;

/// Wall-clock second at which worlds begin.
const EPOCH: i64 = 1_700_000_000;

/// The agent that lives now.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: Node,
    /// Which life this is.
    pub(crate) number: u32,
    born: Duration,
    /// Watches are numbered: what an earlier one had to tell is void.
    pub(crate) watch: u32,
    /// Events come in order.
    pub(crate) watched_until: Duration,
    /// The version of the last full list.
    pub(crate) listed: u64,
    pub(crate) has_events: bool,
    pub(crate) under_way: usize,
    pub(crate) knows: Knowledge,
    /// Whether the API server was asked for its Node object.
    pub(crate) is_registered: bool,
    /// Drivers it has told that they are registered.
    pub(crate) registered: BTreeSet<&'static str>,
}

/// An action under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) action: Action,
    pub(crate) fault: FaultOutcome,
    /// The name held while it is under way.
    pub(crate) reserved: Option<String>,
    pub(crate) has_taken_effect: bool,
    /// It will take no effect any more.
    pub(crate) is_void: bool,
    pub(crate) is_told: bool,
    pub(crate) outcome: Option<Outcome>,
}

/// What becomes of an action, decided when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultOutcome {
    Succeeds,
    Fails,
    /// Takes effect and is reported as failed.
    FailsAfterEffect,
    /// Is reported as failed and takes effect after that.
    FailsBeforeEffect,
}

/// What the agent of this life is configured to, on a node for so many pods.
pub fn settings(number: u32, max_pods: u32) -> Settings {
    Settings {
        node_name: NODE.to_owned(),
        is_registering: true,
        object: node::ObjectSettings {
            declared_features: vec!["RestartAllContainersOnContainerExits".to_owned()],
            ..node::ObjectSettings::default()
        },
        seed: u64::from(number),
        capacity: CapacitySettings { max_pods, ..CapacitySettings::default() },
        sources: vec![Source::Api, Source::File],
        image_gc: images::policy(max_pods < 10),
        thresholds: pressure::thresholds(),
        pressure_transition: Duration::from_secs(30),
        max_eviction_grace_seconds: 20,
        ..Settings::default()
    }
}

impl Process {
    pub(crate) fn start(number: u32, at: Duration, max_pods: u32) -> Self {
        Self {
            node: Node::new(settings(number, max_pods)),
            number,
            born: at,
            watch: 0,
            watched_until: at,
            listed: 0,
            has_events: false,
            under_way: 0,
            knows: Knowledge::default(),
            is_registered: false,
            registered: BTreeSet::new(),
        }
    }

    /// How long it lives, by the clock that nobody sets.
    pub(crate) fn mono(&self, at: Duration) -> Duration {
        at.saturating_sub(self.born)
    }

    /// When it wants to be called, in the world's time.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.node.next_deadline().map(|mono| self.born + mono)
    }
}

/// The time by the API server's clock, which is right.
pub(crate) fn wall(at: Duration) -> Timestamp {
    Timestamp::from_second(EPOCH).unwrap_or(Timestamp::UNIX_EPOCH) + at
}

/// Whether the agent does it all by itself: then it goes no further than whoever asked for it.
pub(crate) fn is_own_work(action: &Action) -> bool {
    match action {
        // A call of a plugin ends with the connection it came by.
        Action::Plugin(_) => true,
        Action::Host(_) | Action::Volume(_) | Action::Probe(_) | Action::Checkpoint(_) => true,
        // A driver goes on with what it was asked for.
        Action::Runtime(_) | Action::Image(_) | Action::Api(_) | Action::Storage(_) => false,
    }
}
