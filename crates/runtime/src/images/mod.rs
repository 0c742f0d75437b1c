//! Images: whether they are there, who may use them, pulling them, and what they take on disk.

mod credential_providers;
mod keyring;
mod name;
mod records;
mod verification;

use std::path::PathBuf;

use jiff::Timestamp;
use model::ImageRef;
use tonic::{Code, Request};

pub use credential_providers::{CredentialProviders, ServiceAccountFacts, ServiceAccounts};
pub use keyring::{Coordinates, Credentials, Keyring, KeyringError, Origin};
pub use name::{ImageNameError, normalize};
pub use records::{PullLimits, PullRecords, PullUnderWay, RecordError, Wanted};

use crate::client::Runtime;
use crate::error::{RuntimeError, gone_is_fine};
use crate::lists::List;
use crate::observe::timestamp;
use crate::sandbox::SandboxSpec;
use crate::wire;

/// As whom an image's process runs unless a pod says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageUser {
    /// A number.
    Uid(i64),
    /// A name that only the image's own files can resolve.
    Name(String),
}

impl ImageUser {
    pub(crate) fn uid(&self) -> Option<i64> {
        match self {
            Self::Uid(uid) => Some(*uid),
            Self::Name(_) => None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Uid(_) => "",
            Self::Name(name) => name,
        }
    }
}

/// An image on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its id, which containers are created from.
    pub id: ImageRef,
    /// `repository:tag` names.
    pub tags: Vec<String>,
    /// `repository@digest` names.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// As whom it runs; root when it does not say.
    pub user: ImageUser,
    /// Whether the runtime wants it to stay.
    pub is_pinned: bool,
}

/// Usage of one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// Where it is.
    pub mountpoint: PathBuf,
    /// Bytes used by what was asked about.
    pub used_bytes: u64,
    /// Inodes used by what was asked about.
    pub inodes_used: u64,
}

/// Where images and writable layers lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFilesystems {
    /// Of images.
    pub images: Vec<FilesystemUsage>,
    /// Of containers' writable layers; empty when the runtime does not tell them apart.
    pub containers: Vec<FilesystemUsage>,
}

/// A pull that failed with every credential there was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PullError {
    /// `ErrImagePull`, `RegistryUnavailable` or `SignatureValidationFailed`.
    pub reason: &'static str,
    /// For the container's status and events.
    pub message: String,
    /// Each attempt's failure, in the order of the credentials; at least one.
    pub attempts: Vec<RuntimeError>,
}

impl Runtime {
    /// The image, or `None` when it is absent. `image` is normalized or an id; `handler` is the
    /// runtime handler it is for, mostly empty.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn image_status(&self, image: &str) -> Result<Option<ImageFacts>, RuntimeError> {
        let mut client = self.images();
        let request =
            self.request(wire::ImageStatusRequest { image: Some(image_spec(image)), verbose: false });
        let answer = self.call("ImageStatus", image, client.image_status(request)).await?;
        Ok(answer.image.map(facts))
    }

    /// Pulls an image, trying each of the credentials until one is accepted; without any, once
    /// anonymously. Returns which was. There is no deadline: drop the future to give up.
    ///
    /// # Errors
    /// When every attempt failed.
    pub async fn pull<'a>(
        &self,
        image: &str,
        credentials: &'a [Credentials],
        sandbox: &SandboxSpec,
    ) -> Result<(ImageRef, Option<&'a Credentials>), PullError> {
        let anonymous = [None];
        let mut attempts = Vec::new();
        let all: Box<dyn Iterator<Item = Option<&'a Credentials>> + Send> = if credentials.is_empty() {
            Box::new(anonymous.into_iter())
        } else {
            Box::new(credentials.iter().map(Some))
        };
        for auth in all {
            let mut spec = image_spec(image);
            spec.annotations = sandbox.config.annotations.clone();
            let request = Request::new(wire::PullImageRequest {
                image: Some(spec),
                auth: auth.map(Credentials::to_wire),
                sandbox_config: Some(sandbox.config.clone()),
            });
            let mut client = self.images();
            match self.call_within(None, "PullImage", image, client.pull_image(request)).await {
                Ok(answer) if answer.image_ref.is_empty() => {
                    attempts.push(RuntimeError::incomplete("PullImage", image, "image reference"));
                }
                Ok(answer) => return Ok((answer.image_ref.into(), auth)),
                Err(error) => attempts.push(error),
            }
        }
        Err(pull_error(image, attempts))
    }

    /// All images on this node.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn list_images(&self) -> Result<Vec<ImageFacts>, RuntimeError> {
        let (mut client, mut other) = (self.images(), self.images());
        let list = List {
            calls: ("StreamImages", "ListImages"),
            object: "",
            has_chunks: &self.chunks().images,
            chunks: Box::pin(client.stream_images(self.request(wire::StreamImagesRequest { filter: None }))),
            whole: Box::pin(other.list_images(self.request(wire::ListImagesRequest { filter: None }))),
        };
        let images = self.list(list, |chunk| chunk.images, |whole| whole.images).await?;
        Ok(images.into_iter().map(facts).collect())
    }

    /// Removes an image with all of its names. That it is not there (any more) is no failure (CRI, `RemoveImage`).
    ///
    /// # Errors
    /// When the runtime does not answer, or cannot remove it.
    pub async fn remove_image(&self, image: &ImageRef) -> Result<(), RuntimeError> {
        let mut client = self.images();
        let request = self.request(wire::RemoveImageRequest { image: Some(image_spec(image.as_str())) });
        let answer = self.call("RemoveImage", image.as_str(), client.remove_image(request)).await;
        gone_is_fine(answer.map(|_| ()))
    }

    /// What images and writable layers take, and where.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn image_fs(&self) -> Result<ImageFilesystems, RuntimeError> {
        let mut client = self.images();
        let request = self.request(wire::ImageFsInfoRequest {});
        let answer = self.call("ImageFsInfo", "", client.image_fs_info(request)).await?;
        let usages = |all: Vec<wire::FilesystemUsage>| all.into_iter().map(usage).collect();
        Ok(ImageFilesystems {
            images: usages(answer.image_filesystems),
            containers: usages(answer.container_filesystems),
        })
    }
}

