//! The log: `tracing` events as klog writes them, one `write` a line.
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
//! again only when the level changes.
//!
//! Fields named `error` or `err` come out as `err`, with all causes. A field `pod` is
//! `namespace/name`. Fields of our own spans (`info_span!("effect", pod = ...)`) are added to
//! every line that is logged within.

mod context;
mod filter;
mod format;
mod json;
mod output;
mod text;

use std::cell::RefCell;
use std::sync::Arc;

use config::{LogFormat, Logging};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_core::span::Current;

use context::Spans;
use filter::Filter;
use format::{Fields, Line};
use output::Output;

pub use output::LogBlocked;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There can be one only.
    #[error("cannot install the logger: there is one already")]
    AlreadyInstalled,
    /// What is buffered could not be written out in time.
    #[error("cannot start a thread for the log's buffer")]
    Thread(#[source] std::io::Error),
}

/// Changes the level of the log while the kubelet runs, and ends it.
#[derive(Clone)]
pub struct LogHandle {
    filter: Arc<Filter>,
    output: Arc<Output>,
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

    /// Whether its lines are taken. A reader that has stopped reading holds up whoever logs.
    ///
    /// # Errors
    /// If a line has not been taken for two minutes.
    pub fn check(&self) -> Result<(), LogBlocked> {
        self.output.check()
    }

    /// Writes out what is buffered. To be called before the process ends.
    pub fn flush(&self) {
        self.output.flush();
    }
}

/// Sends every event of the process to standard error or, with split streams, to both.
///
/// # Errors
/// If that has been arranged already, or the system has no thread to spare.
pub fn install(settings: &Logging) -> Result<LogHandle, InstallError> {
    let output = if settings.split_stream {
        Output::split(output::stderr(), output::stdout(), settings.info_buffer_bytes)
    } else {
        Output::single(output::stderr())
    };
    let (logger, handle) = Logger::new(settings, TimeZone::system(), output);
    tracing::subscriber::set_global_default(logger).map_err(|_| InstallError::AlreadyInstalled)?;
    handle.output.flush_every(settings.flush_interval).map_err(InstallError::Thread)?;
    Ok(handle)
}

struct Logger {
    filter: Arc<Filter>,
    format: LogFormat,
    zone: TimeZone,
    process: u32,
    output: Arc<Output>,
    /// Absent when lines are not to have the fields of their surroundings.
    spans: Option<Spans>,
}

impl Logger {
    fn new(settings: &Logging, zone: TimeZone, output: Output) -> (Self, LogHandle) {
        let filter = Arc::new(Filter::new(settings.verbosity, settings.modules.clone()));
        let handle = LogHandle { filter, output: Arc::new(output) };
        let logger = Self {
            filter: Arc::clone(&handle.filter),
            format: settings.format,
            zone,
            process: std::process::id(),
            output: Arc::clone(&handle.output),
            spans: settings.is_contextual.then(Spans::default),
        };
        (logger, handle)
    }

    /// Whether an event is shown, as far as that does not depend on its field `v`, or a span is kept.
    fn takes(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() {
            self.spans.is_some() && filter::is_own(metadata)
        } else {
            self.filter.shows(metadata)
        }
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
        let is_problem = match self.format {
            LogFormat::Text => {
                text::line(buffer, line, fields, &self.zone, self.process);
                line.level <= Level::WARN
            }
            LogFormat::Json => {
                json::line(buffer, line, fields);
                // This form knows no warnings.
                line.level == Level::ERROR
            }
        };
        self.output.write(is_problem, buffer.as_bytes());
    }
}

impl Subscriber for Logger {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.takes(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.takes(metadata)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        // Without spans this is never reached, since none is enabled; an id has to be non-zero.
        self.spans.as_ref().map_or(Id::from_u64(1), |spans| spans.make(attributes))
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        if let Some(spans) = &self.spans {
            spans.record(id, values);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = fields.level.unwrap_or(0);
        if level > self.filter.verbosity_of(metadata) && *metadata.level() >= Level::INFO {
            return;
        }
        if let Some(spans) = &self.spans {
            fields.surrounded_by(&spans.around(event));
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

    fn enter(&self, id: &Id) {
        context::enter(id);
    }

    fn exit(&self, id: &Id) {
        context::exit(id);
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some(spans) = &self.spans {
            spans.clone_handle(id);
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        self.spans.as_ref().is_some_and(|spans| spans.drop_handle(&id))
    }

    fn current_span(&self) -> Current {
        self.spans.as_ref().map_or_else(Current::none, Spans::current)
    }
}

#[cfg(test)]
mod tests;
