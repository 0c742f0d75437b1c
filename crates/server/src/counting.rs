//! Requests as they are counted: from their head to the last byte of all that follows, be it a log
//! that is followed or a session. A request that its client gives up ends there.

use std::sync::Arc;

use tokio::time::Instant;

use crate::ports::{RequestKind, RequestPorts, ServedRequest};

/// Keeps a request counted as being served for as long as a clone of it exists.
pub(crate) type Served = Arc<dyn Send + Sync>;

struct UnderWay<P: RequestPorts> {
    ports: P,
    kind: RequestKind,
    begun: Instant,
}

/// A request has come.
pub(crate) fn begin<P: RequestPorts>(ports: &P, kind: RequestKind) -> Served {
    ports.request_begins(&kind);
    Arc::new(UnderWay { ports: ports.clone(), kind, begun: Instant::now() })
}

impl<P: RequestPorts> Drop for UnderWay<P> {
    fn drop(&mut self) {
        self.ports.request_ended(&ServedRequest { kind: self.kind, duration: self.begun.elapsed() });
    }
}
