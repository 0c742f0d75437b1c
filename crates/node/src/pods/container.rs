//! The record of a container and of each of its instances: what is remembered beyond what the runtime shows of them.
//!
//! An instance begins with its postStart hook. It ends when its own probes or hook ask for that, when the plan says
//! so, or with its pod, and then goes on its way out, from the announcement to the signals.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use model::probe::ProbeKind;
use model::reason::waiting;
use model::{ContainerId, ImageRef};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::backoff::{Backoff, Retry};
use super::image_record::ImageRecord;
use super::probe_state::ProbeState;

/// The record of a container: what is remembered beyond its observation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// The image for its next start.
    pub(crate) image: ImageRecord,
    /// The images that the last start was made with, as long as no result says that it was.
    #[serde(default)]
    pub(crate) started_from: Vec<ImageRef>,
    /// Restarts.
    pub(crate) restart_backoff: Backoff,
    /// Why it does not run, for `state.waiting`.
    pub(crate) waiting: Option<Waiting>,
    /// That is what is wrong with the image of a volume.
    pub(crate) is_waiting_for_volume: bool,
    /// When a start that failed without leaving a container is tried again.
    pub(crate) start_retry: Option<Retry>,
    /// The highest restart count given so far, since a removed container takes its own with it.
    pub(crate) last_attempt: Option<u32>,
    /// Those that the runtime holds, as far as there is something to remember of them.
    // Boxed for the room that a node of the tree keeps for others.
    pub(crate) instances: BTreeMap<ContainerId, Box<Instance>>,
}

impl ContainerRecord {
    pub(crate) fn instance(&self, id: &ContainerId) -> Option<&Instance> {
        self.instances.get(id).map(Box::as_ref)
    }

    /// What is remembered of an instance, made when there is none.
    pub(crate) fn instance_mut(&mut self, id: &ContainerId) -> &mut Instance {
        self.instances.entry(id.clone()).or_default()
    }

    /// Whether an instance was ended so that another can take its place.
    pub(crate) fn is_replaced(&self, id: &ContainerId) -> bool {
        self.instance(id).is_some_and(|i| i.replaced.is_some())
    }

    /// What was to take the place of an instance has failed: from here on it counts how that one ended.
    pub(crate) fn replacement_failed(&mut self) {
        self.instances.values_mut().for_each(|i| i.replaced = None);
    }
}

/// One instance of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// How far its start is.
    pub(crate) stage: Stage,
    /// Per probe.
    pub(crate) probes: BTreeMap<ProbeKind, ProbeState>,
    /// Why it must end: what its probes or its postStart hook came to.
    pub(crate) kill: Option<KillCause>,
    /// How far its end is; `None` as long as nobody ends it.
    pub(crate) ending: Option<Ending>,
    /// It was ended so that another can take its place.
    pub(crate) replaced: Option<Replaced>,
    /// What was done about its end.
    pub(crate) answer: Answer,
}

/// How far the start of an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The runtime holds it, and no result said that it was started.
    #[default]
    Found,
    /// Its postStart hook runs, or has failed.
    PostStart,
    /// Its postStart hook is done, or there is none.
    Started,
}

/// The way out of a running instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// When it gets SIGKILL, monotonic. Only ever moves closer.
    pub(crate) deadline: Duration,
    /// How far it is.
    pub(crate) step: EndStep,
}

/// How far the end of an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EndStep {
    /// A `Killing` event told of it.
    Announced,
    /// Its preStop hook runs.
    PreStop,
    /// Nothing but its turn holds back the signals: its preStop hook is done or was given up, or a stop has failed.
    Due,
    /// The runtime stops it.
    Signalled {
        /// The deadline that the stop was given, monotonic.
        by: Duration,
    },
    /// The stop was cancelled, to be asked for again with a closer deadline.
    Recalled,
    /// It was stopped for certain after the runtime had lost track of it. How it ended nobody knows.
    Lost,
}

/// An instance that was ended so that another can take its place: how it ends says nothing about
/// whether it is started again, until that has failed once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    /// When the instance before it had ended, wall clock: the back-off counts from there.
    pub(crate) previous_end: Option<Timestamp>,
}

/// What was done about the end of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Nothing.
    #[default]
    None,
    /// An event told that its successor waits out the back-off.
    BackOff,
    /// A start of its successor, which has advanced the back-off once, however often it is tried.
    Start,
}

/// `state.waiting` of a container, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// CamelCase.
    #[serde(deserialize_with = "known_reason")]
    pub(crate) reason: Reason,
    /// For people.
    pub(crate) message: String,
    /// Since when, monotonic.
    pub(crate) since: Duration,
    /// When something happens by itself, monotonic.
    pub(crate) next_at: Option<Duration>,
}

/// One of those that are used.
type Reason = &'static str;

fn known_reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
    let text = String::deserialize(deserializer)?;
    waiting::known(&text).ok_or_else(|| D::Error::custom(format!("{text} is no reason to wait")))
}

/// Why a running container is ended while its pod goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KillCause {
    /// Its liveness probe failed.
    Liveness,
    /// Its startup probe failed.
    Startup,
    /// Its postStart hook failed.
    PostStart,
    /// Its spec changed.
    Changed,
    /// Its sandbox is being replaced.
    SandboxGone,
    /// The runtime lost track of it: it may run still.
    Lost,
}
