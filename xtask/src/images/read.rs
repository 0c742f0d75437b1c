//! Reads one image out of the archive, for a registry that serves it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
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
