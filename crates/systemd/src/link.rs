//! The connection to systemd: over the system bus, or over systemd's own socket where there is no bus.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{info, warn};
use zbus::connection::Builder;
use zbus::{Connection, DynamicType, MatchRule, Message, MessageStream, fdo, message};

use crate::SystemdError;
use crate::private_socket::PrivateSocket;

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
/// systemd's interface for units.
const UNITS: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// systemd's own socket. Only root may use it.
const PRIVATE_SOCKET: &str = "/run/systemd/private";

/// For finding systemd, and for its answer to a call. It answers at once unless it is reloading, which takes seconds on
/// a host full of units; D-Bus itself gives up after 25 seconds.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(25);
/// A job of a slice is done at once; one or two of others on the same unit may end before it.
const JOBS_KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// How systemd is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusAddress {
    /// Over the system bus.
    SystemBus,
    /// Over a socket on which systemd itself listens.
    Socket(PathBuf),
}

impl BusAddress {
    /// The addresses of a node: the bus first, as upstream.
    pub fn of_node() -> Vec<Self> {
        vec![Self::SystemBus, Self::Socket(PRIVATE_SOCKET.into())]
    }

    async fn connect(&self) -> zbus::Result<Connection> {
        let builder = match self {
            Self::SystemBus => Builder::system(),
            Self::Socket(path) => Builder::socket(PrivateSocket(UnixStream::connect(path).await?)).p2p(),
        };
        timeout(CALL_TIMEOUT, builder.method_timeout(CALL_TIMEOUT).build())
            .await
            .unwrap_or_else(|_| Err(zbus::Error::Failure("no answer in time".to_owned())))
    }
}

impl std::fmt::Display for BusAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SystemBus => write!(f, "the system bus"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Finds systemd, and finds it again when a connection was lost.
#[derive(Debug)]
pub(crate) struct BusConnector {
    addresses: Vec<BusAddress>,
    /// The connection in use. Locked while systemd is looked for, so that those who need it wait for one connection
    /// instead of making many.
    current: Mutex<Option<Link>>,
}

impl BusConnector {
    pub(crate) fn new(addresses: Vec<BusAddress>) -> Self {
        Self { addresses, current: Mutex::new(None) }
    }

    /// The connection in use, or a new one.
    pub(crate) async fn link(&self) -> Result<Link, SystemdError> {
        let mut current = self.current.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.connection.is_closed()) {
            return Ok(link.clone());
        }
        let link = self.find().await?;
        *current = Some(link.clone());
        Ok(link)
    }

    /// A connection is of no use any more.
    pub(crate) async fn forget(&self, lost: &Link, why: &zbus::Error) {
        warn!(err = %why, "Lost connection to systemd; reconnecting");
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|link| link.is_same(lost)) {
            *current = None;
        }
    }

    async fn find(&self) -> Result<Link, SystemdError> {
        let mut tried = Vec::new();
        for way in &self.addresses {
            let found = match way.connect().await {
                Ok(connection) => Link::over(connection).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(link) => {
                    info!(v = 2, over = %way, version = link.version, "Connected to systemd");
                    return Ok(link);
                }
                Err(error) => tried.push(format!("{way}: {error}")),
            }
        }
        Err(SystemdError::Unreachable { tried: tried.join("; ") })
    }
}

/// A connection to systemd.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    connection: Connection,
    /// systemd's version; 0 if it is written in a way nobody knows.
    pub(crate) version: u32,
}

impl Link {
    async fn over(connection: Connection) -> zbus::Result<Self> {
        let mut link = Self { connection, version: 0 };
        let answer = link.call(PROPERTIES, "Get", &(UNITS, "Version")).await?;
        let version: zbus::OwnedVariant = answer.body().deserialize()?;
        link.version = <&str>::try_from(&*version).map_or(0, version_number);
        Ok(link)
    }

    fn is_same(&self, other: &Self) -> bool {
        // The server's id is that of the listener; only the name on the bus, or its absence, and the closed state
        // tell connections apart.
        self.connection.unique_name() == other.connection.unique_name()
    }

    /// Calls a method of systemd's interface for units.
    pub(crate) async fn call_units<B>(&self, method: &'static str, body: &B) -> zbus::Result<Message>
    where
        B: DynamicType + Serialize,
    {
        self.call(UNITS, method, body).await
    }

    async fn call<B>(&self, interface: &'static str, method: &'static str, body: &B) -> zbus::Result<Message>
    where
        B: DynamicType + Serialize,
    {
        let service = self.connection.is_bus().then_some(SERVICE);
        self.connection.call_method(service, PATH, Some(interface), method, body).await
    }

    /// What systemd says of jobs of a unit that have ended, from now on.
    pub(crate) async fn ended_jobs(&self, unit: &str) -> zbus::Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .path(PATH)
            .interface(UNITS)
            .member("JobRemoved")
            .arg(2, unit);
        // Nobody but systemd may end the wait. On its own socket there is nobody else.
        let rule = if self.connection.is_bus() { rule.sender(SERVICE) } else { rule };
        MessageStream::for_match_rule(rule.build()?, &self.connection, Some(JOBS_KEPT)).await
    }
}

/// The number in `252`, `v249.11` or `252 (252.30-1~deb12u2)`.
fn version_number(text: &str) -> u32 {
    let digits: String =
        text.trim_start_matches(['"', 'v']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Whether an error means that another connection may do better: the bus or systemd was started anew.
pub(crate) fn is_lost(error: &zbus::Error) -> bool {
    match error {
        // Who does not answer in time would not answer over another connection either.
        zbus::Error::InputOutput(error) => error.kind() != std::io::ErrorKind::TimedOut,
        zbus::Error::Connection(..) => true,
        zbus::Error::FDO(error) => match &**error {
            fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::NoReply(_)
            | fdo::Error::NoServer(_)
            | fdo::Error::Disconnected(_) => true,
            fdo::Error::ZBus(error) => is_lost(error),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (text, version) in [
            ("252", 252),
            ("v249.11-0ubuntu3", 249),
            ("\"v245-1.fc32\"", 245),
            ("252 (252.30-1)", 252),
            ("x", 0),
        ] {
            assert_eq!(version_number(text), version, "{text}");
        }
    }
}
