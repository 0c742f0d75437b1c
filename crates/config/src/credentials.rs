//! The document `CredentialProviderConfig`: which programs know the credentials of which registries.
//!
//! `--image-credential-provider-config` names a file, or a folder whose documents add up. Unlike the kubelet's own
//! document, an unknown or repeated field in it is an error, as upstream has it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::codec::{GoDuration, List, Secret, Wire, document};
use crate::finding::{Finding, Findings, Severity};
use crate::gates::FeatureGates;
use crate::label;
use crate::tree::{MOST_BYTES, Tree};

const CONFIG_FLAG: &str = "--image-credential-provider-config";
const FOLDER_FLAG: &str = "--image-credential-provider-bin-dir";
/// Versions of the document.
const VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
/// Versions of what a program is asked.
const REQUESTS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

document! {
    /// The document `CredentialProviderConfig`.
    pub(crate) struct CredentialProviderConfig {
        /// The programs, in the order in which they are asked.
        pub providers: List<CredentialProvider> = "providers" always,
    }
}

document! {
    /// One program that knows credentials.
    pub struct CredentialProvider {
        /// The name of the executable.
        pub name: String = "name" always,
        /// Patterns of the images it knows credentials for.
        pub match_images: List<String> = "matchImages" always,
        /// How long its answers hold unless they say so themselves.
        pub default_cache_duration: Option<GoDuration> = "defaultCacheDuration",
        /// Version of the request it understands.
        pub api_version: String = "apiVersion" always,
        /// Arguments it is started with.
        pub args: List<String> = "args",
        /// Variables it is started with, beside those of the kubelet.
        pub env: List<ExecEnvVar> = "env",
        /// Which token of a pod's service account it is given.
        pub token_attributes: Option<ServiceAccountTokenAttributes> = "tokenAttributes",
    }
}

document! {
    /// A variable of a program's environment.
    pub struct ExecEnvVar {
        /// Its name.
        pub name: String = "name" always,
        /// Its value.
        pub value: Secret = "value" always,
    }
}

document! {
    /// Which token of a pod's service account a program is given.
    pub struct ServiceAccountTokenAttributes {
        /// Who the token is for.
        pub service_account_token_audience: String = "serviceAccountTokenAudience" always,
        /// `Token` or `ServiceAccount`: what its answers hold for.
        pub cache_type: String = "cacheType" always,
        /// Whether it is asked only for pods that have a service account.
        pub require_service_account: Option<bool> = "requireServiceAccount",
        /// Annotations the service account must have.
        pub required_service_account_annotation_keys: List<String> = "requiredServiceAccountAnnotationKeys",
        /// Annotations of the service account that it is told if there are any.
        pub optional_service_account_annotation_keys: List<String> = "optionalServiceAccountAnnotationKeys",
    }
}

/// What the two flags name.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    pub(crate) providers: Vec<CredentialProvider>,
    /// `sha256:` and the digest of the files, each after its length in eight bytes, as upstream makes it; `None` when
    /// there are no files.
    pub(crate) digest: Option<String>,
}

/// Reads what the two flags name. Without either there are no programs.
pub(crate) fn load(config: &str, folder: &str, gates: &FeatureGates, findings: &mut Findings) -> Programs {
    if config.is_empty() && folder.is_empty() {
        return Programs::default();
    }
    if config.is_empty() || folder.is_empty() {
        let (missing, other) =
            if config.is_empty() { (CONFIG_FLAG, FOLDER_FLAG) } else { (FOLDER_FLAG, CONFIG_FLAG) };
        findings.push(Finding::error(missing, format!("must be set together with {other}")));
        return Programs::default();
    }
    if let Err(error) = std::fs::metadata(folder) {
        findings.push(Finding::error(FOLDER_FLAG, format!("cannot look at the folder {folder}: {error}")));
    }
    let files = match files(Path::new(config)) {
        Ok(files) => files,
        Err(message) => {
            findings.push(Finding::error(CONFIG_FLAG, message));
            return Programs::default();
        }
    };
    let mut providers = Vec::new();
    let mut names = BTreeSet::new();
    let mut digest = Sha256::new();
    for file in files {
        findings.in_file(Some(file.display().to_string()));
        let document = read(&file, &mut digest, findings).unwrap_or_default();
        for (index, provider) in document.providers.items().iter().enumerate() {
            let path = format!("providers[{index}]");
            if !names.insert(provider.name.clone()) {
                let message = format!("there is another provider of the name {:?}", provider.name);
                findings.push(Finding::error(format!("{path}.name"), message));
            }
            check(provider, &path, gates, findings);
            executable(&Path::new(folder).join(&provider.name), &path, findings);
        }
        providers.extend(document.providers.items().iter().cloned());
        findings.in_file(None);
    }
    if providers.is_empty() && !findings.has_errors() {
        findings.push(Finding::error(CONFIG_FLAG, "providers: at least one is required"));
    }
    let digest = "sha256:".to_owned() + &golang::hex::encode(&digest.finalize());
    Programs { providers, digest: Some(digest) }
}

