//! The control socket: one command a line, one line back, which begins with `ok` or `error`.

use std::sync::Arc;

use plugins::wire::csi::volume_capability::{AccessMode, AccessType, MountVolume, access_mode};
use plugins::wire::csi::{CapacityRange, CreateVolumeRequest, VolumeCapability};
use tokio::net::UnixListener;
use tonic::Code;

use crate::gate::{self, Mode};
use crate::server::State;

/// What can be asked of the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `hang CALL`: calls of this kind are neither carried out nor answered from now on. Answers `ok`.
    Hang(&'static str),
    /// `fail CALL [CODE]`: they fail from now on, with `Internal` or another code of gRPC's, and nothing is done. Answers `ok`.
    Fail(&'static str, Code),
    /// `late CALL`: they are carried out from now on, and not answered. Answers `ok`.
    Late(&'static str),
    /// `fail-after CALL CODE`: they are carried out from now on, and the answer is that they failed. Answers `ok`.
    FailAfter(&'static str, Code),
    /// `twice CALL`: they are carried out twice from now on. Answers `ok`.
    Twice(&'static str),
    /// `lie CALL`: they are not carried out from now on, and the answer is that they were. Answers `ok`.
    Lie(&'static str),
    /// `release CALL`: they are carried out and answered again, those that hang included. Answers `ok`.
    Release(&'static str),
    /// `count CALL`: how often it was made, `ok NUMBER`.
    Count(&'static str),
    /// `counted CALL NUMBER`: waits until it was made that often. Answers `ok`.
    Counted(&'static str, u64),
    /// `said`: what the kubelet said of the registration last, `ok registered` or `ok REFUSAL`; waits for the first.
    Said,
    /// `max-volumes NUMBER`: that many volumes the node can have from now on. Answers `ok`.
    MaxVolumes(i64),
    /// `calls [VOLUME]`: the calls for volumes so far, or for one, in their order, `ok CALL:VOLUME CALL:VOLUME`.
    Calls(Option<String>),
    /// `last CALL`: the last request of this kind, `ok` and JSON; secrets that do not begin with `marker-` are hidden.
    Last(&'static str),
    /// `create NAME BYTES`: makes a volume as a provisioner would, `ok VOLUME`.
    Create(String, i64),
    /// `delete VOLUME`: takes it away. Answers `ok`.
    Delete(String),
    /// `volumes`: what is staged and published, `ok VOLUME@PLACE VOLUME@PLACE`.
    Volumes,
    /// `wrong`: what the kubelet did that CSI forbids, `ok` and text; nothing when there was nothing.
    Wrong,
}

/// A command that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "command {0:?}: want hang CALL, fail CALL [CODE], late CALL, fail-after CALL CODE, twice CALL, lie CALL, release CALL, \
     count CALL, counted CALL NUMBER, said, max-volumes NUMBER, calls [VOLUME], last CALL, create NAME BYTES, delete VOLUME, volumes or wrong"
)]
pub struct CommandError(String);

impl std::str::FromStr for Command {
    type Err = CommandError;

    fn from_str(line: &str) -> Result<Self, CommandError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let error = || CommandError(line.to_owned());
        let call = |name: &str| gate::call(name).ok_or_else(error);
        let code = |name: &str| gate::code(name).ok_or_else(error);
        match words[..] {
            ["hang", name] => Ok(Self::Hang(call(name)?)),
            ["fail", name] => Ok(Self::Fail(call(name)?, Code::Internal)),
            ["fail", name, text] => Ok(Self::Fail(call(name)?, code(text)?)),
            ["late", name] => Ok(Self::Late(call(name)?)),
            ["fail-after", name, text] => Ok(Self::FailAfter(call(name)?, code(text)?)),
            ["twice", name] => Ok(Self::Twice(call(name)?)),
            ["lie", name] => Ok(Self::Lie(call(name)?)),
            ["release", name] => Ok(Self::Release(call(name)?)),
            ["count", name] => Ok(Self::Count(call(name)?)),
            ["counted", name, number] => Ok(Self::Counted(call(name)?, number.parse().map_err(|_| error())?)),
            ["said"] => Ok(Self::Said),
            ["max-volumes", number] => Ok(Self::MaxVolumes(number.parse().map_err(|_| error())?)),
            ["calls"] => Ok(Self::Calls(None)),
            ["calls", volume] => Ok(Self::Calls(Some(volume.to_owned()))),
            ["last", name] => Ok(Self::Last(call(name)?)),
            ["create", name, bytes] => Ok(Self::Create(name.to_owned(), bytes.parse().map_err(|_| error())?)),
            ["delete", volume] => Ok(Self::Delete(volume.to_owned())),
            ["volumes"] => Ok(Self::Volumes),
            ["wrong"] => Ok(Self::Wrong),
            _ => Err(error()),
        }
    }
}

/// Answers commands for ever.
pub(crate) async fn serve(listener: UnixListener, state: Arc<State>) -> std::io::Error {
    let obeyed = move |line: String| {
        let state = Arc::clone(&state);
        async move {
            match line.parse() {
                Ok(command) => obey(command, &state).await,
                Err(error) => Err(CommandError::to_string(&error)),
            }
        }
    };
    fake_control::serve(listener, obeyed).await
}

async fn obey(command: Command, state: &State) -> Result<String, String> {
    let State { gate, journal, volumes, .. } = state;
    match command {
        Command::Hang(call) => gate.set(call, Some(Mode::Hang)),
        Command::Fail(call, code) => gate.set(call, Some(Mode::Fail(code))),
        Command::Late(call) => gate.set(call, Some(Mode::Late)),
        Command::FailAfter(call, code) => gate.set(call, Some(Mode::FailAfter(code))),
        Command::Twice(call) => gate.set(call, Some(Mode::Twice)),
        Command::Lie(call) => gate.set(call, Some(Mode::Lie)),
        Command::Release(call) => gate.set(call, None),
        Command::Count(call) => return Ok(gate.count(call).to_string()),
        Command::Counted(call, number) => gate.counts_to(call, number).await,
        Command::Said => return Ok(gate.said().await),
        Command::MaxVolumes(number) => gate.set_max_volumes(number),
        Command::Calls(volume) => return Ok(journal.calls(volume.as_deref())),
        Command::Last(call) => return journal.last(call).ok_or_else(|| format!("{call} was not asked for")),
        Command::Create(name, bytes) => return create(state, name, bytes),
        Command::Delete(volume) => {
            volumes.delete(&volume).map_err(|status| status.message().to_owned())?;
        }
        Command::Volumes => return Ok(volumes.told()),
        Command::Wrong => return Ok(journal.wrong()),
    }
    Ok(String::new())
}

fn create(state: &State, name: String, required_bytes: i64) -> Result<String, String> {
    let access_mode = AccessMode { mode: access_mode::Mode::SingleNodeWriter.into() };
    let capability = VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(access_mode),
    };
    let request = CreateVolumeRequest {
        name,
        capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
        volume_capabilities: vec![capability],
        ..CreateVolumeRequest::default()
    };
    let made = state.volumes.create(&request, &state.driver.topology);
    made.map(|volume| volume.volume_id).map_err(|status| status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (line, command) in [
            ("hang NodeGetInfo", Command::Hang("NodeGetInfo")),
            ("  fail  GetInfo ", Command::Fail("GetInfo", Code::Internal)),
            ("fail NodeStageVolume Aborted", Command::Fail("NodeStageVolume", Code::Aborted)),
            ("late NodeStageVolume", Command::Late("NodeStageVolume")),
            ("fail-after Probe Internal", Command::FailAfter("Probe", Code::Internal)),
            ("twice NodePublishVolume", Command::Twice("NodePublishVolume")),
            ("lie NodePublishVolume", Command::Lie("NodePublishVolume")),
            ("release Probe", Command::Release("Probe")),
            ("count NodeGetInfo", Command::Count("NodeGetInfo")),
            ("counted NodeGetInfo 2", Command::Counted("NodeGetInfo", 2)),
            ("said", Command::Said),
            ("max-volumes -1", Command::MaxVolumes(-1)),
            ("calls", Command::Calls(None)),
            ("calls vol-1", Command::Calls(Some("vol-1".to_owned()))),
            ("last NodePublishVolume", Command::Last("NodePublishVolume")),
            ("create pvc-1 1024", Command::Create("pvc-1".to_owned(), 1024)),
            ("delete volume-1", Command::Delete("volume-1".to_owned())),
            ("volumes", Command::Volumes),
            ("wrong", Command::Wrong),
        ] {
            assert_eq!(line.parse(), Ok(command), "{line}");
        }
        for line in [
            "",
            "hang",
            "hang Nothing",
            "counted Probe",
            "counted Probe x",
            "said it",
            "max-volumes many",
            "fail Probe Nothing",
            "fail-after Probe",
            "last",
            "create pvc-1",
            "delete",
        ] {
            assert_eq!(line.parse::<Command>(), Err(CommandError(line.to_owned())), "{line:?}");
        }
    }
}
