//! `cargo xtask conformance`: upstream's node end-to-end suite with either kubelet, and what it found so far.
//!
//! The suite is upstream's, unchanged; `images` makes what its pods run, `registry` serves it, `units` starts the
//! kubelet in systemd's place. `groups` divides the suite, `table` keeps the last result of each test with both
//! kubelets, and `document` writes `docs/CONFORMANCE.md` from that.

mod choice;
mod document;
mod groups;
mod inside;
mod registry;
mod report;
mod table;
mod units;

pub(crate) use choice::check;
pub(crate) use inside::{Order, inside};
pub(crate) use units::called_as_stand_in;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::isolation::{self, Plan, Task};
use crate::peers::{self, Purpose};
use crate::setup::{self, Prepared};
use crate::workspace::{Profile, Workspace};
use crate::{command, images};
use groups::Group;
use inside::Found;
use report::Outcome;
use table::{Kubelet, Run, Tables};

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The groups to run, `all` for all of them; without any, what is known is told.
    group: Vec<String>,
    /// The kubelet to run: a path, `go` for the upstream one, or nothing to build ours.
    #[arg(long)]
    kubelet: Option<String>,
    /// Tests at a time, as far as they may run side by side.
    #[arg(long)]
    nodes: Option<usize>,
    /// Only tests whose name contains this, and those they go on from.
    #[arg(long)]
    matching: Option<String>,
    /// Only tests whose last result with this kubelet was this, and those they go on from: pass, fail, skip or none.
    #[arg(long)]
    last: Option<String>,
    /// Minutes after which a run is stopped, with what it has found until then.
    #[arg(long, default_value_t = 90)]
    minutes: u64,
    /// Let other work on this machine go first.
    #[arg(long)]
    low_priority: bool,
    /// Keep no results.
    #[arg(long)]
    dry: bool,
}

