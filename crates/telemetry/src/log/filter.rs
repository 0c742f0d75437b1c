//! Which events are shown.

use std::sync::atomic::{AtomicU32, Ordering};

use golang::path_match;
use tracing::{Level, Metadata};

use super::format::module;

/// The crates of this project, whose events are of more interest than those of libraries.
const OWN_CRATES: [&str; 13] = [
    "apiserver",
    "config",
    "host",
    "kubelet",
    "model",
    "node",
    "plugins",
    "prober",
    "runtime",
    "server",
    "sources",
    "telemetry",
    "volumes",
];

#[derive(Debug)]
pub(super) struct Filter {
    verbosity: AtomicU32,
    /// Pattern for the name of a module, and the level there.
    modules: Vec<(String, u32)>,
}

impl Filter {
    pub(super) fn new(verbosity: u32, modules: Vec<(String, u32)>) -> Self {
        Self { verbosity: AtomicU32::new(verbosity), modules }
    }

    pub(super) fn verbosity(&self) -> u32 {
        // A number by itself: no other memory is published with it.
        self.verbosity.load(Ordering::Relaxed)
    }

    pub(super) fn set_verbosity(&self, verbosity: u32) {
        self.verbosity.store(verbosity, Ordering::Relaxed);
    }

    /// The level that holds where the event is. As upstream, a pattern only ever raises it; the first
    /// that matches counts.
    pub(super) fn verbosity_of(&self, metadata: &Metadata<'_>) -> u32 {
        if self.modules.is_empty() {
            return self.verbosity();
        }
        let name = module(metadata.file().unwrap_or_default());
        let found = self.modules.iter().find(|(pattern, _)| path_match::matches(pattern, name));
        found.map_or(0, |(_, level)| *level).max(self.verbosity())
    }

    /// Whether an event from there is shown, as far as that does not depend on its field `v`.
    pub(super) fn shows(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && threshold(metadata) <= self.verbosity_of(metadata)
    }
}

/// Whether this comes from the project rather than from a library.
pub(super) fn is_own(metadata: &Metadata<'_>) -> bool {
    OWN_CRATES.contains(&metadata.target().split("::").next().unwrap_or_default())
}

/// The `-v` level from which an event is shown.
pub(super) fn threshold(metadata: &Metadata<'_>) -> u32 {
    match (*metadata.level(), is_own(metadata)) {
        (Level::ERROR | Level::WARN, _) | (Level::INFO, true) => 0,
        (Level::INFO, false) | (Level::DEBUG, true) => 4,
        (Level::TRACE, true) => 6,
        (Level::DEBUG, false) => 8,
        (Level::TRACE, false) => 10,
    }
}
