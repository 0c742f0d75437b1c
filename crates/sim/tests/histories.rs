//! Ten thousand histories of a simulated node, on all processors; `cargo xtask test` has ten times as many. `SIM_SEED=n` looks
//! at one of them again and prints it; `SIM_FROM=n` and `SIM_COUNT=n` choose others.

#![allow(clippy::disallowed_methods, reason = "which histories are run is said by the environment")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Which histories: the first, and how many.
fn chosen() -> (u64, u64) {
    (number("SIM_FROM").unwrap_or(0), number("SIM_COUNT").unwrap_or(10_000))
}

/// Runs histories until all are taken. Returns how many steps they had, and which of them broke a rule.
fn run_some(next: &AtomicU64, end: u64) -> (u64, Vec<(u64, String)>) {
    let mut steps = 0;
    let mut broken = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return (steps, broken);
        }
        match sim::run(seed) {
            Ok(summary) => steps += summary.steps,
            Err(failure) => broken.push((seed, failure.rule)),
        }
    }
}

#[test]
fn every_history_keeps_the_rules_and_ends_well() {
    if let Some(seed) = number("SIM_SEED") {
        match sim::run(seed) {
            Ok(summary) => println!("seed {seed}: {summary:?}"),
            Err(broken) => panic!("{broken}"),
        }
        return;
    }
    let (from, count) = chosen();
    let next = AtomicU64::new(from);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..processors).map(|_| scope.spawn(|| run_some(&next, from + count))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let steps: u64 = parts.iter().map(|(steps, _)| steps).sum();
    println!("{count} histories, {steps} steps");
    let mut failures: Vec<(u64, String)> = parts.into_iter().flat_map(|(_, broken)| broken).collect();
    failures.sort();
    let first: Vec<String> =
        failures.iter().take(40).map(|(seed, rule)| format!("seed {seed}: {rule}")).collect();
    let story = failures.first().and_then(|(seed, _)| sim::run(*seed).err());
    assert!(
        failures.is_empty(),
        "{}\n{} of {count} histories broke a rule; the first is above, SIM_SEED has the others told:\n{}",
        story.map(|broken| broken.to_string()).unwrap_or_default(),
        failures.len(),
        first.join("\n")
    );
}

/// Steps cores through the segments of the history, each from what the agent knew then. Returns how many steps that were.
fn replayed(seed: u64) -> Result<u64, Box<dyn std::error::Error>> {
    let segments = sim::record(seed);
    assert_eq!(segments, sim::record(seed), "the history of seed {seed} is another the second time");
    let mut steps = 0;
    for segment in segments {
        let text = String::from_utf8(segment)?;
        assert!(!text.contains("s3cret"), "seed {seed} has recorded a secret");
        let mut replay = recording::Replay::open(text.as_bytes())?;
        while let Some(step) = replay.step()? {
            assert!(step.is_same, "seed {seed}, line {}: other decisions after {}", step.line, step.input);
            steps += 1;
        }
    }
    Ok(steps)
}

/// What was cut from a recording is nothing that decisions depend on: those of the history itself are compared with those
/// made from the recording.
#[test]
fn every_thousandth_history_replays_from_its_recording() {
    let (from, count) = chosen();
    let steps: Result<u64, _> = (from..from + count).step_by(1000).map(replayed).sum();
    let steps = steps.unwrap();
    println!("{steps} steps");
    assert!(steps > 0);
}
