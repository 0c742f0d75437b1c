//! Images: asked for, and pulled a few at a time, with a note of what opened them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Secret;
use model::reason::{event, waiting};
use model::{AllocatedPod, ImageRef, ImageUse, Pod, RuntimeHandler, pod};
use node::{
    EventObject, EventRecord, Failure, FailureKind, ImageAnswer, ImageOutcome, ImageQuestion, Outcome,
};
use runtime::Runtime;
use runtime::images::{
    CredentialProviders, Credentials, Keyring, PullError, PullRecords, PullUnderWay, Wanted, normalize,
};
use tokio::sync::{Notify, Semaphore};
use tracing::warn;
use volumes::{ObjectError, Objects as _};

use super::api::Api;
use super::failure;
use super::objects::ObjectPort;
use super::pull_rate::{self, PullRate};
use super::sandboxes::Sandboxes;

/// Looks for images and pulls them.
pub(crate) struct Images {
    pub(crate) runtime: Runtime,
    /// `--root-dir`.
    pub(crate) root: PathBuf,
    pub(crate) sandboxes: Arc<Sandboxes>,
    pub(crate) objects: ObjectPort,
    pub(crate) api: Arc<Api>,
    /// How many are pulled at once; `None` does not limit.
    pub(crate) pulls: Option<Semaphore>,
    /// How often; `None` does not limit.
    pub(crate) pull_rate: Option<PullRate>,
    /// Programs that know registries' credentials.
    pub(crate) credential_providers: CredentialProviders,
    /// What is noted of pulls; `None` if nothing is, and whatever is present is everybody's.
    pub(crate) pull_records: Option<PullRecords>,
    /// A pull may have changed which there are.
    pub(crate) changed: Arc<Notify>,
}

/// The name in the pod, which is what pulls are noted under, and the full name.
fn image_names(pod: &Pod, used_by: &ImageUse) -> Result<(String, String), Failure> {
    let image = used_by.wanted(pod).map(|wanted| wanted.reference).unwrap_or_default();
    match normalize(&image) {
        Ok(full) => Ok((image, full)),
        Err(error) => Err(Failure { kind: FailureKind::InvalidImageName, message: error.to_string() }),
    }
}

