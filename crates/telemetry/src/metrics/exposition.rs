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

impl Exposition {
    /// The value of the header `Content-Type`.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// An empty page.
    pub fn new() -> Self {
        Self::default()
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

fn escape(out: &mut String, text: &str, quotes: bool) {
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
    let exponential = format!("{value:e}");
    match exponential.split_once('e').map(|(digits, power)| (digits, power.parse::<i32>())) {
        // Go changes to exponents at the same places as `%g` with six digits.
        Some((digits, Ok(power))) if !(-4..6).contains(&power) => {
            let sign = if power < 0 { '-' } else { '+' };
            let _ = write!(out, "{digits}e{sign}{:02}", power.unsigned_abs());
        }
        _ => drop(write!(out, "{value}")),
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
