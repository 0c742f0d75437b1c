//! A page of metrics as protobuf: messages of `io.prometheus.client.MetricFamily`, each after its length
//! (<https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>).
//!
//! It is read off the page as text, which this program has just written: hardly anybody asks for protobuf,
//! and so every metric has one way to be written.

use prost::{Enumeration, Message};

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Untyped = 3,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
    #[prost(int64, optional, tag = "6")]
    timestamp_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// Counters, gauges and what is neither look alike.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

/// The page, family by family. What is not understood is left out; our own pages have nothing such.
pub(super) fn delimited(page: &[u8]) -> Vec<u8> {
    let page = String::from_utf8_lossy(page);
    let mut out = Vec::with_capacity(page.len() / 2);
    let mut families = Families { family: None, out: &mut out };
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            families.begin(name, unescaped(help));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.set_kind(rest.rsplit(' ').next().unwrap_or_default());
        } else if let Some(sample) = Sample::parse(line) {
            families.add(sample);
        }
    }
    families.end();
    out
}

/// The family that is being read, and where it goes when it is complete.
struct Families<'a> {
    family: Option<MetricFamily>,
    out: &'a mut Vec<u8>,
}

impl Families<'_> {
    fn begin(&mut self, name: &str, help: String) {
        self.end();
        self.family =
            Some(MetricFamily { name: Some(name.to_owned()), help: Some(help), ..MetricFamily::default() });
    }

    fn set_kind(&mut self, kind: &str) {
        let kind = match kind {
            "counter" => MetricType::Counter,
            "gauge" => MetricType::Gauge,
            "histogram" => MetricType::Histogram,
            _ => MetricType::Untyped,
        };
        if let Some(family) = &mut self.family {
            family.kind = Some(kind.into());
        }
    }

    fn add(&mut self, sample: Sample<'_>) {
        let Some(family) = &mut self.family else { return };
        if family.kind() == MetricType::Histogram {
            return add_to_histogram(family, sample);
        }
        let value = Some(Value { value: Some(sample.value) });
        let mut metric = Metric { label: sample.labels, timestamp_ms: sample.millis, ..Metric::default() };
        match family.kind() {
            MetricType::Counter => metric.counter = value,
            MetricType::Gauge => metric.gauge = value,
            MetricType::Untyped | MetricType::Histogram => metric.untyped = value,
        }
        family.metric.push(metric);
    }

    fn end(&mut self) {
        let Some(family) = self.family.take().filter(|family| !family.metric.is_empty()) else { return };
        // A vector grows as it must, so that writing to it does not fail.
        let _ = family.encode_length_delimited(self.out);
    }
}

/// The lines of one histogram come one after another, beginning with its buckets.
fn add_to_histogram(family: &mut MetricFamily, mut sample: Sample<'_>) {
    let part = sample.name.strip_prefix(family.name()).unwrap_or_default();
    let bound =
        sample.labels.iter().position(|label| label.name() == "le").map(|at| sample.labels.remove(at));
    if family.metric.last().is_none_or(|last| last.label != sample.labels) {
        let histogram = Some(Histogram::default());
        family.metric.push(Metric { label: sample.labels, histogram, ..Metric::default() });
    }
    let Some(histogram) = family.metric.last_mut().and_then(|metric| metric.histogram.as_mut()) else {
        return;
    };
    let count = sample.value as u64;
    match (part, bound.as_ref().map(LabelPair::value)) {
        // The count says as much.
        ("_bucket", Some("+Inf")) => {}
        ("_bucket", Some(bound)) => {
            histogram.bucket.push(Bucket { cumulative_count: Some(count), upper_bound: bound.parse().ok() })
        }
        ("_sum", _) => histogram.sample_sum = Some(sample.value),
        ("_count", _) => histogram.sample_count = Some(count),
        _ => {}
    }
}

/// One line of a page: `name{label="value"} 1.5 1700000000000`.
#[derive(Debug, PartialEq)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<LabelPair>,
    value: f64,
    millis: Option<i64>,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while let Some((name, after)) = rest.split_once("=\"") {
                let end = end_of_value(after)?;
                let (name, value) = (name.trim_start_matches(',').to_owned(), unescaped(&after[..end]));
                labels.push(LabelPair { name: Some(name), value: Some(value) });
                rest = after.get(end + 1..)?;
                if rest.starts_with('}') {
                    break;
                }
            }
            rest = rest.strip_prefix('}')?;
        }
        let mut numbers = rest.split_whitespace();
        // Rust reads `+Inf` and `NaN` as well.
        let value = numbers.next()?.parse().ok()?;
        Some(Self { name, labels, value, millis: numbers.next().and_then(|millis| millis.parse().ok()) })
    }
}

/// Where the quote is that ends a label's value.
fn end_of_value(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.find(|letter| {
        let is_end = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    })
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, if letter == '\\' { letters.next() } else { None }) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some(other)) => plain.push(other),
            _ => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    const PAGE: &str = r#"# HELP a_total A\nhelp.
# TYPE a_total counter
a_total{x="1",y="q\"\\\n}"} 2.5
a_total{x="2",y=""} 1e+06 1700000000000
# HELP b
# TYPE b gauge
b -1
# HELP none Nothing.
# TYPE none gauge
# HELP h Seconds.
# TYPE h histogram
h_bucket{k="v",le="0.5"} 1
h_bucket{k="v",le="+Inf"} 3
h_sum{k="v"} 7.5
h_count{k="v"} 3
h_bucket{k="w",le="0.5"} 0
h_bucket{k="w",le="+Inf"} 0
h_sum{k="w"} 0
h_count{k="w"} 0
"#;

    #[test]
    fn a_page_is_all_there() {
        let bytes = delimited(PAGE.as_bytes());
        let mut rest = bytes.as_slice();
        let mut families = Vec::new();
        while rest.has_remaining() {
            families.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
        }
        let [a, b, h] = families.as_slice() else { panic!("{families:?}") };
        assert_eq!((a.name(), a.help(), a.kind()), ("a_total", "A\nhelp.", MetricType::Counter));
        let labels: Vec<(&str, &str)> = a.metric[0].label.iter().map(|l| (l.name(), l.value())).collect();
        assert_eq!(labels, [("x", "1"), ("y", "q\"\\\n}")]);
        assert_eq!(a.metric[0].counter.as_ref().map(Value::value), Some(2.5));
        assert_eq!(a.metric[1].counter.as_ref().map(Value::value), Some(1e6));
        assert_eq!((a.metric[0].timestamp_ms, a.metric[1].timestamp_ms), (None, Some(1_700_000_000_000)));
        assert_eq!(b.metric[0].gauge.as_ref().map(Value::value), Some(-1.0));
        assert_eq!(h.metric.len(), 2);
        let histogram = h.metric[0].histogram.as_ref().unwrap();
        assert_eq!((histogram.sample_count(), histogram.sample_sum()), (3, 7.5));
        let buckets: Vec<_> =
            histogram.bucket.iter().map(|b| (b.upper_bound(), b.cumulative_count())).collect();
        assert_eq!(buckets, [(0.5, 1)]);
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        for line in ["", "# EOF", "x", "x{", "x{a=\"1} 2", "x{a=\"1\"", "x y"] {
            assert_eq!(Sample::parse(line), None, "{line}");
        }
        assert!(delimited(b"lonely 1\n\xff\xfe{ 2").is_empty());
    }
}
