//! The driver: the event loop around the core, where it meets time, its inputs and those who carry out its effects.
//!
//! Tasks and channels:
//! - one **driver** ([`Driver::run`]) owns the [`node::Node`]. It takes inputs from the inbox, gives
//!   them to the core with the time, dispatches the effects and publishes the view. It never
//!   awaits anything but the inbox and the core's next deadline.
//! - one **task for each effect** under way ([`executor`](crate::executor)), with a cancellation token; it ends in
//!   exactly one `Finished` input, also when it panics.
//! - a few **watchers** ([`watchers`](crate::watchers)): sources of pods, runtime events, health, measurements.
//!
//! The inbox is bounded; whoever cannot deliver waits, so that a burst slows its source down and
//! loses nothing. The driver never sends to it, so it cannot wait for itself.

mod heap_trim;
mod orphans;
pub(crate) mod recording;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::recording::Recorder;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use model::Now;
use node::{Action, Effect, EffectId, EventObject, EventRecord, Input, Node, Outcome, View};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, trace};

use self::recording::RecorderCommand;
use crate::executor::{self, adapters::Adapters};
use crate::observe::metering::Metering;
use crate::observe::sync_loop_health::{MarkEndedOnDrop, SyncLoopHealth};
use heap_trim::HeapTrimmer;

/// Room for every result of a node of 110 pods that starts all at once (about five actions a
/// pod), and for what its watchers bring meanwhile.
const INBOX: usize = 1024;
/// Inputs taken in before the view is published, so that a burst costs one picture and not one
/// picture an input.
const BATCH: usize = 64;

/// Both ends of the inbox.
pub(crate) fn inbox() -> (mpsc::Sender<Input>, mpsc::Receiver<Input>) {
    mpsc::channel(INBOX)
}

/// The clock of this process: wall time, and time since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        Now { wall: jiff::Timestamp::now(), mono: self.started.elapsed() }
    }

    fn instant(self, mono: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + mono)
    }
}

/// Carries out what the core decided.
pub(crate) struct Executor {
    /// Performs one action to its end, unless its token is cancelled before.
    pub(crate) perform: Box<dyn Fn(Action, CancellationToken) -> BoxFuture<'static, Outcome> + Send>,
    /// Hands an event to the recorder.
    pub(crate) record: Box<dyn Fn(EventRecord) + Send>,
}

impl Executor {
    /// An executor that reaches the runtime, the disk and the API server.
    pub(crate) fn new(adapters: Arc<Adapters>) -> Self {
        let for_events = adapters.clone();
        Self {
            perform: Box::new(move |action, cancel| {
                executor::carry_out(adapters.clone(), action, cancel).boxed()
            }),
            record: Box::new(move |event| for_events.api.api.record(event)),
        }
    }
}

/// At upstream's level, and with its names.
fn log_event(event: &EventRecord) {
    let r#type = if event.is_warning { "Warning" } else { "Normal" };
    let (object, kind, path) = match &event.about {
        EventObject::Node => (String::new(), "Node", ""),
        EventObject::Pod { key, field_path, .. } => {
            (key.to_string(), "Pod", field_path.as_deref().unwrap_or_default())
        }
        EventObject::Claim { name, .. } => (name.to_string(), "PersistentVolumeClaim", ""),
    };
    let (reason, message) = (event.reason.as_ref(), event.message.as_str());
    // `message` alone is what tracing calls the words of the line itself; the log leaves the underscore out.
    match &event.about {
        // Few, and what a node is short of or why it is not ready is asked for afterwards.
        EventObject::Node => info!(v = 2, kind, r#type, reason, message_ = message, "Event occurred"),
        EventObject::Pod { .. } | EventObject::Claim { .. } => {
            info!(
                v = 3,
                object,
                fieldPath = path,
                kind,
                r#type,
                reason,
                message_ = message,
                "Event occurred"
            );
        }
    }
}

/// The driver's state.
pub(crate) struct Driver {
    pub(crate) core: Node,
    pub(crate) clock: Clock,
    pub(crate) executor: Executor,
    pub(crate) inbox: mpsc::Receiver<Input>,
    pub(crate) results: mpsc::Sender<Input>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) running: HashMap<EffectId, Running>,
    pub(crate) sync_loop: Arc<SyncLoopHealth>,
    pub(crate) metering: Metering,
    /// Writes down what the core is told and decides, where that is wanted.
    pub(crate) recorder: Option<Recorder>,
    /// To begin a recording, or to end it.
    pub(crate) recorder_commands: mpsc::Receiver<RecorderCommand>,
}

/// An effect under way.
pub(crate) struct Running {
    /// Monotonic time of its start.
    since: Duration,
    token: CancellationToken,
}

impl Driver {
    /// Drives the core until `stop` is cancelled. Effects under way are then abandoned: the next
    /// process starts from what it observes.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut trimmer = HeapTrimmer::default();
        let _mark_ended = MarkEndedOnDrop(self.sync_loop.clone());
        loop {
            let deadline = self.core.next_deadline().map(|at| self.clock.instant(at));
            let wake = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            self.sync_loop.end_round();
            // All arms are cancel-safe: a token, channel receivers, and a sleep that is made anew in
            // every round.
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                input = self.inbox.recv() => match input {
                    Some(input) => input,
                    None => break,
                },
                Some(command) = self.recorder_commands.recv() => {
                    self.run_recorder_command(command);
                    continue;
                }
                () = wake => Input::Tick,
            };
            self.sync_loop.begin_round();
            let now = self.clock.now().mono;
            let under_way = self.running.values().map(|effect| effect.since);
            let is_quiet = matches!(input, Input::Tick) && heap_trim::is_quiet(now, under_way);
            self.take(input);
            for _ in 1..BATCH {
                match self.inbox.try_recv() {
                    Ok(input) => self.take(input),
                    Err(_) => break,
                }
            }
            if is_quiet {
                trimmer.trim_if_worth_it(now);
            }
            let view = self.core.view();
            orphans::tell(&self.view.borrow(), &view);
            self.view.send_replace(view);
        }
        for effect in self.running.values() {
            effect.token.cancel();
        }
        self.tasks.close();
    }

    fn take(&mut self, input: Input) {
        let now = self.clock.now();
        self.metering.on_input(now, &input);
        let finished = match &input {
            Input::Finished { id, outcome } => {
                self.running.remove(id);
                trace!(effect = id.0, ?outcome, "effect finished");
                Some(*id)
            }
            _ => None,
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.told(now, &input);
        }
        let effects = self.core.step(now, input);
        if let Some(recorder) = &mut self.recorder {
            recorder.decided(&effects, &self.core);
        }
        for effect in effects {
            self.dispatch(now, effect);
        }
        if let Some(id) = finished {
            self.metering.on_finished(now, id);
        }
    }

    fn dispatch(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Record(event) => {
                log_event(&event);
                (self.executor.record)(event);
            }
            Effect::Cancel(id) => {
                if let Some(effect) = self.running.get(&id) {
                    effect.token.cancel();
                }
            }
            Effect::Start { id, action } => {
                self.metering.on_started(now, id, &action);
                let token = CancellationToken::new();
                self.running.insert(id, Running { since: now.mono, token: token.clone() });
                let work = (self.executor.perform)(action, token);
                let results = self.results.clone();
                self.tasks.spawn(async move {
                    let outcome = work.await;
                    // Waits while the inbox is full. Only a driver that has ended has none any more.
                    let _ = results.send(Input::Finished { id, outcome }).await;
                });
            }
        }
    }
}
