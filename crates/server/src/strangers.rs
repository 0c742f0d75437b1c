//! Connections whose other end has not proved who it is: a crowd of bounded size, in which the oldest makes room.
//!
//! Anyone who reaches the port can open connections and say nothing. Were they only counted, they would lock out
//! the API server as soon as there is one more than there may be; so a newcomer is always let in, and whoever has
//! waited the longest without credentials goes. A caller with good credentials leaves the crowd for good.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Strangers at a time. A caller needs milliseconds to prove itself, even on a busy node; each costs up to 40 kB,
/// all of them 10 MB.
pub(crate) const MAX_STRANGERS: usize = 256;

/// Whether the other end of a connection has proved who it is.
#[derive(Clone, Default)]
pub(crate) struct Acquaintance(Arc<AtomicBool>);

impl Acquaintance {
    /// It has.
    pub(crate) fn make(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_made(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The crowd of one server.
#[derive(Default)]
pub(crate) struct Strangers {
    /// The oldest first. Those that ended or are known by now stay until room is needed.
    crowd: VecDeque<(AbortHandle, Acquaintance)>,
}

impl Strangers {
    /// Takes a connection in; the oldest stranger is closed if there are too many.
    pub(crate) fn join(&mut self, connection: AbortHandle, acquaintance: Acquaintance) {
        self.crowd.push_back((connection, acquaintance));
        if self.crowd.len() <= MAX_STRANGERS {
            return;
        }
        self.crowd.retain(|(connection, acquaintance)| !connection.is_finished() && !acquaintance.is_made());
        while self.crowd.len() > MAX_STRANGERS {
            let Some((connection, _)) = self.crowd.pop_front() else { break };
            connection.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_makes_room() {
        let mut strangers = Strangers::default();
        let mut tasks = Vec::new();
        for _ in 0..MAX_STRANGERS + 2 {
            let task = tokio::spawn(std::future::pending::<()>());
            let acquaintance = Acquaintance::default();
            // The very first proves who it is, the second does not.
            if tasks.is_empty() {
                acquaintance.make();
            }
            strangers.join(task.abort_handle(), acquaintance);
            tasks.push(task);
        }
        assert!(tasks.remove(1).await.unwrap_err().is_cancelled());
        assert!(tasks.iter().all(|task| !task.is_finished()));
    }
}
