//! Recordings that begin and end while the node runs: the driver alone has the core, so it is told to.

use recording::{Begun, Limits, Recorder, Recording, Snapshot};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Driver;
use crate::commands;
use crate::control::document::RecordOrder;

/// A command, and where its answer goes.
pub(crate) struct RecorderCommand {
    pub(crate) what: RecordOrder,
    pub(crate) reply: oneshot::Sender<Result<RecorderReply, String>>,
}

/// What came of a command.
pub(crate) struct RecorderReply {
    /// What is recorded, or was until now.
    pub(crate) recording: Option<Recording>,
    /// Tells whether the disk takes it.
    pub(crate) begun: Option<Begun>,
}

/// Begins a recording, and tells the log should it end by itself.
pub(crate) fn begin(
    folder: &std::path::Path,
    snapshot: Snapshot,
) -> Result<(Recorder, Begun), recording::FolderError> {
    let on_end = |why: &str| warn!(err = why, "Recording ended; the node goes on");
    Recorder::begin(folder, Limits::default(), &commands::build(), snapshot, on_end)
}

impl Driver {
    pub(super) fn run_recorder_command(&mut self, command: RecorderCommand) {
        let reply = match command.what {
            RecordOrder::Start { folder } => self.start_recording(&folder),
            RecordOrder::Stop => {
                let recording = self.recorder.as_ref().map(|recorder| recorder.recording().clone());
                if recording.is_some() {
                    info!("Stopped recording");
                }
                self.recorder = None;
                Ok(RecorderReply { recording, begun: None })
            }
            RecordOrder::Status => {
                let recording = self.recorder.as_ref().map(|recorder| recorder.recording().clone());
                Ok(RecorderReply { recording, begun: None })
            }
        };
        // Whoever has asked may have gone.
        let _ = command.reply.send(reply);
    }

    fn start_recording(&mut self, folder: &std::path::Path) -> Result<RecorderReply, String> {
        if let Some(recorder) = self.recorder.as_ref().filter(|recorder| !recorder.recording().has_ended()) {
            return Err(format!(
                "there is a recording already, to {}",
                recorder.recording().folder().display()
            ));
        }
        let snapshot = Snapshot::of_node(&self.core).map_err(|error| error.to_string())?;
        let (recorder, begun) = begin(folder, snapshot).map_err(|error| model::chain(&error))?;
        info!(path = %folder.display(), "Started recording inputs and decisions");
        let recording = recorder.recording().clone();
        self.recorder = Some(recorder);
        Ok(RecorderReply { recording: Some(recording), begun: Some(begun) })
    }
}
