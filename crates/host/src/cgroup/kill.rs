//! Ending whatever is left in a control group, and removing the emptied group.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::CgroupError;

/// A process killed by SIGKILL is normally gone within a millisecond; one in an uninterruptible
/// wait, on a dead NFS server say, stays. The caller tries again later.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// A group stays busy for a moment after its last process died (the kernel detaches the task after
/// signalling its exit). There is no event for that in version 1, so removal is tried this often,
/// with pauses doubling from a millisecond: a quarter of a second in all.
const REMOVE_ATTEMPTS: u32 = 9;

/// Kills every process in the given groups (the same group seen in several hierarchies) and
/// waits until they are gone.
pub(super) fn kill_all(name: &Path, dirs: &[PathBuf]) -> Result<(), CgroupError> {
    let deadline = Instant::now() + KILL_DEADLINE;
    loop {
        let mut pids = BTreeSet::new();
        for dir in dirs {
            thaw_and_kill_group(dir);
            collect_pids(dir, &mut pids)?;
        }
        if pids.is_empty() {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let count = kill_and_wait(&pids, left);
        // Not done: something may have forked meanwhile, so look again; but not for ever.
        if count > 0 || left.is_zero() {
            return Err(CgroupError::Unkillable { path: name.to_owned(), count: count.max(1) });
        }
    }
}

/// Removes a group and those below it; a missing one is fine.
pub(super) fn remove_tree(dir: &Path) -> Result<(), CgroupError> {
    for child in children(dir)? {
        remove_tree(&child)?;
    }
    let mut pause = Duration::from_millis(1);
    for attempt in 1.. {
        match fs::remove_dir(dir) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempt < REMOVE_ATTEMPTS => {
                #[expect(clippy::disallowed_methods, reason = "the caller gives it a thread that may block")]
                thread::sleep(pause);
                pause *= 2;
            }
            Err(source) => return Err(CgroupError::Remove { path: dir.to_owned(), source }),
        }
    }
    Ok(())
}

/// The groups directly below one; none if it is missing.
pub(super) fn children(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let fail = |source| CgroupError::List { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(fail(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Version 2 kills a whole group at once, even while it forks; a version 1 freezer has to let go
/// of its tasks before they can die. Neither file exists elsewhere, and both are only a help.
fn thaw_and_kill_group(dir: &Path) {
    let existing = |file: &str| fs::OpenOptions::new().write(true).open(dir.join(file));
    if let Ok(mut file) = existing("cgroup.kill") {
        let _ = io::Write::write_all(&mut file, b"1");
    }
    if let Ok(mut file) = existing("freezer.state") {
        let _ = io::Write::write_all(&mut file, b"THAWED");
        for child in children(dir).unwrap_or_default() {
            thaw_and_kill_group(&child);
        }
    }
}

fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) -> Result<(), CgroupError> {
    let listed = match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A removed group's file, or a threaded group, whose processes its parent lists.
        Err(error) if matches!(error.raw_os_error(), Some(19 | 95)) => String::new(),
        Err(source) => return Err(CgroupError::List { path: dir.to_owned(), source }),
    };
    // A process of an outer pid namespace is listed as 0 and out of reach.
    pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in children(dir)? {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

/// Sends SIGKILL through pid descriptors, so that a reused pid is never hit, and waits for the
/// exits. Returns how many are still alive.
fn kill_and_wait(pids: &BTreeSet<i32>, limit: Duration) -> usize {
    let mut alive: Vec<OwnedFd> = Vec::new();
    for pid in pids {
        let Some(pid) = Pid::from_raw(*pid) else { continue };
        let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if rustix::process::pidfd_send_signal(&fd, Signal::KILL).is_ok() {
            alive.push(fd);
        }
    }
    let deadline = Instant::now() + limit;
    while !alive.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let Ok(timeout) = Timespec::try_from(left) else { break };
        let mut polled: Vec<PollFd<'_>> = alive.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        let exited: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
        let mut exited = exited.into_iter();
        alive.retain(|_| !exited.next().unwrap_or(false));
    }
    alive.len()
}
