//! The chains against a stand-in for `iptables` that keeps its tables in a file.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;

use super::{Intervals, Iptables, keep_all};

/// Keeps chains as files, and tells each call.
const PROGRAM: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
op=$3 file=$6/$4
call="$(basename "$0") $3 $4 $6"
[ "$1 $2 $5" = "-w 5 -t" ] || call="odd: $*"
shift 6
echo "$call${1:+ }$*" > calls
[ -e busy ] && exit 4
case $op in
-S) [ -e "$file" ] || exit 1 ;;
-N) [ -e "$file" ] && exit 1; : > "$file" ;;
-C) grep -qxF -e "$*" "$file" || exit 1 ;;
-I|-A) echo "$*" >> "$file" ;;
esac
"#;

const QUICK: Intervals = Intervals {
    look_every: Duration::from_millis(1),
    flush_every: Duration::from_millis(1),
    flush_looks: 10_000,
};

struct Lab {
    folder: TempDir,
    calls: Lines<BufReader<pipe::Receiver>>,
}

impl Lab {
    fn new(programs: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for chain in ["mangle", "nat/POSTROUTING", "filter/INPUT", "filter/OUTPUT"] {
            let path = root.join(chain);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if chain.contains('/') { std::fs::write(path, "") } else { std::fs::create_dir_all(path) }
                .unwrap();
        }
        std::fs::write(root.join("text"), PROGRAM).unwrap();
        // Not written here: a program that anybody has open for writing cannot be run, and a test
        // beside this one may just be starting a process with a copy of this one's files.
        for name in programs {
            run("install", &["-m", "755", "text", name], root);
        }
        run("mkfifo", &["calls"], root);
        let calls = pipe::OpenOptions::new().read_write(true).open_receiver(root.join("calls")).unwrap();
        Self { folder, calls: BufReader::new(calls).lines() }
    }

    fn family(&self, name: &str, is_ipv6: bool) -> Iptables {
        let protocol = if is_ipv6 { "IPv6" } else { "IPv4" };
        Iptables { program: self.folder.path().join(name), protocol, is_ipv6 }
    }

    fn families(&self) -> [Iptables; 2] {
        [self.family("iptables", false), self.family("ip6tables", true)]
    }

    async fn called(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(60), self.calls.next_line()).await;
        line.expect("no further call").unwrap().unwrap()
    }

    async fn expect(&mut self, calls: &[&str]) {
        for call in calls {
            assert_eq!(self.called().await, *call);
        }
    }

    async fn until(&mut self, call: &str) {
        while self.called().await != call {}
    }

    fn chain(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(path)).unwrap_or_else(|_| "missing".to_owned())
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.folder.path().join(path)).unwrap();
    }
}

fn run(program: &str, args: &[&str], folder: &Path) {
    let done = std::process::Command::new(program).args(args).current_dir(folder).status().unwrap();
    assert!(done.success(), "{program} {args:?}");
}

const DROP: &str = "-m comment --comment block incoming localnet connections --dst 127.0.0.0/8 ! --src 127.0.0.0/8 \
                    -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";

#[tokio::test]
async fn the_chains_are_made_and_canaries_set() {
    let mut lab = Lab::new(&["iptables", "ip6tables"]);
    // Nobody looks at a canary within this test.
    let slow = Intervals { look_every: Duration::from_secs(3600), ..QUICK };
    let kept = tokio::spawn(keep_all(lab.families(), slow));
    let check = format!("iptables -C KUBE-FIREWALL filter {DROP}");
    let append = format!("iptables -A KUBE-FIREWALL filter {DROP}");
    lab.expect(&[
        "iptables -S POSTROUTING nat",
        "ip6tables -S POSTROUTING nat",
        "iptables -N KUBE-IPTABLES-HINT mangle",
        "iptables -N KUBE-FIREWALL filter",
        "iptables -C OUTPUT filter -j KUBE-FIREWALL",
        "iptables -I OUTPUT filter -j KUBE-FIREWALL",
        "iptables -C INPUT filter -j KUBE-FIREWALL",
        "iptables -I INPUT filter -j KUBE-FIREWALL",
        &check,
        &append,
        "ip6tables -N KUBE-IPTABLES-HINT mangle",
    ])
    .await;
    let mut canaries = Vec::new();
    for _ in 0..6 {
        canaries.push(lab.called().await);
    }
    canaries.sort();
    let expected: Vec<String> = ["ip6tables", "iptables"]
        .iter()
        .flat_map(|program| {
            ["filter", "mangle", "nat"].map(|table| format!("{program} -N KUBE-KUBELET-CANARY {table}"))
        })
        .collect();
    assert_eq!(canaries, expected);
    kept.abort();
}

#[tokio::test]
async fn what_is_there_is_not_made_twice() {
    let lab = Lab::new(&["iptables"]);
    let family = lab.family("iptables", false);
    assert!(family.make().await);
    assert!(family.make().await);
    assert_eq!(lab.chain("filter/KUBE-FIREWALL"), format!("{DROP}\n"));
    assert_eq!(lab.chain("filter/INPUT"), "-j KUBE-FIREWALL\n");
    assert_eq!(lab.chain("filter/OUTPUT"), "-j KUBE-FIREWALL\n");
}

#[tokio::test]
async fn what_a_flush_took_is_made_again_once_it_is_over() {
    let mut lab = Lab::new(&["iptables"]);
    let kept = tokio::spawn(keep_all(lab.families(), QUICK));
    lab.until("iptables -S KUBE-KUBELET-CANARY mangle").await;
    // A flush under way: the first table's chains are gone, another's not yet.
    for path in ["mangle/KUBE-KUBELET-CANARY", "mangle/KUBE-IPTABLES-HINT", "filter/KUBE-FIREWALL"] {
        lab.remove(path);
    }
    lab.until("iptables -S KUBE-KUBELET-CANARY filter").await;
    lab.until("iptables -S KUBE-KUBELET-CANARY filter").await;
    assert_eq!(lab.chain("filter/KUBE-FIREWALL"), "missing", "not while others are being removed");
    lab.remove("nat/KUBE-KUBELET-CANARY");
    lab.remove("filter/KUBE-KUBELET-CANARY");
    lab.until("iptables -N KUBE-IPTABLES-HINT mangle").await;
    lab.until("iptables -N KUBE-KUBELET-CANARY filter").await;
    assert_eq!(lab.chain("filter/KUBE-FIREWALL"), format!("{DROP}\n"));
    kept.abort();
}

#[tokio::test]
async fn tables_that_others_hold_are_not_taken_for_flushed() {
    let mut lab = Lab::new(&["iptables"]);
    let kept = tokio::spawn(keep_all(lab.families(), QUICK));
    lab.until("iptables -S KUBE-KUBELET-CANARY mangle").await;
    std::fs::write(lab.folder.path().join("busy"), "").unwrap();
    for _ in 0..3 {
        lab.expect(&["iptables -S KUBE-KUBELET-CANARY mangle"]).await;
    }
    kept.abort();
}

#[tokio::test]
async fn without_the_programs_nothing_is_kept() {
    let lab = Lab::new(&[]);
    keep_all(lab.families(), QUICK).await;
    assert_eq!(lab.chain("mangle/KUBE-IPTABLES-HINT"), "missing");
}
