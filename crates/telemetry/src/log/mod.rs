//! The log: `tracing` events as klog writes them, to standard error, one `write` a line.
//!
//! | event | klog | shown at |
//! |---|---|---|
//! | `error!` | `E`, with `err` | always |
//! | `warn!` | `W` | always |
//! | `info!` | `I` | `-v=0`, or the level in a field `v` |
//! | `debug!` | `I` | `-v=4` |
//! | `trace!` | `I` | `-v=6` |
//!
//! Events of libraries are of less interest than our own: their `info!` takes `-v=4`, their `debug!`
//! `-v=8`, their `trace!` `-v=10`. `--vmodule` sets the level of single source files.
//!
//! What is not shown costs one atomic load: every place that logs is decided once, and decided
//! again only when the level changes. Spans are not recorded.

mod filter;
mod format;
mod json;
mod text;

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::Arc;

use config::{LogFormat, Logging};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use filter::Filter;
use format::{Fields, Line};

/// The logger is there already, and there can be one only.
#[derive(Debug, thiserror::Error)]
#[error("cannot install the logger: there is one already")]
pub struct AlreadyInstalled;

/// Changes the level of the log while the kubelet runs.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: Arc<Filter>,
}

impl LogHandle {
    /// The current `-v` level.
    pub fn verbosity(&self) -> u32 {
        self.filter.verbosity()
    }

    /// Sets the `-v` level, from the next event on.
    pub fn set_verbosity(&self, verbosity: u32) {
        self.filter.set_verbosity(verbosity);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Sends every event of the process to standard error.
///
/// # Errors
/// If that has been arranged already.
pub fn install(settings: &Logging) -> Result<LogHandle, AlreadyInstalled> {
    let (logger, handle) = Logger::new(settings, TimeZone::system(), Box::new(to_stderr));
    tracing::subscriber::set_global_default(logger).map_err(|_| AlreadyInstalled)?;
    Ok(handle)
}

fn to_stderr(line: &[u8]) {
    // Standard error is not buffered: this is one write. If it fails there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(line);
}

type Sink = Box<dyn Fn(&[u8]) + Send + Sync>;

struct Logger {
    filter: Arc<Filter>,
    format: LogFormat,
    zone: TimeZone,
    process: u32,
    sink: Sink,
}

impl Logger {
    fn new(settings: &Logging, zone: TimeZone, sink: Sink) -> (Self, LogHandle) {
        let filter = Arc::new(Filter::new(settings.verbosity, settings.modules.clone()));
        let handle = LogHandle { filter: Arc::clone(&filter) };
        (Self { filter, format: settings.format, zone, process: std::process::id(), sink }, handle)
    }

    fn write(&self, line: &Line<'_>, fields: &Fields) {
        thread_local! {
            static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
        }
        // Larger lines are rare; their buffers are not kept.
        const KEEP_BYTES: usize = 4096;
        BUFFER.with(|buffer| {
            // An event inside the formatting of an event finds the buffer in use and gets its own.
            let Ok(mut buffer) = buffer.try_borrow_mut() else {
                return self.write_with(&mut String::new(), line, fields);
            };
            buffer.clear();
            self.write_with(&mut buffer, line, fields);
            if buffer.capacity() > KEEP_BYTES {
                *buffer = String::new();
            }
        });
    }

    fn write_with(&self, buffer: &mut String, line: &Line<'_>, fields: &Fields) {
        match self.format {
            LogFormat::Text => text::line(buffer, line, fields, &self.zone, self.process),
            LogFormat::Json => json::line(buffer, line, fields),
        }
        (self.sink)(buffer.as_bytes());
    }
}

impl Subscriber for Logger {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.filter.shows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.shows(metadata)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Never reached, since spans are never enabled; an id has to be non-zero.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = fields.level.unwrap_or(0);
        if level > self.filter.verbosity_of(metadata) && *metadata.level() >= Level::INFO {
            return;
        }
        let line = Line {
            level: *metadata.level(),
            verbosity: level.max(filter::threshold(metadata)),
            file: metadata.file().unwrap_or("unknown"),
            line: metadata.line().unwrap_or(0),
            time: Timestamp::now(),
        };
        self.write(&line, &fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests;
