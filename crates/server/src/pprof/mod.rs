//! `/debug/pprof/`: profiles of this process, in the form `go tool pprof` reads.
//!
//! | profile | what it is here |
//! |---|---|
//! | `profile` | processor time, sampled by the kernel for as long as the client asks |
//! | `heap`, `allocs` | what the allocator holds, by kind: it does not note who asked for it |
//! | `goroutine`, `threadcreate` | threads, by name |
//! | `block`, `mutex` | nothing: locks are not measured |
//! | `cmdline`, `symbol` | as upstream; names of functions are in the profile |
//!
//! There is no `trace`: it is about Go's scheduler.

mod names;
mod proto;

use std::path::Path;
use std::time::Duration;

use host::profile::{CodeMapping, CpuSampler};
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::answer::{self, Answer};
use crate::service::Query;
use proto::Builder;

/// Samples a second of processor time, upstream's number.
const FREQUENCY: u64 = 100;
/// The time that a profile takes when the client does not say.
const USUAL_SECONDS: u64 = 30;
/// The longest, seconds.
const MOST_SECONDS: u64 = 600;
/// Between two looks at what the kernel wrote.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Profiles of the processor time under way at once, in the whole process: each costs a ring of
/// memory for each thread.
static TURN: Semaphore = Semaphore::const_new(1);

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What there is, with a line about each.
const PROFILES: [(&str, &str); 8] = [
    ("allocs", "the same as heap"),
    ("block", "empty: waiting for locks is not measured"),
    ("cmdline", "the arguments the process was started with"),
    ("goroutine", "threads, by name; with debug=2 each of them"),
    ("heap", "memory the allocator holds, by kind"),
    ("mutex", "empty: locks are not measured"),
    ("profile", "processor time; seconds=N says for how long"),
    ("threadcreate", "the same as goroutine"),
];

/// Answers a request for a profile.
pub(crate) async fn answer(name: &str, query: &Query) -> Answer {
    let is_text = query.first("debug").is_some_and(|debug| debug != "0" && !debug.is_empty());
    match name {
        "" => index(),
        "cmdline" => text(cmdline()),
        // None: profiles bring their names along.
        "symbol" => text("num_symbols: 0\n".to_owned()),
        "profile" => cpu(query).await,
        "heap" | "allocs" => heap(name, is_text),
        "goroutine" | "threadcreate" => threads(name, is_text),
        "block" | "mutex" => {
            finished(name, Builder::new(&[("contentions", "count"), ("delay", "nanoseconds")]))
        }
        _ => refusal(StatusCode::NOT_FOUND, "Unknown profile"),
    }
}

fn index() -> Answer {
    let mut page = "<!doctype html>\n<title>/debug/pprof/</title>\n<h1>/debug/pprof/</h1>\n<dl>\n".to_owned();
    for (name, about) in PROFILES {
        page += &format!("<dt><a href=\"{name}?debug=1\">{name}</a></dt><dd>{about}</dd>\n");
    }
    page += "</dl>\n";
    answer::unsniffed(answer::with_type(StatusCode::OK, HTML, answer::body(page)))
}

fn cmdline() -> String {
    let arguments: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    arguments.join("\0")
}

