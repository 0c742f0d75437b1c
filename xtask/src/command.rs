//! Running other programs to their end, with errors that say which one failed and what it printed.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// Cargo, as if it was called from a shell. What it told this program about its own package has to go: build scripts
/// that look at such variables would run anew, and all that depends on them, whenever the two ways alternate.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "OUT_DIR" {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs a long step and says that it runs and how long it took. Its output goes to the terminal.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {what}");
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("start {}", name(command)))?;
    if !status.success() {
        bail!("{what} failed: {} ended with {status}", name(command));
    }
    eprintln!("    {what}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a quiet step; what it printed is part of the error when it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a program and returns what it printed to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("start {}", name(command)))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("{} ended with {}: {}", line(command), done.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a program whose messages are shown, but for those that `takes` knows what to do with.
pub(crate) fn watch(
    what: &str,
    mut program: Command,
    progress: &Progress,
    mut takes: impl FnMut(&str) -> bool,
) -> Result<()> {
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = program.spawn().with_context(|| format!("start what is to {what}"))?;
    let output = child.stderr.take().context("its messages")?;
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    let shown = loop {
        line.clear();
        // Cargo ends a line of progress with a carriage return.
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error).context("read its messages"),
        }
        for part in String::from_utf8_lossy(&line).split(['\r', '\n']).filter(|part| !part.is_empty()) {
            if !takes(part) {
                progress.say(part);
            }
        }
        if let Err(error) = progress.check() {
            break Err(error);
        }
    };
    if shown.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().with_context(|| format!("wait for what is to {what}"))?;
    shown.with_context(|| what.to_owned())?;
    if !status.success() {
        bail!("{what}: it ended with {status}");
    }
    Ok(())
}

/// Whether a program can be found in `PATH`.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
