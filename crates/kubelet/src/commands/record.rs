//! `kubelet record`: begins and ends a recording of the kubelet that runs on this node.

use std::path::PathBuf;
use std::process::ExitCode;

use super::client::ask;
use super::{Failure, print};
use crate::control::document::{Answer, RecordOrder, RecordingStatus, Request};

const USAGE: &str = "\
Record what the kubelet of this node is told and decides, without secrets, for kubelet replay.

Usage:
  kubelet record start [DIR] [--root-dir DIR]   begin, in DIR (default: recordings in the root folder)
  kubelet record stop [--root-dir DIR]          end
  kubelet record status [--root-dir DIR]        what is recorded, since when, and where

A recording is a ring of files of 16 MiB, 256 MiB in all; each can be replayed by itself.
";

fn parse<'a>(words: &[&'a str]) -> Option<(RecordOrder, PathBuf)> {
    let (word, rest) = words.split_first()?;
    let mut root = PathBuf::from("/var/lib/kubelet");
    let mut folder: Option<&'a str> = None;
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match word.split_once('=') {
            Some(("--root-dir", value)) => root = value.into(),
            _ if *word == "--root-dir" => root = rest.next()?.into(),
            _ if !word.starts_with('-') && folder.is_none() => folder = Some(word),
            _ => return None,
        }
    }
    let order = match (*word, folder) {
        ("start", folder) => {
            let folder =
                folder.map_or_else(|| Some(root.join("recordings")), |f| std::path::absolute(f).ok())?;
            RecordOrder::Start { folder }
        }
        ("stop", None) => RecordOrder::Stop,
        ("status", None) => RecordOrder::Status,
        _ => return None,
    };
    Some((order, root))
}

/// Runs the words after `record`.
pub(super) fn run(words: &[&str]) -> Result<ExitCode, Failure> {
    if matches!(words, ["-h" | "--help" | "help"]) {
        print(USAGE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (order, root) = parse(words).ok_or(Failure::Usage(USAGE))?;
    let mut text = String::new();
    ask(&root, &Request::Record(order), |answer| {
        if let Answer::Recording(status) = answer {
            text = told(status);
        }
        Ok(false)
    })?;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn told(status: Option<RecordingStatus>) -> String {
    let Some(RecordingStatus { path, since, steps, ended }) = status else {
        return "nothing is recorded\n".to_owned();
    };
    let path = path.display();
    let since = since.strftime("%F %TZ");
    match ended {
        None => format!("recorded to {path} since {since}, {steps} steps so far\n"),
        Some(why) => format!("recorded to {path} from {since} on, {steps} steps; ended: {why}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_refused() {
        let start = |folder: &str| RecordOrder::Start { folder: folder.into() };
        let root = "/var/lib/kubelet";
        for (words, expected) in [
            (&["start"][..], Some((start("/var/lib/kubelet/recordings"), root))),
            (&["start", "/d"], Some((start("/d"), root))),
            (&["start", "--root-dir", "/r"], Some((start("/r/recordings"), "/r"))),
            (&["stop", "--root-dir=/r"], Some((RecordOrder::Stop, "/r"))),
            (&["status"], Some((RecordOrder::Status, root))),
            (&["stop", "/d"], None),
            (&["start", "/d", "/e"], None),
            (&["pause"], None),
            (&[], None),
        ] {
            let expected = expected.map(|(order, root)| (order, PathBuf::from(root)));
            assert_eq!(parse(words), expected, "{words:?}");
        }
    }
}
