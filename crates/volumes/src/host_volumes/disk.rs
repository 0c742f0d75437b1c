//! A disk: what is on it, a file system for one that has none, its repair, and its mount.

use std::path::Path;

use tracing::{info, warn};

use super::HostVolumeError;
use super::mount::mount;
use super::program::{self, Answer};

/// blkid(8) found nothing that it knows.
const NOTHING_FOUND: i32 = 2;
/// fsck(8) has repaired what was wrong.
const CORRECTED: i32 = 1;
/// fsck(8) has left something that is wrong.
const UNCORRECTED: i32 = 4;

/// Mounts a disk, after a file system was made on it if it has none at all, or after its own was repaired.
pub(super) async fn format_and_mount(
    device: &str,
    target: &Path,
    fs_type: &str,
    options: &[String],
) -> Result<(), HostVolumeError> {
    let fs_type = if fs_type.is_empty() { "ext4" } else { fs_type };
    if fs_type.contains('/') {
        return Err(HostVolumeError::FileSystem { fs_type: fs_type.to_owned() });
    }
    let is_read_only = options.iter().any(|option| option == "ro");
    match format(device).await? {
        None if is_read_only => return Err(HostVolumeError::Unformatted { device: device.to_owned() }),
        None => make_file_system(device, fs_type).await?,
        Some(format) => {
            if format != fs_type {
                warn!(
                    device,
                    fsType = fs_type,
                    format,
                    "Configured to mount disk with another file system than it has, things might break"
                );
            }
            if !is_read_only {
                repair(device).await?;
            }
        }
    }
    let options: Vec<&str> = options.iter().map(String::as_str).chain(["defaults"]).collect();
    mount(device, target, Some(fs_type), &options, None).await
}

async fn run(program: &str, arguments: &[&str]) -> Result<Answer, HostVolumeError> {
    let answer = program::run(program, arguments).await;
    answer.map_err(|source| HostVolumeError::Start { program: program.to_owned(), source })
}

/// What is on a disk; `None` for nothing that is known.
async fn format(device: &str) -> Result<Option<String>, HostVolumeError> {
    let unknown = |why: String| HostVolumeError::Format { device: device.to_owned(), why };
    let arguments = ["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device];
    let answer = run("blkid", &arguments).await?;
    if answer.status.code() == Some(NOTHING_FOUND) {
        return Ok(None);
    }
    if !answer.status.success() {
        return Err(unknown(answer.ending()));
    }
    let mut found = None;
    for line in answer.said.lines().filter(|line| !line.is_empty()) {
        match line.split_once('=') {
            Some(("PTTYPE", _)) => return Ok(Some("unknown data, probably partitions".to_owned())),
            Some(("TYPE", format)) => found = Some(format.to_owned()),
            Some(_) => {}
            None => return Err(unknown(format!("blkid returns invalid output: {}", answer.said))),
        }
    }
    Ok(found)
}

async fn make_file_system(device: &str, fs_type: &str) -> Result<(), HostVolumeError> {
    let arguments: &[&str] = match fs_type {
        // By force, as it may be no partition; nothing is kept for root.
        "ext3" | "ext4" => &["-F", "-m0", device],
        "xfs" => &["-f", device],
        _ => &[device],
    };
    info!(device, fsType = fs_type, "Disk appears to be unformatted, attempting to format");
    let answer = run(&format!("mkfs.{fs_type}"), arguments).await?;
    if answer.status.success() {
        return Ok(());
    }
    let ending = answer.ending();
    let (device, fs_type) = (device.to_owned(), fs_type.to_owned());
    Err(HostVolumeError::Make { device, fs_type, ending, said: answer.said })
}

/// Repairs what can be repaired without a question. That there is no fsck(8) for it is no matter.
async fn repair(device: &str) -> Result<(), HostVolumeError> {
    let answer = match program::run("fsck", &["-a", device]).await {
        Ok(answer) => answer,
        Err(error) => {
            warn!(device, err = %error, "Failed to run fsck, continuing to mount without it");
            return Ok(());
        }
    };
    match answer.status.code() {
        Some(0) => {}
        Some(CORRECTED) => info!(device, "Device has errors which were corrected by fsck"),
        Some(UNCORRECTED) => {
            return Err(HostVolumeError::Damaged { device: device.to_owned(), said: answer.said });
        }
        _ => warn!(device, err = answer.ending(), output = answer.said, "Failed to check device with fsck"),
    }
    Ok(())
}
