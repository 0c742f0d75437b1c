//! Whether the host ports a pod wants are free.

use model::Pod;
use model::reason::Refusal;

use super::Rejection;
use crate::allocation::{Ledger, host_ports};

pub(super) fn check(pod: &Pod, ledger: &Ledger) -> Result<(), Rejection> {
    if host_ports(pod).any(|wanted| ledger.has_port(&wanted)) {
        return Err(Rejection::predicate(
            Refusal::NodePorts,
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    Ok(())
}
