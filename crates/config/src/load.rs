//! Where the configuration comes from, and who wins: flags over drop-ins over the file over
//! defaults, in upstream's order and with its peculiarities.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::codec::{Dict, List, Wire};
use crate::document::KubeletConfiguration;
use crate::finding::{Finding, Findings, Severity};
use crate::flags::{self, CommandLine, Deprecation, Kind, LocalFlags, Place};
use crate::gates::{self, FeatureGates};
use crate::origin::{Layer, Layers};
use crate::sections::Config;
use crate::tree::{MOST_BYTES, Tree, Value};
use crate::version;
use crate::{build, defaults, inspect, unsupported, validate};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// What the command line asked for.
#[derive(Debug)]
pub enum Invocation {
    /// Run a node with this configuration.
    Run(Box<Loaded>),
    /// Print this to standard output and leave with status 0.
    Print(String),
    /// Print this to standard output and leave with status 1: a configuration was looked at and
    /// found wanting.
    Faulty(String),
    /// Look at a kubeconfig, which is nothing this crate knows about.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Whether JSON is wanted.
        is_json: bool,
    },
}

/// A configuration to run with.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What the operator should know about it. Worth a line of the log each.
    pub warnings: Vec<Finding>,
    /// Every flag with the value it was given, or else its default.
    pub flags: BTreeMap<&'static str, String>,
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
    if let [word, rest @ ..] = arguments
        && word == "config"
    {
        return Ok(inspect::run(rest));
    }
    match read(arguments) {
        Reading::Print(text) => Ok(Invocation::Print(text)),
        Reading::Refused(findings) => Err(Refused { findings }),
        Reading::Accepted(accepted) => {
            let Accepted { config, warnings, line, .. } = *accepted;
            Ok(Invocation::Run(Box::new(Loaded { config, warnings, flags: line.in_effect() })))
        }
    }
}

/// What comes of a command line.
pub(crate) enum Reading {
    Print(String),
    Refused(Vec<Finding>),
    Accepted(Box<Accepted>),
}

/// A configuration together with what it was made of.
pub(crate) struct Accepted {
    pub(crate) config: Config,
    pub(crate) warnings: Vec<Finding>,
    pub(crate) line: CommandLine,
    pub(crate) layers: Layers,
}

