//! Ten thousand histories of a simulated node. `SIM_SEED=n` looks at one of them again and prints
//! it; `SIM_FROM=n` and `SIM_COUNT=n` choose others.

#![allow(clippy::disallowed_methods, reason = "which histories are run is said by the environment")]

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
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
    let (from, count) = (number("SIM_FROM").unwrap_or(0), number("SIM_COUNT").unwrap_or(10_000));
    let mut steps = 0;
    let mut failures: Vec<String> = Vec::new();
    for seed in from..from + count {
        match sim::run(seed) {
            Ok(summary) => steps += summary.steps,
            Err(broken) => failures.push(format!("seed {seed}: {}", broken.rule)),
        }
    }
    println!("{count} histories, {steps} steps");
    let first: Vec<&str> = failures.iter().take(40).map(String::as_str).collect();
    assert!(
        failures.is_empty(),
        "{} of {count} histories broke a rule; replay one with SIM_SEED:\n{}",
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
    let (from, count) = (number("SIM_FROM").unwrap_or(0), number("SIM_COUNT").unwrap_or(10_000));
    let steps: Result<u64, _> = (from..from + count).step_by(1000).map(replayed).sum();
    let steps = steps.unwrap();
    println!("{steps} steps");
    assert!(steps > 0);
}