impl Images {
    /// Whether an image of a pod is present, and whether its pod may use it.
    pub(crate) async fn inspect(
        &self,
        pod: AllocatedPod,
        used_by: &ImageUse,
        question: ImageQuestion,
    ) -> Outcome {
        let (name, image) = match image_names(&pod, used_by) {
            Ok(names) => names,
            Err(failure) => return Outcome::Failed(failure),
        };
        if question == ImageQuestion::Name {
            return Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Unproven));
        }
        let id = match self.runtime.image_status(&image).await {
            Ok(Some(facts)) => facts.id,
            Ok(None) => return Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Absent)),
            Err(error) => return failure::runtime(&error),
        };
        let Some(records) = &self.pull_records else {
            return Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Present(id)));
        };
        let offers = |wanted| self.pods_credentials(&pod, &image, wanted);
        let is_allowed = records.allow(&name, &id, offers).await;
        Outcome::Image(ImageOutcome::Inspected(if is_allowed {
            ImageAnswer::Accessible(id)
        } else {
            ImageAnswer::Unproven
        }))
    }

    /// Pulls an image of a pod with the pod's pull secrets and the node's own credentials, and notes what opened it.
    pub(crate) async fn pull(
        &self,
        pod: AllocatedPod,
        used_by: &ImageUse,
        handler: &RuntimeHandler,
    ) -> Outcome {
        let (name, image) = match image_names(&pod, used_by) {
            Ok(names) => names,
            Err(failure) => return Outcome::Failed(failure),
        };
        let waiting_since = Instant::now();
        let spec = match self.sandboxes.spec(&pod, 0, handler, Vec::new()).await {
            Ok(spec) => spec,
            Err(failure) => return Outcome::Failed(failure),
        };
        let credentials = self.credentials(&pod, &image).await;
        // One at a time by default (`serializeImagePulls`): parallel pulls compete for the disk.
        let _permit = match &self.pulls {
            Some(pulls) => pulls.acquire().await.ok(),
            None => None,
        };
        if self.pull_rate.as_ref().is_some_and(|rate| !rate.admits()) {
            let message = pull_rate::EXCEEDED.to_owned();
            return self.pull_failed(&pod, Failure { kind: FailureKind::Other, message }).await;
        }
        // Not before its turn has come: until then there is nothing to be noted.
        let noted = match self.begin(&name).await {
            Ok(noted) => noted,
            Err(failure) => return Outcome::Failed(failure),
        };
        let started = Instant::now();
        match self.runtime.pull(&image, &credentials, &spec).await {
            Ok((reference, used)) => {
                let facts = self.runtime.image_status(reference.as_str()).await;
                self.changed.notify_one();
                let facts = facts.ok().flatten();
                let size_bytes = facts.as_ref().map_or(0, |f| f.size_bytes);
                let image = facts.map_or(reference, |f| f.id);
                if let Some(noted) = noted {
                    noted.succeeded(&image, used).await;
                }
                Outcome::Image(ImageOutcome::Pulled {
                    size_bytes,
                    image,
                    took: started.elapsed(),
                    took_with_wait: waiting_since.elapsed(),
                })
            }
            Err(error) => {
                let failure = pull_failure(error);
                match noted {
                    // With the runtime out of reach it may have succeeded all the same.
                    Some(noted) if failure.kind != FailureKind::RuntimeUnavailable => noted.failed().await,
                    _ => {}
                }
                self.pull_failed(&pod, failure).await
            }
        }
    }

    /// What comes of a pull that was tried in vain. As upstream, secrets are no cause of what the registry or a signature is.
    async fn pull_failed(&self, pod: &Pod, failure: Failure) -> Outcome {
        if failure.kind.pull_reason() == waiting::ERR_IMAGE_PULL {
            self.tell_missing_secrets(pod).await;
        }
        Outcome::Failed(failure)
    }

    /// Removes an image.
    pub(crate) async fn remove(&self, image: &ImageRef) -> Outcome {
        failure::done(self.runtime.remove_image(image).await)
    }

    /// Removes what is noted of pulls of images that are gone. The core is told which are left.
    pub(crate) async fn prune_records(&self) -> Outcome {
        self.changed.notify_one();
        match &self.pull_records {
            Some(records) => failure::done(records.prune(&self.runtime).await),
            None => Outcome::Done,
        }
    }

    async fn begin(&self, name: &str) -> Result<Option<PullUnderWay>, Failure> {
        let Some(records) = &self.pull_records else { return Ok(None) };
        records.begin(name).await.map(Some).map_err(|error| {
            let why = model::chain(&error);
            let message = format!("Failed to record image pull intent for container image \"{name}\": {why}");
            Failure { kind: FailureKind::Other, message }
        })
    }

    /// Credentials in the order in which they are tried: of the pod's `imagePullSecrets`, of the node's docker
    /// configuration files, of programs.
    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<Credentials> {
        let mut all = self.of_secrets(pod, image).await;
        let (root, home) = (self.root.clone(), std::env::home_dir());
        let of_node = tokio::task::spawn_blocking(move || Keyring::of_node(&root, home.as_deref())).await;
        all.extend(of_node.unwrap_or_default().lookup(image));
        all.extend(self.credential_providers.lookup(image, pod, &self.objects).await);
        all
    }

    /// Those of them that tell the pod from others, as far as they are wanted.
    async fn pods_credentials(&self, pod: &Pod, image: &str, wanted: Wanted) -> Vec<Credentials> {
        let mut all = Vec::new();
        if wanted.secrets {
            all.extend(self.of_secrets(pod, image).await);
        }
        if wanted.accounts {
            all.extend(self.credential_providers.lookup(image, pod, &self.objects).await);
        }
        all
    }

    async fn of_secrets(&self, pod: &Pod, image: &str) -> Vec<Credentials> {
        let mut keyring = Keyring::default();
        for (_, secret) in self.pull_secrets(pod).await {
            if let Ok(secret) = secret
                && let Err(error) = keyring.add_secret(&secret)
            {
                let secret = secret.metadata.name.as_deref().unwrap_or_default();
                warn!(pod = %pod::key(pod), secret, err = %error, "Failed to parse image pull secret");
            }
        }
        keyring.lookup(image)
    }

    /// The pod's pull secrets with their names.
    async fn pull_secrets(&self, pod: &Pod) -> Vec<(String, Result<Arc<Secret>, ObjectError>)> {
        let namespace = pod::key(pod).namespace;
        let references = pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten());
        let mut all = Vec::new();
        // The API server lets nameless ones through.
        for reference in references.filter(|reference| !reference.name.is_empty()) {
            let secret = self.objects.secret(&namespace, &reference.name).await;
            all.push((reference.name.clone(), secret));
        }
        all
    }

    /// Tells which of the pod's pull secrets are not to be had, for the want of one may be why a pull failed (`ErrImagePull`).
    async fn tell_missing_secrets(&self, pod: &Pod) {
        let mut missing = Vec::new();
        for (name, secret) in self.pull_secrets(pod).await {
            if let Err(error) = secret {
                warn!(pod = %pod::key(pod), secret = name, err = %error, "Unable to retrieve pull secret, the image pull may not succeed");
                missing.push(name);
            }
        }
        if missing.is_empty() {
            return;
        }
        self.api.record(EventRecord {
        about: EventObject::Pod { key: pod::key(pod), uid: pod::uid(pod), field_path: None },
        is_warning: true,
        reason: event::FAILED_TO_RETRIEVE_PULL_SECRET.into(),
        message: format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        ),
    });
    }
}

fn pull_failure(error: PullError) -> Failure {
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
    Failure { kind, message: error.message }
}
