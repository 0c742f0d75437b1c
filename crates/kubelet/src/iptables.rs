//! The iptables chains a kubelet keeps (`makeIPTablesUtilChains`), for others on the node rather than for itself.
//!
//! * `KUBE-IPTABLES-HINT` in `mangle` tells containers that bring their own iptables which of the two kinds the node uses.
//! * `KUBE-FIREWALL` in `filter` drops what neighbours on the network send to loopback addresses (CVE-2020-8558): kube-proxy
//!   opens that way by `route_localnet`. Of IPv4 only, since IPv6 has no such setting. kube-proxy makes the same rule, so
//!   its text has to stay.
//! * `KUBE-KUBELET-CANARY` in `mangle`, `nat` and `filter` is missed when a firewall throws everything away. Then the others
//!   are made again.
//!
//! The program `iptables` is called, since only it knows which kind is the node's.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tracing::{debug, error, info};

use model::chain;

const HINT: &str = "KUBE-IPTABLES-HINT";
const FIREWALL: &str = "KUBE-FIREWALL";
const CANARY: &str = "KUBE-KUBELET-CANARY";
/// The tables with canaries. The first is looked at all the time: little else is in it.
const TABLES: [&str; 3] = ["mangle", "nat", "filter"];
/// What is dropped: packets to loopback addresses from elsewhere, unless they answer or were sent there by the node itself.
const DROP_FOREIGN: &[&str] = &[
    "-m",
    "comment",
    "--comment",
    "block incoming localnet connections",
    "--dst",
    "127.0.0.0/8",
    "!",
    "--src",
    "127.0.0.0/8",
    "-m",
    "conntrack",
    "!",
    "--ctstate",
    "RELATED,ESTABLISHED,DNAT",
    "-j",
    "DROP",
];
/// Exit status that says no: no such rule, or a chain that is there already.
const NO: i32 = 1;
/// Exit status when others hold the lock of the tables for too long.
const BUSY: i32 = 4;

/// How often things are looked at.
#[derive(Clone, Copy, Debug)]
struct Intervals {
    /// Between two looks at the canary.
    look_every: Duration,
    /// Between two looks at how far a flush has come.
    flush_every: Duration,
    /// How many of those there are at most.
    flush_looks: u32,
}

impl Intervals {
    /// Upstream's.
    const USUAL: Self = Self {
        look_every: Duration::from_secs(60),
        flush_every: Duration::from_millis(100),
        flush_looks: 50,
    };
}

/// The program for the addresses of one family.
#[derive(Clone, Debug)]
struct Iptables {
    program: PathBuf,
    protocol: &'static str,
    is_ipv6: bool,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("start {}", .0.display())]
    Start(PathBuf, #[source] std::io::Error),
    #[error("{program} {operation}: exit status {status:?}: {said}")]
    Status { program: String, operation: String, status: Option<i32>, said: String },
}

impl CallError {
    fn status(&self) -> Option<i32> {
        match self {
            Self::Start(..) => None,
            Self::Status { status, .. } => *status,
        }
    }
}

/// Makes the chains and keeps them, for ever. Ends at once where there is no iptables, as upstream does: then nobody needs
/// them.
pub(crate) async fn keep() {
    let families = [
        Iptables { program: "iptables".into(), protocol: "IPv4", is_ipv6: false },
        Iptables { program: "ip6tables".into(), protocol: "IPv6", is_ipv6: true },
    ];
    keep_all(families, Intervals::USUAL).await;
}

async fn keep_all(families: [Iptables; 2], intervals: Intervals) {
    let mut usable = Vec::new();
    for family in families {
        match family.has_chain("nat", "POSTROUTING").await {
            Ok(()) => usable.push(family),
            Err(error) => debug!(protocol = family.protocol, err = chain(&error), "iptables not available"),
        }
    }
    if usable.is_empty() {
        info!("No iptables support on this system; not creating the KUBE-IPTABLES-HINT chain");
    }
    let mut kept = Vec::new();
    for family in usable {
        if family.make().await {
            info!(protocol = family.protocol, "Initialized iptables rules");
            kept.push(family);
        } else {
            info!(
                protocol = family.protocol,
                "Failed to initialize iptables rules; some functionality may be missing"
            );
        }
    }
    futures::future::join_all(kept.iter().map(|family| family.guard(intervals))).await;
}

