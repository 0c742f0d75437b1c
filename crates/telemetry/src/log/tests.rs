//! Events in, lines out.

use std::sync::Mutex;

use super::format::Value;
use super::*;

#[derive(Debug, thiserror::Error)]
#[error("cannot start container web")]
struct Outer(#[source] Inner);

#[derive(Debug, thiserror::Error)]
#[error("no such image")]
struct Inner;

/// The lines that `emit` leaves, with what differs from run to run cut out.
fn lines(
    format: LogFormat,
    verbosity: u32,
    modules: &[(&str, u32)],
    emit: impl FnOnce(&LogHandle),
) -> Vec<String> {
    let modules = modules.iter().map(|(pattern, level)| ((*pattern).to_owned(), *level)).collect();
    let settings = Logging { format, verbosity, modules, ..Logging::default() };
    written_with(&settings, emit)
}

fn written_with(settings: &Logging, emit: impl FnOnce(&LogHandle)) -> Vec<String> {
    let written = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&written);
    let sink: output::Sink = Box::new(move |line| {
        // One call is one line.
        assert_eq!(line.last(), Some(&b'\n'));
        sink.lock().unwrap().push_str(std::str::from_utf8(line).unwrap());
    });
    let (logger, handle) = Logger::new(settings, TimeZone::UTC, Output::single(sink));
    tracing::subscriber::with_default(logger, || emit(&handle));
    let text = written.lock().unwrap().clone();
    text.lines().map(str::to_owned).collect()
}

/// What follows the header of text lines.
fn bodies(verbosity: u32, modules: &[(&str, u32)], emit: impl FnOnce(&LogHandle)) -> Vec<String> {
    let body = |line: &String| match line.split_once("] ") {
        Some((header, body)) => format!("{}|{body}", &header[..1]),
        None => line.clone(),
    };
    lines(LogFormat::Text, verbosity, modules, emit).iter().map(body).collect()
}

#[test]
fn the_header_is_klogs() {
    let mut out = String::new();
    let time: Timestamp = "2026-11-24T08:01:40.000042Z".parse().unwrap();
    let line = Line { level: Level::WARN, verbosity: 0, file: "crates/x/src/file.rs", line: 42, time };
    let fields = Fields { message: "hello".to_owned(), ..Fields::default() };
    text::line(&mut out, &line, &fields, &TimeZone::UTC, 123);
    assert_eq!(out, "W1124 08:01:40.000042     123 file.rs:42] \"hello\"\n");
}

