//! The control socket: one command a line, one line back.
//!
//! An answer begins with `ok` or `error`. Times are nanoseconds since 1970. Pods are named
//! `namespace/name`; pods of the same name share their records.

use std::sync::Arc;

use tokio::net::UnixListener;

use crate::gate::now;
use crate::latency;
use crate::server::State;

/// What can be asked of the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `end POD CODE [CONTAINER]`: all running containers of a pod end now, or the one of that name. Answers when:
    /// `ok NANOSECONDS`.
    End {
        /// `namespace/name`.
        pod: String,
        /// The container's name; `None` for all.
        container: Option<String>,
        /// Their exit code.
        code: i32,
    },
    /// `hang POD CALL`: calls of this kind for a pod are not answered from now on. Answers `ok`.
    Hang {
        /// `namespace/name`.
        pod: String,
        /// The name of the call.
        call: &'static str,
    },
    /// `fail POD CALL`: calls of this kind for a pod fail from now on. Answers `ok`.
    Fail {
        /// `namespace/name`.
        pod: String,
        /// The name of the call.
        call: &'static str,
    },
    /// `hung POD`: waits until a call for a pod hangs. Answers `ok`.
    Hung {
        /// `namespace/name`.
        pod: String,
    },
    /// `release POD`: all calls for a pod are answered again, and none fails. Answers `ok`.
    Release {
        /// `namespace/name`.
        pod: String,
    },
    /// `calls POD`: the calls for a pod that have ended, `ok CALL:START:END CALL:START:END …`.
    Calls {
        /// `namespace/name`.
        pod: String,
    },
    /// `count CALL`: how often it was made, for whatever pod, `ok NUMBER`.
    Count {
        /// The name of the call.
        call: &'static str,
    },
    /// `counted CALL NUMBER`: waits until it was made that often, for whatever pod. Answers `ok`.
    Counted {
        /// The name of the call.
        call: &'static str,
        /// How often.
        number: u64,
    },
    /// `asked CALL [POD]`: the last request of this kind for a pod, or for none, as Rust prints it, `ok REQUEST`; waits for the
    /// first. Kept of RunPodSandbox, CreateContainer and UpdateRuntimeConfig.
    Asked {
        /// The name of the call.
        call: &'static str,
        /// `namespace/name`.
        pod: Option<String>,
    },
    /// `options POD PATH`: with which options its containers have a folder mounted at this path, `ok OPTION OPTION …`.
    Options {
        /// `namespace/name`.
        pod: String,
        /// The path in the container.
        path: String,
    },
    /// `ended POD`: its containers that have ended, `ok CONTAINER:NANOSECONDS …`.
    Ended {
        /// `namespace/name`.
        pod: String,
    },
}

/// A command that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "command {0:?}: want end POD CODE [CONTAINER], hang POD CALL, fail POD CALL, hung POD, release POD, calls POD, count CALL, \
     counted CALL NUMBER, asked CALL [POD], options POD PATH or ended POD"
)]
pub struct CommandError(String);

impl std::str::FromStr for Command {
    type Err = CommandError;

