//! What `kubelet explain` is told: a document that programs can read, and from which the text for people is made.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything that was asked for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// When it was made.
    pub(crate) now: Timestamp,
    /// The node.
    pub(crate) node: NodeExplained,
    /// The pods that were asked for.
    pub(crate) pods: Vec<PodExplained>,
}

impl Explanation {
    /// Whether nothing has happened since the other was made, beside the time that has passed and renewals that went well.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        let (node, pods) = (&self.node, &self.pods);
        let renewed = other.node.lease_renewed;
        NodeExplained { lease_renewed: renewed, ..node.clone() } == other.node && *pods == other.pods
    }
}

/// The node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeExplained {
    /// Its name.
    pub(crate) name: String,
    /// Which build runs it.
    pub(crate) kubelet: String,
    /// When that began.
    pub(crate) started: Timestamp,
    /// Whether its start is over. Until then it knows of no pods.
    pub(crate) is_started: bool,
    /// Everything it waits for, what holds up the others first.
    pub(crate) waits: Vec<WaitExplained>,
    /// Its conditions, as the API server is or will be told.
    pub(crate) conditions: Vec<ConditionExplained>,
    /// Its certificates.
    pub(crate) certificates: Vec<CertificateExplained>,
    /// When its lease was renewed last; `None` when it never was.
    pub(crate) lease_renewed: Option<Timestamp>,
    /// Whether it cannot be renewed at the moment. If that lasts, the node counts as dead, however well it is.
    #[serde(default)]
    pub(crate) is_lease_failing: bool,
    /// How many pods it knows.
    pub(crate) pods: usize,
}

/// A condition of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConditionExplained {
    /// Such as `Ready`.
    pub(crate) r#type: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    /// For people.
    pub(crate) message: String,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CertificateExplained {
    /// What it is for.
    pub(crate) name: String,
    /// Until when it holds.
    pub(crate) expires: Timestamp,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodExplained {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Where it is in its life: `Admitting`, `Running`, `Terminating` or `Terminated`.
    pub(crate) stage: String,
    /// Its phase as users see it.
    pub(crate) phase: String,
    /// Why it is in that, if there is something to say.
    pub(crate) message: Option<String>,
    /// Everything it waits for, what holds up the others first.
    pub(crate) waits: Vec<WaitExplained>,
    /// What was reached so far, oldest first.
    pub(crate) timeline: Vec<MarkExplained>,
}

/// Something that is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WaitExplained {
    /// What, as it stands after "waits for".
    pub(crate) r#for: String,
    /// On whom.
    pub(crate) on: String,
    /// Since when.
    pub(crate) since: Timestamp,
    /// How often it was tried in vain.
    #[serde(default)]
    pub(crate) attempts: u32,
    /// The reason that users see.
    pub(crate) reason: Option<String>,
    /// The last error.
    pub(crate) error: Option<String>,
    /// When it is tried again, or given up.
    pub(crate) next_try: Option<Timestamp>,
}

impl WaitExplained {
    /// One that is under way.
    pub(crate) fn new(r#for: &str, on: &str, since: Timestamp) -> Self {
        let (r#for, on) = (r#for.to_owned(), on.to_owned());
        Self { r#for, on, since, attempts: 0, reason: None, error: None, next_try: None }
    }
}

/// Something that was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MarkExplained {
    /// When.
    pub(crate) at: Timestamp,
    /// Seconds since the mark before.
    pub(crate) seconds: f64,
    /// What.
    pub(crate) what: String,
}

/// What may be asked.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// What is waited for.
    Explain {
        /// By the pod of this name; `None` is the node and all of its pods.
        pod: Option<PodName>,
        /// Again and again, whenever it changes.
        watch: bool,
    },
    /// A recording.
    Record(RecordOrder),
}

/// What is to become of a recording.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RecordOrder {
    /// It begins.
    Start {
        /// Where its files go.
        folder: PathBuf,
    },
    /// It ends.
    Stop,
    /// It is told of.
    Status,
}

/// A recording.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordingStatus {
    /// The file that is written.
    pub(crate) path: PathBuf,
    /// When it began.
    pub(crate) since: Timestamp,
    /// Steps written so far.
    pub(crate) steps: u64,
    /// Why it has ended; `None` while it goes on.
    pub(crate) ended: Option<String>,
}

/// A pod's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// An answer, in one line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    /// To [`Request::Explain`].
    Explanation(Box<Explanation>),
    /// To [`Request::Record`]; `None` when there is none.
    Recording(Option<RecordingStatus>),
    /// The request was none, or is not understood.
    Error(String),
}
