//! Credentials for registries, from pull secrets and files in Docker's formats
//! (<https://kubernetes.io/docs/concepts/containers/images/#config-json>).

use std::collections::BTreeMap;
use std::path::Path;
use std::{fmt, fs};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use golang::{hex, json};
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::wire;

const DOCKER_HUB: &str = "index.docker.io";
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A name and password for a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
    /// The user's address, which registries do not ask for any more.
    pub email: String,
    /// Whose they are.
    pub origin: Origin,
}

/// Whose credentials are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The node's: every pod on it can pull with them.
    #[default]
    Node,
    /// A pull secret's.
    Secret(Coordinates),
    /// A service account's, on whose behalf a program was asked.
    ServiceAccount(Coordinates),
}

/// Tells an object from all others, those that had its name before it included.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coordinates {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// What records of pulls know them by: SHA-256 of them as upstream's kubelet encodes them, in hexadecimal.
    pub(super) fn digest(&self) -> String {
        let encoded = Encoded { username: &self.username, password: &self.password, email: &self.email };
        // An empty digest stands for nothing.
        json::to_string(&encoded).map_or_else(|_| String::new(), |text| hex::encode(&Sha256::digest(text)))
    }

    pub(crate) fn to_wire(&self) -> wire::AuthConfig {
        wire::AuthConfig {
            username: self.username.clone(),
            password: self.password.clone(),
            ..Default::default()
        }
    }
}

/// What the digest is of. Empty ones are left out.
#[derive(Serialize)]
struct Encoded<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    password: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    email: &'a str,
}

/// Credentials by the images they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    /// By registry and path; the value is in the order of adding.
    entries: BTreeMap<String, Vec<Credentials>>,
}

/// A document that is none. It does not show the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("registry credentials are not in the format of {format}")]
pub struct KeyringError {
    format: &'static str,
}

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    auth: String,
}

impl Keyring {
    /// Adds a `config.json`, as type `kubernetes.io/dockerconfigjson` holds it. Nothing is added when it is none.
    fn add_config_json(&mut self, document: &[u8], origin: &Origin) -> Result<(), KeyringError> {
        let error = KeyringError { format: "config.json" };
        let config: DockerConfigJson = serde_json::from_slice(document).map_err(|_| error)?;
        self.add(config.auths, origin).ok_or(error)
    }

    /// Adds a `.dockercfg`, as type `kubernetes.io/dockercfg` holds it. Nothing is added when it is none.
    fn add_dockercfg(&mut self, document: &[u8], origin: &Origin) -> Result<(), KeyringError> {
        let error = KeyringError { format: ".dockercfg" };
        let auths = serde_json::from_slice(document).map_err(|_| error)?;
        self.add(auths, origin).ok_or(error)
    }

    /// The node's own credentials: the first readable `config.json`, else the first readable
    /// `.dockercfg`, of the usual places. `root` is the kubelet's root folder, `home` its user's.
    /// Without any file it is empty. Blocks on the disk.
    pub fn of_node(root: &Path, home: Option<&Path>) -> Self {
        let mut keyring = Self::default();
        let docker = home.map(|home| home.join(".docker"));
        let config = [Some(root), docker.as_deref(), Some(Path::new("/.docker"))];
        let is_added = config.into_iter().flatten().any(|folder| {
            fs::read(folder.join("config.json"))
                .is_ok_and(|text| keyring.add_config_json(&text, &Origin::Node).is_ok())
        });
        if !is_added {
            let old = [Some(root), home, Some(Path::new("/"))];
            let _ = old.into_iter().flatten().any(|folder| {
                fs::read(folder.join(".dockercfg"))
                    .is_ok_and(|text| keyring.add_dockercfg(&text, &Origin::Node).is_ok())
            });
        }
        keyring
    }

