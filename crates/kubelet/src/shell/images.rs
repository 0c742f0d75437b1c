//! Images: asked for, and pulled a few at a time.

use std::sync::Arc;
use std::time::Instant;

use model::{Pod, pod};
use node::{Failure, FailureKind, Outcome};
use runtime::images::{Credentials, Keyring, normalize};
use tracing::warn;
use volumes::Objects as _;

use super::adapters::Adapters;
use super::{failure, sandboxes};

fn image_name(pod: &Pod, container: &str) -> Result<String, Failure> {
    let image = pod::container(pod, container).and_then(|c| c.spec.image.clone()).unwrap_or_default();
    normalize(&image)
        .map_err(|error| Failure { kind: FailureKind::InvalidImageName, message: error.to_string() })
}

/// Whether a container's image is present.
pub(crate) async fn inspect(adapters: &Adapters, pod: Arc<Pod>, container: &str) -> Outcome {
    let image = match image_name(&pod, container) {
        Ok(image) => image,
        Err(failure) => return Outcome::Failed(failure),
    };
    let handler = match adapters.runtime_handler(&pod).await {
        Ok(handler) => handler,
        Err(failure) => return Outcome::Failed(failure),
    };
    match adapters.runtime.image_status(&image, &handler).await {
        Ok(facts) => Outcome::Image(facts.map(|f| f.id)),
        Err(error) => failure::runtime(&error),
    }
}

/// Pulls a container's image with the pod's pull secrets and the node's own credentials.
pub(crate) async fn pull(adapters: &Adapters, pod: Arc<Pod>, container: &str) -> Outcome {
    let image = match image_name(&pod, container) {
        Ok(image) => image,
        Err(failure) => return Outcome::Failed(failure),
    };
    let waiting_since = Instant::now();
    let spec = match sandboxes::spec(adapters, &pod, 0).await {
        Ok(spec) => spec,
        Err(failure) => return Outcome::Failed(failure),
    };
    let credentials = credentials(adapters, &pod, &image).await;
    // One at a time by default (`serializeImagePulls`): parallel pulls compete for the disk.
    let _permit = match &adapters.pulls {
        Some(pulls) => pulls.acquire().await.ok(),
        None => None,
    };
    let started = Instant::now();
    match adapters.runtime.pull(&image, &credentials, &spec).await {
        Ok((reference, _)) => {
            let handler = adapters.runtime_handler(&pod).await.unwrap_or_default();
            let facts = adapters.runtime.image_status(reference.as_str(), &handler).await;
            adapters.images_changed.notify_one();
            let facts = facts.ok().flatten();
            Outcome::Pulled {
                size_bytes: facts.as_ref().map_or(0, |f| f.size_bytes),
                image: facts.map_or(reference, |f| f.id),
                took: started.elapsed(),
                took_with_wait: waiting_since.elapsed(),
            }
        }
        Err(error) => {
            let kind = match error.reason {
                "RegistryUnavailable" => FailureKind::RegistryUnavailable,
                "SignatureValidationFailed" => FailureKind::SignatureInvalid,
                _ if error.attempts.iter().any(runtime::RuntimeError::is_unavailable)
                    && error.attempts.iter().all(|e| e.message().contains("transport")) =>
                {
                    FailureKind::RuntimeUnavailable
                }
                _ => FailureKind::Other,
            };
            Outcome::Failed(Failure { kind, message: error.message })
        }
    }
}

/// Credentials in the order in which they are tried: of the pod's `imagePullSecrets`, of the node's docker
/// configuration files, of programs.
async fn credentials(adapters: &Adapters, pod: &Pod, image: &str) -> Vec<Credentials> {
    let mut of_pod = Keyring::default();
    let namespace = pod::key(pod).namespace;
    for reference in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
        match adapters.objects.secret(&namespace, &reference.name).await {
            Ok(secret) => {
                if let Err(error) = of_pod.add_secret(&secret) {
                    warn!(pod = %pod::key(pod), secret = reference.name, err = %error, "Image pull secret is of no use");
                }
            }
            Err(error) => {
                warn!(pod = %pod::key(pod), secret = reference.name, err = %error, "Cannot read image pull secret");
            }
        }
    }
    let (root, home) = (adapters.config.paths.root.clone(), std::env::home_dir());
    let of_node = tokio::task::spawn_blocking(move || Keyring::of_node(&root, home.as_deref())).await;
    let mut all = of_pod.lookup(image);
    all.extend(of_node.unwrap_or_default().lookup(image));
    all.extend(adapters.credential_programs.lookup(image, pod, &adapters.objects).await);
    all
}