#[test]
fn values_are_quoted_as_klog_does() {
    let written = bodies(0, &[], |_| {
        tracing::info!(pod = "ns/a", count = 3, ok = true, share = 0.5, "Pod \"a\" started");
        tracing::info!(text = "a\tb\\\u{1}é\u{a0}", "odd");
        tracing::info!(text = "one\ntwo\n", next = 1, "several lines");
        tracing::error!(error = &Outer(Inner) as &dyn std::error::Error, "failed");
        tracing::info!(shown = %"plain", debug = ?Some(1), "formatted");
        tracing::info!(r#type = "Normal", message_ = "its own", "names that are taken");
    });
    assert_eq!(
        written,
        [
            r#"I|"Pod \"a\" started" pod="ns/a" count=3 ok=true share=0.5"#,
            r#"I|"odd" text="a\tb\\\x01é\u00a0""#,
            r#"I|"several lines" text=<"#,
            "\tone",
            "\ttwo",
            r#" > next=1"#,
            r#"E|"failed" err="cannot start container web: no such image""#,
            r#"I|"formatted" shown="plain" debug="Some(1)""#,
            r#"I|"names that are taken" type="Normal" message="its own""#,
        ]
    );
}

#[test]
fn levels_follow_the_verbosity() {
    let emit = |_: &LogHandle| {
        tracing::warn!("warn");
        tracing::info!("info");
        tracing::info!(v = 2, "info 2");
        tracing::debug!("debug");
        tracing::trace!("trace");
        tracing::info!(target: "hyper::client", "library info");
        tracing::debug!(target: "hyper::client", "library debug");
    };
    for (verbosity, expected) in [(0, 2), (2, 3), (4, 5), (6, 6), (8, 7)] {
        assert_eq!(bodies(verbosity, &[], emit).len(), expected, "-v={verbosity}");
    }
}

#[test]
fn a_source_file_can_have_its_own_level() {
    let emit = |_: &LogHandle| tracing::debug!("debug");
    assert_eq!(bodies(0, &[("tes*", 4)], emit).len(), 1);
    assert_eq!(bodies(0, &[("other", 4)], emit).len(), 0);
    // A pattern never lowers the level; of several, the first that matches counts.
    assert_eq!(bodies(9, &[("tests", 0)], emit).len(), 1);
    assert_eq!(bodies(0, &[("t*", 0), ("tests", 9)], emit).len(), 0);
}

#[test]
fn the_level_changes_while_running() {
    let written = bodies(0, &[], |handle| {
        for verbosity in [0, 4, 0] {
            handle.set_verbosity(verbosity);
            assert_eq!(handle.verbosity(), verbosity);
            tracing::debug!(verbosity, "debug");
        }
    });
    assert_eq!(written, [r#"I|"debug" verbosity=4"#]);
}

#[test]
fn json_lines_are_json() {
    let written = lines(LogFormat::Json, 4, &[], |_| {
        tracing::info!(pod = "a\"b\n\u{1}", count = -3, share = f64::NAN, "hello");
        tracing::debug!("detail");
        tracing::error!(error = &Outer(Inner) as &dyn std::error::Error, "failed");
    });
    let parsed: Vec<serde_json::Value> =
        written.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed[0]["msg"], "hello");
    assert_eq!(parsed[0]["v"], 0);
    assert_eq!(parsed[0]["pod"], "a\"b\n\u{1}");
    assert_eq!(parsed[0]["count"], -3);
    assert_eq!(parsed[0]["share"], "NaN");
    assert!(parsed[0]["ts"].as_f64().unwrap() > 1.7e12);
    assert!(parsed[0]["caller"].as_str().unwrap().starts_with("log/tests.rs:"));
    assert_eq!(parsed[1]["v"], 4);
    assert_eq!(parsed[2]["err"], "cannot start container web: no such image");
    assert_eq!(parsed[2].get("v"), None);
}

proptest::proptest! {
    #[test]
    fn every_text_becomes_one_json_line(text in "\\PC{0,20}[\\x00-\\x1f]{0,5}") {
        let written = lines(LogFormat::Json, 0, &[], |_| tracing::info!(text = text.as_str(), "m"));
        let parsed: serde_json::Value = serde_json::from_str(&written[0]).unwrap();
        proptest::prop_assert_eq!(parsed["text"].as_str().unwrap(), text);
    }
}

#[test]
fn spans_add_their_fields() {
    let emit = |_: &LogHandle| {
        let outer = tracing::info_span!("outer", pod = "ns/a", attempt = 1);
        let inner =
            outer.in_scope(|| tracing::info_span!("inner", attempt = 2, later = tracing::field::Empty));
        tracing::info!("outside");
        inner.in_scope(|| {
            tracing::info!(pod = "ns/a", id = "x", "inside");
            tracing::info!(pod = "ns/b", "other");
            inner.record("later", "now");
            tracing::Span::current().in_scope(|| tracing::info!("recorded"));
            tracing::info!(parent: &outer, "explicit");
            tracing::info!(parent: None, "root");
        });
        outer.in_scope(|| drop(inner));
        tracing::info!("after");
    };
    assert_eq!(
        bodies(0, &[], emit),
        [
            r#"I|"outside""#,
            r#"I|"inside" pod="ns/a" attempt=2 id="x""#,
            r#"I|"other" attempt=2 pod="ns/b""#,
            r#"I|"recorded" pod="ns/a" attempt=2 later="now""#,
            r#"I|"explicit" pod="ns/a" attempt=1"#,
            r#"I|"root""#,
            r#"I|"after""#,
        ]
    );
    let settings = Logging { is_contextual: false, ..Logging::default() };
    assert!(written_with(&settings, emit).iter().all(|line| !line.contains("attempt")));
}

#[test]
fn spans_of_libraries_do_not_count() {
    let written = bodies(9, &[], |_| {
        let _entered = tracing::info_span!(target: "h2::client", "connection", peer = "client").entered();
        tracing::info!("message");
    });
    assert_eq!(written, [r#"I|"message""#]);
}

#[test]
fn spans_that_have_ended_are_forgotten() {
    let spans = Spans::default();
    let id = Id::from_u64(1);
    spans.clone_handle(&id);
    assert!(!spans.drop_handle(&id), "there is none");
    let logger = Logger::new(&Logging::default(), TimeZone::UTC, Output::single(Box::new(|_: &[u8]| ()))).0;
    let dispatch = tracing::Dispatch::new(logger);
    tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("one", pod = "ns/a");
        let clone = span.clone();
        assert_eq!(dispatch.downcast_ref::<Logger>().unwrap().spans.as_ref().unwrap().count(), 1);
        drop(span);
        clone.in_scope(|| drop(clone.clone()));
        assert_eq!(dispatch.downcast_ref::<Logger>().unwrap().spans.as_ref().unwrap().count(), 1);
        drop(clone);
        assert_eq!(dispatch.downcast_ref::<Logger>().unwrap().spans.as_ref().unwrap().count(), 0);
    });
}

#[test]
fn json_has_upstreams_shape() {
    let mut out = String::new();
    let time: Timestamp = "2026-11-24T08:01:40.0600425Z".parse().unwrap();
    let line = Line { level: Level::INFO, verbosity: 2, file: "crates/kubelet/src/start.rs", line: 42, time };
    let text = |text: &str| Value::Text(text.to_owned());
    let mut fields = Fields { message: "hello".to_owned(), ..Fields::default() };
    fields.error = Some("broken".to_owned());
    fields.pairs = vec![("pod", text("ns/a")), ("name", text("x/y"))];
    json::line(&mut out, &line, &fields);
    assert_eq!(
        out,
        concat!(
            r#"{"ts":1795507300060.0425,"caller":"kubelet/start.rs:42","msg":"hello","v":2,"#,
            r#""pod":{"name":"a","namespace":"ns"},"name":"x/y","err":"broken"}"#,
            "\n"
        )
    );
    fields.pairs = vec![("pod", text("noslash"))];
    out.clear();
    json::line(&mut out, &Line { level: Level::ERROR, ..line }, &fields);
    assert!(out.ends_with("\"msg\":\"hello\",\"pod\":\"noslash\",\"err\":\"broken\"}\n"), "{out}");
}

#[test]
fn split_streams_part_messages_from_problems() {
    for (format, problems_of_three) in [(LogFormat::Text, 2), (LogFormat::Json, 1)] {
        let counts = [Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0))];
        let counting = |count: &Arc<Mutex<usize>>| -> output::Sink {
            let count = count.clone();
            Box::new(move |lines| *count.lock().unwrap() += lines.iter().filter(|b| **b == b'\n').count())
        };
        let output = Output::split(counting(&counts[0]), counting(&counts[1]), 1024);
        let settings = Logging { format, ..Logging::default() };
        let (logger, handle) = Logger::new(&settings, TimeZone::UTC, output);
        tracing::subscriber::with_default(logger, || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
        });
        assert_eq!(*counts[1].lock().unwrap(), 0, "messages wait");
        handle.flush();
        assert_eq!(*counts[0].lock().unwrap(), problems_of_three);
        assert_eq!(*counts[1].lock().unwrap(), 3 - problems_of_three);
    }
}
