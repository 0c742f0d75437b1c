//! The control socket: one command a line, one line back, which begins with `ok` or `error`.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::gate::{self, Mode};
use crate::server::State;

/// The longest command that is read.
const LONGEST: u64 = 4096;
/// Connections at a time; a test has one or two.
const CONNECTIONS: usize = 16;

/// What can be asked of the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `hang CALL`: calls of this kind are not answered from now on. Answers `ok`.
    Hang(&'static str),
    /// `fail CALL`: they fail from now on. Answers `ok`.
    Fail(&'static str),
    /// `release CALL`: they are answered again, those that hang included. Answers `ok`.
    Release(&'static str),
    /// `count CALL`: how often it was made, `ok NUMBER`.
    Count(&'static str),
    /// `counted CALL NUMBER`: waits until it was made that often. Answers `ok`.
    Counted(&'static str, u64),
    /// `said`: what the kubelet said of the registration last, `ok registered` or `ok REFUSAL`; waits for the first.
    Said,
    /// `max-volumes NUMBER`: that many volumes the node can have from now on. Answers `ok`.
    MaxVolumes(i64),
}

/// A command that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "command {0:?}: want hang CALL, fail CALL, release CALL, count CALL, counted CALL NUMBER, said or max-volumes NUMBER"
)]
pub struct CommandError(String);

impl std::str::FromStr for Command {
    type Err = CommandError;

    fn from_str(line: &str) -> Result<Self, CommandError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let error = || CommandError(line.to_owned());
        let call = |name: &str| gate::call(name).ok_or_else(error);
        match words[..] {
            ["hang", name] => Ok(Self::Hang(call(name)?)),
            ["fail", name] => Ok(Self::Fail(call(name)?)),
            ["release", name] => Ok(Self::Release(call(name)?)),
            ["count", name] => Ok(Self::Count(call(name)?)),
            ["counted", name, number] => Ok(Self::Counted(call(name)?, number.parse().map_err(|_| error())?)),
            ["said"] => Ok(Self::Said),
            ["max-volumes", number] => Ok(Self::MaxVolumes(number.parse().map_err(|_| error())?)),
            _ => Err(error()),
        }
    }
}

/// Answers commands for ever.
pub(crate) async fn serve(listener: UnixListener, state: Arc<State>) -> std::io::Error {
    let free = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return std::io::Error::other("the control socket was closed");
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return error,
        };
        let state = Arc::clone(&state);
        #[expect(clippy::disallowed_methods, reason = "ends with its connection")]
        tokio::spawn(async move {
            // Who asks may go at any time; there is nobody else to tell.
            let _ = talk(stream, &state).await;
            drop(permit);
        });
    }
}

async fn talk(mut stream: UnixStream, state: &State) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        (&mut read).take(LONGEST).read_line(&mut line).await?;
        if !line.ends_with('\n') {
            return Ok(());
        }
        let answer = match line.trim_end().parse() {
            Ok(command) => format!("{}\n", format!("ok {}", obey(command, state).await).trim_end()),
            Err(error) => format!("error {error}\n"),
        };
        write.write_all(answer.as_bytes()).await?;
    }
}

async fn obey(command: Command, state: &State) -> String {
    let gate = &state.gate;
    match command {
        Command::Hang(call) => gate.set(call, Some(Mode::Hang)),
        Command::Fail(call) => gate.set(call, Some(Mode::Fail)),
        Command::Release(call) => gate.set(call, None),
        Command::Count(call) => return gate.count(call).to_string(),
        Command::Counted(call, number) => gate.counts_to(call, number).await,
        Command::Said => return gate.said().await,
        Command::MaxVolumes(number) => gate.set_max_volumes(number),
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (line, command) in [
            ("hang NodeGetInfo", Command::Hang("NodeGetInfo")),
            ("  fail  GetInfo ", Command::Fail("GetInfo")),
            ("release Probe", Command::Release("Probe")),
            ("count NodeGetInfo", Command::Count("NodeGetInfo")),
            ("counted NodeGetInfo 2", Command::Counted("NodeGetInfo", 2)),
            ("said", Command::Said),
            ("max-volumes -1", Command::MaxVolumes(-1)),
        ] {
            assert_eq!(line.parse(), Ok(command), "{line}");
        }
        for line in
            ["", "hang", "hang Nothing", "counted Probe", "counted Probe x", "said it", "max-volumes many"]
        {
            assert_eq!(line.parse::<Command>(), Err(CommandError(line.to_owned())), "{line:?}");
        }
    }
}