impl Iptables {
    /// Makes what is missing; says what failed.
    async fn make(&self) -> bool {
        match self.try_make().await {
            Ok(()) => true,
            Err(failed) => {
                error!(
                    protocol = self.protocol,
                    err = chain(&failed),
                    "Failed to ensure iptables chain or rule"
                );
                false
            }
        }
    }

    async fn try_make(&self) -> Result<(), CallError> {
        self.make_chain("mangle", HINT).await?;
        if self.is_ipv6 {
            return Ok(());
        }
        self.make_chain("filter", FIREWALL).await?;
        self.make_rule("-I", "OUTPUT", &["-j", FIREWALL]).await?;
        self.make_rule("-I", "INPUT", &["-j", FIREWALL]).await?;
        self.make_rule("-A", FIREWALL, DROP_FOREIGN).await
    }

    /// Keeps canaries, and makes everything again when they are gone. Never ends.
    async fn guard(&self, intervals: Intervals) {
        loop {
            self.set_canaries(intervals).await;
            loop {
                tokio::time::sleep(intervals.look_every).await;
                match self.has_chain(TABLES[0], CANARY).await {
                    Ok(()) => {}
                    Err(error) if error.status() == Some(BUSY) => {
                        error!(
                            protocol = self.protocol,
                            err = chain(&error),
                            "Failed to check the iptables canary chain, will retry"
                        );
                    }
                    Err(_) => break,
                }
            }
            info!(v = 2, protocol = self.protocol, "iptables canary chain deleted; reloading iptables rules");
            self.wait_for_flush(intervals).await;
            self.make().await;
        }
    }

    async fn set_canaries(&self, intervals: Intervals) {
        while let Err(error) = self.try_set_canaries().await {
            error!(
                protocol = self.protocol,
                err = chain(&error),
                "Failed to create iptables canary chains, will retry"
            );
            tokio::time::sleep(intervals.look_every).await;
        }
    }

    async fn try_set_canaries(&self) -> Result<(), CallError> {
        for table in TABLES {
            self.make_chain(table, CANARY).await?;
        }
        Ok(())
    }

    /// Waits until the canaries of the other tables are gone too: what is made while somebody throws things away is lost.
    async fn wait_for_flush(&self, intervals: Intervals) {
        for _ in 0..intervals.flush_looks {
            let mut is_over = true;
            for table in &TABLES[1..] {
                let found = self.has_chain(table, CANARY).await;
                is_over &= found.is_err_and(|error| error.status() != Some(BUSY));
            }
            if is_over {
                return;
            }
            tokio::time::sleep(intervals.flush_every).await;
        }
        info!(
            protocol = self.protocol,
            "Inconsistent iptables canary chains: some were deleted, others were not"
        );
    }

    async fn has_chain(&self, table: &str, name: &str) -> Result<(), CallError> {
        self.call("-S", table, name, &[]).await
    }

    async fn make_chain(&self, table: &str, name: &str) -> Result<(), CallError> {
        match self.call("-N", table, name, &[]).await {
            Err(error) if error.status() == Some(NO) => Ok(()),
            made => made,
        }
    }

    /// Makes a rule of the table `filter` unless it is there, first (`-I`) or last (`-A`) of its chain.
    async fn make_rule(&self, place: &str, name: &str, rule: &[&str]) -> Result<(), CallError> {
        match self.call("-C", "filter", name, rule).await {
            Err(error) if error.status() == Some(NO) => self.call(place, "filter", name, rule).await,
            found => found,
        }
    }

    async fn call(&self, operation: &str, table: &str, name: &str, rule: &[&str]) -> Result<(), CallError> {
        let mut command = Command::new(&self.program);
        // Wait for others who change the tables, but not for ever.
        command.args(["-w", "5", operation, name, "-t", table]).args(rule);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let done = command.output().await.map_err(|error| CallError::Start(self.program.clone(), error))?;
        if done.status.success() {
            return Ok(());
        }
        let mut said = String::from_utf8_lossy(&done.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&done.stderr));
        Err(CallError::Status {
            program: self
                .program
                .file_name()
                .unwrap_or(OsStr::new("iptables"))
                .to_string_lossy()
                .into_owned(),
            operation: format!("{operation} {name} -t {table}"),
            status: done.status.code(),
            said: said.trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