/// Without a runtime handler, which upstream sends with feature gate `RuntimeClassInImageCriApi` only: a
/// runtime may keep other snapshots of an image for each.
fn image_spec(image: &str) -> wire::ImageSpec {
    wire::ImageSpec { image: image.to_owned(), ..Default::default() }
}

fn facts(image: wire::Image) -> ImageFacts {
    let user = match (image.uid, image.username) {
        (Some(uid), _) => ImageUser::Uid(uid.value),
        (None, name) if !name.is_empty() => ImageUser::Name(name),
        (None, _) => ImageUser::Uid(0),
    };
    ImageFacts {
        id: image.id.into(),
        tags: image.repo_tags,
        digests: image.repo_digests,
        size_bytes: image.size,
        user,
        is_pinned: image.pinned,
    }
}

fn usage(usage: wire::FilesystemUsage) -> FilesystemUsage {
    FilesystemUsage {
        at: timestamp(usage.timestamp).unwrap_or_default(),
        mountpoint: usage.fs_id.map(|id| id.mountpoint).unwrap_or_default().into(),
        used_bytes: usage.used_bytes.map_or(0, |v| v.value),
        inodes_used: usage.inodes_used.map_or(0, |v| v.value),
    }
}

/// Runtimes tell two kinds of failure by the first word of their text.
fn pull_error(image: &str, attempts: Vec<RuntimeError>) -> PullError {
    // Without the code `Unknown`, which tells nothing, as upstream.
    let text = |attempt: &RuntimeError| match attempt.source.code {
        Code::Unknown => attempt.source.message.clone(),
        _ => attempt.source.to_string(),
    };
    let kinds = [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ];
    for (reason, explanation) in kinds {
        let rest = attempts.first().and_then(|attempt| attempt.message().strip_prefix(reason));
        if let Some(rest) = rest {
            let message = format!("image pull failed for {image} because {explanation}{rest}");
            return PullError { reason, message, attempts };
        }
    }
    let message = match attempts.as_slice() {
        [only] => text(only),
        many => {
            let mut all: Vec<String> = many.iter().map(text).collect();
            all.dedup();
            if all.len() == 1 { all.remove(0) } else { format!("[{}]", all.join(", ")) }
        }
    };
    PullError { reason: "ErrImagePull", message, attempts }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    fn failed(messages: &[&str]) -> PullError {
        let attempts = messages
            .iter()
            .map(|text| RuntimeError::new("PullImage", "img", Status::unknown(*text)))
            .collect();
        pull_error("img", attempts)
    }

    #[test]
    fn tells_kinds_of_failure_apart() {
        for (messages, reason, message) in [
            (&["boom"][..], "ErrImagePull", "boom"),
            (&["boom", "boom"][..], "ErrImagePull", "boom"),
            (&["a", "b"][..], "ErrImagePull", "[a, b]"),
            (
                &["RegistryUnavailable: no route"][..],
                "RegistryUnavailable",
                "image pull failed for img because the registry is unavailable: no route",
            ),
            (
                &["SignatureValidationFailed"][..],
                "SignatureValidationFailed",
                "image pull failed for img because the signature validation failed",
            ),
        ] {
            let error = failed(messages);
            assert_eq!((error.reason, &*error.message), (reason, message));
        }
        let absent = RuntimeError::new("PullImage", "img", Status::not_found("none"));
        assert_eq!(pull_error("img", vec![absent]).message, "rpc error: code = NotFound desc = none");
    }

    #[test]
    fn an_image_without_a_user_runs_as_root() {
        let named = wire::Image { username: "app".into(), ..Default::default() };
        let numbered = wire::Image { uid: Some(wire::Int64Value { value: 7 }), ..Default::default() };
        assert_eq!(facts(named).user, ImageUser::Name("app".into()));
        assert_eq!(facts(numbered).user, ImageUser::Uid(7));
        assert_eq!(facts(wire::Image::default()).user, ImageUser::Uid(0));
    }
}
