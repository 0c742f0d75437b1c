//! Stand-ins for `sudo`, `systemd-run` and `systemctl`, by which upstream's suite starts, stops and restarts the kubelet.
//!
//! They do what the suite asks for and no more. A unit is four files: its command, where its log goes, the kubelet's
//! pid while it runs, and what its processes used. A supervisor of its own waits for each process, as systemd would.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::workspace;

/// Where units are kept; the folder belongs to the cluster's namespaces.
const FOLDER: &str = "/run/units";
/// The names under which this program is one of the stand-ins.
const NAMES: &[&str] = &["sudo", "systemctl", "systemd-run", SUPERVISOR];
const SUPERVISOR: &str = "unit-supervisor";
/// How long a unit may take to end after SIGTERM, systemd's default.
const STOP_LIMIT: Duration = Duration::from_secs(90);

/// If this program was called by the name of a stand-in: what that came to.
pub(crate) fn called_as_stand_in() -> Option<Result<ExitCode>> {
    let mut args = std::env::args_os();
    let called = PathBuf::from(args.next()?);
    let name = NAMES.iter().find(|name| called.file_name() == Some(OsStr::new(name)))?;
    let args: Vec<OsString> = args.collect();
    Some(match *name {
        "sudo" => sudo(&args),
        "systemd-run" => systemd_run(&args),
        "systemctl" => systemctl(&args),
        _ => supervise(&args),
    })
}

/// Puts the stand-ins into a folder.
pub(super) fn install(folder: &Path) -> Result<()> {
    workspace::create_dir(folder)?;
    workspace::create_dir(Path::new(FOLDER))?;
    // What says that systemd runs, to those who ask.
    workspace::create_dir(Path::new("/run/systemd/system"))?;
    let program = folder.join("xtask");
    // A copy: this program may be built anew while the cluster runs.
    std::fs::copy("/proc/self/exe", &program).context("copy this program")?;
    for name in NAMES {
        std::os::unix::fs::symlink(&program, folder.join(name)).with_context(|| format!("link {name}"))?;
    }
    Ok(())
}

/// Ends what still runs and says what the processes of all units used, in seconds of a processor.
pub(super) fn stop_all() -> Result<f64> {
    let mut seconds = 0.0;
    for entry in std::fs::read_dir(FOLDER).context("list the units")? {
        let path = entry.context("list the units")?.path();
        if path.extension() == Some(OsStr::new("command")) {
            let unit = Unit { path: path.with_extension("") };
            unit.stop()?;
            let used = std::fs::read_to_string(unit.file("used")).unwrap_or_default();
            seconds += used.lines().filter_map(|line| line.parse::<f64>().ok()).sum::<f64>();
        }
    }
    Ok(seconds)
}

struct Unit {
    /// Its files' path without their endings.
    path: PathBuf,
}

impl Unit {
    fn named(name: &str) -> Self {
        Self { path: Path::new(FOLDER).join(name.trim_end_matches(".service")) }
    }

    fn file(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".");
        path.push(ending);
        path.into()
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.file("pid")).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?)?;
        test_kill_process(pid).is_ok().then_some(pid)
    }

    fn start(&self) -> Result<()> {
        if self.pid().is_some() {
            return Ok(());
        }
        if !self.file("command").exists() {
            bail!("Unit {} not found.", self.path.display());
        }
        let me = std::env::current_exe().context("find this program")?;
        let mut supervisor = Command::new(me.with_file_name(SUPERVISOR));
        // A group of its own, as it outlives those who asked.
        supervisor.arg(&self.path).process_group(0);
        supervisor.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut supervisor = supervisor.spawn().context("start the supervisor")?;
        until(Duration::from_secs(30), || self.pid().is_some() || !matches!(supervisor.try_wait(), Ok(None)));
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It may have ended by itself in this moment.
            let _ = kill_process(pid, signal);
        }
    }

    fn stop(&self) -> Result<()> {
        self.signal(Signal::TERM);
        if !until(STOP_LIMIT, || !self.file("pid").exists()) {
            self.signal(Signal::KILL);
            if !until(STOP_LIMIT, || !self.file("pid").exists()) {
                bail!("{} does not end", self.path.display());
            }
        }
        Ok(())
    }
}

