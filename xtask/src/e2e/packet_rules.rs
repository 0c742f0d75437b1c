//! The chains of iptables that a kubelet keeps (`makeIPTablesUtilChains`), and what they are good for.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;
use tokio::process::Command;

use super::scene::{EVENTUALLY, SOON, Scene, shell};
use crate::cluster::Changes;
use crate::isolation::NODE_IP;

/// Every line with a chain of the kubelet, of each table, as it lists them.
const OF_IPV4: &[(&str, &[&str])] = &[
    ("mangle", &["-N KUBE-IPTABLES-HINT", "-N KUBE-KUBELET-CANARY"]),
    ("nat", &["-N KUBE-KUBELET-CANARY"]),
    (
        "filter",
        &[
            "-A INPUT -j KUBE-FIREWALL",
            "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m \
             conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
            "-A OUTPUT -j KUBE-FIREWALL",
            "-N KUBE-FIREWALL",
            "-N KUBE-KUBELET-CANARY",
        ],
    ),
];
const OF_IPV6: &[(&str, &[&str])] = &[
    ("mangle", &["-N KUBE-IPTABLES-HINT", "-N KUBE-KUBELET-CANARY"]),
    ("nat", &["-N KUBE-KUBELET-CANARY"]),
    ("filter", &["-N KUBE-KUBELET-CANARY"]),
];

/// Throws everything away, as a firewall does that is loaded anew, and waits for the kubelet to notice.
pub(super) async fn come_back_after_a_flush(scene: Scene) -> Result<()> {
    are_there().await?;
    flush().await?;
    are_there().await?;
    // The node is as it was.
    scene.cluster.node_ready(SOON).await
}

/// CVE-2020-8558: neighbours on the network do not reach what listens on loopback addresses, although kube-proxy's setting
/// would let them.
pub(super) async fn keep_neighbours_from_loopback_addresses(scene: Scene) -> Result<()> {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet");
    ensure!(setting.context("read the setting")?.trim() == "1", "the door is not open: nothing can be told");
    scene.cluster.kubelet.stop().await?;
    flush().await?;
    let neighbour = Neighbour::move_in().await?;
    let outcome = async {
        let open = neighbour.is_heard_on_loopback().await?;
        ensure!(open, "without the chains the neighbour has to be heard: the test is no good");
        let changes =
            |is_on| Changes { fields: json!({ "makeIPTablesUtilChains": is_on }), ..Changes::default() };
        let without = scene.cluster.kubelet_changed("kubelet-without-chains", changes(false))?;
        without.start().await?;
        // The chains would be there by then.
        scene.ready_pod("any", json!({ "containers": [shell("main", "sleep 1000")] })).await?;
        let listed = rules("iptables", "filter").await?;
        without.stop().await?;
        ensure!(listed.is_empty(), "chains although they are not wanted: {listed:?}");
        ensure!(neighbour.is_heard_on_loopback().await?, "the neighbour is not heard without chains");

        scene.cluster.kubelet.start().await?;
        are_there().await?;
        ensure!(!neighbour.is_heard_on_loopback().await?, "the neighbour reaches a loopback address");
        Ok(())
    }
    .await;
    neighbour.move_out().await?;
    scene.cluster.kubelet.restart().await?;
    scene.cluster.node_ready(EVENTUALLY).await?;
    outcome
}

/// Waits until the rules are exactly those of upstream. Nothing tells of a change of rules, and there is one a minute at
/// most: they are listed again and again.
async fn are_there() -> Result<()> {
    let mut last = Vec::new();
    let wait = async {
        loop {
            last = differences().await?;
            if last.is_empty() {
                return anyhow::Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    match tokio::time::timeout(EVENTUALLY, wait).await {
        Ok(done) => done,
        Err(_) => bail!("not the rules of upstream after {EVENTUALLY:?}: {last:#?}"),
    }
}

async fn differences() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (program, tables) in [("iptables", OF_IPV4), ("ip6tables", OF_IPV6)] {
        for (table, expected) in tables {
            let lines = rules(program, table).await?;
            if lines != *expected {
                found.push(format!("{program}, table {table}: {lines:#?}, expected {expected:#?}"));
            }
        }
    }
    Ok(found)
}

/// The lines with chains of Kubernetes, sorted: which of two chains is made first is not said.
async fn rules(program: &str, table: &str) -> Result<Vec<String>> {
    let text = call(program, &["-w", "5", "-t", table, "-S"]).await?;
    let mut lines: Vec<String> =
        text.lines().filter(|line| line.contains("KUBE-")).map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

async fn flush() -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        for table in ["mangle", "nat", "filter"] {
            call(program, &["-w", "5", "-t", table, "-F"]).await?;
            call(program, &["-w", "5", "-t", table, "-X"]).await?;
        }
    }
    Ok(())
}

async fn call(program: &str, args: &[&str]) -> Result<String> {
    let done = Command::new(program).args(args).kill_on_drop(true).output().await;
    let done = done.with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {args:?}: {}", said.trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Another machine on the node's network.
struct Neighbour;

impl Neighbour {
    const NAME: &str = "neighbour";
    const ADDRESS: &str = "10.78.0.66/24";

    async fn move_in() -> Result<Self> {
        let (name, address) = (Self::NAME, Self::ADDRESS);
        for step in [
            format!("netns add {name}"),
            format!("link add {name}0 type veth peer name eth0 netns {name}"),
            format!("link set {name}0 master node0"),
            format!("link set {name}0 up"),
            format!("-netns {name} link set eth0 up"),
            format!("-netns {name} addr add {address} dev eth0"),
            // What no ordinary machine would do.
            format!("-netns {name} route add 127.0.0.0/8 via {NODE_IP} dev eth0"),
        ] {
            call("ip", &step.split(' ').collect::<Vec<_>>()).await?;
        }
        Ok(Self)
    }

    async fn move_out(self) -> Result<()> {
        call("ip", &["netns", "del", Self::NAME]).await.map(drop)
    }

    /// Sends a packet to a loopback address of the node, and then one to its real address. The second is always heard, after
    /// the first if that is heard at all, so nobody has to wait for something not to happen.
    async fn is_heard_on_loopback(&self) -> Result<bool> {
        let listener = tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.context("listen")?;
        let port = listener.local_addr().context("listen")?.port();
        let node: Ipv4Addr = NODE_IP.parse().context("the node's address")?;
        let sent = tokio::task::spawn_blocking(move || send(port, [Ipv4Addr::LOCALHOST, node]));
        sent.await.context("send packets")??;
        let mut text = [0; 64];
        let heard = tokio::time::timeout(SOON, listener.recv(&mut text)).await;
        let length = heard.map_err(|_| anyhow!("nothing was heard from the neighbour"))?.context("listen")?;
        match text.get(..length) {
            Some(b"127.0.0.1") => Ok(true),
            Some(text) if text == NODE_IP.as_bytes() => Ok(false),
            other => bail!("somebody else sent {other:?}"),
        }
    }
}

/// Sends each address a packet with its name, from the neighbour's network.
fn send(port: u16, addresses: [Ipv4Addr; 2]) -> Result<()> {
    let thread = std::thread::spawn(move || {
        let network = std::fs::File::open(Path::new("/run/netns").join(Neighbour::NAME))?;
        // Of this thread alone, which ends here.
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&network),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        for address in addresses {
            socket.send_to(address.to_string().as_bytes(), SocketAddr::from((address, port)))?;
        }
        std::io::Result::Ok(())
    });
    let sent = thread.join().map_err(|_| anyhow!("the sender failed"))?;
    sent.context("send packets from the neighbour's network")
}
