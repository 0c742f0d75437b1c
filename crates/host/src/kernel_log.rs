//! The kernel's log: a stream of the messages in its ring buffer
//! (<https://docs.kernel.org/admin-guide/abi-testing.html#abi-file-testing-dev-kmsg>).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use tokio::net::unix::pipe;

/// Where it is.
pub const PATH: &str = "/dev/kmsg";
/// The longest record that the kernel hands out (`PRINTK_MESSAGE_MAX`, and room to spare).
const RECORD_BYTES: usize = 8192;

/// The log, from the oldest message that is still there on.
#[derive(Debug)]
pub struct KernelLog {
    /// Like a pipe, it is read when it is readable, which is all that is asked of this type.
    records: pipe::Receiver,
}

impl KernelLog {
    /// Opens it. To be called on a runtime.
    ///
    /// # Errors
    /// It is not there, or not for this process.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(Self { records: pipe::Receiver::from_file_unchecked(file)? })
    }

    /// Waits for the next message. Those that were overwritten before they were read are left out. Cancel-safe: a message that
    /// was not taken is the next one.
    ///
    /// # Errors
    /// The log cannot be read any more.
    pub async fn next(&self) -> io::Result<String> {
        let mut record = [0; RECORD_BYTES];
        loop {
            self.records.readable().await?;
            match self.records.try_read(&mut record) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => return Ok(message(&record[..length])),
                // Some were overwritten.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The text of a record, without what is before it and the fields on the lines after it. What is not printable stays escaped.
fn message(record: &[u8]) -> String {
    let record = String::from_utf8_lossy(record);
    let text = record.split_once(';').map_or("", |(_, text)| text);
    text.split('\n').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_head_a_text_and_fields() {
        for (record, text) in [
            ("6,339,5140900,-;NET: Registered; family 10\n", "NET: Registered; family 10"),
            ("4,22,0,c;text\n SUBSYSTEM=acpi\n DEVICE=+acpi:x\n", "text"),
            ("12,1,2,-;", ""),
            ("nonsense", ""),
        ] {
            assert_eq!(message(record.as_bytes()), text);
        }
    }
}
