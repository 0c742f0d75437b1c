//! A container's environment: what its spec lists, from wherever that comes, and the services
//! around it (<https://kubernetes.io/docs/tasks/inject-data-application/>).
//!
//! Everything is an argument: [`references`] says which objects to fetch beforehand.

pub mod env_file;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, FileKeySelector, Secret, Service};
use model::downward::{self, DownwardError, PodFacts};
use model::{AllocatedPod, pod};

use crate::expand::expand;

/// One variable.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; may be a secret.
    pub value: String,
}

/// Without the value.
impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvVar").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Objects of the pod's namespace that a container's environment names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Config maps.
    pub config_maps: BTreeSet<String>,
    /// Secrets.
    pub secrets: BTreeSet<String>,
    /// Keys of files in volumes, by volume, path and key; [`env_file::read`] reads them.
    pub file_keys: BTreeSet<(String, String, String)>,
}

/// What an environment is made of besides the pod.
#[derive(Clone, Default)]
pub struct EnvironmentInputs {
    /// The config maps [`references`] named; `None` for one that does not exist.
    pub config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    /// The secrets [`references`] named; `None` for one that does not exist.
    pub secrets: BTreeMap<String, Option<Arc<Secret>>>,
    /// Services of the pod's namespace, and `default/kubernetes`.
    pub services: Vec<Arc<Service>>,
    /// Keys of files in volumes (`fileKeyRef`), already read, by volume, path and key; `None` while
    /// feature gate `EnvFiles` is off, when such a variable is empty.
    pub file_keys: Option<BTreeMap<(String, String, String), FileKey>>,
    /// What downward API fields refer to.
    pub facts: PodFacts,
}

/// What became of the reading of one key of a file.
#[derive(Clone, PartialEq, Eq)]
pub enum FileKey {
    /// Its value.
    Found(String),
    /// The file has no such key, or an empty value for it.
    Absent {
        /// The file on the host.
        file: PathBuf,
    },
    /// The file cannot be read, or not be understood.
    Unreadable,
    /// The pod has no such emptyDir.
    NoVolume,
}

/// Without the value.
impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Found(_) => "Found",
            Self::Absent { .. } => "Absent",
            Self::Unreadable => "Unreadable",
            Self::NoVolume => "NoVolume",
        })
    }
}

/// Why a container has no environment: reason `CreateContainerConfigError`, with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A config map or secret does not exist.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It exists and lacks the key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Of the pod.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A file in a volume lacks the key.
    #[error("environment variable key {key:?} not found in file {file:?}")]
    NoFileKey {
        /// The key.
        key: String,
        /// The file on the host.
        file: PathBuf,
    },
    /// A file in a volume cannot be read or understood. What is wrong with it is not told here, since
    /// its lines may hold secrets.
    #[error("couldn't parse env file")]
    UnreadableFile,
    /// The volume that holds a file is none of the pod's emptyDirs.
    #[error("cannot find the volume {volume:?} referenced by FileKeyRef")]
    NoFileVolume {
        /// The volume's name.
        volume: String,
    },
    /// A field or resource of the pod itself.
    #[error(transparent)]
    Downward(#[from] DownwardError),
}

/// Which objects to fetch before [`build`].
pub fn references(container: &Container) -> References {
    let mut found = References::default();
    for from in container.env_from.iter().flatten() {
        found.config_maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        found.secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        found.config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        found.secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        let files = source.file_key_ref.iter();
        found.file_keys.extend(files.map(|r| (r.volume_name.clone(), r.path.clone(), r.key.clone())));
    }
    found
}

/// The environment, in the order of names: later `envFrom` sources replace earlier ones, `env`
/// replaces those, and services fill in what is not set.
///
/// # Errors
/// When something that is not optional is missing.
pub fn build(
    pod: &AllocatedPod,
    container: &Container,
    inputs: &EnvironmentInputs,
) -> Result<Vec<EnvVar>, EnvironmentError> {
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let namespace = pod::key(pod).namespace;
    let services = services::variables(&inputs.services, &namespace, links);
    let scope = Scope { pod, container, namespace: &namespace, inputs };
    let mut variables = BTreeMap::new();
    scope.add_sources(&mut variables)?;
    for env in container.env.iter().flatten() {
        let value = match (env.value.as_deref(), &env.value_from) {
            (Some(text), _) if !text.is_empty() => {
                expand(text, |name| variables.get(name).or_else(|| services.get(name)).map(String::as_str))
            }
            (_, Some(source)) => match scope.resolve(source)? {
                Some(value) => value,
                None => continue,
            },
            _ => String::new(),
        };
        variables.insert(env.name.clone(), value);
    }
    for (name, value) in services {
        variables.entry(name).or_insert(value);
    }
    Ok(variables.into_iter().map(|(name, value)| EnvVar { name, value }).collect())
}

