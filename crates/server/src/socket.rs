//! Sockets that listen, as Go's network library makes them: an address that stands for all of the machine's stands for those
//! of both families, and as many connections wait to be taken as the kernel allows.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket};

/// More than the kernel lets wait (`net.core.somaxconn`), which has the last word.
const BACKLOG: u32 = 65_535;

/// How long an address that is taken is tried again. A kubelet that was killed leaves its sockets to a program that it was just
/// about to start, up to the moment in which that runs; and one that is replaced may need a moment to close its own.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const RETRY: Duration = Duration::from_millis(10);

/// Takes an address, tried for 2 s while somebody else still has it.
///
/// # Errors
/// It stays taken, or is not this machine's.
pub(crate) async fn take(address: SocketAddr) -> io::Result<TcpListener> {
    let trying = async {
        loop {
            match listen(address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::time::sleep(RETRY).await,
                result => break result,
            }
        }
    };
    // Cancel-safe: what listens is returned at once. The last try has the last word.
    match tokio::time::timeout(PATIENCE, trying).await {
        Ok(result) => result,
        Err(_) => listen(address),
    }
}

/// Takes an address at once. `0.0.0.0` and `::` both mean all addresses of both families, where the machine has both.
///
/// # Errors
/// It is taken, or not this machine's.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return listen_at(address);
    }
    let all = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
    match listen_at(all) {
        // A kernel without IPv6.
        Err(error) if is_no_such_family(&error) && address.is_ipv4() => listen_at(address),
        listening => listening,
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that has just ended leaves connections behind, which are no reason to wait.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_no_such_family(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
        || code == Some(rustix::io::Errno::ADDRNOTAVAIL.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpStream;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    /// Which of the loopback addresses a listener answers at.
    async fn answers(address: &str) -> Vec<IpAddr> {
        let listener = listen(format!("{address}:0").parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut found = Vec::new();
        for ip in [V4, V6] {
            found.extend(TcpStream::connect((ip, port)).await.is_ok().then_some(ip));
        }
        found
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        assert_eq!(answers("0.0.0.0").await, [V4, V6]);
        assert_eq!(answers("[::]").await, [V4, V6]);
        assert_eq!(answers("127.0.0.1").await, [V4]);
        assert_eq!(answers("[::1]").await, [V6]);
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_an_error_and_no_reason_to_take_another() {
        let first = listen("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = first.local_addr().unwrap().port();
        for address in [format!("0.0.0.0:{port}"), format!("[::]:{port}"), format!("127.0.0.1:{port}")] {
            let error = listen(address.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_given_back_soon_is_waited_for() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let mut taking = Box::pin(take(address));
        tokio::select! {
            result = &mut taking => panic!("it is the first one's: {result:?}"),
            () = tokio::time::sleep(PATIENCE / 2) => {}
        }
        drop(first);
        assert_eq!(taking.await.unwrap().local_addr().unwrap(), address);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_stays_taken_is_given_up() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = take(first.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    /// Nobody takes these connections: they wait. Before, the 129th did not get an answer.
    #[tokio::test]
    async fn as_many_connections_wait_as_the_kernel_allows() {
        let allowed = host::text::read("/proc/sys/net/core/somaxconn").unwrap();
        let many = allowed.trim().parse::<usize>().unwrap().min(600);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..many {
            let connected =
                tokio::time::timeout(std::time::Duration::from_secs(30), TcpStream::connect(address)).await;
            waiting.push(connected.expect("the backlog is full").unwrap());
        }
        assert_eq!(waiting.len(), many);
    }
}
