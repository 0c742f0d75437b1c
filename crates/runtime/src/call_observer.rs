//! What is told of calls to the runtime, for whoever counts them.

use std::sync::Arc;
use std::time::Duration;

/// A call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEnded<'a> {
    /// The method's name in CRI: `RunPodSandbox`, `PullImage`, ….
    pub call: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Whether it did what it should.
    pub is_ok: bool,
    /// The runtime handler, of a `RunPodSandbox`; empty for the runtime's default.
    pub handler: Option<&'a str>,
}

type Hear = dyn Fn(CallEnded<'_>) + Send + Sync;

/// Hears of every call. Called where the call was made: must not block.
#[derive(Clone, Default)]
pub struct CallObserver(Option<Arc<Hear>>);

impl CallObserver {
    /// One that calls a function.
    pub fn new(hear: impl Fn(CallEnded<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    pub(crate) fn tell(&self, event: CallEnded<'_>) {
        if let Some(hear) = &self.0 {
            hear(event);
        }
    }
}

impl std::fmt::Debug for CallObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallObserver")
    }
}
