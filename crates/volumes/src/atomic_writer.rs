//! Writing a volume of files so that a container sees either all of the old content or all of
//! the new: files lie in a time-stamped folder, `..data` links to it, and each visible name links
//! through `..data`. An update makes a new folder and renames one link.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use host::beneath::{BeneathError, Links, Root};
use jiff::Timestamp;

use crate::payload::Payload;

const DATA: &str = "..data";
const NEXT_DATA: &str = "..data_tmp";
/// Readable for every user; the files have their own modes.
const FOLDER_MODE: u32 = 0o755;

/// Brings the volume to the payload. `own` is run on the volume after files were written and
/// before they are seen. Returns whether anything was written.
pub(crate) fn write(
    volume: &Root,
    payload: &Payload,
    now: Timestamp,
    own: impl Fn(&Root) -> Result<(), BeneathError>,
) -> Result<bool, BeneathError> {
    let current = current_folder(volume);
    let is_current = current.as_ref().is_some_and(|folder| is_same(volume, folder, payload));
    if !is_current {
        publish(volume, payload, now, own)?;
    }
    link_visible_names(volume, payload)?;
    sweep(volume)?;
    Ok(!is_current)
}

/// The folder `..data` links to, if it is one this writer could have made.
fn current_folder(volume: &Root) -> Option<PathBuf> {
    let target = volume.read_link(Path::new(DATA))?;
    is_stamped(&target).then_some(target)
}

fn is_stamped(name: &Path) -> bool {
    let is_plain = name.components().count() == 1;
    is_plain
        && name.to_str().is_some_and(|n| {
            n.strip_prefix("..").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
        })
}

/// Whether the folder holds exactly the payload's files with their contents.
fn is_same(volume: &Root, folder: &Path, payload: &Payload) -> bool {
    let Ok(folder) = volume.open_dir(folder, Links::Refuse) else { return false };
    let mut on_disk = BTreeSet::new();
    if list_files(&folder, Path::new(""), &mut on_disk).is_err() {
        return false;
    }
    on_disk.iter().eq(payload.files().keys())
        && payload
            .files()
            .iter()
            .all(|(path, file)| folder.read(path, Links::Refuse).is_ok_and(|content| content == file.data))
}

fn list_files(folder: &Root, prefix: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), BeneathError> {
    for name in folder.names()? {
        let path = prefix.join(&name);
        match folder.open_dir(&name, Links::Refuse) {
            Ok(inner) => list_files(&inner, &path, found)?,
            Err(_) => drop(found.insert(path)),
        }
    }
    Ok(())
}

fn publish(
    volume: &Root,
    payload: &Payload,
    now: Timestamp,
    own: impl Fn(&Root) -> Result<(), BeneathError>,
) -> Result<(), BeneathError> {
    let stamp = unused_stamp(volume, now);
    let written = write_files(volume, &stamp, payload).and_then(|()| own(volume)).and_then(|()| {
        // Either may be left over, from a crash or from damage; a link is renamed over a link only.
        volume.remove_all(Path::new(NEXT_DATA))?;
        if volume.read_link(Path::new(DATA)).is_none() {
            volume.remove_all(Path::new(DATA))?;
        }
        volume.symlink(&stamp, Path::new(NEXT_DATA))?;
        volume.rename(Path::new(NEXT_DATA), Path::new(DATA))
    });
    if written.is_err() {
        // The error that matters is the first; a folder left over is swept after the next success.
        let _ = volume.remove_all(&stamp);
    }
    written
}

fn write_files(volume: &Root, stamp: &Path, payload: &Payload) -> Result<(), BeneathError> {
    let folder = volume.make_dirs(stamp, FOLDER_MODE)?;
    for (path, content) in payload.files() {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            folder.make_dirs(parent, FOLDER_MODE)?;
        }
        let file = folder.create_file(path, &content.data, content.mode)?;
        if let Some(owner) = content.owner {
            std::os::unix::fs::fchown(&file, Some(owner), None).map_err(|source| BeneathError {
                operation: "change owner of",
                path: folder.path().join(path),
                source,
            })?;
        }
    }
    Ok(())
}

fn unused_stamp(volume: &Root, now: Timestamp) -> PathBuf {
    let seconds = now.strftime("..%Y_%m_%d_%H_%M_%S");
    let first = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    // At most as many names are taken as there are folders, so one is free.
    let candidates = (0..=u32::MAX).map(|n| PathBuf::from(format!("{seconds}.{}", first.wrapping_add(n))));
    let mut free = candidates.filter(|name| volume.stat(name).is_err_and(|e| e.is_not_found()));
    free.next().unwrap_or_else(|| PathBuf::from(format!("{seconds}.{first}")))
}

fn link_visible_names(volume: &Root, payload: &Payload) -> Result<(), BeneathError> {
    for name in payload.top_names() {
        let target = Path::new(DATA).join(name);
        match volume.read_link(name) {
            Some(existing) if existing == target => {}
            Some(_) => {
                volume.remove_all(name)?;
                volume.symlink(&target, name)?;
            }
            // Something else of that name is a mount point for another volume; it stays.
            None if volume.stat(name).is_ok() => {}
            None => volume.symlink(&target, name)?,
        }
    }
    Ok(())
}

/// Removes links to files that are no longer there, and folders that are no longer current.
fn sweep(volume: &Root) -> Result<(), BeneathError> {
    let current = current_folder(volume);
    for name in volume.names()? {
        let is_dead_link = || {
            let target = volume.read_link(&name)?;
            let inner = target.strip_prefix(DATA).ok()?;
            let folder = volume.open_dir(current.as_ref()?, Links::Refuse).ok()?;
            Some(folder.open_handle(inner, Links::Refuse).is_err_and(|e| e.is_not_found()))
        };
        let is_old_folder = is_stamped(&name) && Some(&name) != current.as_ref();
        if is_old_folder || is_dead_link().unwrap_or(false) {
            volume.remove_all(&name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
