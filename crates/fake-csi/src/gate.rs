//! What each call goes through: it is counted, and then carried out, held, failed, or carried out and not answered.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tonic::{Code, Status};

/// The calls there are.
pub(crate) const CALLS: [&str; 22] = [
    "GetInfo",
    "NotifyRegistrationStatus",
    "GetPluginInfo",
    "GetPluginCapabilities",
    "Probe",
    "NodeGetCapabilities",
    "NodeGetInfo",
    "NodeStageVolume",
    "NodeUnstageVolume",
    "NodePublishVolume",
    "NodeUnpublishVolume",
    "NodeGetVolumeStats",
    "NodeExpandVolume",
    "ControllerGetCapabilities",
    "CreateVolume",
    "DeleteVolume",
    "ControllerPublishVolume",
    "ControllerUnpublishVolume",
    "ValidateVolumeCapabilities",
    "ListVolumes",
    "GetCapacity",
    "ControllerExpandVolume",
];

/// The name of a call, if there is one like that.
pub(crate) fn call(name: &str) -> Option<&'static str> {
    CALLS.into_iter().find(|call| *call == name)
}

/// A code of gRPC's by its name in Go's library, such as `Unavailable`.
pub(crate) fn code(name: &str) -> Option<Code> {
    (1..=16).map(Code::from_i32).find(|code| format!("{code:?}") == name)
}

/// What becomes of calls of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are neither carried out nor answered.
    Hang,
    /// They fail, and nothing is done.
    Fail(Code),
    /// They are carried out, and not answered.
    Late,
    /// They are carried out, and the answer is that they failed.
    FailAfter(Code),
    /// They are carried out twice.
    Twice,
    /// They are not carried out, and the answer is that they were.
    Lie,
}

#[derive(Debug, Default)]
struct Book {
    /// Of those that are not simply carried out.
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

    /// Lets a call through that has nothing to carry out, or not.
    pub(crate) async fn pass(&self, call: &'static str) -> Result<(), Status> {
        self.pass_with(call, || Ok(())).await
    }

    /// Carries out a call, or not. A lie is an answer that says nothing.
    pub(crate) async fn pass_with<T: Default>(
        &self,
        call: &'static str,
        work: impl Fn() -> Result<T, Status>,
    ) -> Result<T, Status> {
        self.0.send_modify(|book| *book.counts.entry(call).or_default() += 1);
        match self.when_not(call, Mode::Hang).await {
            None => work(),
            Some(Mode::Fail(code)) => Err(Status::new(code, "told to fail")),
            Some(Mode::FailAfter(code)) => {
                work()?;
                Err(Status::new(code, "told to fail afterwards"))
            }
            Some(Mode::Lie) => Ok(T::default()),
            Some(Mode::Twice) => {
                work()?;
                work()
            }
            Some(Mode::Late | Mode::Hang) => {
                let answer = work()?;
                self.when_not(call, Mode::Late).await;
                Ok(answer)
            }
        }
    }

    /// Waits until calls of a kind are not in this mode, and says in which they are.
    async fn when_not(&self, call: &'static str, mode: Mode) -> Option<Mode> {
        let mut books = self.0.subscribe();
        let book = books.wait_for(|book| book.modes.get(call) != Some(&mode)).await.ok()?;
        book.modes.get(call).copied()
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
