//! Where the configuration comes from, and who wins: flags over drop-ins over the file over
//! defaults, in upstream's order and with its peculiarities.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::document::KubeletConfiguration;
use crate::finding::{Finding, Findings, Severity};
use crate::flags::{self, CommandLine, Deprecation, Kind, LocalFlags, Place};
use crate::gates::FeatureGates;
use crate::parts::Config;
use crate::tree::{Tree, Value};
use crate::version;
use crate::wire::{Dict, List, Wire};
use crate::{build, defaults, unsupported, validate};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// What the command line asked for.
#[derive(Debug)]
pub enum Invocation {
    /// Run a node with this configuration.
    Run(Box<Loaded>),
    /// Print this to standard output and leave with status 0.
    Print(String),
}

/// A configuration to run with.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What the operator should know about it. Worth a line of the log each.
    pub warnings: Vec<Finding>,
}

/// A configuration that the kubelet does not start with. The process leaves with status 1.
#[derive(Debug)]
pub struct Refused {
    /// Everything there is to say about it, at least one error among it.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors: Vec<_> =
            self.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
        match errors.as_slice() {
            [only] => write!(f, "invalid configuration: {only}"),
            errors => {
                write!(f, "invalid configuration, {} mistakes:", errors.len())?;
                errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}

impl std::error::Error for Refused {}

/// Reads the command line (without the program's name) and the files it names.
///
/// # Errors
/// With every finding there is, if one of them keeps the kubelet from starting.
pub fn load(arguments: &[String]) -> Result<Invocation, Refused> {
    let mut findings = Findings::default();
    let line = flags::parse(arguments, &mut findings);
    // A command line that cannot be read says nothing reliable about what else to read.
    if findings.has_errors() {
        return Err(Refused { findings: findings.into_list() });
    }
    match print(&line) {
        Ok(Some(text)) => return Ok(Invocation::Print(text)),
        Ok(None) => {}
        Err(finding) => return Err(Refused { findings: vec![finding] }),
    }
    warn_of_flags(&line, &mut findings);
    let local = local(&line, &mut findings);
    let document = document(&line, &local, &mut findings);
    let gates = gates(&document, &mut findings);
    validate::check(&document, &gates, &mut findings);
    unsupported::warn(&document, &mut findings);
    let config = build::build(document, &local, gates, &mut findings);
    if findings.has_errors() {
        return Err(Refused { findings: findings.into_list() });
    }
    Ok(Invocation::Run(Box::new(Loaded { config, warnings: findings.into_list() })))
}

/// What `--help` and `--version` print.
fn print(line: &CommandLine) -> Result<Option<String>, Finding> {
    if line.get("help").is_some_and(|tree| tree.value == Value::Bool(true)) {
        return Ok(Some(flags::help()));
    }
    match line.get("version").and_then(Tree::text) {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => {
            Ok(Some(format!("Kubernetes {}\n", version::KUBELET_VERSION)))
        }
        Some("raw") => Ok(Some(format!(
            "gitVersion={} major={} minor={} platform={} implementation={} implementationVersion={}\n",
            version::KUBELET_VERSION,
            version::KUBERNETES_MAJOR,
            version::KUBERNETES_MINOR,
            version::platform(),
            version::NAME,
            version::VERSION,
        ))),
        Some(other) => Err(Finding::error("--version", format!("{other:?} is neither true, false nor raw"))),
    }
}

fn warn_of_flags(line: &CommandLine, findings: &mut Findings) {
    for (flag, _) in &line.set {
        let path = format!("--{}", flag.name);
        match (flag.deprecation, flag.place) {
            (Deprecation::SetInFile, Place::Document(field)) => {
                let message = "this flag is deprecated";
                findings.push(
                    Finding::warning(path, message)
                        .hint(format!("set {field} in the file given to --config instead")),
                );
            }
            (Deprecation::Unused, _) => {
                findings.push(Finding::warning(path, "this flag is deprecated and has no effect"));
            }
            (_, Place::Ignored) => {
                findings.push(Finding::warning(path, "this flag has no effect yet"));
            }
            _ => {}
        }
    }
}

/// The node's own flags over their defaults.
fn local(line: &CommandLine, findings: &mut Findings) -> LocalFlags {
    let mut local = LocalFlags {
        root_dir: "/var/lib/kubelet".to_owned(),
        cert_dir: "/var/lib/kubelet/pki".to_owned(),
        ..LocalFlags::default()
    };
    for (flag, value) in line.set.iter().filter(|(flag, _)| flag.place == Place::Local) {
        local.set(&[flag.name], value, &format!("--{}", flag.name), findings);
    }
    local
}

/// The document in effect.
fn document(line: &CommandLine, local: &LocalFlags, findings: &mut Findings) -> KubeletConfiguration {
    let has_files = !local.config.is_empty() || !local.config_dir.is_empty();
    let mut document = KubeletConfiguration::default();
    if local.config.is_empty() {
        fill(&mut document, line);
        defaults::apply_legacy(&mut document);
        apply_flags(line, &mut document, findings);
    } else {
        document = read_document(&local.config, findings);
        fill(&mut document, line);
        defaults::apply_eviction(&mut document);
    }
    if !local.config_dir.is_empty() {
        document = merge_drop_ins(&document, Path::new(&local.config_dir), findings);
        fill(&mut document, line);
    }
    if has_files {
        apply_flags(line, &mut document, findings);
    }
    document
}

fn fill(document: &mut KubeletConfiguration, line: &CommandLine) {
    // Two defaults depend on gates. What is wrong with a gate is said later, once.
    let mut gated = document.feature_gates.clone();
    if let Some(flag) = line.get("feature-gates") {
        merge_gates(&mut gated, flag, &mut Findings::default());
    }
    let settings = gated.iter().map(|(name, value)| (name, *value));
    let gates = FeatureGates::from_settings(settings, &mut Findings::default());
    defaults::apply(document, &gates);
}

fn apply_flags(line: &CommandLine, document: &mut KubeletConfiguration, findings: &mut Findings) {
    for (flag, value) in &line.set {
        let Place::Document(field) = flag.place else { continue };
        if flag.kind == Kind::Gates {
            merge_gates(&mut document.feature_gates, value, findings);
            continue;
        }
        if flag.kind == Kind::Vmodule {
            // Unlike other lists, this one adds to what the document says.
            let added = List::decode(value, "--vmodule", findings).unwrap_or_default();
            document.logging.vmodule.0.get_or_insert_default().extend(added.0.unwrap_or_default());
            continue;
        }
        let path: Vec<&str> = field.split('.').collect();
        document.set(&path, value, &format!("--{}", flag.name), findings);
    }
}

/// Adds gates to those of a document; the added ones win.
fn merge_gates(gates: &mut Dict<bool>, flag: &Tree, findings: &mut Findings) {
    if let Some(Dict(Some(added))) = Dict::<bool>::decode(flag, "--feature-gates", findings) {
        gates.0.get_or_insert_default().extend(added);
    }
}

fn gates(document: &KubeletConfiguration, findings: &mut Findings) -> FeatureGates {
    let settings = document.feature_gates.iter().map(|(name, value)| (name, *value));
    FeatureGates::from_settings(settings, findings)
}

/// Reads the file given to `--config`. Relative paths in it are relative to its folder.
fn read_document(name: &str, findings: &mut Findings) -> KubeletConfiguration {
    let Some(tree) = read_tree(Path::new(name), findings) else { return KubeletConfiguration::default() };
    let mut document = decode(&tree, Some(name.to_owned()), findings);
    let folder = std::path::absolute(name).ok().and_then(|path| path.parent().map(Path::to_owned));
    if let Some(folder) = folder {
        resolve_paths(&mut document, &folder);
    }
    document
}

fn resolve_paths(document: &mut KubeletConfiguration, folder: &Path) {
    let paths = [
        Some(&mut document.static_pod_path),
        Some(&mut document.authentication.x509.client_ca_file),
        Some(&mut document.tls_cert_file),
        Some(&mut document.tls_private_key_file),
        document.resolv_conf.as_mut(),
        Some(&mut document.volume_plugin_dir),
        Some(&mut document.pod_logs_dir),
    ];
    for path in paths.into_iter().flatten() {
        if !path.is_empty() && !path.starts_with('/') {
            let mut joined = PathBuf::new();
            for part in folder.join(path.as_str()).components() {
                match part {
                    std::path::Component::CurDir => {}
                    std::path::Component::ParentDir => drop(joined.pop()),
                    part => joined.push(part),
                }
            }
            *path = joined.to_string_lossy().into_owned();
        }
    }
}

/// Reads a file and makes sure that it is a document of the right kind.
fn read_tree(path: &Path, findings: &mut Findings) -> Option<Tree> {
    findings.in_file(Some(path.display().to_string()));
    let tree = parse_file(path).and_then(check_kind);
    let tree = match tree {
        Ok(tree) => Some(tree),
        Err(finding) => {
            findings.push(finding);
            None
        }
    };
    findings.in_file(None);
    tree
}

fn parse_file(path: &Path) -> Result<Tree, Finding> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Finding::error("", format!("cannot read the kubelet configuration: {error}")))?;
    if text.is_empty() {
        return Err(Finding::error("", "the kubelet configuration is empty"));
    }
    Tree::parse(&text).map_err(|error| Finding::error("", format!("cannot parse it: {error}")))
}