/// Whether it came true in time. Nobody tells when a process ends that is no child.
fn until(limit: Duration, is_true: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut is_true = is_true;
    loop {
        if is_true() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn sudo(args: &[OsString]) -> Result<ExitCode> {
    let is_option = |arg: &&OsString| arg.as_bytes().starts_with(b"-");
    let command: Vec<&OsString> = args.iter().skip_while(is_option).collect();
    let (program, rest) = command.split_first().context("sudo: no command")?;
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("become {}", program.to_string_lossy()))
}

/// Makes a unit and starts it.
fn systemd_run(args: &[OsString]) -> Result<ExitCode> {
    let mut unit = None;
    let mut log = OsString::from("/dev/null");
    let mut rest = args.iter();
    let mut command: Vec<OsString> = Vec::new();
    while let Some(arg) = rest.next() {
        match arg.to_str().unwrap_or_default() {
            "--version" => return version(),
            // Mounters ask whether they can have mounts made in a scope of their own.
            "--scope" => bail!("there is no systemd here"),
            "-p" => {
                let property = rest.next().and_then(|property| property.to_str()).unwrap_or_default();
                if let Some((_, path)) =
                    property.strip_prefix("StandardError=").and_then(|place| place.split_once(':'))
                {
                    log = path.into();
                }
            }
            option if option.starts_with("--unit=") => unit = Some(option["--unit=".len()..].to_owned()),
            option if option.starts_with('-') => {}
            _ => {
                command.push(arg.clone());
                command.extend(rest.by_ref().cloned());
            }
        }
    }
    let unit = Unit::named(&unit.context("systemd-run: no --unit")?);
    let mut text = Vec::new();
    for word in &command {
        text.extend(unescape(word.as_bytes()));
        text.push(0);
    }
    workspace::write(&unit.file("log"), log.as_bytes())?;
    workspace::write(&unit.file("command"), text)?;
    unit.start()?;
    Ok(ExitCode::SUCCESS)
}

/// Undoes what has to be done for systemd, to which `%` and `$` are signs of their own.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if matches!(byte, b'%' | b'$') && rest.peek() == Some(&byte) {
            rest.next();
        }
        plain.push(byte);
    }
    plain
}

fn version() -> Result<ExitCode> {
    println!("systemd 252 (252.0)");
    Ok(ExitCode::SUCCESS)
}

fn systemctl(args: &[OsString]) -> Result<ExitCode> {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    if words.contains(&"--version") {
        return version();
    }
    let mut plain = words.iter().filter(|word| !word.starts_with('-'));
    let verb = *plain.next().context("systemctl: no command")?;
    let name = *plain.next().context("systemctl: no unit")?;
    let unit = Unit::named(name);
    match verb {
        "list-units" => list(name, words.contains(&"--state=running"))?,
        "start" => unit.start()?,
        "stop" => unit.stop()?,
        "restart" => {
            unit.stop()?;
            unit.start()?;
        }
        "kill" => unit.signal(Signal::TERM),
        "reset-failed" => {}
        other => bail!("systemctl: {other} is not among what this stand-in does"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the units whose names hold what the pattern has between its stars.
fn list(pattern: &str, only_running: bool) -> Result<()> {
    let part = pattern.trim_matches('*').trim_end_matches(".service");
    for entry in std::fs::read_dir(FOLDER).context("list the units")? {
        let path = entry.context("list the units")?.path();
        let Some(name) = path.file_stem().and_then(OsStr::to_str) else { continue };
        if path.extension() != Some(OsStr::new("command")) || !name.contains(part) {
            continue;
        }
        let runs = Unit::named(name).pid().is_some();
        if runs || !only_running {
            let state = if runs { "running" } else { "exited" };
            println!("  {name}.service loaded active {state} {name}");
        }
    }
    Ok(())
}

/// Runs a unit's command to its end and notes what it used.
fn supervise(args: &[OsString]) -> Result<ExitCode> {
    let unit = Unit { path: args.first().context("no unit")?.into() };
    let command = std::fs::read(unit.file("command")).context("read the unit's command")?;
    let words = command.strip_suffix(&[0]).context("the unit has no command")?.split(|byte| *byte == 0);
    let words: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    let (program, rest) = words.split_first().context("the unit has no command")?;
    let log = std::fs::read(unit.file("log")).context("read where the unit's log goes")?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(OsStr::from_bytes(&log));
    let log = log.context("open the unit's log")?;
    let mut process = Command::new(program);
    process.args(rest).stdin(Stdio::null()).stdout(log.try_clone().context("share the log")?).stderr(log);
    let mut process = process.spawn().context("start the unit's process")?;
    workspace::write(&unit.file("pid"), process.id().to_string())?;
    let ended = process.wait();
    let mut used = std::fs::OpenOptions::new().create(true).append(true).open(unit.file("used"))?;
    writeln!(used, "{:.2}", seconds_of_children()?)?;
    // Last: it says that the unit has ended.
    std::fs::remove_file(unit.file("pid")).context("remove the pid file")?;
    ended.context("wait for the unit's process")?;
    Ok(ExitCode::SUCCESS)
}

/// What the children this process has waited for used, and theirs, in seconds of a processor.
fn seconds_of_children() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read the processor time")?;
    let ticks = ticks_of_children(&stat).context("read the processor time")?;
    // Exact: a process does not live for 2^52 ticks.
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Children's user and system time are fields 16 and 17; the command before them may hold spaces.
fn ticks_of_children(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(13);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_systemd_are_single_again() {
        assert_eq!(unescape(b"a%%b$$c%d"), b"a%b$c%d");
        assert_eq!(unescape(b"%%%%"), b"%%");
    }

    #[test]
    fn times_of_children() {
        let stat = "1 (a ) b) S 0 1 1 0 -1 4194560 1 2 3 4 150 50 7 30 20 0 1 0 5 6 7";
        assert_eq!(ticks_of_children(stat), Some(37));
        assert_eq!(ticks_of_children("1 (a"), None);
    }
}
