//! The world: what happens when.

mod trouble;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::{ContainerId, Now, Pod, PodUid, RuntimeCondition, RuntimeFeatures, RuntimeHealth, pod};
use node::{
    Action, ApiAction, Effect, EffectId, HostAction, ImageAction, Input, Outcome, ProbeAction, Restored,
    RuntimeAction, RuntimeChange, Source, StorageAction, VolumeAction,
};
use recording::{Cutter, SegmentWriter, Snapshot};

use crate::api::{Api, Change};
use crate::checks::GroundTruth;
use crate::faults::FaultProfile;
use crate::host::Host;
use crate::plugins::Plugins;
use crate::pressure::Pressure;
use crate::process::{FaultOutcome, InFlight, Process, settings, wall};
use crate::rng::SimRng;
use crate::runtime::Runtime;
use crate::storage::{self, Storage};

/// How long after the last fault everything must be as it should be. The longest back-off is five
/// minutes, and two may follow each other.
const PATIENCE: Duration = Duration::from_secs(1500);
/// How long it may take until nothing happens any more, apart from routine: logs of pods go a minute after them.
const SETTLING: Duration = Duration::from_secs(65);
/// And for how long nothing may happen then.
const IDLE: Duration = Duration::from_secs(40);
/// More actions than this in one second mean that the core runs in circles.
const MOST_ACTIONS_A_SECOND: u32 = 400;

/// Steps after which a recording goes on in another segment.
const SEGMENT_STEPS: u64 = 97;

/// A history that broke a rule.
#[derive(Debug)]
pub struct Broken {
    /// Which history.
    pub seed: u64,
    /// Which rule, and how.
    pub rule: String,
    /// What happened, line by line.
    pub history: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.history {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.rule)
    }
}

impl std::error::Error for Broken {}

/// How a history went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Calls of the core.
    pub steps: u64,
    /// Actions it started.
    pub actions: u64,
    /// Virtual time until everything was as it should be.
    pub took: Duration,
}

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum SimEvent {
    /// An action takes effect.
    Effect(u32, EffectId),
    /// The second half of stopping a container: it has ended, or is killed.
    Reap(u32, EffectId),
    /// An action's result arrives.
    Result(u32, EffectId),
    /// What earlier processes have left was found.
    Restored(u32),
    /// Something is told to a process.
    Tell(u32, Box<Input>),
    /// A watch event, with the watch's number and the object's version.
    Watch(u32, u32, u64, Change),
    /// A full list of the API's pods.
    ListApi(u32, u32),
    /// A full list of static pods.
    ListFiles(u32),
    /// A list of images, and whether there is another one after it.
    ListImages(u32, bool),
    /// It is measured what the node has left.
    Sample(u32),
    /// Others use more of the node, or less.
    Pressure,
    /// The folder of plugins' sockets is told of.
    ListSockets(u32),
    /// Something happens to plugins.
    Plugins,
    /// The watch of the Node object tells of it.
    Node(u32),
    /// The controller of attachments looks.
    Controller,
    /// The runtime is asked how it is.
    Health(u32),
    /// A container ends by itself.
    Exit(ContainerId, i32),
    /// A sandbox dies.
    SandboxDies,
    /// A user does something.
    User,
    Restart,
    RuntimeAway(bool),
    ApiAway(bool),
    /// The node's clock is set to another time.
    ClockJumps,
    DiskFull(bool),
    /// No more faults are injected from here on.
    Settle,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: SimRng,
    pub(crate) faults: FaultProfile,
    pub(crate) at: Duration,
    /// How far the node's clock is ahead of the API server's.
    clock_ahead: SignedDuration,
    /// The most that was so far.
    pub(crate) most_ahead: SignedDuration,
    queue: BTreeMap<(Duration, u64), SimEvent>,
    sequence: u64,
    pub(crate) process: Process,
    pub(crate) in_flight: BTreeMap<(u32, EffectId), InFlight>,
    pub(crate) runtime: Runtime,
    pub(crate) api: Api,
    pub(crate) host: Host,
    pub(crate) plugins: Plugins,
    pub(crate) storage: Storage,
    pub(crate) pressure: Pressure,
    pub(crate) files: BTreeMap<String, Arc<Pod>>,
    pub(crate) next_uid: u32,
    pub(crate) truth: GroundTruth,
    pub(crate) is_settling: bool,
    /// Since it was last judged as a whole.
    has_changed: bool,
    history: Option<Vec<String>>,
    /// Recordings of the agent, in short segments, when they are wanted.
    recordings: Option<Vec<SegmentWriter<Vec<u8>>>>,
    broken: Option<String>,
    pub(crate) summary: Summary,
    /// The second that is counted, and the actions in it.
    rate: (u64, u32),
    /// Actions that are no routine, and the last of them.
    pub(crate) unusual: (u64, String),
}

