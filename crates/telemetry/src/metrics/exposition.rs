//! Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write as _;

/// What a family of metrics counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something that only grows.
    Counter,
    /// Something that goes up and down.
    Gauge,
    /// How often a number lay in which range.
    Histogram,
}

/// A page of metrics that is being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// Labels that many samples share, written out once.
#[derive(Debug, Default)]
pub struct LabelSet {
    text: String,
}

impl LabelSet {
    /// Writes the labels out.
    pub fn new(labels: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (label, value) in labels {
            append_label(&mut text, label, value);
        }
        Self { text }
    }
}

impl Exposition {
    /// The value of the header `Content-Type`.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty page with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes) }
    }

    /// The page as it is sent.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Begins a family, whose samples follow. Writing to a string does not fail, here and below.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.text, "# HELP {name} ");
        escape(&mut self.text, help, false);
        let _ = writeln!(self.text, "\n# TYPE {name} {kind}");
    }

    /// One sample of the family.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.suffixed(name, "", labels, value);
    }

    /// One sample of the family that was measured at a time of its own, in milliseconds since 1970.
    pub fn sample_at(&mut self, name: &str, labels: &[(&str, &str)], value: f64, millis: i64) {
        self.head(name, "", labels, None);
        number(&mut self.text, value);
        let _ = writeln!(self.text, " {millis}");
    }

    /// One sample of the family with the labels of a set and some of its own, and the time at which it
    /// was measured, if that is not now, in milliseconds since 1970.
    pub fn sample_in(
        &mut self,
        name: &str,
        set: &LabelSet,
        labels: &[(&str, &str)],
        value: f64,
        millis: Option<i64>,
    ) {
        let text = &mut self.text;
        text.push_str(name);
        text.push('{');
        let start = text.len();
        text.push_str(&set.text);
        for (label, value) in labels {
            if text.len() > start {
                text.push(',');
            }
            append_pair(text, label, value);
        }
        if text.len() == start {
            text.pop();
            text.push(' ');
        } else {
            text.push_str("} ");
        }
        number(text, value);
        if let Some(millis) = millis {
            let _ = write!(text, " {millis}");
        }
        text.push('\n');
    }

    pub(super) fn suffixed(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.head(name, suffix, labels, None);
        number(&mut self.text, value);
        self.text.push('\n');
    }

    pub(super) fn bucket(&mut self, name: &str, labels: &[(&str, &str)], bound: f64, count: f64) {
        self.head(name, "_bucket", labels, Some(bound));
        number(&mut self.text, count);
        self.text.push('\n');
    }

    fn head(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], bound: Option<f64>) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (label, value) in labels {
            let _ = write!(self.text, "{separator}{label}=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
            separator = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(self.text, "{separator}le=\"");
            number(&mut self.text, bound);
            self.text.push('"');
            separator = ',';
        }
        self.text.push_str(if separator == ',' { "} " } else { " " });
    }
}

fn append_label(out: &mut String, label: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    append_pair(out, label, value);
}

fn append_pair(out: &mut String, label: &str, value: &str) {
    out.push_str(label);
    out.push_str("=\"");
    escape(out, value, true);
    out.push('"');
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    if !text.contains(['\\', '\n', '"']) {
        out.push_str(text);
        return;
    }
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            plain => out.push(plain),
        }
    }
}

/// A number in Go's shortest form, which is what upstream's pages have: `5`, `0.25`, `1e+06`.
fn number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    if value.fract() == 0.0 && value.abs() < 1e6 {
        // Most values by far are small whole numbers. The cast is exact; -0 does not occur.
        let _ = write!(out, "{}", value as i64);
        return;
    }
    let start = out.len();
    let _ = write!(out, "{value:e}");
    let Some(mark) = out[start..].find('e').map(|at| start + at) else { return };
    let power = out[mark + 1..].parse::<i32>().unwrap_or_default();
    // Go changes to exponents at the same places as `%g` with six digits.
    if (-4..6).contains(&power) {
        out.truncate(start);
        let _ = write!(out, "{value}");
    } else {
        out.truncate(mark);
        let sign = if power < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", power.unsigned_abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_like_gos() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.25, "0.25"),
            (123_456.75, "123456.75"),
            (1_234_567.5, "1.2345675e+06"),
            (999_999.0, "999999"),
            (-2_000_000.0, "-2e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (88_526_848.0, "8.8526848e+07"),
            (2_592_000.0, "2.592e+06"),
            (1.5e300, "1.5e+300"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn labels_are_shared() {
        let set = LabelSet::new(&[("a", "1\"2"), ("b", "")]);
        let mut page = Exposition::with_capacity(100);
        page.sample_in("m", &set, &[], 1.0, None);
        page.sample_in("m", &set, &[("c", "3"), ("d", "4\n")], 0.5, Some(7));
        page.sample_in("m", &LabelSet::default(), &[("c", "3")], 2e6, None);
        page.sample_in("m", &LabelSet::default(), &[], -1.0, None);
        let expected = "m{a=\"1\\\"2\",b=\"\"} 1\nm{a=\"1\\\"2\",b=\"\",c=\"3\",d=\"4\\n\"} 0.5 7\n\
                        m{c=\"3\"} 2e+06\nm -1\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn labels_and_help_are_escaped() {
        let mut page = Exposition::new();
        page.family("a", "first\nsecond \\ \"third\"", Kind::Gauge);
        page.sample("a", &[("x", "1\"2\\3\n")], 1.0);
        page.sample_at("a", &[], 2.0, 1_700_000_000_000);
        assert_eq!(
            page.into_text(),
            "# HELP a first\\nsecond \\\\ \"third\"\n# TYPE a gauge\na{x=\"1\\\"2\\\\3\\n\"} 1\na 2 1700000000000\n"
        );
    }
}
