//! Writes an OCI image archive: layers as plain tar files, so that importing needs no decompression.

use std::fs::File;
use std::io::{BufWriter, Write as _};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The machine's architecture in the words of images.
pub(super) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// One path in a layer.
pub(super) enum Entry {
    /// A regular file.
    File { path: String, mode: u32, content: Vec<u8> },
    /// A folder.
    Folder { path: String, mode: u32 },
    /// A symbolic link.
    Link { path: String, target: String },
}

impl Entry {
    /// An executable file.
    pub(super) fn program(path: &str, content: Vec<u8>) -> Self {
        Self::File { path: path.into(), mode: 0o755, content }
    }
}

/// What a container of an image runs when the pod does not say.
#[derive(Default)]
pub(super) struct Config<'a> {
    pub(super) entrypoint: &'a [&'a str],
    pub(super) command: &'a [&'a str],
    pub(super) user: &'a str,
    /// Variables beside `PATH`.
    pub(super) environment: &'a [&'a str],
    /// Makes an image of its own of what would be another one's double.
    pub(super) author: &'a str,
}

/// A layer that is already in the archive.
pub(super) struct Layer {
    descriptor: Value,
    digest: String,
}

/// An archive being written.
pub(super) struct Archive {
    tar: Builder<BufWriter<File>>,
    manifests: Vec<Value>,
}

impl Archive {
    /// Starts an archive in an empty file.
    pub(super) fn new(file: File) -> Result<Self> {
        let mut archive = Self { tar: Builder::new(BufWriter::new(file)), manifests: Vec::new() };
        archive.append("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(archive)
    }

    /// Adds a layer with these files, owned by root.
    pub(super) fn layer(&mut self, entries: &[Entry]) -> Result<Layer> {
        let mut tar = Builder::new(Vec::new());
        for entry in entries {
            let (path, mode, kind) = match entry {
                Entry::File { path, mode, .. } => (path, *mode, EntryType::Regular),
                Entry::Folder { path, mode } => (path, *mode, EntryType::Directory),
                Entry::Link { path, .. } => (path, 0o777, EntryType::Symlink),
            };
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(0);
            match entry {
                Entry::File { content, .. } => {
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path, content.as_slice())
                }
                Entry::Folder { .. } => tar.append_data(&mut header, path, std::io::empty()),
                Entry::Link { target, .. } => tar.append_link(&mut header, path, target),
            }
            .with_context(|| format!("add {path} to a layer"))?;
        }
        let content = tar.into_inner().context("finish a layer")?;
        let descriptor = self.blob("application/vnd.oci.image.layer.v1.tar", &content)?;
        Ok(Layer { digest: descriptor["digest"].as_str().unwrap_or_default().to_owned(), descriptor })
    }

    /// Adds an image of these layers under its full name, tag included.
    pub(super) fn image(&mut self, name: &str, config: &Config<'_>, layers: &[&Layer]) -> Result<()> {
        let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let mut environment = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
        environment.extend(config.environment);
        let mut document = json!({
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {
                "Env": environment,
                "Entrypoint": config.entrypoint,
                "Cmd": config.command,
                "User": config.user,
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        if !config.author.is_empty() {
            document["author"] = config.author.into();
        }
        let config =
            self.blob("application/vnd.oci.image.config.v1+json", document.to_string().as_bytes())?;
        let media = "application/vnd.oci.image.manifest.v1+json";
        let layers: Vec<&Value> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": media, "config": config, "layers": layers });
        let mut manifest = self.blob(media, manifest.to_string().as_bytes())?;
        manifest["platform"] = json!({ "architecture": ARCHITECTURE, "os": "linux" });
        let tag = name.rsplit(':').next().unwrap_or_default();
        manifest["annotations"] =
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
        self.manifests.push(manifest);
        Ok(())
    }

    /// Writes the index and everything still buffered.
    pub(super) fn finish(mut self) -> Result<()> {
        let media = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": media, "manifests": self.manifests });
        self.append("index.json", index.to_string().as_bytes())?;
        let mut file = self.tar.into_inner().context("finish the image archive")?;
        file.flush().context("write the image archive")
    }

    fn blob(&mut self, media: &str, content: &[u8]) -> Result<Value> {
        let digest = digest(content);
        self.append(&format!("blobs/{}", digest.replace(':', "/")), content)?;
        Ok(json!({ "mediaType": media, "digest": digest, "size": content.len() }))
    }

    fn append(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        let added = self.tar.append_data(&mut header, path, content);
        added.with_context(|| format!("add {path} to the image archive"))
    }
}

/// The name of a blob.
pub(super) fn digest(content: &[u8]) -> String {
    let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hash}")
}