/// Lets the world of this seed live.
///
/// # Errors
/// The first rule that was broken, with the history up to there.
pub fn run(seed: u64) -> Result<Summary, Broken> {
    let mut world = World::new(seed, false, None);
    world.live_or_panic();
    let Some(rule) = world.broken.take() else { return Ok(world.summary) };
    // Once more, this time taking notes.
    let mut world = World::new(seed, true, None);
    world.live_or_panic();
    let history = world.history.take().unwrap_or_default();
    Err(Broken { seed, rule, history })
}

/// Lets the world of this seed live, whether or not it keeps the rules, and returns what the agent was told and has
/// decided, in segments.
pub fn record(seed: u64) -> Vec<Vec<u8>> {
    let mut world = World::new(seed, false, Some(Vec::new()));
    world.live_or_panic();
    world.recordings.into_iter().flatten().map(|mut writer| std::mem::take(writer.out())).collect()
}

/// Begins a recording in memory.
fn begin_segment(snapshot: Snapshot) -> std::io::Result<SegmentWriter<Vec<u8>>> {
    // The same for the same seed: there are no secrets in a simulation.
    SegmentWriter::begin(Vec::new(), "sim", snapshot, Cutter::with_key(b"sim"))
}

/// What is done again and again without anything having happened.
fn is_routine(action: &Action) -> bool {
    matches!(
        action,
        Action::Runtime(RuntimeAction::Relist)
            | Action::Probe(ProbeAction::Attempt { .. })
            | Action::Host(HostAction::ReadPodCgroups { .. } | HostAction::TakeSample | HostAction::MeasurePods { .. })
            // One that is not taken is asked again and again.
            | Action::Plugin(_)
            // Whatever has happened: images are looked through every five minutes.
            | Action::Image(ImageAction::Remove { .. } | ImageAction::PruneRecords)
            // Some drivers want that.
            | Action::Storage(StorageAction::Publish { is_again: true, .. })
            // Claims whose volumes may grow are looked at every minute.
            | Action::Api(ApiAction::ResolveClaim { .. })
            // Once more some time after a write of which nobody knows how it ended.
            | Action::Api(ApiAction::WriteNodeStatus { .. } | ApiAction::ReadCsiNode)
    )
}

impl World {
    fn new(seed: u64, takes_notes: bool, recordings: Option<Vec<SegmentWriter<Vec<u8>>>>) -> Self {
        let mut rng = SimRng::new(seed);
        let faults = FaultProfile::of_history(&mut rng);
        // Not all pods have room.
        let cpu_millis = if rng.percent(30) { 2000 } else { 64_000 };
        // Users and files have about twice as many pods as such a node may run.
        let max_pods = if rng.percent(20) { 2 } else { 110 };
        let mut world = Self {
            rng,
            faults,
            at: Duration::from_secs(1),
            clock_ahead: SignedDuration::ZERO,
            most_ahead: SignedDuration::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            process: Process::start(1, Duration::from_secs(1), max_pods),
            in_flight: BTreeMap::new(),
            runtime: Runtime::default(),
            api: Api::default(),
            host: Host { cpu_millis, max_pods, ..Host::default() },
            plugins: Plugins::default(),
            storage: Storage::default(),
            pressure: Pressure::default(),
            files: BTreeMap::new(),
            next_uid: 0,
            truth: GroundTruth::default(),
            is_settling: false,
            has_changed: true,
            history: takes_notes.then(Vec::new),
            recordings,
            broken: None,
            summary: Summary::default(),
            rate: (0, 0),
            unusual: (0, String::new()),
        };
        world.truth.flavour = world.rng.number(0, 1000);
        world.note(|w| format!("{:?}", w.faults));
        world.begin_recording();
        world.plan();
        world
    }

