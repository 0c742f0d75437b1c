//! What the kubelet does besides being one, by its first word. Upstream's takes no words at all, so that nothing that
//! starts a node is among them.

mod client;
mod explain;
mod record;
mod replay;

use std::io::Write as _;
use std::process::ExitCode;

use config::version;

/// Does what the first word asks for; `None` when it is no word, or none of these.
pub(crate) fn run(arguments: &[String]) -> Option<ExitCode> {
    let (word, rest) = arguments.split_first()?;
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let result = match word.as_str() {
        "explain" => explain::run(&rest),
        "record" => record::run(&rest),
        "replay" => replay::run(&rest),
        _ => return None,
    };
    Some(match result {
        Ok(code) => code,
        Err(Failure::Usage(text)) => {
            eprint!("{text}");
            ExitCode::FAILURE
        }
        Err(Failure::Because(error)) => {
            eprintln!("kubelet {word}: {error:#}");
            ExitCode::FAILURE
        }
        // Whoever closed the other end has read enough.
        Err(Failure::Closed) => ExitCode::SUCCESS,
    })
}

/// Which build this is.
pub(crate) fn build() -> String {
    format!("{} {}", version::NAME, version::VERSION)
}

/// Why a command comes to nothing.
enum Failure {
    /// It was not understood: how it is used.
    Usage(&'static str),
    /// It was, and failed.
    Because(anyhow::Error),
    /// Nobody reads on.
    Closed,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: anyhow::Error = error.into();
        match error.downcast_ref::<std::io::Error>() {
            Some(io) if io.kind() == std::io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Because(error),
        }
    }
}

/// Prints to standard output, at once.
fn print_line(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints to standard output.
fn print(text: &str) -> Result<(), Failure> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
