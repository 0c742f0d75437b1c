//! `projected`: several sources in one volume, among them service account tokens, certificates of authorities and the pod's own.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, PodCertificateProjection, ProjectedVolumeSource,
    ServiceAccountTokenProjection, VolumeProjection,
};
use model::downward::PodFacts;
use model::{AllocatedPod, Pod, pod as pods};

use super::{FileDefaults, config_map, downward_api, fs_group, secret};
use crate::error::SetUpError;
use crate::objects::{CertificateSource, Objects, TokenSpec, TrustBundleError};
use crate::payload::{FileContent, Payload};
use crate::tokens::{DEFAULT_EXPIRATION_SECONDS, TokenCache};

/// What the sources are made from.
pub(crate) struct Inputs<'a, O> {
    pub(crate) objects: &'a O,
    pub(crate) tokens: &'a TokenCache,
    pub(crate) pod: &'a AllocatedPod,
    pub(crate) facts: &'a PodFacts,
    /// The volume's name.
    pub(crate) volume: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) honours_users: bool,
}

/// The files of all sources, a later source winning over an earlier one, and when a token among
/// them has to be replaced. Every source is tried, so that the error names all that is missing.
pub(crate) async fn payload<O: Objects>(
    inputs: &Inputs<'_, O>,
    source: &ProjectedVolumeSource,
) -> Result<(Payload, Option<Duration>), SetUpError> {
    let mut payload = Payload::default();
    let mut refresh_after: Option<Duration> = None;
    let mut errors = Vec::new();
    let defaults = FileDefaults {
        mode: source.default_mode,
        user: source.default_user,
        honours_users: inputs.honours_users,
    };
    for (index, projection) in source.sources.iter().flatten().enumerate() {
        match one(inputs, index, projection, defaults).await {
            Ok((files, after)) => {
                payload.extend(files);
                refresh_after = [refresh_after, after].into_iter().flatten().min();
            }
            Err(error) => errors.push(error),
        }
    }
    SetUpError::of_all(errors)?;
    Ok((payload, refresh_after))
}

async fn one<O: Objects>(
    inputs: &Inputs<'_, O>,
    index: usize,
    projection: &VolumeProjection,
    defaults: FileDefaults,
) -> Result<(Payload, Option<Duration>), SetUpError> {
    let namespace = pods::key(inputs.pod).namespace;
    if let Some(source) = &projection.secret {
        let found = inputs.objects.secret(&namespace, &source.name).await;
        let is_optional = source.optional.unwrap_or(false);
        let payload = secret::payload(found, source.items.as_deref(), defaults, is_optional)?;
        return Ok((payload, None));
    }
    if let Some(source) = &projection.config_map {
        let found = inputs.objects.config_map(&namespace, &source.name).await;
        let is_optional = source.optional.unwrap_or(false);
        let payload = config_map::payload(found, source.items.as_deref(), defaults, is_optional)?;
        return Ok((payload, None));
    }
    if let Some(source) = &projection.downward_api {
        let payload = downward_api::payload(inputs.pod, inputs.facts, source.items.as_deref(), defaults)?;
        return Ok((payload, None));
    }
    if let Some(source) = &projection.service_account_token {
        return token(inputs, source, defaults).await;
    }
    if let Some(source) = &projection.cluster_trust_bundle {
        return Ok((trust_bundles(inputs, source, defaults).await?, None));
    }
    if let Some(source) = &projection.pod_certificate {
        return Ok((pod_certificate(inputs, index, source, defaults)?, None));
    }
    Ok((Payload::default(), None))
}

async fn token<O: Objects>(
    inputs: &Inputs<'_, O>,
    source: &ServiceAccountTokenProjection,
    defaults: FileDefaults,
) -> Result<(Payload, Option<Duration>), SetUpError> {
    let key = pods::key(inputs.pod);
    let account = inputs.pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    let seconds = source.expiration_seconds.and_then(|s| u64::try_from(s).ok());
    let spec = TokenSpec {
        pod_uid: pods::uid(inputs.pod),
        pod_name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        service_account: account.filter(|a| !a.is_empty()).unwrap_or_else(|| "default".to_owned()),
        audience: source.audience.clone().filter(|a| !a.is_empty()),
        expiration_seconds: seconds.unwrap_or(DEFAULT_EXPIRATION_SECONDS),
    };
    let fresh = inputs.tokens.get(inputs.objects, &spec, inputs.now).await.map_err(SetUpError::Token)?;
    let mut payload = Payload::default();
    let file = credential(inputs.pod, fresh.token.into_bytes(), defaults, source.user)?;
    payload.insert(&source.path, file)?;
    Ok((payload, Some(fresh.refresh_after)))
}

/// The certificates of authorities that sign for others (KEP-3257).
async fn trust_bundles<O: Objects>(
    inputs: &Inputs<'_, O>,
    source: &ClusterTrustBundleProjection,
    defaults: FileDefaults,
) -> Result<Payload, SetUpError> {
    let found = match (&source.name, &source.signer_name) {
        (Some(name), _) => inputs.objects.trust_bundle(name).await,
        (None, Some(signer)) => inputs.objects.trust_bundles_of(signer, source.label_selector.as_ref()).await,
        (None, None) => return Err(SetUpError::NoTrustBundle),
    };
    let certificates = match found {
        Err(TrustBundleError::Absent(_)) if source.optional == Some(true) => String::new(),
        found => found?,
    };
    let mut payload = Payload::default();
    let file = credential(inputs.pod, certificates.into_bytes(), defaults, source.user)?;
    payload.insert(&source.path, file)?;
    Ok(payload)
}

/// The pod's own key and certificate (KEP-4317), together or apart.
fn pod_certificate<O: Objects>(
    inputs: &Inputs<'_, O>,
    index: usize,
    projection: &PodCertificateProjection,
    defaults: FileDefaults,
) -> Result<Payload, SetUpError> {
    let source = CertificateSource { pod: inputs.pod, volume: inputs.volume, index, projection };
    let found = inputs.objects.pod_certificate(&source)?;
    let bundle = format!("{}{}", found.key, found.chain);
    let mut payload = Payload::default();
    for (path, text) in [
        (&projection.credential_bundle_path, bundle),
        (&projection.key_path, found.key),
        (&projection.certificate_chain_path, found.chain),
    ] {
        if let Some(path) = path.as_deref().filter(|path| !path.is_empty()) {
            payload.insert(path, credential(inputs.pod, text.into_bytes(), defaults, projection.user)?)?;
        }
    }
    Ok(payload)
}

/// A file that the pod proves something with. With a known user or group nobody else needs to read it; fsGroup adds the
/// group's bits.
fn credential(
    pod: &Pod,
    data: Vec<u8>,
    defaults: FileDefaults,
    user: Option<i64>,
) -> Result<FileContent, SetUpError> {
    let owner = defaults.owner(user).or_else(|| only_user(pod));
    let is_private = owner.is_some() || fs_group(pod)?.is_some();
    let mode = if is_private { 0o600 } else { defaults.mode(None) };
    Ok(FileContent { data, mode, owner })
}

/// The user that every container of the pod runs as, if they say so and agree.
fn only_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.run_as_user);
    let mut users = pods::containers(pod).map(|container| {
        let own = container.spec.security_context.as_ref().and_then(|c| c.run_as_user);
        own.or(of_pod).and_then(|user| u32::try_from(user).ok())
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}