fn check_kind(tree: Tree) -> Result<Tree, Finding> {
    let of = |key: &str| tree.get(key).and_then(Tree::text).unwrap_or_default().to_owned();
    let (version, kind) = (of("apiVersion"), of("kind"));
    if version == API_VERSION && kind == KIND {
        return Ok(tree);
    }
    let message = if version.is_empty() || kind.is_empty() {
        "apiVersion or kind is missing".to_owned()
    } else {
        format!("unknown apiVersion and kind {version:?}, {kind:?}")
    };
    let hint = format!("want apiVersion: {API_VERSION} and kind: {KIND}");
    Err(Finding::error("", message).hint(hint))
}

fn decode(tree: &Tree, file: Option<String>, findings: &mut Findings) -> KubeletConfiguration {
    findings.in_file(file);
    let document = KubeletConfiguration::decode(tree, "", findings).unwrap_or_default();
    findings.in_file(None);
    document
}

/// Merges every `*.conf` below a folder into a document, in the order of their paths.
fn merge_drop_ins(
    document: &KubeletConfiguration,
    folder: &Path,
    findings: &mut Findings,
) -> KubeletConfiguration {
    let mut merged = Tree::from(&document.encode());
    let mut files = Vec::new();
    if let Err(finding) = walk(folder, &mut files) {
        findings.push(finding);
    }
    for file in files {
        let Some(tree) = read_tree(&file, findings) else { continue };
        // Once by itself, so that findings name the file; the merged result has nothing to add.
        decode(&tree, Some(file.display().to_string()), findings);
        merged.merge(tree);
    }
    decode(&merged, None, &mut Findings::default())
}

/// The `*.conf` files below a folder, in the lexical order of a depth-first walk.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Finding> {
    let refused = |error: std::io::Error| {
        Finding::error("--config-dir", format!("cannot list the folder {}: {error}", folder.display()))
    };
    let mut entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(refused)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type().map_err(refused)?.is_dir() {
            walk(&entry.path(), files)?;
        } else if entry.file_name().as_encoded_bytes().ends_with(b".conf") {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
