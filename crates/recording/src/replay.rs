//! Steps a core through what was recorded.

use std::io::{self, BufRead, Split};

use model::Now;
use node::{Effect, Input, Node};

use crate::digest;
use crate::line::{FORMAT, Head, Line, Start};

/// A recording that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("read the recording")]
    Read(#[source] io::Error),
    /// There is nothing in it.
    #[error("the recording is empty")]
    Empty,
    /// It was made by a build that writes otherwise.
    #[error("the recording is of format {found}, and this kubelet reads {FORMAT}")]
    Format {
        /// What it says.
        found: u32,
    },
    /// A line is none of a recording.
    #[error("line {line} is none of a recording")]
    Line {
        /// Which; the first is 1.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// Effects cannot be compared.
    #[error("hash the effects of line {line}")]
    Digest {
        /// Of which.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
}

/// A core, and what it was told from then on.
#[derive(Debug)]
pub struct Replay<R> {
    node: Node,
    kubelet: String,
    lines: Split<R>,
    at: u64,
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Its line; the first is 1.
    pub line: u64,
    /// Its time.
    pub now: Now,
    /// What the core was told.
    pub input: Input,
    /// What it decided now.
    pub effects: Vec<Effect>,
    /// Whether that is what it decided then, as far as it came.
    pub is_same: bool,
}

impl<R: BufRead> Replay<R> {
    /// Reads what the core starts from.
    ///
    /// # Errors
    /// It is no recording, or one of another format.
    pub fn open(reader: R) -> Result<Self, ReplayError> {
        // As bytes, since a parser of text is the code of all types once more.
        let mut lines = reader.split(b'\n');
        let first = lines.next().ok_or(ReplayError::Empty)?.map_err(ReplayError::Read)?;
        let of_first = |source| ReplayError::Line { line: 1, source };
        let Form { recording } = serde_json::from_slice(&first).map_err(of_first)?;
        if recording != FORMAT {
            return Err(ReplayError::Format { found: recording });
        }
        let head: Head<'_, Start> = serde_json::from_slice(&first).map_err(of_first)?;
        let kubelet = head.kubelet.into_owned();
        Ok(Self { node: head.start.into_node(), kubelet, lines, at: 1 })
    }

    /// Which build has made the recording.
    pub fn kubelet(&self) -> &str {
        &self.kubelet
    }

    /// The core as it is now.
    pub fn node(&mut self) -> &mut Node {
        &mut self.node
    }

    /// Takes one step; `None` at the end. What was not written to its end is the end, too.
    ///
    /// # Errors
    /// The recording cannot be read on.
    pub fn step(&mut self) -> Result<Option<Step>, ReplayError> {
        let Some(text) = self.lines.next() else { return Ok(None) };
        let text = text.map_err(ReplayError::Read)?;
        self.at += 1;
        let line = self.at;
        let Line { now, input, effects: recorded } = match serde_json::from_slice(&text) {
            Ok(read) => read,
            Err(error) if error.is_eof() => return Ok(None),
            Err(source) => return Err(ReplayError::Line { line, source }),
        };
        let effects = self.node.step(now, input.clone());
        let hash = digest::of(&effects).map_err(|source| ReplayError::Digest { line, source })?;
        Ok(Some(Step {
            line,
            now,
            input,
            effects,
            is_same: recorded.is_none_or(|recorded| recorded == hash),
        }))
    }
}

/// What every format has.
#[derive(serde::Deserialize)]
struct Form {
    recording: u32,
}
