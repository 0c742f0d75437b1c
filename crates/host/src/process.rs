//! What the kernel grants this process.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A limit of open files that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("raise the number of files that may be open from {had} to {wanted}; {got} it is")]
pub struct OpenFilesError {
    /// What it was.
    pub had: u64,
    /// What it should be.
    pub wanted: u64,
    /// What it is now: as much as can be had without privilege.
    pub got: u64,
    /// Why it is not more.
    pub source: io::Error,
}

/// Makes this process less (negative) or more (positive) likely to be killed when memory runs out.
/// What it starts inherits that.
///
/// # Errors
/// If the value is out of range, or lower than this process may set it.
pub fn set_oom_score_adj(value: i32) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", value.to_string())
}

/// Whether this process is in the process namespace that `/proc` is about, which is the machine's unless it runs in a
/// container. Where that cannot be told it counts as being in another one.
pub fn is_in_pid_namespace_of_proc() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|text| has_one_pid(&text))
}

/// Whether this process is in a user namespace that is not the machine's, as that of a rootless node. Where the kernel does not
/// tell there is none.
pub fn is_in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_other_than_first(&map))
}

/// In the first namespace all ids stand for themselves. A map that is still empty belongs to a new one.
fn is_other_than_first(uid_map: &str) -> bool {
    let mut fields = uid_map.split_whitespace().map(str::parse::<u64>);
    match [fields.next(), fields.next(), fields.next()] {
        [None, ..] => true,
        [Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count))] => {
            (inside, outside, count) != (0, 0, 4_294_967_295)
        }
        _ => false,
    }
}

/// A process has an id in each namespace from the one that `/proc` is about down to its own.
fn has_one_pid(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.split_whitespace().count() == 1)
}

/// Allows this process so many open files, and never more. Where the hard limit cannot be raised,
/// the soft one is raised to it.
///
/// # Errors
/// If the limit is lower than wanted afterwards.
pub fn limit_open_files(wanted: u64) -> Result<(), OpenFilesError> {
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(wanted), maximum: Some(wanted) };
    let Err(error) = setrlimit(Resource::Nofile, limit) else { return Ok(()) };
    let within = Rlimit { current: before.maximum, maximum: before.maximum };
    let got = if setrlimit(Resource::Nofile, within).is_ok() { before.maximum } else { before.current };
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    Err(OpenFilesError { had: number(before.current), wanted, got: number(got), source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Limits are those of the whole test process: only what changes nothing can be tried here.

    #[test]
    fn the_present_limit_can_be_set_again() {
        let before = getrlimit(Resource::Nofile);
        if let (Some(current), Some(maximum)) = (before.current, before.maximum)
            && current == maximum
        {
            limit_open_files(current).unwrap();
        }
        let error = limit_open_files(u64::MAX - 1).unwrap_err();
        assert_eq!(error.wanted, u64::MAX - 1);
        assert!(error.got >= error.had);
    }

    #[test]
    fn a_process_in_an_inner_namespace_has_several_ids() {
        assert!(has_one_pid("Name:\tkubelet\nNSpid:\t17\nNSpgid:\t17\t1\n"));
        assert!(!has_one_pid("NSpid:\t17\t1\n"));
        assert!(!has_one_pid("Name:\tkubelet\n"));
        assert!(is_in_pid_namespace_of_proc());
    }

    #[test]
    fn a_user_namespace_is_known_by_its_map() {
        assert!(!is_other_than_first("         0          0 4294967295\n"));
        assert!(is_other_than_first("         0       1000          1\n         1     100000      65536\n"));
        assert!(is_other_than_first("0 0 65536\n") && is_other_than_first(""));
        assert!(!is_other_than_first("what is this\n"));
    }

    #[test]
    fn scores_out_of_range_are_refused() {
        assert!(set_oom_score_adj(1001).is_err());
        let present: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
        set_oom_score_adj(present).unwrap();
    }
}