    /// Spreads what is to happen over the time of fault injection.
    fn plan(&mut self) {
        let lasts = u32::try_from(self.faults.lasts.as_millis()).unwrap_or(u32::MAX);
        let w = self.faults.clone();
        for n in 0..self.rng.number(2, 8) {
            let after = if n == 0 { Duration::ZERO } else { self.rng.millis(0, lasts) };
            self.after(after, SimEvent::User);
        }
        for _ in 0..w.restarts {
            let after = self.rng.millis(0, lasts);
            self.after(after, SimEvent::Restart);
        }
        for _ in 0..w.sandbox_deaths {
            let after = self.rng.millis(0, lasts);
            self.after(after, SimEvent::SandboxDies);
        }
        for _ in 0..w.runtime_outages {
            let after = self.rng.millis(0, lasts);
            self.after(after, SimEvent::RuntimeAway(true));
        }
        for _ in 0..w.api_outages {
            let after = self.rng.millis(0, lasts);
            self.after(after, SimEvent::ApiAway(true));
        }
        for _ in 0..w.clock_jumps {
            let after = self.rng.millis(0, lasts);
            self.after(after, SimEvent::ClockJumps);
        }
        for _ in 0..w.disk_outages {
            let after = self.rng.millis(0, lasts);
            self.after(after, SimEvent::DiskFull(true));
        }
        for _ in 0..w.plugin_changes {
            let after = self.rng.millis(0, lasts);
            self.after(after, SimEvent::Plugins);
        }
        self.plan_pressure(lasts);
        self.storage.begin(&mut self.rng, w.lasts);
        self.after(Duration::from_secs(1), SimEvent::Controller);
        self.after(w.lasts, SimEvent::Settle);
        self.begin_process();
    }

    /// A process that starts has a recording of its own.
    fn begin_recording(&mut self) {
        if let Some(recordings) = &mut self.recordings {
            let snapshot = Snapshot::of_settings(&settings(self.process.number, self.host.max_pods));
            // Writing to memory does not fail.
            recordings.extend(snapshot.ok().and_then(|snapshot| begin_segment(snapshot).ok()));
        }
    }

    /// What a process that starts is told.
    fn begin_process(&mut self) {
        self.forget_samples();
        let number = self.process.number;
        let mut delay = self.delay();
        if self.rng.percent(self.faults.slow_starts) {
            delay += self.rng.millis(1, 40_000);
        }
        self.after(delay, SimEvent::Restored(number));
        let version = Input::RuntimeVersion { name: "containerd".to_owned(), version: String::new() };
        let stream = Input::EventStream { is_connected: !self.runtime.is_away };
        self.process.has_events = !self.runtime.is_away;
        let drivers = storage::driver_objects();
        for input in [version, stream, drivers] {
            let delay = self.delay();
            self.after(delay, SimEvent::Tell(number, Box::new(input)));
        }
        for event in [SimEvent::Health(number), SimEvent::ListFiles(number), SimEvent::ListSockets(number)] {
            let delay = self.delay();
            self.after(delay, event);
        }
        self.begin_images();
        if !self.api.is_away {
            self.list_api();
        }
    }

    /// A core that panics has broken a rule, too.
    fn live_or_panic(&mut self) {
        let lived = catch_unwind(AssertUnwindSafe(|| self.live()));
        if let Err(panic) = lived {
            let text = panic.downcast_ref::<String>().cloned();
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default();
            self.broke(format!("panics: {text}"));
        }
    }