    fn from_str(line: &str) -> Result<Self, CommandError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let error = || CommandError(line.to_owned());
        match words[..] {
            ["count", call] => return Ok(Self::Count { call: latency::call(call).ok_or_else(error)? }),
            ["counted", call, number] => {
                let number = number.parse().map_err(|_| error())?;
                return Ok(Self::Counted { call: latency::call(call).ok_or_else(error)?, number });
            }
            ["asked", call, ref pod @ ..] if pod.len() < 2 => {
                let pod = pod.first().map(|pod| (*pod).to_owned());
                return Ok(Self::Asked { call: latency::call(call).ok_or_else(error)?, pod });
            }
            _ => {}
        }
        let pod = words.get(1).filter(|pod| pod.contains('/')).ok_or_else(error)?.to_string();
        match words[..] {
            ["end", _, code, ref container @ ..] if container.len() < 2 => {
                let container = container.first().map(|name| (*name).to_owned());
                Ok(Self::End { pod, container, code: code.parse().map_err(|_| error())? })
            }
            ["hang", _, call] => Ok(Self::Hang { pod, call: latency::call(call).ok_or_else(error)? }),
            ["fail", _, call] => Ok(Self::Fail { pod, call: latency::call(call).ok_or_else(error)? }),
            ["hung", _] => Ok(Self::Hung { pod }),
            ["release", _] => Ok(Self::Release { pod }),
            ["calls", _] => Ok(Self::Calls { pod }),
            ["options", _, path] => Ok(Self::Options { pod, path: path.to_owned() }),
            ["ended", _] => Ok(Self::Ended { pod }),
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
    match command {
        Command::End { pod, container, code } => {
            let at = now();
            match state.world().end_pod(&pod, container.as_deref(), code, at) {
                0 => Err(format!("no container of {pod} runs")),
                _ => Ok(at.to_string()),
            }
        }
        Command::Hang { pod, call } => {
            state.gate.hang(&pod, [call]);
            Ok(String::new())
        }
        Command::Fail { pod, call } => {
            state.gate.fail(&pod, call);
            Ok(String::new())
        }
        Command::Hung { pod } => {
            state.gate.holds(&pod).await;
            Ok(String::new())
        }
        Command::Release { pod } => {
            state.gate.release(&pod);
            Ok(String::new())
        }
        Command::Calls { pod } => {
            let records = state.gate.records(&pod).into_iter();
            let texts = records.map(|record| format!("{}:{}:{}", record.call, record.start, record.end));
            Ok(texts.collect::<Vec<_>>().join(" "))
        }
        Command::Count { call } => Ok(state.gate.count(call).to_string()),
        Command::Counted { call, number } => {
            state.gate.counts_to(call, number).await;
            Ok(String::new())
        }
        Command::Asked { call, pod } => Ok(state.gate.request(call, pod).await),
        Command::Options { pod, path } => match state.world().mount_options(&pod, &path) {
            Some(options) => Ok(options.join(" ")),
            None => Err(format!("nothing is mounted at {path} in {pod}")),
        },
        Command::Ended { pod } => {
            let ended = state.world().ended(&pod).into_iter();
            Ok(ended.map(|(name, at)| format!("{name}:{at}")).collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let pod = || "default/web".to_owned();
        let good = [
            ("end default/web 137", Command::End { pod: pod(), container: None, code: 137 }),
            (
                "end default/web 1 main",
                Command::End { pod: pod(), container: Some("main".to_owned()), code: 1 },
            ),
            ("counted PullImage 3", Command::Counted { call: "PullImage", number: 3 }),
            ("hang default/web StopContainer", Command::Hang { pod: pod(), call: "StopContainer" }),
            ("hung default/web", Command::Hung { pod: pod() }),
            ("fail default/web PodSandboxStatus", Command::Fail { pod: pod(), call: "PodSandboxStatus" }),
            ("asked UpdateRuntimeConfig", Command::Asked { call: "UpdateRuntimeConfig", pod: None }),
            ("asked RunPodSandbox default/web", Command::Asked { call: "RunPodSandbox", pod: Some(pod()) }),
            ("  release   default/web ", Command::Release { pod: pod() }),
            ("calls default/web", Command::Calls { pod: pod() }),
            ("count ListContainers", Command::Count { call: "ListContainers" }),
            ("options default/web /data", Command::Options { pod: pod(), path: "/data".to_owned() }),
            ("ended default/web", Command::Ended { pod: pod() }),
        ];
        for (line, command) in good {
            assert_eq!(line.parse(), Ok(command), "{line}");
        }
        for line in [
            "",
            "end",
            "end default/web",
            "end web 1",
            "hang default/web Nothing",
            "release web",
            "calls",
            "count",
            "count Nothing",
            "fail default/web Nothing",
            "end default/web 1 main other",
            "counted PullImage",
            "counted PullImage many",
            "asked Nothing",
            "asked RunPodSandbox a/b c/d",
            "options default/web",
            "x a/b",
        ] {
            assert_eq!(line.parse::<Command>(), Err(CommandError(line.to_owned())), "{line:?}");
        }
    }
}
