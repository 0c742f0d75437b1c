//! Who listens at a TCP port of this network namespace, as `/proc/net/tcp` and the processes' descriptors tell.

use std::fmt;

use procfs::ProcError;
use procfs::net::{TcpState, tcp, tcp6};
use procfs::process::{FDTarget, Process, all_processes};

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its id in this process namespace.
    pub pid: i32,
    /// The name of its program, as the kernel cuts it (15 bytes).
    pub name: String,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// The processes that listen at a TCP port, whatever the address. None are found that only root may look at, or that are in
/// another process namespace.
///
/// It reads the descriptors of every process, so it is for the moment before giving up.
///
/// # Errors
/// `/proc` cannot be read.
pub fn at_port(port: u16) -> Result<Vec<Listener>, ProcError> {
    let sockets = tcp()?.into_iter().chain(tcp6().unwrap_or_default());
    let is_listening = |state: &TcpState| *state == TcpState::Listen;
    let inodes: Vec<u64> = sockets
        .filter(|socket| is_listening(&socket.state) && socket.local_address.port() == port)
        .map(|socket| socket.inode)
        .collect();
    if inodes.is_empty() {
        return Ok(Vec::new());
    }
    // Those that end meanwhile have nothing to say.
    Ok(all_processes()?.flatten().filter_map(|process| holder(&process, &inodes)).collect())
}

/// The process, if one of its descriptors is one of these sockets.
fn holder(process: &Process, inodes: &[u64]) -> Option<Listener> {
    let is_one = |target: &FDTarget| matches!(target, FDTarget::Socket(inode) if inodes.contains(inode));
    process.fd().ok()?.flatten().find(|descriptor| is_one(&descriptor.target))?;
    Some(Listener { pid: process.pid, name: process.stat().ok()?.comm })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    #[test]
    fn a_port_has_the_process_that_listens_and_nobody_else() {
        for address in [(Ipv4Addr::LOCALHOST.into(), 0), (Ipv6Addr::LOCALHOST.into(), 0)] {
            let _: (std::net::IpAddr, u16) = address;
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let found = at_port(port).unwrap();
            let pids: Vec<_> = found.iter().map(|listener| listener.pid).collect();
            assert_eq!(pids, [i32::try_from(std::process::id()).unwrap()]);
            assert!(!found[0].name.is_empty());
            // A connection has the port too, and does not listen.
            let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert_eq!(at_port(connection.local_addr().unwrap().port()).unwrap(), []);
            drop(listener);
            assert_eq!(at_port(port).unwrap(), []);
        }
    }
}
