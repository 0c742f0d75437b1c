//! What each call goes through: it is counted, and then answered, held or failed.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tonic::Status;

/// The calls there are.
pub(crate) const CALLS: [&str; 7] = [
    "GetInfo",
    "NotifyRegistrationStatus",
    "GetPluginInfo",
    "GetPluginCapabilities",
    "Probe",
    "NodeGetCapabilities",
    "NodeGetInfo",
];

/// The name of a call, if there is one like that.
pub(crate) fn call(name: &str) -> Option<&'static str> {
    CALLS.into_iter().find(|call| *call == name)
}

/// What becomes of calls of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are not answered.
    Hang,
    /// They fail.
    Fail,
}

#[derive(Debug, Default)]
struct Book {
    /// Of those that are not simply answered.
    modes: BTreeMap<&'static str, Mode>,
    counts: BTreeMap<&'static str, u64>,
    /// What was said of the registration last.
    said: Option<String>,
    max_volumes: i64,
}

/// The state that calls and commands share.
#[derive(Debug)]
pub(crate) struct Gate(watch::Sender<Book>);

impl Gate {
    pub(crate) fn new(max_volumes: i64) -> Self {
        Self(watch::Sender::new(Book { max_volumes, ..Book::default() }))
    }

    /// Lets a call through, or not.
    pub(crate) async fn pass(&self, call: &'static str) -> Result<(), Status> {
        self.0.send_modify(|book| *book.counts.entry(call).or_default() += 1);
        let mut books = self.0.subscribe();
        let is_free = |book: &Book| book.modes.get(call) != Some(&Mode::Hang);
        let mode = match books.wait_for(is_free).await {
            Ok(book) => book.modes.get(call).copied(),
            Err(_) => None,
        };
        match mode {
            Some(_) => Err(Status::internal("told to fail")),
            None => Ok(()),
        }
    }

    pub(crate) fn set(&self, call: &'static str, mode: Option<Mode>) {
        self.0.send_modify(|book| match mode {
            Some(mode) => drop(book.modes.insert(call, mode)),
            None => drop(book.modes.remove(call)),
        });
    }

    pub(crate) fn count(&self, call: &str) -> u64 {
        self.0.borrow().counts.get(call).copied().unwrap_or_default()
    }

    /// Waits until a call was made that often.
    pub(crate) async fn counts_to(&self, call: &str, number: u64) {
        let is_reached = |book: &Book| book.counts.get(call).is_some_and(|count| *count >= number);
        let _ = self.0.subscribe().wait_for(is_reached).await;
    }

    pub(crate) fn say(&self, said: String) {
        self.0.send_modify(|book| book.said = Some(said));
    }

    /// What was said of the registration last; waits for the first.
    pub(crate) async fn said(&self) -> String {
        let mut books = self.0.subscribe();
        let book = books.wait_for(|book| book.said.is_some()).await;
        book.ok().and_then(|book| book.said.clone()).unwrap_or_default()
    }

    pub(crate) fn max_volumes(&self) -> i64 {
        self.0.borrow().max_volumes
    }

    pub(crate) fn set_max_volumes(&self, number: i64) {
        self.0.send_modify(|book| book.max_volumes = number);
    }
}
