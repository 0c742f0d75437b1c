//! A bounded queue of unauthenticated connections: when it is full, the oldest is closed (LRU).
//!
//! Anyone who reaches the port can open connections and say nothing. Were they only counted, they would lock out
//! the API server as soon as there is one more than there may be; so a new connection is always accepted, and the one that
//! has been open the longest without credentials is closed. A caller with good credentials leaves the queue for good.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Unauthenticated connections at a time. A caller needs milliseconds to authenticate, even on a busy node; each costs
/// up to 40 kB, all of them 10 MB.
pub(crate) const MAX_UNAUTHENTICATED: usize = 256;

/// Whether the other end of a connection has been authenticated.
#[derive(Clone, Default)]
pub(crate) struct Authenticated(Arc<AtomicBool>);

impl Authenticated {
    /// It has.
    pub(crate) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The unauthenticated connections of one server.
#[derive(Default)]
pub(crate) struct UnauthenticatedConnections {
    /// The oldest first. Those that ended or are known by now stay until room is needed.
    queue: VecDeque<(AbortHandle, Authenticated)>,
}

impl UnauthenticatedConnections {
    /// Takes a connection in; the oldest unauthenticated one is closed if there are too many.
    pub(crate) fn join(&mut self, connection: AbortHandle, authenticated: Authenticated) {
        self.queue.push_back((connection, authenticated));
        if self.queue.len() <= MAX_UNAUTHENTICATED {
            return;
        }
        self.queue
            .retain(|(connection, authenticated)| !connection.is_finished() && !authenticated.is_marked());
        while self.queue.len() > MAX_UNAUTHENTICATED {
            let Some((connection, _)) = self.queue.pop_front() else { break };
            connection.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_unauthenticated_connection_makes_room() {
        let mut unauthenticated = UnauthenticatedConnections::default();
        let mut tasks = Vec::new();
        for _ in 0..MAX_UNAUTHENTICATED + 2 {
            let task = tokio::spawn(std::future::pending::<()>());
            let authenticated = Authenticated::default();
            // The very first proves who it is, the second does not.
            if tasks.is_empty() {
                authenticated.mark();
            }
            unauthenticated.join(task.abort_handle(), authenticated);
            tasks.push(task);
        }
        assert!(tasks.remove(1).await.unwrap_err().is_cancelled());
        assert!(tasks.iter().all(|task| !task.is_finished()));
    }
}
