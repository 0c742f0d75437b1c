//! Recordings that begin and end while the node runs: the driver alone has the core, so it is told to.

use recording::{Begun, Limits, Opening, Recorder, Recording};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Shell;
use crate::commands;
use crate::control::document::RecordOrder;

/// An order, and where its answer goes.
pub(crate) struct Order {
    pub(crate) what: RecordOrder,
    pub(crate) reply: oneshot::Sender<Result<Obeyed, String>>,
}

/// What came of an order.
pub(crate) struct Obeyed {
    /// What is recorded, or was until now.
    pub(crate) recording: Option<Recording>,
    /// Tells whether the disk takes it.
    pub(crate) begun: Option<Begun>,
}

/// Begins a recording, and tells the log should it end by itself.
pub(crate) fn begin(
    folder: &std::path::Path,
    opening: Opening,
) -> Result<(Recorder, Begun), recording::FolderError> {
    let on_end = |why: &str| warn!(err = why, "The recording has ended; the node goes on");
    Recorder::begin(folder, Limits::default(), &commands::build(), opening, on_end)
}

impl Shell {
    pub(super) fn obey(&mut self, order: Order) {
        let obeyed = match order.what {
            RecordOrder::Start { folder } => self.start_recording(&folder),
            RecordOrder::Stop => {
                let recording = self.recorder.as_ref().map(|recorder| recorder.recording().clone());
                if recording.is_some() {
                    info!("The recording is stopped");
                }
                self.recorder = None;
                Ok(Obeyed { recording, begun: None })
            }
            RecordOrder::Status => {
                let recording = self.recorder.as_ref().map(|recorder| recorder.recording().clone());
                Ok(Obeyed { recording, begun: None })
            }
        };
        // Whoever has asked may have gone.
        let _ = order.reply.send(obeyed);
    }

    fn start_recording(&mut self, folder: &std::path::Path) -> Result<Obeyed, String> {
        if let Some(recorder) = self.recorder.as_ref().filter(|recorder| !recorder.recording().has_ended()) {
            return Err(format!(
                "there is a recording already, to {}",
                recorder.recording().folder().display()
            ));
        }
        let opening = Opening::of_node(&self.core).map_err(|error| error.to_string())?;
        let (recorder, begun) = begin(folder, opening).map_err(|error| model::chain(&error))?;
        info!(path = %folder.display(), "Recording what the node is told and decides");
        let recording = recorder.recording().clone();
        self.recorder = Some(recorder);
        Ok(Obeyed { recording: Some(recording), begun: Some(begun) })
    }
}
