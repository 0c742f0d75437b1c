//! The lines of a segment. The first says what the core starts from, each other is one step of it.

use std::borrow::Cow;
use std::io::{self, Write};

use model::Now;
use model::json::to_tree;
use node::{Effect, Input, Node, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cut::Cutter;
use crate::digest;

/// The form of these lines; another one is another number.
pub(crate) const FORMAT: u32 = 8;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a, S> {
    /// See [`FORMAT`].
    pub(crate) recording: u32,
    /// Which build has decided what follows.
    pub(crate) kubelet: Cow<'a, str>,
    /// What the core starts from.
    pub(crate) start: S,
}

/// What a core starts from, to be written down.
#[derive(Clone, Debug)]
pub struct Snapshot(Value);

impl Snapshot {
    /// The start of the process: nothing is known.
    ///
    /// # Errors
    /// The settings cannot be put in words.
    pub fn of_settings(settings: &Settings) -> serde_json::Result<Self> {
        Ok(Self(json!({ "settings": to_tree(settings)? })))
    }

    /// All that the core knows now.
    ///
    /// # Errors
    /// It cannot be put in words.
    pub fn of_node(node: &Node) -> serde_json::Result<Self> {
        Ok(Self(json!({ "node": to_tree(node)? })))
    }
}

/// The same, read again.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Start {
    Settings(Box<Settings>),
    Node(Box<Node>),
}

impl Start {
    /// The core.
    pub(crate) fn into_node(self) -> Node {
        match self {
            Self::Settings(settings) => Node::new(*settings),
            Self::Node(node) => node.awoken(),
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
    pub fn begin(mut out: W, kubelet: &str, snapshot: Snapshot, cutter: Cutter) -> io::Result<Self> {
        let head = Head { recording: FORMAT, kubelet: kubelet.into(), start: snapshot.0 };
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

    /// What is written to.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }
}

fn write(out: &mut impl Write, cutter: &Cutter, line: &impl Serialize) -> io::Result<()> {
    let mut document = to_tree(line)?;
    cutter.cut(&mut document);
    serde_json::to_writer(&mut *out, &document)?;
    out.write_all(b"\n")
}
