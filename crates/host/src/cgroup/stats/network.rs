//! Network counters. Control groups have none: they are those of a process's network namespace.

use super::GroupReader;

/// Interfaces whose traffic another interface counts already, or that lead nowhere.
const IGNORED: [&str; 4] = ["lo", "veth", "docker", "nerdctl"];

/// What went through one interface since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets received with errors.
    pub receive_errors: u64,
    /// Packets received and dropped.
    pub receive_drops: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
    /// Packets dropped instead of sent.
    pub send_drops: u64,
}

impl GroupReader {
    /// The interfaces in the network namespace of a process, without loopback and the node's ends of
    /// pods' interfaces, as upstream leaves them out. `None` if the process has ended.
    pub fn network(&mut self, pid: u32) -> Option<Vec<InterfaceCounters>> {
        let text = self.process_text(pid, "net/dev")?;
        // Two lines of headings.
        Some(text.lines().skip(2).filter_map(interface).collect())
    }
}

fn interface(line: &str) -> Option<InterfaceCounters> {
    let (name, counters) = line.split_once(':')?;
    let name = name.trim();
    if IGNORED.iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix)) {
        return None;
    }
    let mut fields = counters.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
    let mut at = |skipped: usize| fields.nth(skipped).flatten();
    // Received: bytes packets errs drop fifo frame compressed multicast. Sent: likewise.
    Some(InterfaceCounters {
        name: name.to_owned(),
        received_bytes: at(0)?,
        received_packets: at(0)?,
        receive_errors: at(0)?,
        receive_drops: at(0)?,
        sent_bytes: at(4)?,
        sent_packets: at(0)?,
        send_errors: at(0)?,
        send_drops: at(0)?,
    })
}