    /// Adds a pull secret. One of another type adds nothing.
    ///
    /// # Errors
    /// When its document is none of its type; nothing is added then.
    pub fn add_secret(&mut self, secret: &Secret) -> Result<(), KeyringError> {
        let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
        let meta = &secret.metadata;
        let origin = Origin::Secret(Coordinates {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        });
        match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson")
                .map_or(Ok(()), |document| self.add_config_json(&document.0, &origin)),
            Some("kubernetes.io/dockercfg") => {
                data(".dockercfg").map_or(Ok(()), |document| self.add_dockercfg(&document.0, &origin))
            }
            _ => Ok(()),
        }
    }

    /// Credentials that may open the image's repository, the most specific first.
    pub fn lookup(&self, image: &str) -> Vec<Credentials> {
        // Backwards, so that a longer path comes before its prefix.
        let found: Vec<Credentials> = self
            .entries
            .iter()
            .rev()
            .filter(|(pattern, _)| matches(pattern, image))
            .flat_map(|(_, credentials)| credentials.iter().cloned())
            .collect();
        if found.is_empty() && is_docker_hub(image) {
            return self.entries.get(DOCKER_HUB).cloned().unwrap_or_default();
        }
        found
    }

    /// Adds credentials for a registry and path.
    pub(super) fn add_for(&mut self, registry: &str, credentials: Credentials) {
        self.entries.entry(pattern(registry)).or_default().push(credentials);
    }

    fn add(&mut self, auths: BTreeMap<String, DockerAuth>, origin: &Origin) -> Option<()> {
        let mut all = Vec::new();
        for (registry, auth) in auths {
            let (username, password) = if auth.auth.is_empty() {
                (auth.username, auth.password)
            } else {
                let decoded = String::from_utf8(LENIENT.decode(auth.auth.trim()).ok()?).ok()?;
                let (username, password) = decoded.split_once(':')?;
                (username.to_owned(), password.to_owned())
            };
            let credentials = Credentials { username, password, email: auth.email, origin: origin.clone() };
            all.push((pattern(&registry), credentials));
        }
        for (pattern, credentials) in all {
            self.entries.entry(pattern).or_default().push(credentials);
        }
        Some(())
    }
}

/// The registry and path, without scheme and without Docker's API version.
fn pattern(registry: &str) -> String {
    let bare =
        registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let (host, path) = match bare.find('/') {
        Some(at) => bare.split_at(at),
        None => (bare, ""),
    };
    let path = if path.starts_with("/v1/") || path.starts_with("/v2/") { &path[3..] } else { path };
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

/// Whether a pattern fits: host label by label, where `*` and `?` stand for parts of a label,
/// the port exactly, and the path as a prefix.
pub(super) fn matches(pattern: &str, image: &str) -> bool {
    let split = |text: &str| match text.find('/') {
        Some(at) => (text[..at].to_owned(), text[at..].to_owned()),
        None => (text.to_owned(), String::new()),
    };
    let ((pattern_host, pattern_path), (host, path)) = (split(pattern), split(image));
    let (pattern_name, pattern_port) = split_port(&pattern_host);
    let (name, port) = split_port(&host);
    let (pattern_labels, labels): (Vec<&str>, Vec<&str>) =
        (pattern_name.split('.').collect(), name.split('.').collect());
    pattern_port == port
        && pattern_labels.len() == labels.len()
        && path.starts_with(&pattern_path)
        && pattern_labels
            .iter()
            .zip(&labels)
            .all(|(pattern, label)| glob(pattern.as_bytes(), label.as_bytes()))
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    }
}

