//! The control socket of programs that tests work with: a line protocol, one command a line and one line back, which begins
//! with `ok` or `error`. What commands there are is the programs' own.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The longest command that is read, bytes.
const LONGEST: u64 = 4096;
/// Connections at a time; a test has one or two.
const CONNECTIONS: usize = 16;

/// Answers commands for ever, each with what `obey` makes of its line: what follows `ok`, or `error`.
///
/// # Errors
/// The socket broke; there is no other end.
pub async fn serve<F, Answer>(listener: UnixListener, obey: F) -> io::Error
where
    F: Fn(String) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<String, String>> + Send,
{
    let free = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return io::Error::other("the control socket was closed");
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return error,
        };
        let obey = obey.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with its connection")]
        tokio::spawn(async move {
            // Who asks may go at any time; there is nobody else to tell.
            let _ = talk(stream, obey).await;
            drop(permit);
        });
    }
}

async fn talk<F, Answer>(mut stream: UnixStream, obey: F) -> io::Result<()>
where
    F: Fn(String) -> Answer,
    Answer: Future<Output = Result<String, String>>,
{
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        (&mut read).take(LONGEST).read_line(&mut line).await?;
        if !line.ends_with('\n') {
            return Ok(());
        }
        let answer = match obey(line.trim_end().to_owned()).await {
            Ok(text) => format!("ok {text}"),
            Err(text) => format!("error {text}"),
        };
        write.write_all(format!("{}\n", answer.trim_end()).as_bytes()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_is_answered_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let obey = |line: String| async move {
            match line.as_str() {
                "nothing" => Ok(String::new()),
                "wrong" => Err("no".to_owned()),
                line => Ok(line.to_uppercase()),
            }
        };
        tokio::spawn(serve(listener, obey));
        let stream = UnixStream::connect(&path).await.unwrap();
        let (read, mut write) = stream.into_split();
        write.write_all(b"say it\nnothing\nwrong\nno end").await.unwrap();
        drop(write);
        let mut answers = String::new();
        BufReader::new(read).read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers, "ok SAY IT\nok\nerror no\n");
    }
}
