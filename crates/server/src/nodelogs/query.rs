//! What a log query asks for: parsing and rules, nothing else.
//!
//! A query names services or one file. What it may hold is narrow, since parts of it become
//! arguments of a program: names of few characters, numbers in a range, times that are written
//! anew from what was understood.

use jiff::Timestamp;

/// The most services one query may name.
const MAX_SERVICES: usize = 4;
/// The longest name of a service, bytes.
const MAX_SERVICE_BYTES: usize = 256;
/// The most lines from the end of a log.
const MAX_TAIL_LINES: i64 = 100_000;
/// The longest pattern, bytes: more is no pattern but an attack on the one who matches it.
const MAX_PATTERN_BYTES: usize = 4096;

/// A query that keeps the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLogQuery {
    /// Services or a file.
    pub source: LogSource,
    /// Which lines of them.
    pub options: LogOptions,
}

/// Where the lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Units of the journal, or files named after them.
    Services(Vec<String>),
    /// A path below the log folder.
    File(String),
}

/// Which lines are wanted. For services that log to the journal only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Nothing younger.
    pub until: Option<Timestamp>,
    /// The last so many.
    pub tail_lines: Option<i64>,
    /// Of this start of the machine: 0 is the present one, -1 the one before.
    pub boot: Option<i64>,
    /// Only lines in which this regular expression (PCRE2) is found.
    pub pattern: Option<String>,
}

/// Why there is no answer to a query. The text names every field that is wrong, as upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A value is not what its field takes: 400.
    #[error("{0}")]
    Malformed(String),
    /// The values break a rule: 406.
    #[error("{0}")]
    Refused(String),
}

/// Reads the parameters of a request; nothing when none of them is about a log query.
pub fn parse(query: Option<&str>) -> Result<Option<NodeLogQuery>, QueryError> {
    let pairs: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let mut faults = Vec::new();
    let asked: Vec<&str> =
        pairs.iter().filter(|(name, _)| name == "query").map(|(_, v)| v.as_str()).collect();
    let (files, others): (Vec<&str>, Vec<&str>) = asked.iter().partition(|text| text.contains(['/', '\\']));
    let services: Vec<&str> = others.into_iter().filter(|text| !text.trim().is_empty()).collect();
    if !asked.is_empty() && files.is_empty() && services.is_empty() {
        faults.push(format!("query: Invalid value: {}: may not be empty", go_list(&asked)));
    }
    let first = |name: &str| {
        pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    };
    let options = LogOptions {
        since: first("sinceTime").and_then(|text| time("sinceTime", text, &mut faults)),
        until: first("untilTime").and_then(|text| time("untilTime", text, &mut faults)),
        boot: first("boot").and_then(|text| number("boot", text, &mut faults)),
        tail_lines: first("tailLines").and_then(|text| number("tailLines", text, &mut faults)),
        pattern: first("pattern").map(str::to_owned),
    };
    if !faults.is_empty() {
        return Err(QueryError::Malformed(aggregate(faults)));
    }
    if files.is_empty() && services.is_empty() && options == LogOptions::default() {
        return Ok(None);
    }
    let mut faults = service_faults(&services);
    let has_options = options != LogOptions::default();
    match (files.as_slice(), services.is_empty()) {
        ([], true) => faults.push("query: Required value: cannot be empty with options".to_owned()),
        ([_, ..], false) => faults.push(format!(
            "query: Invalid value: \"[{}], [{}]\": cannot specify a file and service",
            files.join(" "),
            services.join(" ")
        )),
        ([_, _, ..], true) => faults
            .push(format!("query: Invalid value: {}: cannot specify more than one file", go_list(&files))),
        ([_], true) if has_options => faults
            .push(format!("query: Invalid value: {}: cannot specify file with options", go_list(&files))),
        _ => {}
    }
    faults.extend(option_faults(&options));
    if !faults.is_empty() {
        return Err(QueryError::Refused(aggregate(faults)));
    }
    let source = match files.first() {
        Some(file) => LogSource::File((*file).to_owned()),
        None => LogSource::Services(services.into_iter().map(str::to_owned).collect()),
    };
    Ok(Some(NodeLogQuery { source, options }))
}

