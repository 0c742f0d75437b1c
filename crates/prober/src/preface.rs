//! Whether a peer has greeted in HTTP/2: a gRPC client counts as connected once the server's first frame has come, and
//! takes everything else for a server that is not up yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncRead;
use tokio_util::io::InspectReader;

/// Bytes of a frame's head: length (3), type (1), flags (1), stream (4).
const HEAD: usize = 9;
/// The type of the frame that a peer begins with.
const SETTINGS: u8 = 4;

/// Whether the preface has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerPreface(Arc<AtomicBool>);

impl ServerPreface {
    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A stream whose first bytes are looked at on their way.
    pub(crate) fn watch<S: AsyncRead>(
        &self,
        stream: S,
    ) -> InspectReader<S, impl FnMut(&[u8]) + Send + use<S>> {
        let preface = self.clone();
        // What of the first frame's head has come.
        let mut head = Vec::with_capacity(HEAD);
        InspectReader::new(stream, move |bytes: &[u8]| {
            if head.len() < HEAD {
                head.extend(bytes.iter().take(HEAD - head.len()));
                if let [_, _, _, kind, _, 0, 0, 0, 0] = head[..] {
                    preface.0.store(kind == SETTINGS, Ordering::Relaxed);
                }
            }
        })
    }
}
