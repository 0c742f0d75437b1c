//! What systemd is told: that the kubelet has started (`READY=1`) and, when the unit has a
//! `WatchdogSec`, that it is well (`WATCHDOG=1`).

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::{error, info, warn};

/// A shorter timeout leaves no room between two notices.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// A watchdog that is asked for in a way that cannot be met.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum WatchdogError {
    /// A variable that is no number.
    #[error("configure watchdog: {name} is {text:?}, which is not a positive number")]
    NotANumber { name: &'static str, text: String },
    /// Too often.
    #[error("configure watchdog timeout too small: {0:?} (set WatchdogSec= of the unit to more than 1s)")]
    TooShort(Duration),
}

/// Where systemd listens, if it does.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    socket: Option<OsString>,
}

impl Notifier {
    /// As the environment says.
    pub(crate) fn from_environment() -> Self {
        Self { socket: std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) }
    }

    /// Says that the kubelet has started.
    pub(crate) fn ready(&self) {
        match self.send("READY=1") {
            Ok(true) => info!(v = 2, "Notified systemd that the kubelet has started"),
            Ok(false) => {}
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                socket = ?self.socket,
                "Failed to notify systemd that the kubelet has started; a unit of Type=notify will time out"
            ),
        }
    }

    /// Whether there was somebody to tell.
    fn send(&self, state: &str) -> io::Result<bool> {
        let Some(path) = &self.socket else { return Ok(false) };
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A notice that does not fit into systemd's queue is an error, and not a reason to wait.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)?;
        Ok(true)
    }
}

/// The timeout after which systemd kills this process; `None` where it does not.
pub(crate) fn watchdog_timeout() -> Result<Option<Duration>, WatchdogError> {
    let variable = |name| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
    timeout(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id())
}

fn timeout(
    micros: Option<String>,
    process: Option<String>,
    own: u32,
) -> Result<Option<Duration>, WatchdogError> {
    let number = |name, text: String| match text.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(WatchdogError::NotANumber { name, text }),
    };
    let Some(micros) = micros.filter(|text| !text.is_empty()) else { return Ok(None) };
    let timeout = Duration::from_micros(number("WATCHDOG_USEC", micros)?);
    if let Some(process) = process.filter(|text| !text.is_empty())
        && number("WATCHDOG_PID", process)? != u64::from(own)
    {
        return Ok(None);
    }
    if timeout <= SHORTEST_TIMEOUT {
        return Err(WatchdogError::TooShort(timeout));
    }
    Ok(Some(timeout))
}

/// Tells systemd twice in each timeout that the kubelet is well, for as long as it is.
pub(crate) async fn watch(
    notifier: Notifier,
    timeout: Duration,
    check: impl Fn() -> Result<(), String> + Send,
) {
    let interval = timeout / 2;
    info!(?interval, "Starting systemd watchdog with interval");
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(reason) = check() {
            error!(
                err = reason,
                "Do not notify watchdog this iteration as the kubelet is reportedly not healthy"
            );
            continue;
        }
        match notifier.send("WATCHDOG=1") {
            Ok(true) => {}
            Ok(false) => error!(err = "NOTIFY_SOCKET is not set", "Failed to notify watchdog"),
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "Failed to notify watchdog");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observe::sync_loop_health::SyncLoopHealth;

    #[test]
    fn timeouts() {
        let some = |text: &str| Some(text.to_owned());
        let wrong = |name, text: &str| Err(WatchdogError::NotANumber { name, text: text.to_owned() });
        for (micros, process, expected) in [
            (None, None, Ok(None)),
            (some(""), some("x"), Ok(None)),
            (some("30000000"), None, Ok(Some(Duration::from_secs(30)))),
            (some("30000000"), some("7"), Ok(Some(Duration::from_secs(30)))),
            (some("30000000"), some("8"), Ok(None)),
            (some("1000"), some("8"), Ok(None)),
            (some("abc"), some("8"), wrong("WATCHDOG_USEC", "abc")),
            (some("0"), None, wrong("WATCHDOG_USEC", "0")),
            (some("30000000"), some("x"), wrong("WATCHDOG_PID", "x")),
            (some("1000000"), None, Err(WatchdogError::TooShort(Duration::from_secs(1)))),
            (some("1000001"), None, Ok(Some(Duration::from_micros(1_000_001)))),
        ] {
            assert_eq!(timeout(micros.clone(), process.clone(), 7), expected, "{micros:?} {process:?}");
        }
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn notices_reach_both_kinds_of_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let named = UnixDatagram::bind(&path).unwrap();
        let abstract_name = format!("ferrolet-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(abstract_name.as_bytes()).unwrap();
        let hidden = UnixDatagram::bind_addr(&address).unwrap();
        for (name, socket) in [(path.into_os_string(), named), (format!("@{abstract_name}").into(), hidden)] {
            Notifier { socket: Some(name) }.ready();
            assert_eq!(received(&socket), "READY=1");
        }
        assert!(!Notifier { socket: None }.send("READY=1").unwrap());
        assert!(Notifier { socket: Some("/no/such".into()) }.send("READY=1").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_core_that_is_stuck_is_not_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let sync_loop = Arc::new(SyncLoopHealth::default());
        let notifier = Notifier { socket: Some(path.into_os_string()) };
        let watched = sync_loop.clone();
        let watching = tokio::spawn(watch(notifier, Duration::from_secs(30), move || watched.check()));
        let count = || {
            let mut buffer = [0; 64];
            std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count()
        };
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(count(), 5, "at 0, 15, 30, 45 and 60 s");
        sync_loop.end();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(count(), 0);
        watching.abort();
    }
}