fn service_faults(services: &[&str]) -> Vec<String> {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
    let mut faults = Vec::new();
    for name in services {
        let reason = if name.len() > MAX_SERVICE_BYTES {
            format!("length must be less than {MAX_SERVICE_BYTES}")
        } else if !name.bytes().all(is_safe) {
            "input contains unsupported characters".to_owned()
        } else {
            continue;
        };
        faults.push(format!("query: Invalid value: {name:?}: {reason}"));
    }
    if services.len() > MAX_SERVICES {
        faults.push(format!("query: Too many: {}: must have at most {MAX_SERVICES} items", services.len()));
    }
    faults
}

fn option_faults(options: &LogOptions) -> Vec<String> {
    let mut faults = Vec::new();
    if let (Some(since), Some(until)) = (options.since, options.until)
        && since > until
    {
        faults.push(format!("untilTime: Invalid value: {until}: must be after `sinceTime`"));
    }
    if let Some(boot) = options.boot.filter(|boot| *boot > 0) {
        faults.push(format!("boot: Invalid value: {boot}: must be less than 1"));
    }
    if let Some(lines) = options.tail_lines.filter(|lines| !(0..=MAX_TAIL_LINES).contains(lines)) {
        faults.push(format!(
            "tailLines: Invalid value: {lines}: must be between 0 and {MAX_TAIL_LINES}, inclusive"
        ));
    }
    if let Some(pattern) = &options.pattern {
        if pattern.len() > MAX_PATTERN_BYTES {
            faults.push(format!("pattern: Too long: may not be more than {MAX_PATTERN_BYTES} bytes"));
        } else if let Some(reason) = super::pattern::fault(pattern) {
            faults.push(format!("pattern: Invalid value: {pattern:?}: error parsing regexp: {reason}"));
        }
    }
    faults
}

/// RFC 3339, and nothing that is only like it.
fn time(field: &str, text: &str, faults: &mut Vec<String>) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let has_form = bytes.len() >= 20 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[10] == b'T';
    let time = text.parse().ok().filter(|_| has_form);
    if time.is_none() {
        faults.push(format!("{field}: Invalid value: {text:?}: invalid time format"));
    }
    time
}

/// A number as Go reads it, with its words when it is none.
fn number(field: &str, text: &str, faults: &mut Vec<String>) -> Option<i64> {
    let reason = match text.parse() {
        Ok(number) => return Some(number),
        Err(error) => match std::num::ParseIntError::kind(&error) {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        },
    };
    faults.push(format!("{field}: Invalid value: {text:?}: strconv.Atoi: parsing {text:?}: {reason}"));
    None
}

/// A list as the API's errors show one.
fn go_list(items: &[&str]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(","))
}