/// Reads a command line and the files it names.
pub(crate) fn read(arguments: &[String]) -> Reading {
    let mut findings = Findings::default();
    let line = flags::parse(arguments, &mut findings);
    // A command line that cannot be read says nothing reliable about what else to read.
    if findings.has_errors() {
        return Reading::Refused(findings.into_list());
    }
    match print(&line) {
        Ok(Some(text)) => return Reading::Print(text),
        Ok(None) => {}
        Err(finding) => return Reading::Refused(vec![finding]),
    }
    warn_of_flags(&line, &mut findings);
    let local = local(&line, &mut findings);
    let mut layers = Layers::default();
    let document = document(&line, &local, &mut layers, &mut findings);
    let gates = gates_of(&document, &mut findings);
    validate::check(&document, &gates, &mut findings);
    unsupported::warn(&document, &mut findings);
    let config = build::build(document, &local, gates, &mut findings);
    let is_refused = findings.has_errors();
    let mut findings = findings.into_list();
    findings.iter_mut().for_each(|finding| layers.locate(finding, &line));
    if is_refused {
        return Reading::Refused(findings);
    }
    Reading::Accepted(Box::new(Accepted { config, warnings: findings, line, layers }))
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
    for flag in line.set.iter().map(|(flag, _)| *flag).chain(line.empty.iter().copied()) {
        let path = format!("--{}", flag.name);
        match (flag.deprecation, flag.place) {
            (Deprecation::SetInFile, Place::Document(field)) => {
                let message = "this flag is deprecated";
                findings.push(
                    Finding::warning(path, message)
                        .hint(format!("set {field} in the file given to --config instead")),
                );
            }
            (Deprecation::GoingAway, _) => {
                findings.push(Finding::warning(path, "this flag is deprecated and will be removed"));
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
        maximum_dead_containers_per_container: 1,
        maximum_dead_containers: -1,
        ..LocalFlags::default()
    };
    for (flag, value) in line.set.iter().filter(|(flag, _)| flag.place == Place::Local) {
        local.set(&[flag.name], value, &format!("--{}", flag.name), findings);
    }
    local
}

/// The document in effect.
fn document(
    line: &CommandLine,
    local: &LocalFlags,
    layers: &mut Layers,
    findings: &mut Findings,
) -> KubeletConfiguration {
    let has_files = !local.config.is_empty() || !local.config_dir.is_empty();
    let mut document = KubeletConfiguration::default();
    if local.config.is_empty() {
        // The defaults of a kubelet without a file are there before the flags are read.
        defaults::apply(&mut document, &FeatureGates::default());
        defaults::apply_legacy(&mut document);
        apply_flags(line, &mut document, findings);
    } else {
        document = read_document(&local.config, layers, findings);
        fill(&mut document, line, findings);
        defaults::apply_eviction(&mut document);
    }
    if !local.config_dir.is_empty() {
        document = merge_drop_ins(&document, Path::new(&local.config_dir), layers, findings);
        fill(&mut document, line, findings);
    }
    if has_files {
        apply_flags(line, &mut document, findings);
    }
    document
}

/// Fills in defaults. Two of them depend on gates, and while they are filled in, those of the files win over those of
/// the flags, as upstream has it. A gate that is wrong in the files is wrong even if a flag mends it.
fn fill(document: &mut KubeletConfiguration, line: &CommandLine, findings: &mut Findings) {
    let mut gated = Dict::default();
    if let Some(flag) = line.get("feature-gates") {
        merge_gates(&mut gated, flag, findings);
    }
    gated.0.get_or_insert_default().extend(document.feature_gates.0.clone().unwrap_or_default());
    let settings = gated.iter().map(|(name, value)| (name, *value));
    let gates = FeatureGates::from_settings(settings, findings);
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

fn gates_of(document: &KubeletConfiguration, findings: &mut Findings) -> FeatureGates {
    let settings = || document.feature_gates.iter().map(|(name, value)| (name, *value));
    gates::check_works(settings(), findings);
    FeatureGates::from_settings(settings(), findings)
}

/// Reads the file given to `--config`. Relative paths in it are relative to its folder.
fn read_document(name: &str, layers: &mut Layers, findings: &mut Findings) -> KubeletConfiguration {
    let Some(tree) = read_tree(Path::new(name), findings) else { return KubeletConfiguration::default() };
    let mut document = decode(&tree, Some(name.to_owned()), findings);
    layers.0.push(Layer { file: name.to_owned(), is_drop_in: false, tree });
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
    // Not more than what is worth parsing; an endless file must not fill the memory.
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_BYTES as u64 + 1).read_to_string(&mut text))
        .map_err(|error| Finding::error("", format!("cannot read the kubelet configuration: {error}")))?;
    if text.is_empty() {
        return Err(Finding::error("", "the kubelet configuration is empty"));
    }
    Tree::parse(&text).map_err(|reason| Finding::error("", format!("cannot parse it: {reason}")))
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
    let mut document = KubeletConfiguration::decode(tree, "", findings).unwrap_or_default();
    for (form, options) in
        [("text", &mut document.logging.options.text), ("json", &mut document.logging.options.json)]
    {
        // Upstream's v1.37 loses this field on its way from a file; only the flag has an effect.
        if std::mem::take(&mut options.split_stream) {
            let path = format!("logging.options.{form}.splitStream");
            let hint = format!("use --log-{form}-split-stream");
            findings
                .push(Finding::warning(path, "has no effect in a file, as in upstream's v1.37").hint(hint));
        }
    }
    findings.in_file(None);
    document
}

/// Merges every `*.conf` below a folder into a document, in the order of their paths.
fn merge_drop_ins(
    document: &KubeletConfiguration,
    folder: &Path,
    layers: &mut Layers,
    findings: &mut Findings,
) -> KubeletConfiguration {
    let mut merged = Tree::from(&document.encode());
    let mut single = Findings::folding_case();
    let mut files = Vec::new();
    if let Err(finding) = walk(folder, &mut files) {
        findings.push(finding);
    }
    if files.is_empty() && folder.is_symlink() {
        let message = "is a symbolic link, which is not followed: no drop-in is read, as upstream";
        findings.push(Finding::warning("--config-dir", message).hint("name the folder itself"));
    }
    for file in files {
        let Some(tree) = read_tree(&file, findings) else { continue };
        let file = file.display().to_string();
        if let Some((key, mark)) = tree.repeated() {
            let finding = Finding::error(key, "key is set twice, which a drop-in must not do").at(mark);
            findings.push(Finding { file: Some(file.clone()), ..finding });
        }
        // Once by itself, so that findings name the file.
        decode(&tree, Some(file.clone()), &mut single);
        merged.merge(tree.clone());
        layers.0.push(Layer { file, is_drop_in: true, tree });
    }
    let mut together = Findings::folding_case();
    let document = decode(&merged, None, &mut together);
    // As upstream, only what is left after merging has to be right.
    let is_right = !together.has_errors();
    for mut finding in single.into_list() {
        if is_right {
            finding.severity = Severity::Warning;
        }
        findings.push(finding);
    }
    document
}

/// The `*.conf` files below a folder, in the lexical order of a depth-first walk.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Finding> {
    let refused = |error: std::io::Error| {
        Finding::error("--config-dir", format!("cannot list the folder {}: {error}", folder.display()))
    };
    // As upstream: a file in place of the folder is the only one there is, and so is a symbolic link, whatever it leads
    // to.
    let is_folder = std::fs::symlink_metadata(folder).map_err(refused)?.is_dir();
    if !is_folder {
        if folder.as_os_str().as_encoded_bytes().ends_with(b".conf") {
            files.push(folder.to_owned());
        }
        return Ok(());
    }
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
mod hostile_tests;
#[cfg(test)]
mod tests;
