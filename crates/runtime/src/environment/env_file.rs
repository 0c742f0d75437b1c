//! Variables that a container left in a file for the next one (`fileKeyRef`, KEP-5307): lines of
//! the form `NAME='value'`, as a shell reads them, where a value may span lines.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Most that is read of a file; environments are limited to about as much.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a file gave no variable.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("read environment file {path} in {}", volume.display())]
    Read {
        /// The volume's folder.
        volume: PathBuf,
        /// The path in it.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not in the format. The line is not shown, as it may hold a secret.
    #[error("couldn't parse env file")]
    Format(#[source] EnvFileFormatError),
}

/// Where a file breaks the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EnvFileFormatError {
    line: usize,
    problem: &'static str,
}

/// The value of `key` in a file of a volume; `None` when it is absent or empty. The container
/// wrote the file and its folder, so nothing outside the volume is opened. Blocks on the disk.
///
/// # Errors
/// When the file cannot be read, or breaks the format before the key is found.
pub fn read(volume: &Path, path: &str, key: &str) -> Result<Option<String>, EnvFileError> {
    let text = contents(volume, path).map_err(|source| EnvFileError::Read {
        volume: volume.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    parse(&text, key).map_err(EnvFileError::Format)
}

fn contents(volume: &Path, path: &str) -> io::Result<String> {
    let folder = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // `IN_ROOT` makes absolute links point into the volume, where the container made them.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(&folder, path, flags, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str, key: &str) -> Result<Option<String>, EnvFileFormatError> {
    let mut rest = text;
    let mut line = 0;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        line += 1;
        let failed = |problem| EnvFileFormatError { line, problem };
        let trimmed = first.trim_end_matches('\r').trim_start_matches([' ', '\t']);
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after;
            continue;
        }
        let (name, value) = trimmed.split_once('=').ok_or_else(|| failed("no '='"))?;
        if name.is_empty() {
            return Err(failed("no name before '='"));
        }
        if name.ends_with([' ', '\t']) {
            return Err(failed("white space before '='"));
        }
        if value.starts_with([' ', '\t']) {
            // To a shell the value is empty and a command follows.
            if name == key {
                return Ok(None);
            }
            rest = after;
            continue;
        }
        if !value.starts_with('\'') {
            return Err(failed("the value is not in single quotes"));
        }
        // The value may reach into later lines, so it is looked for in the whole remainder.
        let opening = first.len() - first.trim_start_matches([' ', '\t']).len() + name.len() + 2;
        let quoted = &rest[opening..];
        let end = quoted.find('\'').ok_or_else(|| failed("the single quote is not closed"))?;
        let (tail, after) = quoted[end + 1..].split_once('\n').unwrap_or((&quoted[end + 1..], ""));
        line += quoted[..end].matches('\n').count();
        let tail = tail.trim();
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(EnvFileFormatError { line, problem: "something follows the closing quote" });
        }
        if name == key {
            let value = quoted[..end].replace("\r\n", "\n");
            return Ok(Some(value).filter(|value| !value.is_empty()));
        }
        rest = after;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_as_upstream_does() {
        for (text, expect) in [
            ("", Ok(None)),
            ("K='v'", Ok(Some("v"))),
            ("# c\n\n \tK='v' # comment\n", Ok(Some("v"))),
            ("A='1'\nK='two\nlines'\n", Ok(Some("two\nlines"))),
            ("A='x\nK='\nK='v'", Ok(Some("v"))),
            ("K='$(x) \\n \"'", Ok(Some("$(x) \\n \""))),
            ("K='1'\nK='2'", Ok(Some("1"))),
            ("K=''", Ok(None)),
            ("K= 'v'", Ok(None)),
            ("A= 'v'\nK='v'", Ok(Some("v"))),
            ("K='v'\nnonsense", Ok(Some("v"))),
            ("nonsense\nK='v'", Err(1)),
            ("\n='v'", Err(2)),
            ("K ='v'", Err(1)),
            ("K=v", Err(1)),
            ("K=\"v\"", Err(1)),
            ("A=\nK='v'", Err(1)),
            ("K='v", Err(1)),
            ("K='v'x", Err(1)),
            ("A='\n'x\n", Err(2)),
        ] {
            let found = parse(text, "K");
            let found = found.as_ref().map(Option::as_deref).map_err(|e| e.line);
            assert_eq!(found, expect, "{text:?}");
        }
    }

    #[test]
    fn stays_in_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(dir.path().join("outside"), "K='secret'").unwrap();
        std::fs::write(volume.join("inside"), "K='v'").unwrap();
        std::os::unix::fs::symlink("../outside", volume.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), volume.join("absolute")).unwrap();
        assert_eq!(read(&volume, "inside", "K").unwrap().as_deref(), Some("v"));
        for path in ["../outside", "link", "absolute", "absent", "."] {
            assert!(matches!(read(&volume, path, "K"), Err(EnvFileError::Read { .. })), "{path}");
        }
    }
}