/// Runs groups of the suite and keeps what they found, or tells what is known.
pub(crate) fn outer(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut tables = Tables::read(&workspace.root)?;
    if args.group.is_empty() {
        document::write(&workspace.root, &tables)?;
        print!("{}", document::overview(&tables));
        println!("\nGroups:");
        for group in groups::ALL.iter().chain([&groups::CHOICE]) {
            println!("  {:24} {}", group.name, group.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&args.group)?;
    let kubelet = args.kubelet.as_deref();
    let (ready, program) = setup::prepare_with_kubelet(Purpose::Cluster, kubelet, Profile::Release)?;
    let suite = Suite::prepare(&ready, program, kubelet)?;
    let mut all_passed = true;
    for group in chosen {
        for batch in batches(group, &tables, suite.kubelet, args) {
            eprintln!("==> {}: {} tests", group.name, batch.tests.len());
            let logs = format!("conformance/{}/{}{}", suite.kubelet.word(), group.name, batch.suffix);
            let found = suite.run(batch.order(&suite, args), &logs)?;
            all_passed &= tell(&tables, suite.kubelet, &found);
            if !args.dry {
                // Another run may have ended since.
                tables = Tables::read(&workspace.root)?;
                keep(&mut tables, &suite, group, found)?;
                tables.write()?;
                document::write(&workspace.root, &tables)?;
            }
        }
    }
    Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose(names: &[String]) -> Result<Vec<&'static Group>> {
    if names.iter().any(|name| name == "all") {
        return Ok(groups::ALL.iter().collect());
    }
    let find = |name: &String| {
        let known = groups::ALL.iter().chain([&groups::CHOICE]).find(|group| group.name == name);
        known.with_context(|| {
            let all: Vec<&str> = groups::ALL.iter().map(|group| group.name).collect();
            format!("there is no group {name}; there are all, {}", all.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// What the suite needs on disk, and the kubelet to run it with.
struct Suite<'a> {
    ready: &'a Prepared,
    folder: PathBuf,
    images: PathBuf,
    program: PathBuf,
    kubelet: Kubelet,
    version: String,
}

impl<'a> Suite<'a> {
    /// Builds what is missing.
    fn prepare(ready: &'a Prepared, program: PathBuf, kubelet: Option<&str>) -> Result<Self> {
        // Now, as the next commit may be made while it runs.
        let version = version(kubelet, ready)?;
        let folder = peers::node_suite(&ready.workspace.root)?;
        let source = peers::kubernetes_source(&ready.workspace.root)?;
        let images = images::build_suite(&ready.peers, &folder, &source)?;
        let kubelet = if kubelet == Some("go") { Kubelet::Go } else { Kubelet::Ours };
        Ok(Self { ready, folder, images, program, kubelet, version })
    }

    /// Runs the suite in namespaces of its own. Logs go to this folder below the target folder.
    fn run(&self, order: Order, logs: &str) -> Result<Found> {
        let logs = self.ready.workspace.target.join("xtask").join(logs);
        let plan = Plan {
            peers: self.ready.peers.clone(),
            images: self.images.clone(),
            kubelet: self.program.clone(),
            fake_cri: None,
            fake_csi: None,
            task: Task::Conformance(order),
        };
        let outcome = isolation::launch("conformance", plan, &logs)?;
        if outcome.interrupted {
            bail!("interrupted: nothing of this run is kept");
        }
        inside::found(outcome.result)
    }
}

/// Which kubelet this is, for the table of runs: of ours the commit it was built from, and of a program that was given, of
/// which no commit is known, its name.
fn version(kubelet: Option<&str>, ready: &Prepared) -> Result<String> {
    match kubelet {
        Some("go") => Ok("v1.37.2".to_owned()),
        Some(path) => {
            let name = Path::new(path).file_name().context("a kubelet has a name")?;
            Ok(name.to_string_lossy().into_owned())
        }
        None => {
            let mut git = Command::new("git");
            git.current_dir(&ready.workspace.root);
            git.args(["describe", "--always", "--abbrev=7", "--exclude=*"]);
            Ok(command::output(&mut git)?.trim().to_owned())
        }
    }
}

/// Tests of a group that run in one cluster.
struct Batch {
    group: &'static Group,
    tests: Vec<String>,
    gates: BTreeSet<String>,
    nodes: usize,
    /// What its logs are called after, beside the group.
    suffix: &'static str,
}

impl Batch {
    fn order(self, suite: &Suite<'_>, args: &Args) -> Order {
        let mut flags: Vec<String> = self.group.flags.iter().map(|&flag| flag.to_owned()).collect();
        if !self.gates.is_empty() {
            let gates: Vec<String> = self.gates.iter().map(|gate| format!("{gate}=true")).collect();
            let gates = gates.join(",");
            flags.push(format!("--feature-gates={gates}"));
            flags.push(format!("--service-feature-gates={gates}"));
        }
        Order {
            suite: suite.folder.clone(),
            tests: self.tests,
            nodes: self.nodes,
            minutes: args.minutes,
            flags,
            low_priority: args.low_priority,
        }
    }
}

/// The tests of a group: those that may run side by side, then, on a node of their own, those that may not.
fn batches(group: &'static Group, tables: &Tables, kubelet: Kubelet, args: &Args) -> Vec<Batch> {
    let wanted = |name: &str, row: &table::Row| {
        let last = row.seen(kubelet).map_or("none", |seen| seen.outcome.word());
        let is_member = if group.name == groups::CHOICE.name {
            choice::names().any(|chosen| chosen == name)
        } else {
            groups::of(row).name == group.name
        };
        is_member
            && args.matching.as_deref().is_none_or(|part| name.contains(part))
            && args.last.as_deref().is_none_or(|wanted| wanted == last)
    };
    // With a test that goes on where others have ended come all that may be those.
    let goes_on = |row: &table::Row| group.name != groups::CHOICE.name && groups::goes_on(row);
    let ordered = tables.rows.iter().filter(|(name, row)| goes_on(row) && wanted(name, row));
    let ordered: BTreeSet<&str> = ordered.map(|(_, row)| row.file.as_str()).collect();
    let batch = |serial: bool| {
        let comes_along =
            |row: &table::Row| groups::of(row).name == group.name && ordered.contains(row.file.as_str());
        let rows = tables.rows.iter().filter(|(_, row)| row.has("Serial") == serial);
        let rows: Vec<_> = rows.filter(|(name, row)| wanted(name, row) || comes_along(row)).collect();
        let gates = rows.iter().filter(|_| group.gates).flat_map(|(_, row)| groups::gates_of(row));
        Batch {
            group,
            gates: gates.map(str::to_owned).collect(),
            tests: rows.iter().map(|(name, _)| (*name).clone()).collect(),
            nodes: if serial { 1 } else { args.nodes.unwrap_or_else(side_by_side) },
            suffix: if serial { "-serial" } else { "" },
        }
    };
    [batch(false), batch(true)].into_iter().filter(|batch| !batch.tests.is_empty()).collect()
}

/// How many tests at a time suit this machine: most of them wait most of the time.
fn side_by_side() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors * 4).clamp(4, 12)
}

/// Prints how the tests ended and what has changed; whether none failed.
fn tell(tables: &Tables, kubelet: Kubelet, found: &Found) -> bool {
    let ended = |wanted| found.tests.iter().filter(|test| test.outcome == Some(wanted)).count();
    for test in &found.tests {
        let Some(outcome) = test.outcome else { continue };
        let before = tables.rows.get(&test.name).and_then(|row| row.seen(kubelet)).map(|seen| seen.outcome);
        let changed = before.is_some_and(|before| before != outcome);
        if outcome == Outcome::Fail || changed {
            let before = before.map_or("never run", Outcome::word);
            println!("{} (before: {before}) {}", outcome.word().to_uppercase(), test.name);
            if !test.message.is_empty() {
                println!("    {}", test.message);
            }
        }
    }
    let (passed, failed, skipped) = (ended(Outcome::Pass), ended(Outcome::Fail), ended(Outcome::Skip));
    println!(
        "{passed} passed, {failed} failed, {skipped} skipped themselves, in {} s; the kubelet used {:.1} s of a processor",
        found.seconds, found.cpu_seconds
    );
    failed == 0
}

fn keep(tables: &mut Tables, suite: &Suite<'_>, group: &Group, found: Found) -> Result<()> {
    let number = tables.next_run();
    let ended = found.tests.iter().filter(|test| test.outcome.is_some());
    let passed = found.tests.iter().filter(|test| test.outcome == Some(Outcome::Pass)).count();
    tables.runs.push(Run {
        number,
        kubelet: suite.kubelet,
        version: suite.version.clone(),
        day: time::OffsetDateTime::now_utc().date().to_string(),
        group: group.name.to_owned(),
        tests: ended.count(),
        passed,
        seconds: found.seconds,
        cpu_seconds: Some(found.cpu_seconds),
    });
    tables.merge(suite.kubelet, number, found.tests);
    Ok(())
}