/// Samples the process for as long as the client likes; who leaves early ends it.
async fn cpu(query: &Query) -> Answer {
    let seconds = query.first("seconds").and_then(|text| text.parse().ok()).filter(|n| *n > 0);
    let seconds = seconds.unwrap_or(USUAL_SECONDS);
    if seconds > MOST_SECONDS {
        let text = format!("a profile takes {MOST_SECONDS} seconds at most");
        return refusal(StatusCode::BAD_REQUEST, &text);
    }
    let failed = |reason: &dyn std::fmt::Display| {
        refusal(StatusCode::INTERNAL_SERVER_ERROR, &format!("Could not enable CPU profiling: {reason}"))
    };
    let Ok(_turn) = TURN.try_acquire() else { return failed(&"cpu profiling already in use") };
    let (begun, start) = (Timestamp::now(), Instant::now());
    let mut sampler = match CpuSampler::start(FREQUENCY) {
        Ok(sampler) => sampler,
        Err(error) => return failed(&error),
    };
    let end = start + Duration::from_secs(seconds);
    while Instant::now() < end {
        tokio::time::sleep_until(end.min(Instant::now() + LOOK_EVERY)).await;
        // Some microseconds a thread, without waiting for anything.
        if let Err(error) = sampler.sample() {
            tracing::warn!(%error, "Some threads are missing from the profile");
        }
    }
    let mappings = match host::profile::code_mappings() {
        Ok(mappings) => mappings,
        Err(error) => return failed(&error),
    };
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    mappings.iter().for_each(|mapping| builder.mapping(mapping));
    let period = i64::try_from(1_000_000_000 / FREQUENCY).unwrap_or(0);
    let took = i64::try_from(start.elapsed().as_nanos()).unwrap_or(0);
    builder.time(i64::try_from(begun.as_nanosecond()).unwrap_or(0), took);
    builder.period(("cpu", "nanoseconds"), period);
    for (stack, count) in sampler.finish() {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        builder.stack(&stack, &[count, count.saturating_mul(period)]);
    }
    match tokio::task::spawn_blocking(move || with_names(builder, &mappings)).await {
        Ok(builder) => finished("profile", builder),
        Err(error) => failed(&error),
    }
}

/// The same with the names of functions, where there are any. Blocks on the disk.
fn with_names(mut builder: Builder, mappings: &[CodeMapping]) -> Builder {
    for (index, mapping) in mappings.iter().enumerate() {
        let addresses = builder.addresses_in(index);
        if addresses.is_empty() {
            continue;
        }
        // The program may have been replaced since it was started.
        let file = if index == 0 { Path::new("/proc/self/exe") } else { &mapping.path };
        match names::of(mapping, file, &addresses) {
            Ok(names) => builder.name(index, names),
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                file = %mapping.path.display(),
                "Failed to read symbols for the profile"
            ),
        }
    }
    builder
}

fn heap(name: &str, is_text: bool) -> Answer {
    let usage = host::memory::allocator_usage();
    let kinds = [
        ("malloc: in use, small", 0, usage.in_use),
        ("malloc: in use, with pages of their own", usage.mapped_pieces, usage.mapped),
        ("malloc: free, not given back", 0, usage.kept),
    ];
    if is_text {
        return text(kinds.iter().map(|(kind, _, bytes)| format!("{kind}: {bytes} bytes\n")).collect());
    }
    let mut builder = Builder::new(&[("inuse_objects", "count"), ("inuse_space", "bytes")]);
    let number = |n| i64::try_from(n).unwrap_or(i64::MAX);
    builder.time(i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0), 0);
    builder.period(("space", "bytes"), 1);
    for (kind, pieces, bytes) in kinds {
        builder.named(kind, &[number(pieces), number(bytes)]);
    }
    finished(name, builder)
}

fn threads(name: &str, is_text: bool) -> Answer {
    let threads = match host::profile::threads() {
        Ok(threads) => threads,
        Err(error) => {
            let text = format!("failed to list threads: {error}");
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, &text);
        }
    };
    if is_text {
        let lines = threads.iter().map(|t| format!("thread {} [{}]: {}\n", t.id, t.state, t.name));
        return text(lines.collect());
    }
    let mut counts = std::collections::BTreeMap::<&str, i64>::new();
    threads.iter().for_each(|thread| *counts.entry(&thread.name).or_default() += 1);
    let mut builder = Builder::new(&[(name, "count")]);
    builder.period((name, "count"), 1);
    counts.into_iter().for_each(|(thread, count)| builder.named(thread, &[count]));
    finished(name, builder)
}

fn text(text: String) -> Answer {
    answer::unsniffed(answer::text(StatusCode::OK, text))
}

/// A profile as a file.
fn finished(name: &str, builder: Builder) -> Answer {
    let bytes = match builder.finish() {
        Ok(bytes) => bytes,
        Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let mut answer = answer::unsniffed(answer::with_type(StatusCode::OK, BINARY, answer::body(bytes)));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        answer.headers_mut().insert(CONTENT_DISPOSITION, value);
    }
    answer
}

/// A refusal that the tool shows to its user, told by its mark.
fn refusal(status: StatusCode, line: &str) -> Answer {
    let mut answer = answer::error(status, line);
    let mark = HeaderName::from_static("x-go-pprof");
    answer.headers_mut().insert(mark, HeaderValue::from_static("1"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
