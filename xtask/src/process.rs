//! Long-running programs of a cluster: each has a log file and one task that owns the process.
//!
//! A [`Service`] is a handle. Requests (start, stop) go to the owner over a queue; whether the process runs is
//! published, so that waiting for a service to answer ends at once when it has died.

use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// How long a program may take to end after SIGTERM before it is killed.
const STOP_SECONDS: u64 = 30;

/// How a program is started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Also the name of the log file.
    pub(crate) name: &'static str,
    /// The executable.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Cgroup folders it is started in.
    pub(crate) cgroups: Vec<PathBuf>,
    /// A folder put in front of `PATH`.
    pub(crate) search: Option<PathBuf>,
    /// Variables of its environment beside those it inherits.
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

impl Program {
    /// A program with arguments, one a word.
    pub(crate) fn new(
        name: &'static str,
        path: PathBuf,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { name, path, args, cgroups: Vec::new(), search: None, environment: Vec::new() }
    }
}

/// Whether a service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not started, or stopped on request.
    Stopped,
    /// Running under this pid.
    Running(u32),
    /// Ended by itself.
    Ended(String),
}

enum Request {
    Start(oneshot::Sender<Result<()>>),
    Stop(Signal, oneshot::Sender<Result<()>>),
}

/// A handle on a program of the cluster.
#[derive(Clone)]
pub(crate) struct Service {
    name: &'static str,
    log: PathBuf,
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
}

impl Service {
    /// Makes the owner of a program that is not started yet; its output will be appended to a file in `logs`.
    pub(crate) fn new(program: Program, logs: &Path) -> Self {
        let log = logs.join(format!("{}.log", program.name));
        // Callers wait for each answer; few scenarios act on one service at a time.
        let (requests, inbox) = mpsc::channel(8);
        let (publish, state) = watch::channel(State::Stopped);
        let name = program.name;
        tokio::spawn(Owner { program, log: log.clone(), publish, child: None }.serve(inbox));
        Self { name, log, requests, state }
    }

    /// Starts the program.
    pub(crate) async fn start(&self) -> Result<()> {
        self.ask(Request::Start).await.with_context(|| format!("start {}", self.name))
    }

    /// Ends it with SIGTERM and waits until it is gone.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.ask(|reply| Request::Stop(Signal::TERM, reply))
            .await
            .with_context(|| format!("stop {}", self.name))
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.ask(|reply| Request::Stop(Signal::KILL, reply))
            .await
            .with_context(|| format!("kill {}", self.name))
    }

    /// Stops and starts it.
    pub(crate) async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// The pid, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match *self.state.borrow() {
            State::Running(pid) => Some(pid),
            State::Stopped | State::Ended(_) => None,
        }
    }

    /// The log file.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Returns when the program has ended by itself, with an error that holds the end of its log.
    pub(crate) async fn died(&self) -> anyhow::Error {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_))).await;
        let how = match ended.as_deref() {
            Ok(State::Ended(how)) => how.clone(),
            _ => "its owner is gone".to_owned(),
        };
        anyhow!("{} ended: {how}\n{}", self.name, tail(&self.log, 20))
    }

    /// Tries `probe` until it succeeds. A program that has just been started tells nobody when it listens, so
    /// this tries several times a second, until the deadline or the program's end.
    pub(crate) async fn answers<T, F>(&self, limit: Duration, mut probe: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let deadline = Instant::now() + limit;
        loop {
            // Cancel-safe: a dropped probe is simply tried again, `died` only reads.
            let tried = tokio::select! {
                tried = tokio::time::timeout_at(deadline, probe()) => tried,
                error = self.died() => return Err(error),
            };
            match tried {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(200)).await
                }
                Ok(Err(error)) => {
                    return Err(error.context(format!(
                        "{} does not answer\n{}",
                        self.name,
                        tail(&self.log, 20)
                    )));
                }
                Err(_) => bail!("{} did not answer in {limit:?}\n{}", self.name, tail(&self.log, 20)),
            }
        }
    }

    async fn ask(&self, request: impl FnOnce(oneshot::Sender<Result<()>>) -> Request) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| anyhow!("its owner is gone"))?;
        answer.await.context("its owner is gone")?
    }
}

