//! Reads images out of the archive, for registries that serve them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tar::Archive;

use super::oci;

/// An image as a registry has it.
pub(crate) struct Stored {
    /// The manifest's media type.
    pub(crate) media_type: String,
    /// The manifest's digest, `sha256:...`.
    pub(crate) digest: String,
    /// Manifest, configuration and layers by their digests.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

impl Stored {
    /// Finds an image by its full name, and makes one of its own of it, with this in its configuration: kubelets
    /// remember of an image, not of its name, that it had to be pulled with credentials.
    pub(crate) fn variant(archive: &Path, name: &str, author: &str) -> Result<Self> {
        let index: Value =
            serde_json::from_slice(&entry(archive, "index.json")?).context("read the index")?;
        let manifests = index["manifests"].as_array().context("the index has no manifests")?;
        let is_it = |one: &&Value| one["annotations"]["io.containerd.image.name"] == *name;
        let found = manifests.iter().find(is_it).with_context(|| format!("no image {name}"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a descriptor lacks something");
        let (digest, media_type) = (text(&found["digest"])?, text(&found["mediaType"])?);
        let parse = |content: Vec<u8>| serde_json::from_slice(&content).context("read a part of the image");
        let mut manifest: Value = parse(blob(archive, &digest)?)?;
        let mut blobs = BTreeMap::new();
        for layer in manifest["layers"].as_array().context("the manifest has no layers")? {
            let digest = text(&layer["digest"])?;
            blobs.insert(digest.clone(), blob(archive, &digest)?);
        }
        let mut configuration: Value = parse(blob(archive, &text(&manifest["config"]["digest"])?)?)?;
        configuration["author"] = author.into();
        let configuration = configuration.to_string().into_bytes();
        let own = oci::digest(&configuration);
        manifest["config"]["digest"] = own.clone().into();
        manifest["config"]["size"] = configuration.len().into();
        blobs.insert(own, configuration);
        let manifest = manifest.to_string().into_bytes();
        let digest = oci::digest(&manifest);
        blobs.insert(digest.clone(), manifest);
        Ok(Self { media_type, digest, blobs })
    }
}

/// All images of an archive, which stays where it is.
pub(crate) struct Store {
    file: File,
    /// Where each blob is, and its size, by its digest.
    blobs: BTreeMap<String, (u64, u64)>,
    /// Media type and digest of each image's manifest, by its full name.
    manifests: BTreeMap<String, (String, String)>,
}

impl Store {
    /// Reads what is in the archive, and where.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut blobs = BTreeMap::new();
        let mut archive = Archive::new(&file);
        for found in archive.entries_with_seek().context("list the image archive")? {
            let found = found.context("list the image archive")?;
            let path = found.path().context("list the image archive")?;
            if let Ok(rest) = path.strip_prefix("blobs") {
                let digest = rest.to_string_lossy().replace('/', ":");
                blobs.insert(digest, (found.raw_file_position(), found.size()));
            }
        }
        let index: Value = serde_json::from_slice(&entry(path, "index.json")?).context("read the index")?;
        let mut manifests = BTreeMap::new();
        for one in index["manifests"].as_array().context("the index has no manifests")? {
            let text =
                |value: &Value| value.as_str().map(str::to_owned).context("a descriptor lacks something");
            let name = text(&one["annotations"]["io.containerd.image.name"])?;
            manifests.insert(name, (text(&one["mediaType"])?, text(&one["digest"])?));
        }
        Ok(Self { file, blobs, manifests })
    }

    /// The media type and digest of the image whose name ends in this, after the name of its registry.
    pub(crate) fn manifest(&self, reference: &str) -> Option<(&str, &str)> {
        let is_it = |name: &str| name.split_once('/').is_some_and(|(_, rest)| rest == reference);
        let found = self.manifests.iter().find(|(name, _)| is_it(name));
        found.map(|(_, (media_type, digest))| (media_type.as_str(), digest.as_str()))
    }

    /// The media type of the manifest of this digest.
    pub(crate) fn media_type(&self, digest: &str) -> Option<&str> {
        self.manifests.values().find(|(_, own)| own == digest).map(|(media_type, _)| media_type.as_str())
    }

    /// What has this digest.
    pub(crate) fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let (position, size) = *self.blobs.get(digest)?;
        let mut content = vec![0; usize::try_from(size).ok()?];
        self.file.read_exact_at(&mut content, position).ok()?;
        Some(content)
    }
}

fn blob(archive: &Path, digest: &str) -> Result<Vec<u8>> {
    entry(archive, &format!("blobs/{}", digest.replace(':', "/")))
}

fn entry(archive: &Path, path: &str) -> Result<Vec<u8>> {
    let file = File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    let mut archive = Archive::new(file);
    for found in archive.entries_with_seek().context("list the image archive")? {
        let mut found = found.context("list the image archive")?;
        if found.path().context("list the image archive")? == Path::new(path) {
            let mut content = Vec::new();
            found.read_to_end(&mut content).with_context(|| format!("read {path}"))?;
            return Ok(content);
        }
    }
    bail!("the image archive has no {path}")
}
