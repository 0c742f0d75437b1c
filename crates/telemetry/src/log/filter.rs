//! Which events are shown.

use std::sync::atomic::{AtomicU32, Ordering};

use tracing::{Level, Metadata};

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
    /// Pattern for the name of a source file without its ending, and the level there.
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

    /// The level that holds where the event is.
    pub(super) fn verbosity_of(&self, metadata: &Metadata<'_>) -> u32 {
        if self.modules.is_empty() {
            return self.verbosity();
        }
        let stem = stem(metadata.file().unwrap_or_default());
        let module = self.modules.iter().find(|(pattern, _)| matches(pattern.as_bytes(), stem.as_bytes()));
        module.map_or_else(|| self.verbosity(), |(_, level)| *level)
    }

    /// Whether an event from there is shown, as far as that does not depend on its field `v`.
    pub(super) fn shows(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && threshold(metadata) <= self.verbosity_of(metadata)
    }
}

/// The `-v` level from which an event is shown.
pub(super) fn threshold(metadata: &Metadata<'_>) -> u32 {
    let target = metadata.target().split("::").next().unwrap_or_default();
    let own = OWN_CRATES.contains(&target);
    match (*metadata.level(), own) {
        (Level::ERROR | Level::WARN, _) | (Level::INFO, true) => 0,
        (Level::INFO, false) | (Level::DEBUG, true) => 4,
        (Level::TRACE, true) => 6,
        (Level::DEBUG, false) => 8,
        (Level::TRACE, false) => 10,
    }
}

fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".rs").unwrap_or(name)
}

/// Shell patterns with `*` and `?`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(from) {
            Some(b'*') => {
                star = Some((from, at));
                from += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == text[at] => {
                from += 1;
                at += 1;
            }
            // Let the last star swallow one more.
            _ => match star {
                Some((position, start)) => {
                    star = Some((position, start + 1));
                    from = position + 1;
                    at = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern[from..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("pod", "pod", true),
            ("pod", "pods", false),
            ("pod*", "pods", true),
            ("*od*", "pods", true),
            ("*a*b", "xaxbxb", true),
            ("?od", "pod", true),
            ("?", "", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn stems() {
        for (file, expected) in [("crates/a/src/pods.rs", "pods"), ("pods.rs", "pods"), ("", "")] {
            assert_eq!(stem(file), expected);
        }
    }
}