/// `*` for any text, `?` for any character. Remembers only the last star, which is enough.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether Docker would look for the image on its own registry.
fn is_docker_hub(image: &str) -> bool {
    match image.split_once('/') {
        None => !image.is_empty(),
        Some((first, _)) => {
            first == "docker.io" || first == DOCKER_HUB || (!first.is_empty() && !first.contains(['.', ':']))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(registries: &[&str]) -> Keyring {
        let mut keyring = Keyring::default();
        for registry in registries {
            let document =
                format!(r#"{{"auths": {{"{registry}": {{"username": "{registry}", "password": "p"}}}}}}"#);
            keyring.add_config_json(document.as_bytes(), &Origin::Node).unwrap();
        }
        keyring
    }

    #[test]
    fn finds_by_host_and_path() {
        for (registry, image, is_found) in [
            ("quay.io", "quay.io/a/b", true),
            ("https://quay.io/v1/", "quay.io/a/b", true),
            ("http://quay.io/v2/a", "quay.io/a/b", true),
            ("quay.io/a", "quay.io/a/b", true),
            ("quay.io/b", "quay.io/a/b", false),
            ("*.example.com", "x.example.com/a", true),
            ("x*z.example.com", "xyz.example.com/a", true),
            ("*.example.com", "x.y.example.com/a", false),
            ("*.example.com", "example.com/a", false),
            ("reg:5000", "reg:5000/a", true),
            ("reg:5000", "reg:5001/a", false),
            ("*", "reg:5001/a", false),
            ("https://index.docker.io/v1/", "busybox", true),
            ("https://index.docker.io/v1/", "library/busybox", true),
            ("https://index.docker.io/v1/", "docker.io/library/busybox", true),
            ("https://index.docker.io/v1/", "quay.io/busybox", false),
        ] {
            assert_eq!(!keyring(&[registry]).lookup(image).is_empty(), is_found, "{registry} {image}");
        }
    }

    #[test]
    fn puts_the_longest_path_first() {
        let found = keyring(&["quay.io", "quay.io/a/b", "quay.io/a"]).lookup("quay.io/a/b/c:1");
        let names: Vec<&str> = found.iter().map(|c| &*c.username).collect();
        assert_eq!(names, ["quay.io/a/b", "quay.io/a", "quay.io"]);
    }

    #[test]
    fn reads_both_formats_and_every_padding() {
        for auth in ["dXNlcjpwYTpzcw==", "dXNlcjpwYTpzcw"] {
            let mut keyring = Keyring::default();
            let document = format!(r#"{{"r.io": {{"auth": "{auth}", "email": "e"}}}}"#);
            keyring.add_dockercfg(document.as_bytes(), &Origin::Node).unwrap();
            let expect = Credentials {
                username: "user".into(),
                password: "pa:ss".into(),
                email: "e".into(),
                origin: Origin::Node,
            };
            assert_eq!(keyring.lookup("r.io/a"), [expect]);
        }
    }

    #[test]
    fn finds_the_nodes_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let (root, home) = (dir.path().join("root"), dir.path().join("home"));
        fs::create_dir_all(home.join(".docker")).unwrap();
        fs::create_dir_all(&root).unwrap();
        let user = || Keyring::of_node(&root, Some(&home)).lookup("r.io/a").pop().map(|c| c.username);
        let entry = |name: &str| format!(r#"{{"r.io": {{"username": "{name}"}}}}"#);
        fs::write(home.join(".dockercfg"), entry("old")).unwrap();
        assert_eq!(user().as_deref(), Some("old"));
        fs::write(home.join(".docker/config.json"), format!(r#"{{"auths": {}}}"#, entry("home"))).unwrap();
        assert_eq!(user().as_deref(), Some("home"));
        fs::write(root.join("config.json"), "damaged").unwrap();
        assert_eq!(user().as_deref(), Some("home"));
        fs::write(root.join("config.json"), format!(r#"{{"auths": {}}}"#, entry("root"))).unwrap();
        assert_eq!(user().as_deref(), Some("root"));
    }

    #[test]
    fn a_secrets_credentials_know_where_they_are_from() {
        let secret = |type_: &str, key: &str, document: &str| -> Secret {
            let data = base64::prelude::BASE64_STANDARD.encode(document);
            serde_json::from_value(serde_json::json!({
                "metadata": {"namespace": "ns", "name": "s", "uid": "u"}, "type": type_, "data": {key: data},
            }))
            .unwrap()
        };
        let entry = r#"{"r.io": {"username": "u", "password": "p"}}"#;
        let auths = format!(r#"{{"auths": {entry}}}"#);
        for (secret, is_found) in [
            (secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &auths), true),
            (secret("kubernetes.io/dockercfg", ".dockercfg", entry), true),
            (secret("Opaque", ".dockerconfigjson", &auths), false),
        ] {
            let mut keyring = Keyring::default();
            keyring.add_secret(&secret).unwrap();
            let origins: Vec<Origin> = keyring.lookup("r.io/a").into_iter().map(|c| c.origin).collect();
            let coordinates = Coordinates { namespace: "ns".into(), name: "s".into(), uid: "u".into() };
            let expected = if is_found { vec![Origin::Secret(coordinates)] } else { vec![] };
            assert_eq!(origins, expected, "{:?}", secret.type_);
        }
    }

    /// Which are what upstream's v1.37.2 makes of the same.
    #[test]
    fn digests_are_upstreams() {
        for (username, password, email, digest) in [
            ("user", "pass", "", "cb54b00fb550d4a17c448149caa29f38f4d5a44fb87c752e43db8160af3a032a"),
            ("user", "p<a>&\"s", "e@x", "eb2992098397f214ad7a59b31026823ba2f1edfe56733adc52b130f3db885445"),
            ("", "", "", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
            (
                "u",
                "é\u{2028}\u{2029}\u{8}\u{c}\n\r\t\u{1}\u{7f}",
                "",
                "3c73bba00b4ed9b5b5151beb5c8a8599dcd42a5dca63c64476a0c9ae6f2bb255",
            ),
        ] {
            let credentials = Credentials {
                username: username.into(),
                password: password.into(),
                email: email.into(),
                origin: Origin::Secret(Coordinates::default()),
            };
            assert_eq!(credentials.digest(), digest, "{username:?} {password:?}");
        }
    }

    /// CVE-2020-8564.
    #[test]
    fn never_shows_a_secret() {
        let mut keyring = keyring(&["quay.io"]);
        assert!(!format!("{keyring:?}").contains("password: "));
        let error =
            keyring.add_config_json(br#"{"auths": {"x": {"auth": "hunter2"}}}"#, &Origin::Node).unwrap_err();
        assert_eq!(error.to_string(), "registry credentials are not in the format of config.json");
    }
}
