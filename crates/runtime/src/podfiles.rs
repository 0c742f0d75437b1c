//! Files this node keeps for a pod's containers: hosts file, termination messages, log folders
//! and the links to logs that collectors read. Everything here blocks on the disk.

use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostAlias;
use model::mount::{ContainerMount, MountPropagation};
use model::{ContainerId, Pod, PodKey, PodUid, pod};

use crate::hostname::PodHostname;

/// Where containers find their hosts file.
pub const ETC_HOSTS: &str = "/etc/hosts";
/// Longest file name on Linux file systems.
const MAX_FILE_NAME: usize = 255;

/// Which file could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct PodFileError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// `<log root>/<namespace>_<name>_<uid>`.
pub fn pod_log_dir(log_root: &Path, key: &PodKey, uid: &PodUid) -> PathBuf {
    log_root.join(format!("{}_{}_{uid}", key.namespace, key.name))
}

/// `<container>/<restart count>.log`, below the pod's log folder.
pub fn container_log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// Makes the log folder of a container, and the pod's, mode 0755.
///
/// # Errors
/// When it cannot be made.
pub fn create_container_log_dir(pod_log_dir: &Path, container: &str) -> Result<(), PodFileError> {
    let path = pod_log_dir.join(container);
    create_dir(&path, 0o755)
}

/// The restart count that follows the logs found in a container's log folder: a runtime that
/// forgot its containers (a reboot may do that) must not overwrite them. Zero without logs.
pub fn next_attempt(pod_log_dir: &Path, container: &str) -> u32 {
    let Ok(entries) = fs::read_dir(pod_log_dir.join(container)) else { return 0 };
    let number = |name: &str| name.split_once(".log").and_then(|(number, _)| number.parse::<u32>().ok());
    entries
        .flatten()
        .filter_map(|entry| number(entry.file_name().to_str()?))
        .max()
        .map_or(0, |last| last.saturating_add(1))
}

/// Removes a pod's log folder with everything in it. Fine when there is none.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_pod_log_dir(pod_log_dir: &Path) -> Result<(), PodFileError> {
    absent_is_fine(fs::remove_dir_all(pod_log_dir)).map_err(failed("remove log folder", pod_log_dir))
}

/// `<pod>_<namespace>_<container>-<id>.log`, cut so that it is a file name.
pub fn log_link_name(key: &PodKey, container: &str, id: &ContainerId) -> String {
    let mut name = format!("{}_{}_{container}-{id}", key.name, key.namespace);
    // All parts are ASCII in a valid pod; the loop is for those that are not.
    let mut end = name.len().min(MAX_FILE_NAME - ".log".len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name.push_str(".log");
    name
}

/// Links a container's log where collectors look (`/var/log/containers`). Does nothing when
/// there is no log: the runtime may send it elsewhere.
///
/// # Errors
/// When the link cannot be made.
pub fn link_log(link_dir: &Path, name: &str, log: &Path) -> Result<(), PodFileError> {
    if !log.exists() {
        return Ok(());
    }
    let link = link_dir.join(name);
    match std::os::unix::fs::symlink(log, &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(failed("link log", &link)),
    }
}

/// Makes a fresh file for a container's termination message, which the container may write
/// whoever it runs as: `<pod dir>/containers/<container>/<8 hex digits>`.
///
/// # Errors
/// When it cannot be made.
pub fn create_termination_file(pod_dir: &Path, container: &str) -> Result<PathBuf, PodFileError> {
    let dir = pod_dir.join("containers").join(container);
    create_dir(&dir, 0o750)?;
    loop {
        // A random name, without a random number crate: the standard library seeds its maps so.
        let random = RandomState::new().hash_one(0_u8) & 0xffff_ffff;
        let path = dir.join(format!("{random:08x}"));
        match File::options().write(true).create_new(true).mode(0o666).open(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(failed("create termination message file", &path)(error)),
        }
        // Whatever the umask made of it.
        fs::set_permissions(&path, Permissions::from_mode(0o666))
            .map_err(failed("open termination message file", &path))?;
        return Ok(path);
    }
}

/// Whether a container gets the pod's hosts file: once the pod has an address or the host's
/// network, and unless the container mounts one itself.
pub fn wants_hosts_file(pod: &Pod, mounts: &[ContainerMount], pod_ips: &[String]) -> bool {
    (pod::is_host_network(pod) || !pod_ips.is_empty())
        && !mounts.iter().any(|mount| mount.container_path == ETC_HOSTS)
}

/// Writes the pod's hosts file and describes its mount. `node_hosts` is the node's own
/// `/etc/hosts`, read for pods in the host's network.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write_hosts_file(
    pod_dir: &Path,
    pod: &Pod,
    hostname: &PodHostname,
    pod_ips: &[String],
    node_hosts: &Path,
) -> Result<ContainerMount, PodFileError> {
    let aliases = pod.spec.as_ref().and_then(|s| s.host_aliases.as_deref()).unwrap_or_default();
    let content = if pod::is_host_network(pod) {
        let node = fs::read(node_hosts).map_err(failed("read hosts file", node_hosts))?;
        node_hosts_content(&node, aliases)
    } else {
        pod_hosts_content(pod_ips, hostname, aliases).into_bytes()
    };
    let path = pod_dir.join("etc-hosts");
    // In place: a running container has this very file mounted.
    fs::write(&path, content).map_err(failed("write hosts file", &path))?;
    fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(failed("open hosts file", &path))?;
    Ok(ContainerMount {
        host_path: path,
        image: None,
        container_path: ETC_HOSTS.to_owned(),
        is_read_only: false,
        is_recursive_read_only: false,
        is_relabelled: true,
        bind_options: Vec::new(),
        propagation: MountPropagation::Private,
    })
}

fn node_hosts_content(node: &[u8], aliases: &[HostAlias]) -> Vec<u8> {
    let mut content = b"# Kubernetes-managed hosts file (host network).\n".to_vec();
    content.extend_from_slice(node);
    content.extend_from_slice(alias_lines(aliases).as_bytes());
    content
}

fn pod_hosts_content(pod_ips: &[String], hostname: &PodHostname, aliases: &[HostAlias]) -> String {
    let mut content = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    let PodHostname { name, domain } = hostname;
    for ip in pod_ips {
        content.push_str(&if domain.is_empty() {
            format!("{ip}\t{name}\n")
        } else {
            format!("{ip}\t{name}.{domain}\t{name}\n")
        });
    }
    content + &alias_lines(aliases)
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut lines = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        lines.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    lines
}

fn create_dir(path: &Path, mode: u32) -> Result<(), PodFileError> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("create folder", path))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PodFileError + 'a {
    move |source| PodFileError { operation, path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "podfiles_tests.rs"]
mod tests;
