//! What reading a configuration has to say about it. Reading never stops at the first mistake:
//! it collects one [`Finding`] for each, so that an operator can mend them all at once.

use std::fmt;

use crate::tree::Mark;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The kubelet starts, but does not do everything the configuration asks for.
    Warning,
    /// The kubelet does not start.
    Error,
}

/// One thing to say about one place of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the kubelet starts regardless.
    pub severity: Severity,
    /// The place: a field such as `evictionHard[memory.available]`, a flag such as `--port`, or
    /// empty for a document as a whole.
    pub path: String,
    /// The file it was read from, if it was.
    pub file: Option<String>,
    /// The line in that file, from 1, if it is known.
    pub line: Option<u32>,
    /// The column in that line, from 1, if it is known.
    pub column: Option<u32>,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// What to do about it, if that is not obvious.
    pub hint: Option<String>,
}

impl Finding {
    /// A mistake that keeps the kubelet from starting.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.into(),
            file: None,
            line: None,
            column: None,
            message: message.into(),
            hint: None,
        }
    }

    /// Something the operator should know, but which does not keep the kubelet from starting.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the place in the file it was found at.
    #[must_use]
    pub(crate) fn at(mut self, mark: Mark) -> Self {
        self.line = (mark.line != 0).then_some(mark.line);
        self.column = (mark.column != 0).then_some(mark.column);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            if let Some(column) = self.column {
                write!(f, "{column}:")?;
            }
            write!(f, " ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Findings that are kept.
const MOST_FINDINGS: usize = 1000;

/// The findings made so far, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    file: Option<String>,
    folds_case: bool,
}

impl Findings {
    /// Whether there are so many that one more need not be helpful.
    pub(crate) fn are_many(&self) -> bool {
        self.list.len() > MOST_FINDINGS / 10
    }

    /// For a document whose keys count whatever their case.
    pub(crate) fn folding_case() -> Self {
        Self { folds_case: true, ..Self::default() }
    }

    /// Whether keys count whatever their case.
    pub(crate) fn folds_case(&self) -> bool {
        self.folds_case
    }

    /// From here on, findings are about this file, or about no file.
    pub(crate) fn in_file(&mut self, file: Option<String>) {
        self.file = file;
    }

    /// Notes a finding, adding the file it is about.
    pub(crate) fn push(&mut self, mut finding: Finding) {
        if finding.file.is_none() {
            finding.file.clone_from(&self.file);
        }
        // Nobody reads more than that, and a hostile file could ask for millions.
        let is_full = self.list.len() >= MOST_FINDINGS;
        if is_full && (finding.severity == Severity::Warning || self.has_errors()) {
            return;
        }
        // What the file says is looked at once by itself and once with the flags.
        if !self.list.contains(&finding) {
            self.list.push(finding);
        }
    }

    /// Whether any of them keeps the kubelet from starting.
    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All of them.
    pub(crate) fn into_list(self) -> Vec<Finding> {
        self.list
    }
}
