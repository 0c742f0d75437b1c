//! Programs of the node: mount(8), blkid(8), mkfs(8) and fsck(8), each in a process of its own.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

/// How much of what a program has said gets into an error, in bytes.
const MOST_SAID: usize = 4096;

/// What a program has answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    /// What it has said, on both channels.
    pub(super) said: String,
}

impl Answer {
    /// As a program in Go says of another how it ended.
    pub(super) fn ending(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
        }
    }
}

/// Runs a program, and ends it when it has not ended by itself in this time.
///
/// # Errors
/// It cannot be started, or took too long ([`io::ErrorKind::TimedOut`]): then it may still hang in the kernel, which no signal ends.
pub(super) async fn run_within(limit: Duration, program: &str, arguments: &[&str]) -> io::Result<Answer> {
    let mut command = command(program, arguments);
    match tokio::time::timeout(limit, command.kill_on_drop(true).output()).await {
        Ok(output) => Ok(answer(output?)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
    }
}

/// Runs a program until it ends. It is not ended before: a file system that is half made is worse than one that is late, and
/// the disk is nobody else's.
///
/// # Errors
/// It cannot be started.
pub(super) async fn run(program: &str, arguments: &[&str]) -> io::Result<Answer> {
    Ok(answer(command(program, arguments).output().await?))
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn answer(output: Output) -> Answer {
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    if said.len() > MOST_SAID {
        said.truncate(said.floor_char_boundary(MOST_SAID));
    }
    Answer { status: output.status, said }
}