/// One fault is itself, several are a list.
fn aggregate(mut faults: Vec<String>) -> String {
    match faults.len() {
        1 => faults.remove(0),
        _ => format!("[{}]", faults.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str], options: LogOptions) -> Option<NodeLogQuery> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Some(NodeLogQuery { source: LogSource::Services(names), options })
    }

    #[test]
    fn what_keeps_the_rules() {
        let none = LogOptions::default;
        let since: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        for (text, want) in [
            ("", None),
            ("other=1", None),
            ("query=kubelet", services(&["kubelet"], none())),
            ("query=a&query=b@1.service", services(&["a", "b@1.service"], none())),
            ("query=a&query=%20", services(&["a"], none())),
            ("query=a&tailLines=0", services(&["a"], LogOptions { tail_lines: Some(0), ..none() })),
            ("query=a&tailLines=", services(&["a"], none())),
            ("query=a&boot=-2", services(&["a"], LogOptions { boot: Some(-2), ..none() })),
            (
                "query=a&sinceTime=2026-01-01T02%3A00%3A00%2B01%3A00",
                services(&["a"], LogOptions { since: Some(since), ..none() }),
            ),
            (
                "query=a&pattern=(err%7Cwarn)",
                services(&["a"], LogOptions { pattern: Some("(err|warn)".into()), ..none() }),
            ),
        ] {
            assert_eq!(parse(Some(text)), Ok(want), "{text}");
        }
        let file = NodeLogQuery { source: LogSource::File("/a/b.log".into()), options: none() };
        assert_eq!(parse(Some("query=/a/b.log")), Ok(Some(file)));
    }

    #[test]
    fn what_cannot_be_read() {
        for (text, want) in [
            ("query=", "query: Invalid value: [\"\"]: may not be empty"),
            ("query=%20", "query: Invalid value: [\" \"]: may not be empty"),
            ("sinceTime=today", "sinceTime: Invalid value: \"today\": invalid time format"),
            (
                "untilTime=2026-01-01+00:00:00Z",
                "untilTime: Invalid value: \"2026-01-01 00:00:00Z\": invalid time format",
            ),
            (
                "boot=x&tailLines=99999999999999999999",
                "[boot: Invalid value: \"x\": strconv.Atoi: parsing \"x\": invalid syntax, tailLines: \
                 Invalid value: \"99999999999999999999\": strconv.Atoi: parsing \
                 \"99999999999999999999\": value out of range]",
            ),
        ] {
            assert_eq!(parse(Some(text)), Err(QueryError::Malformed(want.into())), "{text}");
        }
    }

    #[test]
    fn what_breaks_a_rule() {
        let unsafe_name =
            |name: &str| format!("query: Invalid value: {name:?}: input contains unsupported characters");
        let long = "s".repeat(257);
        for (text, want) in [
            ("tailLines=5", "query: Required value: cannot be empty with options".to_owned()),
            ("query=a%20--root=x", unsafe_name("a --root=x")),
            ("query=a;b", unsafe_name("a;b")),
            ("query=$(id)", unsafe_name("$(id)")),
            ("query=a*", unsafe_name("a*")),
            ("query=a%0Ab", unsafe_name("a\nb")),
            ("query=a%00", unsafe_name("a\0")),
            (
                &format!("query={long}"),
                format!("query: Invalid value: {long:?}: length must be less than 256"),
            ),
            (
                "query=a&query=b&query=c&query=d&query=e",
                "query: Too many: 5: must have at most 4 items".into(),
            ),
            (
                "query=a&query=/b",
                "query: Invalid value: \"[/b], [a]\": cannot specify a file and service".into(),
            ),
            (
                "query=/a&query=/b",
                "query: Invalid value: [\"/a\",\"/b\"]: cannot specify more than one file".into(),
            ),
            ("query=/a&boot=0", "query: Invalid value: [\"/a\"]: cannot specify file with options".into()),
            ("query=a&boot=1", "boot: Invalid value: 1: must be less than 1".into()),
            (
                "query=a&tailLines=100001",
                "tailLines: Invalid value: 100001: must be between 0 and 100000, inclusive".into(),
            ),
            (
                "query=a&tailLines=-1",
                "tailLines: Invalid value: -1: must be between 0 and 100000, inclusive".into(),
            ),
            (
                "query=a&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z",
                "untilTime: Invalid value: 2026-01-01T00:00:00Z: must be after `sinceTime`".into(),
            ),
        ] {
            assert_eq!(parse(Some(text)), Err(QueryError::Refused(want)), "{text}");
        }
        let error = parse(Some("query=a&pattern=(")).unwrap_err().to_string();
        assert!(error.starts_with("pattern: Invalid value: \"(\": error parsing regexp: "), "{error}");
    }
}
