//! The images of the node, for its status and for their garbage collection: at once after a pull, after a collection and when the
//! runtime has come back, and from time to time, for others load and remove images, too.

use std::sync::Arc;
use std::time::Duration;

use node::Input;
use node::node_status::NodeImage;
use runtime::Runtime;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tracing::warn;

use crate::executor::failure::FailureLog;

/// Time between two lists of images; upstream's number.
const IMAGES_EVERY: Duration = Duration::from_secs(30);

/// Tells the core of the images whenever there are others than before.
pub(crate) async fn images(runtime: Runtime, changed: Arc<Notify>, inbox: Sender<Input>) {
    let (failures, mut last) = (FailureLog::default(), None);
    // Not before the runtime has said that it is well, so that no start waits for them.
    changed.notified().await;
    loop {
        if let Some(images) = list(&runtime, &failures).await
            && last.as_ref() != Some(&images)
        {
            last = Some(images.clone());
            if inbox.send(Input::Images(images)).await.is_err() {
                return;
            }
        }
        // Cancel-safe: a sleep, and a notification that stays set until somebody waits.
        tokio::select! {
            () = tokio::time::sleep(IMAGES_EVERY) => {}
            () = changed.notified() => {}
        }
    }
}

/// Asks the runtime for the images; `None` when it does not answer.
async fn list(runtime: &Runtime, failures: &FailureLog) -> Option<Vec<NodeImage>> {
    const ACTION: &str = "list images";
    match runtime.list_images().await {
        Ok(list) => {
            failures.succeeded(|| ACTION.to_owned());
            let images = list.into_iter().map(|image| {
                let names = image.digests.into_iter().chain(image.tags).collect();
                NodeImage { id: image.id, names, size_bytes: image.size_bytes, is_pinned: image.is_pinned }
            });
            Some(images.collect())
        }
        Err(error) => {
            if failures.is_new(ACTION, error.message()) {
                warn!(
                    err = error.message(),
                    "Failed to list images; the node status keeps the previous ones"
                );
            }
            None
        }
    }
}
