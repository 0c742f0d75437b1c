//! The files: `<root>/image_manager/pulling` and `pulled`, each named by a digest of what it is about. All of this
//! blocks.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use host::atomic;
use tracing::error;

use super::document::{DocumentError, Read, Record, decode_intent, encode_intent, file_name, is_record};

/// A record that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct RecordError {
    operation: &'static str,
    path: PathBuf,
    source: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Write(#[from] atomic::WriteError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Encode(#[from] serde_json::Error),
}

impl RecordError {
    /// The process ends before it could be written.
    pub(super) fn interrupted() -> Self {
        failed("write", Path::new("a record"))(io::Error::from(io::ErrorKind::Interrupted))
    }
}

/// Everything of a kind that could be read.
pub(super) struct Listed<T> {
    pub(super) found: Vec<T>,
    /// Whether that is everything there is.
    pub(super) is_all: bool,
}

/// Both folders.
#[derive(Debug)]
pub(super) struct Disk {
    pulling: PathBuf,
    pulled: PathBuf,
}

impl Disk {
    /// Makes the folders.
    pub(super) fn new(root: &Path) -> Result<Self, RecordError> {
        let folder = |name: &str| root.join("image_manager").join(name);
        let disk = Self { pulling: folder("pulling"), pulled: folder("pulled") };
        for folder in [&disk.pulling, &disk.pulled] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(failed("make folder", folder))?;
        }
        Ok(disk)
    }

    /// The images that are being pulled.
    pub(super) fn intents(&self) -> Listed<String> {
        list(&self.pulling, decode_intent, |image| self.write_intent(image))
    }

    /// Whether there is a note that the image is being pulled.
    pub(super) fn has_intent(&self, image: &str) -> Result<bool, RecordError> {
        let found = read(&self.pulling.join(file_name(image)), decode_intent)?;
        Ok(found.is_some_and(|of| of == image))
    }

    pub(super) fn write_intent(&self, image: &str) -> Result<(), RecordError> {
        write(&self.pulling.join(file_name(image)), encode_intent(image))
    }

    pub(super) fn delete_intent(&self, image: &str) -> Result<(), RecordError> {
        delete(&self.pulling.join(file_name(image)))
    }

    pub(super) fn delete_record(&self, image_ref: &str) -> Result<(), RecordError> {
        delete(&self.pulled.join(file_name(image_ref)))
    }

    pub(super) fn records(&self) -> Listed<Record> {
        list(&self.pulled, Record::decode, |record| self.write_record(record))
    }

    pub(super) fn record(&self, image_ref: &str) -> Result<Option<Record>, RecordError> {
        let found = read(&self.pulled.join(file_name(image_ref)), Record::decode)?;
        Ok(found.filter(|record| record.image_ref == image_ref))
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), RecordError> {
        write(&self.pulled.join(file_name(&record.image_ref)), record.encode())
    }

    /// How many files there are of pulls under way, and of images pulled.
    pub(super) fn counts(&self) -> io::Result<(usize, usize)> {
        Ok((names(&self.pulling)?.len(), names(&self.pulled)?.len()))
    }
}

/// Reads all files of a folder and rewrites those in the form of former versions. What cannot be read stays where it
/// is, as with upstream: it is replaced when its image is pulled again.
fn list<T>(
    folder: &Path,
    decode: impl Fn(&[u8]) -> Result<Read<T>, DocumentError>,
    rewrite: impl Fn(&T) -> Result<(), RecordError>,
) -> Listed<T> {
    let mut listed = Listed { found: Vec::new(), is_all: true };
    let names = match names(folder) {
        Ok(names) => names,
        Err(error) => {
            error!(path = %folder.display(), err = &error as &dyn std::error::Error, "Failed to list image pull records");
            return Listed { is_all: false, ..listed };
        }
    };
    for name in names {
        let path = folder.join(name);
        let read = fs::read(&path)
            .map_err(failed("read", &path))
            .and_then(|text| decode(&text).map_err(failed("read", &path)));
        match read {
            Ok(read) => {
                let rewritten = if read.is_current { Ok(()) } else { rewrite(&read.content) };
                if let Err(error) = rewritten {
                    error!(err = &error as &dyn std::error::Error, "Failed to migrate image pull record");
                }
                listed.found.push(read.content);
            }
            Err(error) => {
                error!(err = &error as &dyn std::error::Error, "Failed to read image pull record");
                listed.is_all = false;
            }
        }
    }
    listed
}

fn read<T>(
    path: &Path,
    decode: impl Fn(&[u8]) -> Result<Read<T>, DocumentError>,
) -> Result<Option<T>, RecordError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(decode(&text).map_err(failed("read", path))?.content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn write(path: &Path, document: Result<String, serde_json::Error>) -> Result<(), RecordError> {
    let document = document.map_err(failed("encode", path))?;
    atomic::write(path, document.as_bytes(), 0o600).map_err(failed("replace", path))
}

fn delete(path: &Path) -> Result<(), RecordError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", path)(error)),
        _ => Ok(()),
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().filter(|name| is_record(name))
            && !entry.file_type()?.is_dir()
        {
            names.push(name.to_owned());
        }
    }
    // In a defined order, whatever the file system's.
    names.sort();
    Ok(names)
}

fn failed<E: Into<Cause>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError { operation, path, source: source.into() }
}
