//! Recordings of a simulated node, on a real disk.

// Clippy knows tests by their attribute only, and not what they share.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use model::Now;
use node::{Input, Node, Restored};
use recording::{Limits, Recorder, Replay, Snapshot};

fn at(second: u64) -> Now {
    Now { wall: Timestamp::UNIX_EPOCH, mono: Duration::from_secs(second) }
}

/// Oldest first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn segments_begin_with_what_is_known_and_the_oldest_go() {
    const STEPS: u64 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let settings = sim::settings(1, 110);
    let mut node = Node::new(settings.clone());
    let limits = Limits { segment_bytes: 30_000, total_bytes: 120_000 };
    let snapshot = Snapshot::of_settings(&settings).unwrap();
    let (mut recorder, begun) =
        Recorder::begin(folder.path(), limits, "test", snapshot, |why| panic!("{why}")).unwrap();
    begun.wait().unwrap();
    for step in 1..=STEPS {
        let restored = Restored { pods: vec![format!("pod-{}", step % 20).into()], ..Restored::default() };
        let input = Input::Restored(Box::new(restored));
        recorder.told(at(step), &input);
        let effects = node.step(at(step), input);
        recorder.decided(&effects, &node);
        // Whether a segment is full is known once it is written.
        while recorder.recording().progress().steps < step {
            assert_eq!(recorder.recording().progress().ended, None);
            std::thread::yield_now();
        }
    }
    let recording = recorder.recording().clone();
    drop(recorder);
    assert_eq!(recording.progress().ended.as_deref(), Some("it was stopped"));
    let kept = segments(folder.path());
    assert!(kept.len() > 1, "{kept:?}");
    let bytes: u64 = kept.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes < 250_000, "{bytes}");
    let oldest = fs::read_to_string(&kept[0]).unwrap();
    assert!(
        oldest.lines().next().unwrap().contains(r#""start":{"node":{"#),
        "it begins in the middle of a life"
    );
    let mut last = 0;
    for path in kept {
        let mut replay = Replay::open(BufReader::new(fs::File::open(path).unwrap())).unwrap();
        while let Some(step) = replay.step().unwrap() {
            assert!(step.is_same, "line {}", step.line);
            last = step.now.mono.as_secs();
        }
    }
    assert_eq!(last, STEPS);
}

#[test]
fn the_input_that_the_core_did_not_come_through_is_the_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = Snapshot::of_settings(&sim::settings(1, 110)).unwrap();
    let (mut recorder, begun) =
        Recorder::begin(folder.path(), Limits::default(), "test", snapshot, |why| panic!("{why}")).unwrap();
    begun.wait().unwrap();
    recorder.told(at(1), &Input::ManyObjectsChanged);
    drop(recorder);
    let text = fs::read_to_string(&segments(folder.path())[0]).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.contains("ManyObjectsChanged") && !last.contains("\"effects\""), "{last}");
}