    fn live(&mut self) {
        let mut idle_since: Option<(Duration, u64)> = None;
        let mut settling_since = None;
        let mut lacks = String::new();
        while self.broken.is_none() {
            self.advance();
            if !self.is_settling {
                continue;
            }
            let settling_since = *settling_since.get_or_insert(self.at);
            match idle_since {
                None => {
                    if std::mem::take(&mut self.has_changed) {
                        let Err(why) = self.is_as_it_should_be().and_then(|()| self.is_quiet(true)) else {
                            self.summary.took = self.at;
                            idle_since = Some((self.at + SETTLING, 0));
                            continue;
                        };
                        lacks = why;
                    }
                    if self.at > settling_since + PATIENCE {
                        self.broke(format!("not as it should be long after the last fault: {lacks}"));
                    }
                }
                Some((since, 0)) if self.at >= since => {
                    if let Err(why) = self.is_as_it_should_be().and_then(|()| self.is_quiet(false)) {
                        // A late effect of a fault.
                        idle_since = None;
                        lacks = why;
                        continue;
                    }
                    idle_since = Some((since, self.unusual.0.max(1)));
                    self.unusual.0 = self.unusual.0.max(1);
                }
                Some((since, before)) if self.at > since => {
                    if self.unusual.0 > before {
                        self.broke(format!("works although there is nothing to do: {}", self.unusual.1));
                    }
                    if self.at > since + IDLE {
                        if let Err(why) = self.is_as_it_should_be() {
                            self.broke(format!("did not stay as it should be: {why}"));
                        }
                        return;
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// Whether no late effect of a fault is still to come. A relist counts when it may be one of its.
    fn is_quiet(&self, counts_relist: bool) -> Result<(), String> {
        if self.api.is_away || self.runtime.is_away {
            return Err("the API server or the runtime is away".to_owned());
        }
        let mut under_way =
            self.in_flight.iter().filter(|((p, _), f)| *p == self.process.number && !f.is_told);
        if let Some(((_, id), _)) = under_way.find(|(_, f)| {
            // A plugin's answer may still undo its registration.
            !is_routine(&f.action)
                || matches!(f.action, Action::Plugin(_))
                || counts_relist && f.action == Action::Runtime(RuntimeAction::Relist)
        }) {
            return Err(format!("#{} is under way", id.0));
        }
        for event in self.queue.values() {
            match event {
                SimEvent::Exit(id, _)
                    if self.runtime.containers.get(id).is_some_and(|c| c.seen.state.is_running()) =>
                {
                    return Err(format!("{id} is going to end"));
                }
                SimEvent::Effect(process, id) => {
                    let is_late =
                        self.in_flight.get(&(*process, *id)).is_some_and(|f| f.is_told && !f.is_void);
                    if is_late {
                        return Err(format!("#{} is going to take effect", id.0));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the world may be another after this, as far as rules about it go. Nothing but this happens for most of a
    /// history's end, and going through the world each time would be most of the work.
    fn may_change(&self, event: &SimEvent) -> bool {
        match event {
            SimEvent::Health(_) | SimEvent::Controller | SimEvent::Sample(_) | SimEvent::ListImages(..) => {
                false
            }
            SimEvent::Effect(process, id) | SimEvent::Result(process, id) => {
                let action = self.in_flight.get(&(*process, *id)).map(|pending| &pending.action);
                !matches!(action, Some(Action::Probe(_) | Action::Api(ApiAction::WriteNodeStatus { .. })))
            }
            _ => true,
        }
    }

    /// Lets the next thing happen.
    fn advance(&mut self) {
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.process.deadline();
        match (next, deadline) {
            (next, Some(deadline)) if next.is_none_or(|next| deadline <= next) => {
                self.at = self.at.max(deadline);
                self.tell(Input::Tick);
                let is_past = self.process.deadline().is_some_and(|d| d <= self.at);
                self.truth.past_deadlines = if is_past { self.truth.past_deadlines + 1 } else { 0 };
                if self.truth.past_deadlines > 3 {
                    self.broke("wants to be called again and again at the same moment".to_owned());
                }
            }
            (Some(_), _) => {
                if let Some(((at, _), event)) = self.queue.pop_first() {
                    self.at = self.at.max(at);
                    self.happen(event);
                }
            }
            (None, _) => self.broke("nothing will ever happen again".to_owned()),
        }
    }

    fn happen(&mut self, event: SimEvent) {
        self.has_changed |= self.may_change(&event);
        let current = self.process.number;
        match event {
            SimEvent::Effect(process, id) => self.take_effect(process, id),
            SimEvent::Reap(process, id) => self.reap(process, id),
            SimEvent::Result(process, id) => self.finish(process, id),
            SimEvent::Restored(process) if process == current => self.look_back(),
            SimEvent::Tell(process, input) if process == current => {
                if let Input::EventStream { is_connected } = *input {
                    self.process.has_events = is_connected;
                }
                self.tell(*input);
            }
            SimEvent::Watch(process, watch, version, change) => {
                if process == current && watch == self.process.watch && version > self.process.listed {
                    self.tell(match change {
                        Change::Applied(pod) => Input::PodApplied { source: Source::Api, pod },
                        Change::Deleted(uid) => Input::PodDeleted { source: Source::Api, uid },
                    });
                }
            }
            SimEvent::ListApi(process, watch) if process == current && watch == self.process.watch => {
                if self.api.is_away {
                    return;
                }
                self.process.listed = self.api.version();
                let pods = self.api.pods.values().cloned().collect();
                self.tell(Input::PodsListed { source: Source::Api, pods });
            }
            SimEvent::ListFiles(process) if process == current => {
                let pods = self.files.values().cloned().collect();
                self.tell(Input::PodsListed { source: Source::File, pods });
            }
            SimEvent::ListSockets(process) if process == current => self.list_sockets(),
            SimEvent::ListImages(process, is_regular) if process == current => self.list_images(is_regular),
            SimEvent::Sample(process) if process == current => self.take_sample(),
            SimEvent::Plugins => self.plugins_change(),
            SimEvent::Pressure => self.pressure_changes(),
            SimEvent::Controller => self.controller_looks(),
            SimEvent::Node(process) if process == current => self.node_changes(),
            SimEvent::Health(process) if process == current => self.ask_health(),
            SimEvent::Exit(id, code) => {
                if self.end_container(&id, code) {
                    self.note(|_| format!("{id} ends by itself with {code}"));
                }
            }
            SimEvent::SandboxDies => self.sandbox_dies(),
            SimEvent::User => self.user_acts(),
            SimEvent::Restart => self.restart(),
            SimEvent::RuntimeAway(is_away) => self.runtime_away(is_away),
            SimEvent::ApiAway(is_away) => self.api_away(is_away),
            SimEvent::ClockJumps => self.clock_jumps(),
            SimEvent::DiskFull(is_full) => self.disk_full(is_full),
            SimEvent::Settle => self.settle(),
            SimEvent::Restored(_)
            | SimEvent::Tell(..)
            | SimEvent::ListApi(..)
            | SimEvent::ListFiles(_)
            | SimEvent::ListSockets(_)
            | SimEvent::ListImages(..)
            | SimEvent::Sample(_)
            | SimEvent::Node(_)
            | SimEvent::Health(_) => {}
        }
    }

    /// The agent is told what earlier ones have left.
    fn look_back(&mut self) {
        let machine = self.host.machine();
        let (pods, files) = (self.host.found(), self.host.read_files());
        self.storage.process_ended();
        let restored = Restored { machine, pods, files, volumes: self.storage.found() };
        self.tell(Input::Restored(Box::new(restored)));
    }

    fn settle(&mut self) {
        self.note(|_| "---- no more faults".to_owned());
        self.faults = FaultProfile::none();
        self.is_settling = true;
        self.pressure_ends();
        self.drivers_come();
        self.queue.retain(|_, h| {
            !matches!(
                h,
                SimEvent::Restart
                    | SimEvent::RuntimeAway(true)
                    | SimEvent::ApiAway(true)
                    | SimEvent::DiskFull(true)
                    | SimEvent::SandboxDies
                    | SimEvent::ClockJumps
                    | SimEvent::Plugins
                    | SimEvent::Pressure
                    | SimEvent::User
            )
        });
    }

    fn ask_health(&mut self) {
        let met = || RuntimeCondition { is_met: true, reason: String::new(), message: String::new() };
        let health = if self.runtime.is_away {
            Err("away".to_owned())
        } else {
            Ok(RuntimeHealth {
                runtime: met(),
                network: met(),
                handlers: Vec::new(),
                features: RuntimeFeatures::default(),
            })
        };
        let again = Duration::from_secs(if self.runtime.is_away { 1 } else { 5 });
        self.tell(Input::RuntimeHealth(health));
        self.after(again, SimEvent::Health(self.process.number));
    }

    /// Gives the core one input and carries out what it decides.
    pub(crate) fn tell(&mut self, input: Input) {
        if self.broken.is_some() {
            return;
        }
        self.note(|_| input.to_string());
        self.learn(&input);
        self.summary.steps += 1;
        let now = self.now();
        let told = self.recordings.is_some().then(|| input.clone());
        let effects = self.process.node.step(now, input);
        if let Some(told) = told
            && let Some(writer) = self.recordings.iter_mut().flatten().last()
            && let Err(error) = writer.step(now, told, Some(&effects))
        {
            self.broke(format!("cannot be recorded: {error}"));
        }
        if let Some(recordings) = &mut self.recordings
            && self.summary.steps.is_multiple_of(SEGMENT_STEPS)
        {
            // What the agent knows is written down, and another goes on from there.
            let snapshot = Snapshot::of_node(&self.process.node).map_err(std::io::Error::from);
            match snapshot.and_then(begin_segment) {
                Ok(segment) => recordings.push(segment),
                Err(error) => self.broke(format!("what it knows cannot be recorded: {error}")),
            }
        }
        for effect in effects {
            match effect {
                Effect::Start { id, action } => {
                    self.note(|_| format!("    #{} {}", id.0, action));
                    self.count(&action);
                    self.check_start(id, &action);
                    self.begin(id, action);
                }
                Effect::Cancel(id) => {
                    self.note(|_| format!("    cancel #{}", id.0));
                    self.cancel(id);
                }
                Effect::Record(event) => {
                    self.note(|_| format!("    event {}: {}", event.reason, event.message));
                    self.check_event(&event);
                }
            }
        }
        self.check_explained();
        let (said, counted) = (self.process.node.in_flight(), self.process.under_way);
        if said != counted {
            self.broke(format!("{counted} actions are under way, and the core knows of {said}"));
        }
    }

    fn count(&mut self, action: &Action) {
        self.summary.actions += 1;
        self.process.under_way += 1;
        let second = self.at.as_secs();
        self.rate = if self.rate.0 == second { (second, self.rate.1 + 1) } else { (second, 1) };
        if self.rate.1 > MOST_ACTIONS_A_SECOND {
            self.broke("runs in circles".to_owned());
        }
        // A pod's logs go a minute after its folder, whenever that went.
        let follows = match action {
            Action::Volume(VolumeAction::RemoveFolder { uid, .. }) => {
                self.truth.keeps_logs.insert(uid.clone());
                false
            }
            Action::Host(HostAction::RemovePodLogs { uid, .. }) => self.truth.keeps_logs.remove(uid),
            _ => false,
        };
        if !is_routine(action) && !follows {
            self.unusual.0 += 1;
            self.unusual.1 = action.to_string();
        }
    }

    /// An action's result reaches the core.
    fn finish(&mut self, process: u32, id: EffectId) {
        let Some(pending) = self.in_flight.get_mut(&(process, id)) else { return };
        if std::mem::replace(&mut pending.is_told, true) || process != self.process.number {
            return;
        }
        let outcome = pending.outcome.take().unwrap_or(Outcome::Cancelled);
        self.process.under_way -= 1;
        self.tell(Input::Finished { id, outcome });
    }

    // ---- for the other modules ----

    /// The time by the node's clock.
    pub(crate) fn clock(&self) -> Timestamp {
        wall(self.at) + self.clock_ahead
    }

    /// What the present process takes for the time.
    fn now(&self) -> Now {
        Now { wall: self.clock(), mono: self.process.mono(self.at) }
    }

    /// The world is to be judged anew.
    pub(crate) fn mark_changed(&mut self) {
        self.has_changed = true;
    }

    /// Queues something.
    pub(crate) fn after(&mut self, delay: Duration, event: SimEvent) {
        self.sequence += 1;
        self.queue.insert((self.at + delay, self.sequence), event);
    }

    /// How long something takes.
    pub(crate) fn delay(&mut self) -> Duration {
        let slowness = self.faults.slowness;
        self.rng.millis(1, slowness.max(1))
    }

    /// Whether an action of this moment fails, and how.
    pub(crate) fn fault(&mut self) -> FaultOutcome {
        let w = &self.faults;
        let (a, b, c) = (w.fails, w.fails_after, w.fails_before_effect);
        if self.rng.percent(a) {
            FaultOutcome::Fails
        } else if self.rng.percent(b) {
            FaultOutcome::FailsAfterEffect
        } else if self.rng.percent(c) {
            FaultOutcome::FailsBeforeEffect
        } else {
            FaultOutcome::Succeeds
        }
    }

    /// The runtime tells of a change, perhaps.
    pub(crate) fn hint(&mut self, uid: &PodUid, id: &str, change: RuntimeChange) {
        if !self.process.has_events || self.rng.percent(self.faults.hint_lost) {
            return;
        }
        let times = if self.rng.percent(self.faults.hint_repeated) { 2 } else { 1 };
        for _ in 0..times {
            let input = Input::RuntimeHint { uid: uid.clone(), container: ContainerId::from(id), change };
            let delay = self.delay();
            self.after(delay, SimEvent::Tell(self.process.number, Box::new(input)));
        }
    }

    /// The API server tells of a change, in order.
    pub(crate) fn announce(&mut self, change: Change) {
        if self.api.is_away {
            return;
        }
        if self.rng.percent(self.faults.relists) {
            self.list_api();
            return;
        }
        let (process, watch, version) = (self.process.number, self.process.watch, self.api.version());
        let times = if self.rng.percent(self.faults.watch_repeated) { 2 } else { 1 };
        for _ in 0..times {
            let at = (self.at + self.delay()).max(self.process.watched_until);
            self.process.watched_until = at;
            self.after(at.saturating_sub(self.at), SimEvent::Watch(process, watch, version, change.clone()));
        }
    }

    /// The watch breaks and begins anew with a full list.
    fn list_api(&mut self) {
        self.process.watch += 1;
        let at = self.at + self.delay();
        self.process.watched_until = at;
        self.after(at.saturating_sub(self.at), SimEvent::ListApi(self.process.number, self.process.watch));
    }

    /// Static pods changed.
    pub(crate) fn files_changed(&mut self) {
        let delay = self.delay();
        self.after(delay, SimEvent::ListFiles(self.process.number));
    }

    /// Ends the history: a rule is broken.
    pub(crate) fn broke(&mut self, rule: String) {
        self.note(|_| format!("BROKEN: {rule}"));
        self.broken.get_or_insert(rule);
    }

    /// Takes a note when somebody will read it.
    pub(crate) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.history.is_some() {
            let text = format!("{:>9.3} {}", self.at.as_secs_f64(), line(self));
            if let Some(history) = &mut self.history {
                history.push(text);
            }
        }
    }

    /// A pod by its uid, from wherever it comes.
    pub(crate) fn wanted(&self, uid: &PodUid) -> Option<&Arc<Pod>> {
        self.api
            .pods
            .get(uid)
            .filter(|p| !pod::is_mirror(p))
            .or_else(|| self.files.values().find(|p| pod::uid(p) == *uid))
    }
}