/// The programs that one scenario starts. Its handles on them are gone when it fails, but ending takes a program its
/// time, and whoever comes next has to wait for that: so there is a second handle on each here.
#[derive(Default)]
pub(crate) struct ScenarioPrograms(Mutex<Vec<Service>>);

impl ScenarioPrograms {
    /// Keeps a handle.
    pub(crate) fn admit(&self, service: Service) -> Service {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(service.clone());
        service
    }

    /// Ends all that still run, and returns when they are gone.
    pub(crate) async fn end(&self) -> Result<()> {
        let programs = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ended = Ok(());
        for program in programs {
            ended = ended.and(program.stop().await);
        }
        ended
    }
}

/// The last lines of a log file.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    let last: Vec<String> =
        last.iter().map(|line| format!("    | {}", line.chars().take(400).collect::<String>())).collect();
    last.join("\n")
}

struct Owner {
    program: Program,
    log: PathBuf,
    publish: watch::Sender<State>,
    child: Option<Child>,
}

impl Owner {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            // Cancel-safe: `recv` loses no request, and a child's exit status is kept by the child.
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(Request::Start(reply)) => {
                        // Whoever asked may have been cancelled.
                        let _ = reply.send(self.start());
                    }
                    Some(Request::Stop(signal, reply)) => {
                        let _ = reply.send(self.stop(signal).await);
                    }
                    None => {
                        let _ = self.stop(Signal::TERM).await;
                        return;
                    }
                },
                ended = exit(self.child.as_mut()) => {
                    self.child = None;
                    self.publish.send_replace(State::Ended(ended));
                }
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        let child = self.command().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("run {}", self.program.path.display()))?;
        self.publish.send_replace(child.id().map_or(State::Stopped, State::Running));
        self.child = Some(child);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = if self.program.cgroups.is_empty() {
            Command::new(&self.program.path)
        } else {
            let mut enter = Command::new("/proc/self/exe");
            enter.arg("enter");
            for group in &self.program.cgroups {
                enter.arg("--cgroup").arg(group);
            }
            enter.arg("--").arg(&self.program.path);
            enter
        };
        command.args(&self.program.args);
        command.envs(self.program.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.program.search {
            let mut path = folder.clone().into_os_string();
            path.push(":");
            path.push(std::env::var_os("PATH").unwrap_or_default());
            command.env("PATH", path);
        }
        command
    }

    async fn stop(&mut self, signal: Signal) -> Result<()> {
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)) {
            // It may have ended by itself in this moment.
            let _ = kill_process(pid, signal);
        }
        if tokio::time::timeout(Duration::from_secs(STOP_SECONDS), child.wait()).await.is_err() {
            child.kill().await.context("kill it")?;
        }
        self.child = None;
        self.publish.send_replace(State::Stopped);
        Ok(())
    }
}

/// How the child ended; never returns while there is none.
async fn exit(child: Option<&mut Child>) -> String {
    match child {
        Some(child) => child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Program {
        Program::new("sleeper", PathBuf::from("/bin/sleep"), ["100000"])
    }

    #[tokio::test]
    async fn programs_end_whoever_forgets_them() {
        let logs = tempfile::tempdir().unwrap();
        let programs = ScenarioPrograms::default();
        let failed = async {
            let program = programs.admit(Service::new(sleeper(), logs.path()));
            program.start().await.unwrap();
            program.pid().unwrap()
        };
        let pid = failed.await;
        programs.end().await.unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it is gone, and was waited for");
        assert!(programs.0.lock().unwrap().is_empty());
    }
}
