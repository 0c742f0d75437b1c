//! The images that sandboxes were made from. The runtime tells them only when asked for all it knows of a
//! sandbox, and they never change: each is asked for once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use model::SandboxId;
use node::View;
use runtime::Runtime;
use tracing::debug;

/// Sandboxes that are asked about side by side.
const AT_ONCE: usize = 8;
/// Whoever reads the page waits no longer than this for what is not known yet; the next reader will have it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known so far.
#[derive(Default)]
pub(crate) struct SandboxImages {
    // Held for a look-up only.
    known: Mutex<BTreeMap<SandboxId, String>>,
}

impl SandboxImages {
    /// Asks about the sandboxes it does not know, and forgets those that are gone.
    pub(crate) async fn update(&self, runtime: &Runtime, view: &View) {
        let observed = view.pods.values().filter_map(|pod| pod.observed.as_ref());
        let ready = observed.flat_map(|pod| &pod.sandboxes).filter(|sandbox| sandbox.is_ready);
        let unknown = self.keep(&ready.map(|sandbox| &sandbox.id).collect());
        let asking = stream::iter(unknown).for_each_concurrent(AT_ONCE, |id| async move {
            match runtime.sandbox_image(&id).await {
                Ok(image) => self.note(id, image),
                Err(error) => {
                    debug!(podSandboxID = %id, err = error.message(), "Failed to get the image of a pod sandbox")
                }
            }
        });
        // Cancel-safe: what was answered is noted, and the rest is asked for again.
        let _ = tokio::time::timeout(PATIENCE, asking).await;
    }

    /// A sandbox's image; empty when it is not known.
    pub(crate) fn of(&self, id: &SandboxId) -> String {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
    }

    /// Forgets all but these, and returns those of them that are not known.
    fn keep(&self, present: &BTreeSet<&SandboxId>) -> Vec<SandboxId> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| present.contains(id));
        present.iter().filter(|id| !known.contains_key(**id)).map(|id| (*id).clone()).collect()
    }

    fn note(&self, id: SandboxId, image: String) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_for_once_and_forgotten_with_its_sandbox() {
        let images = SandboxImages::default();
        let [a, b]: [SandboxId; 2] = ["a", "b"].map(SandboxId::from);
        assert_eq!(images.keep(&[&a, &b].into()), [a.clone(), b.clone()]);
        images.note(a.clone(), "pause:1".to_owned());
        // A runtime that tells nothing is not asked again.
        images.note(b.clone(), String::new());
        assert!(images.keep(&[&a, &b].into()).is_empty());
        assert_eq!((images.of(&a), images.of(&b)), ("pause:1".to_owned(), String::new()));
        assert!(images.keep(&[&b].into()).is_empty());
        assert_eq!(images.of(&a), "");
    }
}
