//! The lines of a segment. The first says what the core starts from, each other is one step of it.

use std::borrow::Cow;
use std::io::{self, Write};

use model::Now;
use node::{Effect, Input, Node, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cut::Cutter;
use crate::digest;

/// The form of these lines; another one is another number.
pub(crate) const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    /// See [`FORMAT`].
    pub(crate) recording: u32,
    /// Which build has decided what follows.
    pub(crate) kubelet: Cow<'a, str>,
    /// What the core starts from.
    pub(crate) start: Start,
}

/// What a core starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Start {
    /// The start of the process: nothing is known.
    Settings(Box<Settings>),
}

impl Start {
    /// The core.
    pub(crate) fn into_node(self) -> Node {
        match self {
            Self::Settings(settings) => Node::new(*settings),
        }
    }
}

/// Each other line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The time of the step.
    #[serde(flatten)]
    pub(crate) now: Now,
    /// What the core was told.
    pub(crate) input: Input,
    /// The hash of what it decided, empty for nothing; `None` when the step did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) effects: Option<String>,
}

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentWriter<W> {
    out: W,
    cutter: Cutter,
}

impl<W: Write> SegmentWriter<W> {
    /// Begins a segment.
    ///
    /// # Errors
    /// The first line cannot be written.
    pub fn begin(mut out: W, kubelet: &str, start: Start, cutter: Cutter) -> io::Result<Self> {
        let head = Head { recording: FORMAT, kubelet: kubelet.into(), start };
        write(&mut out, &cutter, &head)?;
        Ok(Self { out, cutter })
    }

    /// Writes one step; without effects when it did not come to its end.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn step(&mut self, now: Now, input: Input, effects: Option<&[Effect]>) -> io::Result<()> {
        let line = Line { now, input, effects: effects.map(digest::of).transpose()? };
        write(&mut self.out, &self.cutter, &line)
    }

    /// What was written to.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }
}

fn write(out: &mut impl Write, cutter: &Cutter, line: &impl Serialize) -> io::Result<()> {
    let mut document: Value = serde_json::to_value(line)?;
    cutter.cut(&mut document);
    serde_json::to_writer(&mut *out, &document)?;
    out.write_all(b"\n")
}
