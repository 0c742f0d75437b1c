//! One input for both kubelets: a command line, a document and drop-ins, or a kubeconfig.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::kubeconfig::{Document, Pki};
use crate::workspace;

/// What every document starts with.
const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

/// The cases that are written down, by the name of their file.
const WRITTEN: &[(&str, &str)] = &[
    ("credentials", include_str!("cases/credentials.yaml")),
    ("fields", include_str!("cases/fields.yaml")),
    ("flags", include_str!("cases/flags.yaml")),
    ("gates", include_str!("cases/gates.yaml")),
    ("kubeconfigs", include_str!("cases/kubeconfigs.yaml")),
    ("layers", include_str!("cases/layers.yaml")),
    ("syntax", include_str!("cases/syntax.yaml")),
];

/// One case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Unique; by default what there is of arguments and document.
    #[serde(default)]
    pub(crate) name: String,
    /// The document without apiVersion and kind.
    #[serde(default)]
    doc: Option<String>,
    /// The document as it is.
    #[serde(default)]
    raw: Option<String>,
    /// Drop-ins without apiVersion and kind, by path below the folder.
    #[serde(default)]
    drop_ins: BTreeMap<String, String>,
    /// Drop-ins as they are.
    #[serde(default)]
    raw_drop_ins: BTreeMap<String, String>,
    /// A kubeconfig, and then nothing else is looked at.
    #[serde(default)]
    kubeconfig: Option<Document>,
    /// Other files, by path.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Flags beside those that name the files; `@` stands for the folder of the case.
    #[serde(default)]
    args: Vec<String>,
    /// What a refusal is about; a case without it is to be accepted.
    #[serde(default)]
    pub(crate) refused: Option<String>,
    /// Whether upstream decides: cases that are made up do not say what is right.
    #[serde(skip)]
    pub(crate) is_open: bool,
    /// Whether the flags that keep the machine out of it are left out.
    #[serde(default)]
    plain: bool,
}

/// A case as both kubelets get it.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The whole command line.
    pub(crate) arguments: Vec<String>,
    /// Or the kubeconfig to look at.
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Reads the cases that are written down.
pub(crate) fn written() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for (file, text) in WRITTEN {
        let cases: Vec<Case> =
            serde_saphyr::from_str(text).with_context(|| format!("read the cases in {file}.yaml"))?;
        all.extend(cases.into_iter().map(|mut case| {
            if case.name.is_empty() {
                case.name = case.summary();
            }
            case.name = format!("{file}/{}", case.name);
            case
        }));
    }
    Ok(all)
}

impl Case {
    /// A case that is made up: one flag.
    pub(crate) fn with_flag(argument: String) -> Self {
        Self { name: format!("made-up/{argument}"), args: vec![argument], is_open: true, ..Self::default() }
    }

    /// A case that is made up: one field.
    pub(crate) fn with_document(doc: String) -> Self {
        Self { name: format!("made-up/{doc}"), doc: Some(doc), is_open: true, ..Self::default() }
    }

    fn summary(&self) -> String {
        let texts = [self.doc.as_deref(), self.raw.as_deref()].into_iter().flatten();
        let drop_ins = self.drop_ins.values().chain(self.raw_drop_ins.values()).map(String::as_str);
        let parts = self.args.iter().map(String::as_str).chain(texts).chain(drop_ins);
        parts.map(|part| part.trim().replace('\n', "; ")).collect::<Vec<_>>().join(" + ")
    }

    /// The case as a line of a report.
    pub(crate) fn describe(&self) -> String {
        let summary = self.summary();
        if self.name.ends_with(&summary) { self.name.clone() } else { format!("{} ({summary})", self.name) }
    }

    /// The names of flags and fields that may be in it.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        let texts = [self.doc.as_deref(), self.raw.as_deref()].into_iter().flatten();
        let drop_ins = self.drop_ins.values().map(String::as_str);
        let words = texts.chain(drop_ins).flat_map(|text| {
            text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
        });
        let flags = self.args.iter().filter_map(|argument| {
            let name = argument.trim_start_matches('-');
            (name.len() < argument.len()).then(|| name.split('=').next().unwrap_or_default())
        });
        words.chain(flags)
    }

    /// Writes its files below a folder and returns what to look at.
    pub(crate) fn materialize(&self, below: &Path, pki: &Pki) -> Result<Input> {
        // Names are long and have slashes; nobody looks at the folders.
        let folder = below.join(crate::peers::short_hash(&[self.name.as_bytes()]));
        workspace::create_dir(&folder)?;
        let kubeconfig = self.kubeconfig.as_ref().map(|document| pki.write(document, &folder)).transpose()?;
        let mut arguments = Vec::new();
        let document = match (&self.doc, &self.raw) {
            (Some(doc), _) => Some(format!("{HEAD}{doc}")),
            (None, raw) => raw.clone(),
        };
        if let Some(text) = document {
            workspace::write(&folder.join("config.yaml"), text)?;
            arguments.push(format!("--config={}", folder.join("config.yaml").display()));
        }
        if !self.drop_ins.is_empty() || !self.raw_drop_ins.is_empty() {
            arguments.push(format!("--config-dir={}", folder.join("d").display()));
        }
        let with_head = self.drop_ins.iter().map(|(name, text)| (name, format!("{HEAD}{text}")));
        let drop_ins = with_head.chain(self.raw_drop_ins.iter().map(|(name, text)| (name, text.clone())));
        let files = self.files.iter().map(|(name, text)| (name.clone(), text.clone()));
        for (name, text) in drop_ins.map(|(name, text)| (format!("d/{name}"), text)).chain(files) {
            let path = folder.join(name);
            workspace::create_dir(path.parent().unwrap_or(&folder))?;
            workspace::write(&path, text)?;
        }
        if !self.plain {
            // So that the verdict is not about the machine, and nothing is written outside of the folder.
            arguments.push("--fail-cgroupv1=false".to_owned());
            arguments.push(format!("--cert-dir={}", below.join("certificates").display()));
        }
        let at = folder.display().to_string();
        arguments.extend(self.args.iter().map(|argument| argument.replace('@', &at)));
        Ok(Input { arguments, kubeconfig })
    }
}
