//! Development tasks: `cargo xtask setup | run | test | parity | conformance | bench | tidy | deny`.
//!
//! Everything that must be real in a test of a kubelet is real here: the API server, the container runtime, the
//! network, the cgroups. `peers` builds those programs once, `images` writes the container images,
//! `isolation` gives each cluster namespaces of its own, `cluster` runs the programs inside them. `e2e` and
//! `bench` are what is done with such a cluster; `conformance` runs upstream's own tests there.
//!
//! Three processes take part: the outer one that the developer started, an init (`inside`) in the new pid
//! namespace, and its child (`worker`) that starts the cluster. When the outer process goes, all go.

mod bench;
mod checks;
mod claims;
mod cluster;
mod command;
mod conformance;
mod deny;
mod e2e;
mod go;
mod host_folders;
mod images;
mod isolation;
mod packages;
mod parity;
mod peers;
mod process;
mod progress;
mod run;
mod setup;
mod status;
mod tidy;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::peers::Purpose;
use crate::workspace::{Profile, Workspace};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of ferrolet")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install missing packages, build the peers (API server, containerd, ...) and the images, once.
    Setup,
    /// Run a cluster of one node with a sample workload until Ctrl-C.
    Run(RunArgs),
    /// Format, lints, tidy, unit tests, and the end-to-end tests on a real cluster.
    Test(TestArgs),
    /// Compare what both kubelets make of the same configuration, which `test` does too.
    Parity(ParityArgs),
    /// Run upstream's node end-to-end suite and keep what it finds in docs/conformance.
    Conformance(conformance::Args),
    /// Measure our kubelet beside the Go kubelet.
    Bench(BenchArgs),
    /// Check the shape of the code: dependencies, documents, lengths, names, callers.
    Tidy,
    /// Check licences, duplicates and sources of others' crates, with `cargo deny`.
    Deny,
    /// Join cgroups, then become another program.
    #[command(hide = true)]
    Enter(isolation::EnterArgs),
    /// The init of a cluster's pid namespace.
    #[command(hide = true)]
    Inside {
        /// The state folder of the cluster.
        state: PathBuf,
    },
    /// The process that compares configurations in a mount namespace of its own.
    #[command(hide = true)]
    Compare {
        /// The folder with its order.
        folder: PathBuf,
    },
    /// The process that starts a cluster and uses it.
    #[command(hide = true)]
    Worker {
        /// The state folder of the cluster.
        state: PathBuf,
    },
}

#[derive(Args)]
struct RunArgs {
    /// The kubelet to run: a path, `go` for the upstream one, or nothing to build ours.
    #[arg(long)]
    kubelet: Option<String>,
    /// Build ours as it is shipped, which takes longer.
    #[arg(long, conflicts_with = "kubelet")]
    release: bool,
    /// A name for the cluster, so that several can run side by side.
    #[arg(long, default_value = "run")]
    name: String,
}

#[derive(Args)]
struct TestArgs {
    /// The kubelet to test: a path, `go` for the upstream one, or nothing to build ours.
    #[arg(long)]
    kubelet: Option<String>,
    /// Only the end-to-end tests whose name contains one of these.
    filter: Vec<String>,
    /// Skip format, lints, tidy and unit tests.
    #[arg(long)]
    e2e_only: bool,
}

#[derive(Args)]
struct ParityArgs {
    /// The kubelet to compare with upstream's: a path, or nothing to build ours.
    #[arg(long)]
    kubelet: Option<String>,
    /// Only the cases whose name contains one of these.
    filter: Vec<String>,
}

#[derive(Args)]
struct BenchArgs {
    /// Fewer repetitions and shorter waits.
    #[arg(long)]
    quick: bool,
    /// Only this.
    #[arg(long)]
    only: Option<bench::Part>,
    /// The kubelet to measure beside the Go one: a path, or nothing to build ours.
    #[arg(long)]
    kubelet: Option<String>,
    /// One more kubelet that takes its turns beside those two, such as an earlier build of ours: a path.
    #[arg(long)]
    against: Option<String>,
}

fn main() -> ExitCode {
    let done = conformance::called_as_stand_in().unwrap_or_else(task);
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn task() -> anyhow::Result<ExitCode> {
    match Cli::parse().task {
        Task::Setup => setup::prepare(Purpose::Tests).map(|_| ExitCode::SUCCESS),
        Task::Run(args) => {
            let profile = if args.release { Profile::Release } else { Profile::Dev };
            run::outer(&args.name, args.kubelet.as_deref(), profile)
        }
        Task::Test(args) => checks::outer(args.kubelet.as_deref(), args.filter, args.e2e_only),
        Task::Parity(args) => checks::parity(args.kubelet.as_deref(), &args.filter),
        Task::Conformance(args) => conformance::outer(&args),
        Task::Bench(args) => {
            bench::outer(args.quick, args.only, args.kubelet.as_deref(), args.against.as_deref())
        }
        Task::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Task::Deny => deny::check(&Workspace::load()?).map(|()| ExitCode::SUCCESS),
        Task::Enter(args) => isolation::enter(args).map(|never| match never {}),
        Task::Inside { state } => isolation::inside(&state),
        Task::Worker { state } => isolation::worker(&state),
        Task::Compare { folder } => parity::apart::inside(&folder),
    }
}
