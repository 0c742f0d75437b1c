//! What is being built, how far it is, and how long it took last time.
//!
//! Several steps may run side by side. Each tells how many of its parts are done; one thread shows them all, on a
//! terminal in a line that is written anew every second, elsewhere in a line every quarter of a minute. How long a step
//! took is kept in the cache for the next time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::workspace;

/// Shows steps until it is dropped.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    reporter: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when there is no more to show.
    ended: Condvar,
    /// Where durations are kept.
    file: PathBuf,
    /// Whether the line of what runs can be written anew.
    is_terminal: bool,
}

#[derive(Default)]
struct State {
    running: Vec<Running>,
    last_runs: BTreeMap<String, LastRun>,
    next_id: u64,
    has_ended: bool,
    has_failed: bool,
}

struct Running {
    id: u64,
    name: String,
    started: Instant,
    done: usize,
    total: usize,
    parts: &'static str,
}

/// How a step went the last time that it had something to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LastRun {
    seconds: f64,
    parts: usize,
}

/// Something that takes long. It ends when it is dropped.
pub(crate) struct Step<'a> {
    progress: &'a Progress,
    id: u64,
}

impl Progress {
    /// Starts to show steps, of which there are none yet.
    pub(crate) fn new() -> Result<Self> {
        let file = workspace::cache()?.join("durations.json");
        // Only a courtesy: a damaged file is written anew.
        let last_runs = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let state = Mutex::new(State { last_runs: last_runs.unwrap_or_default(), ..State::default() });
        let is_terminal = std::io::stderr().is_terminal();
        let shared = Arc::new(Shared { state, ended: Condvar::new(), file, is_terminal });
        let reporter = std::thread::spawn({
            let shared = shared.clone();
            move || shared.report()
        });
        Ok(Self { shared, reporter: Some(reporter) })
    }

    /// Begins to `build` or `download` something of so many parts, which are called `parts`.
    pub(crate) fn step(&self, verb: &str, name: &str, total: usize, parts: &'static str) -> Step<'_> {
        let mut state = self.shared.lock();
        let last =
            state.last_runs.get(name).map(|last| format!(", {}", last.text(parts))).unwrap_or_default();
        let size = if total > 0 { format!(": {total} {parts}") } else { String::new() };
        self.shared.print(&format!("==> {verb} {name}{size}{last}"));
        let id = state.next_id;
        state.next_id += 1;
        state.running.push(Running {
            id,
            name: name.to_owned(),
            started: Instant::now(),
            done: 0,
            total,
            parts,
        });
        Step { progress: self, id }
    }

    /// Prints a line of a program's output.
    pub(crate) fn say(&self, line: &str) {
        let _state = self.shared.lock();
        self.shared.print(line);
    }

    /// Says that a step has failed, so that those beside it need not go on.
    pub(crate) fn fail(&self) {
        self.shared.lock().has_failed = true;
    }

    /// An error once another step has failed.
    pub(crate) fn check(&self) -> Result<()> {
        if self.shared.lock().has_failed {
            bail!("given up because another step failed");
        }
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.ended.notify_all();
        if let Some(reporter) = self.reporter.take() {
            // It does nothing that could panic but for printing.
            let _ = reporter.join();
        }
    }
}

impl Step<'_> {
    /// Tells how many parts are done, of how many.
    pub(crate) fn reach(&self, done: usize, total: usize) {
        let mut state = self.progress.shared.lock();
        if let Some(step) = state.running.iter_mut().find(|step| step.id == self.id) {
            (step.done, step.total) = (done, total);
        }
    }

    /// Ends the step, which made so many parts anew, and remembers how long that took.
    pub(crate) fn finish(self, made: usize) -> Result<()> {
        let shared = &self.progress.shared;
        let mut state = shared.lock();
        let Some(step) = state.running.iter().find(|step| step.id == self.id) else { return Ok(()) };
        let took = LastRun { seconds: step.started.elapsed().as_secs_f64(), parts: made };
        let name = step.name.clone();
        shared.print(&format!("    {name}: {}", clock(took.seconds)));
        if made > 0 {
            state.last_runs.insert(name, took);
            let text = serde_json::to_vec_pretty(&state.last_runs)?;
            workspace::write(&shared.file, text)?;
        }
        Ok(())
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.progress.shared.lock().running.retain(|step| step.id != self.id);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) {
        let pause = Duration::from_secs(if self.is_terminal { 1 } else { 15 });
        let mut state = self.lock();
        let mut shown = Instant::now();
        while !state.has_ended {
            state = self.ended.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
            if state.running.is_empty() || shown.elapsed() < pause {
                continue;
            }
            shown = Instant::now();
            let text = line(&state.running, shown);
            if self.is_terminal {
                let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| size.ws_col);
                let text: String = text.chars().take(usize::from(columns.max(20)) - 1).collect();
                eprint!("\r\x1b[K{text}");
            } else {
                eprintln!("{text}");
            }
        }
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }

    /// Prints a line that stays.
    fn print(&self, text: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{text}");
    }
}

impl LastRun {
    fn text(self, parts: &str) -> String {
        format!("last time {} for {} {parts}", clock(self.seconds), self.parts)
    }
}

/// What runs, how far it is and for how long it has been running.
fn line(running: &[Running], now: Instant) -> String {
    let mut text = String::from("   ");
    for (index, step) in running.iter().enumerate() {
        let separator = if index == 0 { "" } else { " |" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator} {}", step.name);
        match (step.done, step.total) {
            (0, 0) => {}
            (done, 0) => drop(write!(text, " {done} {}", step.parts)),
            (done, total) => drop(write!(text, " {done} of {total} {}", step.parts)),
        }
        let _ = write!(text, " {}", clock(now.duration_since(step.started).as_secs_f64()));
    }
    text
}

/// Minutes and seconds.
fn clock(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    format!("{}:{:02}", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_far_each_step_is() {
        let now = Instant::now();
        let step = |name: &str, age: u64, done, total| Running {
            id: 0,
            name: name.to_owned(),
            started: now.checked_sub(Duration::from_secs(age)).unwrap(),
            done,
            total,
            parts: "packages",
        };
        let steps = [step("etcd", 65, 12, 340), step("runc", 5, 0, 0), step("modules", 600, 7, 0)];
        let expected = "    etcd 12 of 340 packages 1:05 | runc 0:05 | modules 7 packages 10:00";
        assert_eq!(line(&steps, now), expected);
    }

    #[test]
    fn remembers_how_long_a_step_took() {
        let past = LastRun { seconds: 125.4, parts: 340 };
        assert_eq!(past.text("packages"), "last time 2:05 for 340 packages");
        let kept = serde_json::to_string(&past).unwrap();
        assert_eq!(serde_json::from_str::<LastRun>(&kept).unwrap(), past);
    }
}
