//! The environment of a container: the objects, services and files it is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use model::downward::PodFacts;
use model::pod::{self, ContainerRef};
use model::{AllocatedPod, Pod};
use node::Failure;
use runtime::environment::{self, EnvVar, EnvironmentInputs, FileKey, env_file};
use tracing::warn;
use volumes::{ObjectError, Objects as _, Volumes};

use super::api::Api;
use super::containers::config;
use super::failure::FailureLog;
use super::objects::ObjectPort;

/// After a restart pods may be known a moment before services.
const SERVICES_WAIT: Duration = Duration::from_secs(5);

/// What environments are made from.
pub(crate) struct Environments {
    pub(crate) api: Arc<Api>,
    pub(crate) objects: ObjectPort,
    pub(crate) volumes: Arc<Volumes<ObjectPort>>,
    /// What failed last, so that the log tells of a change and not of every attempt.
    pub(crate) failures: FailureLog,
    /// Whether variables may come from files (`EnvFiles`).
    pub(crate) reads_files: bool,
}

impl Environments {
    /// The environment of a container, with everything it is made of fetched and read.
    pub(super) async fn of(
        &self,
        pod: &AllocatedPod,
        spec: &ContainerRef<'_>,
        facts: PodFacts,
    ) -> Result<Vec<EnvVar>, Failure> {
        let namespace = pod::key(pod).namespace;
        let references = environment::references(&spec.spec);
        let mut inputs = EnvironmentInputs {
            services: self.services(pod, &namespace).await?,
            facts,
            ..EnvironmentInputs::default()
        };
        for name in references.config_maps {
            let found = found(self.objects.config_map(&namespace, &name).await)?;
            inputs.config_maps.insert(name, found);
        }
        for name in references.secrets {
            let found = found(self.objects.secret(&namespace, &name).await)?;
            inputs.secrets.insert(name, found);
        }
        if self.reads_files {
            inputs.file_keys = Some(self.file_keys(pod, references.file_keys).await?);
        }
        environment::build(pod, &spec.spec, &inputs).map_err(|error| config(error.to_string()))
    }

    /// The services a pod's environment names. A pod from the API server waits until they were read
    /// once, since that server evidently answers; a static pod must start without it.
    async fn services(&self, pod: &Pod, namespace: &str) -> Result<Vec<Arc<Service>>, Failure> {
        if pod::is_static(pod) {
            return Ok(self.api.services(namespace).unwrap_or_default());
        }
        // Not in time only means that the core tries again.
        let _ = tokio::time::timeout(SERVICES_WAIT, self.api.services_synced()).await;
        self.api.services(namespace).ok_or_else(|| {
            config("services have not yet been read at least once, cannot construct envvars".to_owned())
        })
    }

    /// What earlier containers of the pod left in files. These are read anew for each start.
    async fn file_keys(
        &self,
        pod: &Pod,
        places: BTreeSet<Place>,
    ) -> Result<BTreeMap<Place, FileKey>, Failure> {
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (uid, key) = (pod::uid(pod), pod::key(pod));
        let located: Vec<_> =
            places.into_iter().map(|place| (self.volumes.empty_dir(pod, &place.0), place)).collect();
        let read = move || -> Vec<(Place, Result<FileKey, String>)> {
            let one = |(volume, place): (Option<PathBuf>, Place)| {
                let found = volume.map_or(Ok(FileKey::NoVolume), |volume| file_key(&volume, &place));
                (place, found)
            };
            located.into_iter().map(one).collect()
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| config("interrupted".to_owned()))?;
        let told = |(place, found): (Place, Result<FileKey, String>)| {
            let found = found.unwrap_or_else(|error| {
                // The container's start fails with it every few seconds.
                let (volume, path, _) = &place;
                if self.failures.is_new(&format!("environment file {volume}/{path} of {uid}"), &error) {
                    warn!(pod = %key, volumeName = volume, path, err = error, "Failed to read environment file of a volume");
                }
                FileKey::Unreadable
            });
            (place, found)
        };
        Ok(read.into_iter().map(told).collect())
    }
}

fn found<T>(result: Result<Arc<T>, ObjectError>) -> Result<Option<Arc<T>>, Failure> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(ObjectError::NotFound { .. }) => Ok(None),
        Err(error) => Err(config(error.to_string())),
    }
}

/// Volume, path in it and key, as a variable names them.
type Place = (String, String, String);

fn file_key(volume: &Path, (_, path, key): &Place) -> Result<FileKey, String> {
    match env_file::read(volume, path, key) {
        Ok(Some(value)) => Ok(FileKey::Found(value)),
        Ok(None) => Ok(FileKey::Absent { file: volume.join(path) }),
        Err(error) => Err(model::chain(&error)),
    }
}
