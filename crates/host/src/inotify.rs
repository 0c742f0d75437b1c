//! inotify: what happens in folders and to files. It waits, which takes a runtime of tokio.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags};
pub use rustix::fs::inotify::{ReadFlags, WatchFlags};
use tokio::net::unix::pipe;

/// Room for some of the events that are queued; one with the longest name takes 272 bytes. What does not fit is read next.
const EVENT_BYTES: usize = 4096;
/// An event without its name: the watch, what happened, a cookie, and the length of the name, four bytes each.
const EVENT_HEAD_BYTES: usize = 16;

/// An inotify instance, of which the kernel allows a user 128 by default.
#[derive(Debug)]
pub struct Inotify {
    /// Like a pipe, inotify is read when it is readable, which is all that is asked of this type.
    events: pipe::Receiver,
}

/// What the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which watch it is about; -1 for all of them.
    pub watch: i32,
    /// What happened.
    pub flags: ReadFlags,
    /// To which file of a folder; `None` for what is watched itself.
    pub name: Option<OsString>,
}

impl Inotify {
    /// One that watches nothing. To be called on a runtime.
    ///
    /// # Errors
    /// There are too many already (`EMFILE`), or the call failed otherwise.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { events: pipe::Receiver::from_file_unchecked(File::from(inotify))? })
    }

    /// Watches a file or folder for these changes. Returns the number of the watch, which is the same each time.
    ///
    /// # Errors
    /// It cannot be watched, or too much is already (`ENOSPC`).
    pub fn watch(&self, path: impl AsRef<Path>, changes: WatchFlags) -> io::Result<i32> {
        Ok(inotify::add_watch(&self.events, path.as_ref(), changes)?)
    }

    /// Watches it no more.
    ///
    /// # Errors
    /// It is gone: the event that says so is still to come.
    pub fn unwatch(&self, watch: i32) -> io::Result<()> {
        Ok(inotify::remove_watch(&self.events, watch)?)
    }

    /// Waits for events and takes some. Cancel-safe: those not taken stay queued in the kernel.
    ///
    /// # Errors
    /// They cannot be read: nothing will be heard any more.
    pub async fn some(&self) -> io::Result<Vec<Event>> {
        loop {
            self.events.readable().await?;
            match self.take() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return taken,
            }
        }
    }

    /// Waits for events and takes all that are queued. Cancel-safe as well.
    ///
    /// # Errors
    /// As for [`Self::some`].
    pub async fn all(&self) -> io::Result<Vec<Event>> {
        let mut all = self.some().await?;
        loop {
            match self.take() {
                Ok(more) => all.extend(more),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&self) -> io::Result<Vec<Event>> {
        let mut bytes = [0; EVENT_BYTES];
        let length = self.events.try_read(&mut bytes)?;
        Ok(parse(&bytes[..length]))
    }
}

fn parse(mut bytes: &[u8]) -> Vec<Event> {
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().copied().unwrap_or_default();
    let mut events = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(EVENT_HEAD_BYTES) {
        let length = usize::try_from(u32::from_ne_bytes(word(head, 12))).unwrap_or(usize::MAX);
        let name = rest.get(..length).and_then(|name| name.split(|byte| *byte == 0).next());
        events.push(Event {
            watch: i32::from_ne_bytes(word(head, 0)),
            flags: ReadFlags::from_bits_retain(u32::from_ne_bytes(word(head, 4))),
            name: name.filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name).to_owned()),
        });
        bytes = rest.get(length..).unwrap_or_default();
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed() {
        let event = |watch: i32, flags: ReadFlags, name: &[u8]| {
            let words = [flags.bits(), 0, u32::try_from(name.len()).unwrap()].map(u32::to_ne_bytes);
            [&watch.to_ne_bytes(), words.as_flattened(), name].concat()
        };
        let bytes = [
            event(7, ReadFlags::MODIFY, b"0.log\0\0\0"),
            event(-1, ReadFlags::QUEUE_OVERFLOW, b""),
            event(8, ReadFlags::IGNORED, b""),
        ]
        .concat();
        let told = |watch, flags, name: Option<&str>| Event { watch, flags, name: name.map(OsString::from) };
        let first = told(7, ReadFlags::MODIFY, Some("0.log"));
        let others = [told(-1, ReadFlags::QUEUE_OVERFLOW, None), told(8, ReadFlags::IGNORED, None)];
        assert_eq!(parse(&bytes), [&[first.clone()][..], &others].concat());
        assert_eq!(parse(&bytes[..20]), [Event { name: None, ..first }], "cut within a name");
        assert_eq!(parse(&bytes[..10]), []);
    }

    #[tokio::test]
    async fn what_happens_is_told_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let inotify = Inotify::new().unwrap();
        let watch = inotify.watch(folder.path(), WatchFlags::CREATE | WatchFlags::DELETE_SELF).unwrap();
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |events: Vec<Event>| -> Vec<_> {
            events.into_iter().map(|event| (event.watch, event.name.unwrap())).collect()
        };
        assert_eq!(names(inotify.all().await.unwrap()), [(watch, "a".into()), (watch, "b".into())]);
        inotify.unwatch(watch).unwrap();
        let last = inotify.some().await.unwrap();
        assert_eq!(last, [Event { watch, flags: ReadFlags::IGNORED, name: None }]);
        assert!(inotify.unwatch(watch).is_err());
    }
}
