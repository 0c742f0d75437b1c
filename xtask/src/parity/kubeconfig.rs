//! Kubeconfigs for both kubelets, and the certificates they speak of.
//!
//! Certificates are made for each run, so that none is in the repository. In a kubeconfig `$CA`, `$CERTIFICATE` and
//! `$KEY` stand for them in Base64, and `$HERE` for its folder, where every case finds them as `ca.crt`, `node.crt`
//! and `node.key` too.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use serde::Deserialize;

use crate::workspace;

/// A kubeconfig, either as it is or as what is special about its cluster and user.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// The cluster's fields beside `server`, as a YAML flow map without braces.
    #[serde(default)]
    cluster: String,
    /// Where the server is.
    #[serde(default = "server")]
    server: String,
    /// The user's fields.
    #[serde(default)]
    user: String,
    /// The whole text.
    #[serde(default)]
    raw: Option<String>,
}

fn server() -> String {
    "https://api.example:6443".to_owned()
}

impl Document {
    fn text(&self) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        // Without any authority those of the machine count, of which it may have none.
        let cluster = match self.cluster.as_str() {
            "" => "certificate-authority-data: $CA",
            cluster => cluster,
        };
        let (server, user) = (&self.server, &self.user);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
             clusters: [{{name: c, cluster: {{server: '{server}', {cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
        )
    }
}

/// A certificate authority, and a client's certificate and key, as PEM.
pub(crate) struct Pki {
    files: [(&'static str, &'static str, String); 3],
}

impl Pki {
    /// Makes them.
    pub(crate) fn new() -> Result<Self> {
        let key = || rcgen::KeyPair::generate().context("make a key");
        let mut authority = rcgen::CertificateParams::new(vec![]).context("name the authority")?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority =
            rcgen::CertifiedIssuer::self_signed(authority, key()?).context("make an authority")?;
        let client_key = key()?;
        let client = rcgen::CertificateParams::new(vec!["node".to_owned()]).context("name a client")?;
        let client = client.signed_by(&client_key, &authority).context("make a certificate")?;
        let files = [
            ("ca.crt", "$CA", authority.pem()),
            ("node.crt", "$CERTIFICATE", client.pem()),
            ("node.key", "$KEY", client_key.serialize_pem()),
        ];
        Ok(Self { files })
    }

    /// Writes a kubeconfig and the certificates into a folder, and returns its path.
    pub(crate) fn write(&self, document: &Document, folder: &Path) -> Result<PathBuf> {
        let mut text = document.text();
        for (name, placeholder, pem) in &self.files {
            text = text.replace(placeholder, &base64::engine::general_purpose::STANDARD.encode(pem));
            workspace::write(&folder.join(name), pem)?;
        }
        let path = folder.join("kubeconfig");
        workspace::write(&path, text.replace("$HERE", &folder.display().to_string()))?;
        Ok(path)
    }
}