/// The file itself, or those in the folder that are documents, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file = entry.path();
        let is_document = file
            .extension()
            .is_some_and(|extension| extension == "json" || extension == "yaml" || extension == "yml");
        if is_document && !entry.file_type().map_err(failed)?.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(format!("there is no configuration in {}", path.display())) } else { Ok(files) }
}

fn read(file: &Path, digest: &mut Sha256, findings: &mut Findings) -> Option<CredentialProviderConfig> {
    let mut text = String::new();
    let done = std::fs::File::open(file)
        .and_then(|file| file.take(MOST_BYTES as u64 + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot read it: {error}"));
    digest.update((text.len() as u64).to_be_bytes());
    digest.update(&text);
    let tree = done.and_then(|_| Tree::parse(&text).map_err(|reason| format!("cannot parse it: {reason}")));
    let tree = match tree {
        Ok(tree) => tree,
        Err(message) => {
            findings.push(Finding::error("", message));
            return None;
        }
    };
    let of = |key: &str| tree.get(key).and_then(Tree::text).unwrap_or_default();
    if of("kind") != "CredentialProviderConfig" || !VERSIONS.contains(&of("apiVersion")) {
        let hint = format!("want kind: CredentialProviderConfig and apiVersion: {}", VERSIONS[0]);
        findings.push(Finding::error("", "unknown apiVersion and kind").hint(hint));
        return None;
    }
    let mut own = Findings::default();
    let document = CredentialProviderConfig::decode(&tree, "", &mut own);
    for mut finding in own.into_list() {
        finding.severity = Severity::Error;
        findings.push(finding);
    }
    document
}

fn check(provider: &CredentialProvider, path: &str, gates: &FeatureGates, findings: &mut Findings) {
    let mut error = |field: &str, message: &str| {
        findings.push(Finding::error(format!("{path}.{field}"), message));
    };
    let name = provider.name.as_str();
    if name.contains(['/', ' ']) || matches!(name, "" | "." | "..") {
        error("name", "must be the name of an executable, without slashes and spaces");
    }
    if !REQUESTS.contains(&provider.api_version.as_str()) {
        error("apiVersion", &format!("{:?} must be one of {REQUESTS:?}", provider.api_version));
    }
    if provider.match_images.items().is_empty() {
        error("matchImages", "at least one is required");
    }
    if provider
        .match_images
        .items()
        .iter()
        .any(|image| image.contains([' ', '\u{7f}']) || image.contains('%'))
    {
        error("matchImages", "must be image names, of which parts may be *");
    }
    match provider.default_cache_duration {
        None => error("defaultCacheDuration", "is required"),
        Some(duration) if duration < GoDuration::ZERO => {
            error("defaultCacheDuration", "must not be negative")
        }
        Some(_) => {}
    }
    if let Some(attributes) = &provider.token_attributes {
        tokens(attributes, provider, gates, &mut error);
    }
}

fn tokens(
    attributes: &ServiceAccountTokenAttributes,
    provider: &CredentialProvider,
    gates: &FeatureGates,
    error: &mut dyn FnMut(&str, &str),
) {
    if !gates.enabled("KubeletServiceAccountTokenForCredentialProviders") {
        let why = "requires feature gate KubeletServiceAccountTokenForCredentialProviders";
        error("tokenAttributes", why);
    }
    if attributes.service_account_token_audience.is_empty() {
        error("tokenAttributes.serviceAccountTokenAudience", "is required");
    }
    if attributes.require_service_account.is_none() {
        error("tokenAttributes.requireServiceAccount", "is required");
    }
    if provider.api_version != REQUESTS[0] {
        error("tokenAttributes", &format!("can be used with apiVersion {} only", REQUESTS[0]));
    }
    if !matches!(attributes.cache_type.as_str(), "Token" | "ServiceAccount") {
        error("tokenAttributes.cacheType", "must be Token or ServiceAccount");
    }
    let required = attributes.required_service_account_annotation_keys.items();
    let optional = attributes.optional_service_account_annotation_keys.items();
    if attributes.require_service_account == Some(false) && !required.is_empty() {
        let field = "tokenAttributes.requiredServiceAccountAnnotationKeys";
        error(field, "cannot be set when requireServiceAccount is false");
    }
    for (name, keys) in [("required", required), ("optional", optional)] {
        let field = format!("tokenAttributes.{name}ServiceAccountAnnotationKeys");
        let mut seen = BTreeSet::new();
        for key in keys {
            if let Some(problem) = label::key_problem(&key.to_lowercase()) {
                error(&field, &format!("{key:?}: {problem}"));
            }
            if !seen.insert(key) {
                error(&field, &format!("{key:?} is there twice"));
            }
        }
    }
    if required.iter().any(|key| optional.contains(key)) {
        error("tokenAttributes", "annotation keys cannot be both required and optional");
    }
}

fn executable(program: &Path, path: &str, findings: &mut Findings) {
    let problem = match std::fs::metadata(program) {
        Err(error) => error.to_string(),
        Ok(facts) if facts.is_dir() || facts.permissions().mode() & 0o111 == 0 => {
            "it is not executable".to_owned()
        }
        Ok(_) => return,
    };
    let message = format!("cannot start {}: {problem}", program.display());
    findings.push(
        Finding::error(format!("{path}.name"), message).hint(format!("{FOLDER_FLAG} names the folder")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one document; findings as `path: message` without the folder.
    fn read_text(providers: &str) -> (Programs, Vec<String>) {
        read_with(providers, &FeatureGates::default())
    }

    fn read_with(providers: &str, gates: &FeatureGates) -> (Programs, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\n";
        std::fs::write(&file, format!("{head}providers:\n{providers}")).unwrap();
        let program = folder.path().join("ecr");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut findings = Findings::default();
        let at = folder.path().display().to_string();
        let programs = load(&file.display().to_string(), &at, gates, &mut findings);
        let said = findings.into_list().into_iter().map(|finding| finding.path).collect();
        (programs, said)
    }

    const GOOD: &str = "- {name: ecr, apiVersion: credentialprovider.kubelet.k8s.io/v1, matchImages: ['*.example'], \
                        defaultCacheDuration: 1m, env: [{name: KEY, value: hunter2}]}\n";

    #[test]
    fn reads_providers_and_keeps_their_secrets() {
        let (Programs { providers, digest }, findings) = read_text(GOOD);
        assert_eq!(findings, [""; 0]);
        // As told by sha256sum for the length and the text.
        assert_eq!(
            digest.as_deref(),
            Some("sha256:39ed9b5d69b0d8321d8eeedd99dea82d9d38fc0b295e4c4fdec418a25a9909b6")
        );
        assert_eq!(providers[0].default_cache_duration, Some(GoDuration::from_secs(60)));
        assert_eq!(providers[0].env.items()[0].value.0, "hunter2");
        assert!(!format!("{providers:?}").contains("hunter2"));
    }

    #[test]
    fn tokens_need_their_gate() {
        let text = GOOD.replace(
            ", env:",
            ", tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true}, env:",
        );
        assert_eq!(read_text(&text).1, [""; 0]);
        let off = [("KubeletServiceAccountTokenForCredentialProviders", false)];
        let gates = FeatureGates::from_settings(off.into_iter(), &mut Findings::default());
        assert_eq!(read_with(&text, &gates).1, ["providers[0].tokenAttributes"]);
    }

    #[test]
    fn names_every_mistake() {
        let text = "- {name: a/b, apiVersion: v2, arg: [x], tokenAttributes: {cacheType: Pod}}\n".to_owned()
            + GOOD
            + GOOD;
        let (_, findings) = read_text(&text);
        assert_eq!(
            findings,
            [
                "providers[0].arg",
                "providers[0].name",
                "providers[0].apiVersion",
                "providers[0].matchImages",
                "providers[0].defaultCacheDuration",
                "providers[0].tokenAttributes.serviceAccountTokenAudience",
                "providers[0].tokenAttributes.requireServiceAccount",
                "providers[0].tokenAttributes",
                "providers[0].tokenAttributes.cacheType",
                "providers[0].name",
                "providers[2].name",
            ]
        );
    }
}