struct Scope<'a> {
    pod: &'a AllocatedPod,
    container: &'a Container,
    namespace: &'a str,
    inputs: &'a EnvironmentInputs,
}

impl Scope<'_> {
    /// Whole config maps and secrets (`envFrom`).
    fn add_sources(&self, variables: &mut BTreeMap<String, String>) -> Result<(), EnvironmentError> {
        for from in self.container.env_from.iter().flatten() {
            let prefix = from.prefix.as_deref().unwrap_or_default();
            if let Some(reference) = &from.config_map_ref {
                let optional = reference.optional.unwrap_or(false);
                let Some(map) = self.config_map(&reference.name, optional)? else { continue };
                for (key, value) in map.data.iter().flatten() {
                    variables.insert(format!("{prefix}{key}"), value.clone());
                }
            } else if let Some(reference) = &from.secret_ref {
                let optional = reference.optional.unwrap_or(false);
                let Some(secret) = self.secret(&reference.name, optional)? else { continue };
                for (key, value) in secret.data.iter().flatten() {
                    variables.insert(format!("{prefix}{key}"), text(&value.0));
                }
            }
        }
        Ok(())
    }

    /// One value (`valueFrom`); `None` when it is missing and optional.
    fn resolve(&self, source: &EnvVarSource) -> Result<Option<String>, EnvironmentError> {
        if let Some(reference) = &source.field_ref {
            return Ok(Some(downward::field(self.pod, &self.inputs.facts, &reference.field_path)?));
        }
        if let Some(reference) = &source.resource_field_ref {
            let value = downward::resource(self.pod, &self.inputs.facts, reference, &self.container.name)?;
            return Ok(Some(value));
        }
        if let Some(reference) = &source.config_map_key_ref {
            let optional = reference.optional.unwrap_or(false);
            let Some(map) = self.config_map(&reference.name, optional)? else { return Ok(None) };
            let value = map.data.as_ref().and_then(|data| data.get(&reference.key)).cloned();
            return self.present(value, optional, "ConfigMap", &reference.name, &reference.key);
        }
        if let Some(reference) = &source.secret_key_ref {
            let optional = reference.optional.unwrap_or(false);
            let Some(secret) = self.secret(&reference.name, optional)? else { return Ok(None) };
            let value = secret.data.as_ref().and_then(|data| data.get(&reference.key));
            let value = value.map(|v| text(&v.0));
            return self.present(value, optional, "Secret", &reference.name, &reference.key);
        }
        if let Some(reference) = &source.file_key_ref {
            return self.file_key(reference);
        }
        Ok(Some(String::new()))
    }

    /// Only the key may be optional: a file that is not there is an error, as it is upstream.
    fn file_key(&self, reference: &FileKeySelector) -> Result<Option<String>, EnvironmentError> {
        let Some(keys) = &self.inputs.file_keys else { return Ok(Some(String::new())) };
        let FileKeySelector { volume_name, path, key, optional } = reference;
        match keys.get(&(volume_name.clone(), path.clone(), key.clone())) {
            Some(FileKey::Found(value)) => Ok(Some(value.clone())),
            Some(FileKey::Absent { .. }) if optional.unwrap_or(false) => Ok(None),
            Some(FileKey::Absent { file }) => {
                Err(EnvironmentError::NoFileKey { key: key.clone(), file: file.clone() })
            }
            Some(FileKey::Unreadable) => Err(EnvironmentError::UnreadableFile),
            Some(FileKey::NoVolume) | None => {
                Err(EnvironmentError::NoFileVolume { volume: volume_name.clone() })
            }
        }
    }

    fn config_map(&self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, EnvironmentError> {
        fetched(&self.inputs.config_maps, "configmap", name, optional)
    }

    fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, EnvironmentError> {
        fetched(&self.inputs.secrets, "secret", name, optional)
    }

    fn present(
        &self,
        value: Option<String>,
        optional: bool,
        kind: &'static str,
        name: &str,
        key: &str,
    ) -> Result<Option<String>, EnvironmentError> {
        if value.is_some() || optional {
            return Ok(value);
        }
        let namespace = self.namespace.to_owned();
        Err(EnvironmentError::NoKey { key: key.to_owned(), kind, namespace, name: name.to_owned() })
    }
}

fn fetched<'a, T>(
    objects: &'a BTreeMap<String, Option<Arc<T>>>,
    kind: &'static str,
    name: &str,
    optional: bool,
) -> Result<Option<&'a T>, EnvironmentError> {
    match objects.get(name).and_then(Option::as_deref) {
        Some(object) => Ok(Some(object)),
        None if optional => Ok(None),
        None => Err(EnvironmentError::NotFound { kind, name: name.to_owned() }),
    }
}

/// A secret's bytes as text. Runtimes hand variables on as JSON, in which Go leaves this same
/// mark in place of every byte that is no text; a pod must not fail for it.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

#[cfg(test)]
mod tests;
