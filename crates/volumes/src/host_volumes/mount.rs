//! mount(8), which knows more options than the kernel does.

use std::path::Path;
use std::time::Duration;

use host::mount;

use super::HostVolumeError;
use super::program;
use crate::error::SetUpError;

const MOUNT: &str = "mount";

/// Mounts something: `mount [-t TYPE] [-o OPTIONS] SOURCE TARGET`, in upstream's order. Within `limit`, if there
/// is one.
pub(super) async fn mount(
    source: &str,
    target: &Path,
    fs_type: Option<&str>,
    options: &[&str],
    limit: Option<Duration>,
) -> Result<(), HostVolumeError> {
    let (joined, target) = (options.join(","), target.to_string_lossy());
    let mut arguments = Vec::new();
    if let Some(fs_type) = fs_type {
        arguments.extend(["-t", fs_type]);
    }
    if !options.is_empty() {
        arguments.extend(["-o", &joined]);
    }
    arguments.extend([source, &target]);
    let answer = match limit {
        Some(limit) => program::run_within(limit, MOUNT, &arguments).await,
        None => program::run(MOUNT, &arguments).await,
    };
    let answer = answer.map_err(|source| HostVolumeError::of_program(MOUNT, source))?;
    if answer.status.success() {
        return Ok(());
    }
    let ending = answer.ending();
    Err(HostVolumeError::Mount { ending, arguments: arguments.join(" "), said: answer.said })
}

/// Makes a folder appear at `target` too, with options of its own.
pub(super) async fn bind(source: &str, target: &Path, options: &[&str]) -> Result<(), HostVolumeError> {
    mount(source, target, None, &["bind"], None).await?;
    remount(source, target, options).await
}

/// Gives a bind mount its options, beside those that its source is mounted with: a remount replaces all of them.
pub(super) async fn remount(source: &str, target: &Path, options: &[&str]) -> Result<(), HostVolumeError> {
    let kept = mount::options_of(Path::new(source)).map_err(SetUpError::from)?;
    let all: Vec<&str> = ["bind", "remount"].into_iter().chain(options.iter().copied()).chain(kept).collect();
    mount(source, target, None, &all, None).await
}
