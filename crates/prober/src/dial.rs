//! A TCP connection, with the error text users know.
//!
//! Upstream sets `SO_LINGER` to one second on these sockets. That makes `close` block its thread
//! and does not shorten `TIME_WAIT` on Linux, so it is not repeated here; a probe asks the peer
//! to close instead (`Connection: close`), which leaves `TIME_WAIT` with the peer.

use std::io;

use tokio::net::{TcpStream, lookup_host};

use crate::text;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The address did not answer as it should. The text already carries the kernel's reason.
    #[error("dial tcp {address}: connect: {}", text::errno(.source))]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    /// The name is unknown.
    #[error("dial tcp: lookup {host}: {}", lookup_text(.source))]
    Lookup {
        host: String,
        #[source]
        source: io::Error,
    },
}

/// Connects to the first of the host's addresses that answers; reports the first one's error.
pub(crate) async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let lookup = |source| DialError::Lookup { host: host.to_owned(), source };
    let addresses = lookup_host((host, port)).await.map_err(lookup)?;
    let mut first_error = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Only affects latency; a socket that refuses still works.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => {
                let address = text::join_host_port(&address.ip().to_string(), address.port());
                first_error.get_or_insert(DialError::Connect { address, source });
            }
        }
    }
    Err(first_error.unwrap_or_else(|| lookup(io::Error::from(io::ErrorKind::NotFound))))
}

/// A resolver's failure is a name that does not exist, or a resolver out of reach.
fn lookup_text(error: &io::Error) -> String {
    let text = error.to_string();
    if text.contains("Temporary failure") {
        "server misbehaving".to_owned()
    } else {
        "no such host".to_owned()
    }
}
