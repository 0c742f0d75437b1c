//! From the text after a flag to a value of the document.

use super::Kind;
use crate::build::sloppy_ip;
use crate::duration::GoDuration;
use crate::label;
use crate::tree::{Tree, Value};

/// Reads the text given to a flag. `previous` is the value of the same flag further left, to which
/// lists and maps add.
pub(super) fn parse(kind: Kind, text: &str, previous: Option<&Tree>) -> Result<Tree, String> {
    let value = match kind {
        Kind::Bool => Value::Bool(boolean(text)?),
        Kind::Int32 => Value::Int(i64::from(integer::<i32>(text)?)),
        Kind::Level => Value::Int(level(text)?),
        Kind::Int64 => Value::Int(integer(text)?),
        Kind::Text | Kind::Version => Value::Text(text.to_owned()),
        Kind::Duration => {
            text.parse::<GoDuration>().map_err(|error| error.to_string())?;
            Value::Text(text.to_owned())
        }
        Kind::Ip => {
            sloppy_ip(text).ok_or_else(|| format!("{text:?} is not a valid IP address"))?;
            Value::Text(text.to_owned())
        }
        Kind::Quantity => {
            text.parse::<model::Quantity>().map_err(|error| error.to_string())?;
            Value::Text(text.to_owned())
        }
        Kind::TextList => list(previous, quoted(text)?.into_iter().map(Value::Text)),
        Kind::Map => map(previous, pairs(text, "=", false)?),
        Kind::MapWhole => map(previous, vec![pair(text, "=", false)?]),
        Kind::Labels => map(previous, pairs(text, "=", true)?),
        Kind::Thresholds => map(previous, pairs(text, "<", false)?),
        Kind::Gates => map(previous, gates(text)?),
        Kind::Headers => headers(previous, text)?,
        // Unlike other lists, the last flag counts.
        Kind::Taints => list(None, taints(text)?.into_iter()),
        Kind::ReservedMemory => list(previous, reserved_memory(text)?.into_iter()),
        Kind::Vmodule => list(previous, vmodule(text)?.into_iter()),
    };
    Ok(value.into())
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A log verbosity: decimal only.
fn level(text: &str) -> Result<i64, String> {
    match text.parse::<u32>() {
        Ok(level) if level <= i32::MAX.unsigned_abs() => Ok(i64::from(level)),
        _ => Err(format!("{text:?} is no verbosity")),
    }
}

/// One line of comma-separated values; an item may be put in quotes, which are doubled inside.
fn quoted(text: &str) -> Result<Vec<String>, String> {
    let mut items = Vec::new();
    if text.is_empty() {
        return Ok(items);
    }
    let mut rest = text;
    loop {
        let Some(inner) = rest.strip_prefix('"') else {
            let (item, after) =
                rest.split_once(',').map_or((rest, None), |(item, after)| (item, Some(after)));
            if item.contains('"') {
                return Err(format!("{item:?} has a quote in the middle"));
            }
            items.push(item.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(items),
            }
            continue;
        };
        let mut item = String::new();
        let mut letters = inner.char_indices().peekable();
        let end = loop {
            match letters.next() {
                None => return Err(format!("{rest:?} lacks the closing quote")),
                Some((_, '"')) if letters.next_if(|(_, next)| *next == '"').is_some() => item.push('"'),
                Some((at, '"')) => break at + 1,
                Some((_, letter)) => item.push(letter),
            }
        };
        items.push(item);
        match inner[end..].strip_prefix(',') {
            Some(after) => rest = after,
            None if inner[end..].is_empty() => return Ok(items),
            None => return Err(format!("{rest:?} goes on behind the closing quote")),
        }
    }
}

/// A whole number in Go's notations: decimal, `0x1f`, `0o17`, `017`, `0b1`.
fn integer<T: TryFrom<i64>>(text: &str) -> Result<T, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return Err(format!("{text:?} is not a whole number"));
    }
    let Some(digits) = without_underscores(digits, radix != 10) else {
        return Err(format!("{text:?} is not a whole number"));
    };
    let digits = digits.as_str();
    let magnitude =
        i128::from_str_radix(digits, radix).map_err(|_| format!("{text:?} is not a whole number"))?;
    i64::try_from(if negative { -magnitude } else { magnitude })
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{text:?} is out of range"))
}

/// The digits without underscores, each of which must stand between two digits, or between a prefix and a digit.
fn without_underscores(digits: &str, has_prefix: bool) -> Option<String> {
    let is_placed =
        !digits.contains("__") && !digits.ends_with('_') && (has_prefix || !digits.starts_with('_'));
    is_placed.then(|| digits.replace('_', ""))
}

fn separated(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|item| !item.is_empty())
}

fn pair(text: &str, separator: &str, may_lack_value: bool) -> Result<(String, Value), String> {
    let (key, value) = match text.split_once(separator) {
        Some(pair) => pair,
        None if may_lack_value => (text, ""),
        None => return Err(format!("malformed pair, expect string{separator}string")),
    };
    Ok((key.trim().to_owned(), Value::Text(value.trim().to_owned())))
}

fn pairs(text: &str, separator: &str, may_lack_value: bool) -> Result<Vec<(String, Value)>, String> {
    separated(text).map(|item| pair(item, separator, may_lack_value)).collect()
}

fn gates(text: &str) -> Result<Vec<(String, Value)>, String> {
    separated(text)
        .map(|item| {
            let (name, value) =
                item.split_once('=').ok_or_else(|| format!("missing bool value for {}", item.trim()))?;
            let name = name.trim();
            let value =
                boolean(value.trim()).map_err(|reason| format!("invalid value of {name}: {reason}"))?;
            Ok((name.to_owned(), Value::Bool(value)))
        })
        .collect()
}

fn headers(previous: Option<&Tree>, text: &str) -> Result<Value, String> {
    let mut entries = match previous.map(|tree| &tree.value) {
        Some(Value::Map(entries)) => entries.clone(),
        _ => Vec::new(),
    };
    for item in separated(text) {
        let (name, value) = item.split_once(':').ok_or("malformed pair, expect string:string")?;
        let (name, value) = (name.trim(), Tree::from(Value::Text(value.trim().to_owned())));
        match entries.iter_mut().find(|(known, _)| known == name) {
            Some((_, Tree { value: Value::List(values), .. })) => values.push(value),
            _ => entries.push((name.to_owned(), Value::List(vec![value]).into())),
        }
    }
    Ok(Value::Map(entries))
}

/// Taints such as `key=value:Effect`, each effect of a key once.
fn taints(text: &str) -> Result<Vec<Value>, String> {
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for item in text.split(',').filter(|_| !text.is_empty()) {
        // As upstream, a taint to be removed is read and forgotten.
        let (item, is_kept) = match item.strip_suffix('-') {
            Some(item) => (item, false),
            None => (item, true),
        };
        let (key, value, effect) = taint(item)?;
        if !is_kept {
            continue;
        }
        if effect.is_empty() {
            return Err(format!("invalid taint spec: {item}, want key=value:Effect or key:Effect"));
        }
        if seen.contains(&(key, effect)) {
            return Err(format!("duplicated taints with the same key and effect: {key}:{effect}"));
        }
        seen.push((key, effect));
        let mut fields = vec![("key", key)];
        if !value.is_empty() {
            fields.push(("value", value));
        }
        fields.push(("effect", effect));
        let field = |(name, text): (&str, &str)| (name.to_owned(), Value::Text(text.to_owned()).into());
        all.push(Value::Map(fields.into_iter().map(field).collect()));
    }
    Ok(all)
}

fn taint(text: &str) -> Result<(&str, &str, &str), String> {
    let invalid = |why: &str| format!("invalid taint spec: {text}, {why}");
    let (left, effect) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [key] => (*key, ""),
        [left, effect] => (*left, *effect),
        _ => return Err(invalid("want one colon")),
    };
    if text.contains(':') && !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(invalid("want effect NoSchedule, PreferNoSchedule or NoExecute"));
    }
    let (key, value) = match left.split_once('=') {
        Some((key, value)) if text.contains(':') => (key, value),
        _ => (left, ""),
    };
    match label::key_problem(key).or_else(|| label::value_problem(value)) {
        Some(problem) => Err(invalid(problem)),
        None => Ok((key, value, effect)),
    }
}

/// `0:memory=1Gi,hugepages-1Gi=2Gi`, one NUMA node a flag.
fn reserved_memory(text: &str) -> Result<Vec<Value>, String> {
    text.split(';').map(reservation).collect()
}

fn reservation(text: &str) -> Result<Value, String> {
    let [node, amounts] = text.split(':').collect::<Vec<_>>()[..] else {
        return Err(format!("{text:?} does not have the format numa:type=quantity,type=quantity"));
    };
    let node: i32 = node.parse().map_err(|_| format!("{node:?} is no NUMA node"))?;
    let mut limits = Vec::new();
    for item in amounts.split(',') {
        let [name, amount] = item.split('=').collect::<Vec<_>>()[..] else {
            return Err(format!("{item:?} does not have the format type=quantity"));
        };
        if name != "memory" && !name.starts_with("hugepages-") {
            return Err(format!("unknown type {name:?}, want memory or hugepages-<size>"));
        }
        amount.parse::<model::Quantity>().map_err(|error| error.to_string())?;
        limits.push((name.to_owned(), Value::Text(amount.to_owned())));
    }
    let limits = map(None, limits);
    let node = Value::Int(i64::from(node));
    Ok(Value::Map(vec![("numaNode".to_owned(), node.into()), ("limits".to_owned(), limits.into())]))
}

fn vmodule(text: &str) -> Result<Vec<Value>, String> {
    separated(text)
        .map(|item| {
            let (pattern, level) = item
                .split_once('=')
                .filter(|(pattern, level)| !pattern.is_empty() && !level.is_empty())
                .ok_or_else(|| format!("{item:?} does not have the pattern=N format"))?;
            let level = Value::Int(self::level(level)?);
            let pattern = Value::Text(pattern.trim().to_owned());
            Ok(Value::Map(vec![
                ("filePattern".to_owned(), pattern.into()),
                ("verbosity".to_owned(), level.into()),
            ]))
        })
        .collect()
}

/// The items of `previous` followed by those given.
fn list(previous: Option<&Tree>, items: impl Iterator<Item = Value>) -> Value {
    let mut all = match previous.map(|tree| &tree.value) {
        Some(Value::List(items)) => items.clone(),
        _ => Vec::new(),
    };
    all.extend(items.map(Tree::from));
    Value::List(all)
}

/// The entries of `previous`, overridden by those given.
fn map(previous: Option<&Tree>, entries: Vec<(String, Value)>) -> Value {
    let mut all = match previous.map(|tree| &tree.value) {
        Some(Value::Map(entries)) => entries.clone(),
        _ => Vec::new(),
    };
    for (key, value) in entries {
        all.retain(|(known, _)| *known != key);
        all.push((key, value.into()));
    }
    Value::Map(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value as one line of JSON-like text, to compare with.
    fn shown(value: &Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::List(items) => {
                format!("[{}]", items.iter().map(|item| shown(&item.value)).collect::<Vec<_>>().join(" "))
            }
            Value::Map(entries) => {
                let each = entries.iter().map(|(key, value)| format!("{key}:{}", shown(&value.value)));
                format!("{{{}}}", each.collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn reads_each_kind() {
        for (kind, text, expected) in [
            (Kind::Bool, "T", Ok("true")),
            (Kind::Bool, "yes", Err("\"yes\" is neither true nor false")),
            (Kind::Int32, "-1", Ok("-1")),
            (Kind::Int32, "010", Ok("8")),
            (Kind::Int32, "1_000", Ok("1000")),
            (Kind::Int32, "_1", Err("\"_1\" is not a whole number")),
            (Kind::Int32, "2147483648", Err("\"2147483648\" is out of range")),
            (Kind::Int32, "--1", Err("\"--1\" is not a whole number")),
            (Kind::Level, "-1", Err("\"-1\" is no verbosity")),
            (Kind::Level, "0x1", Err("\"0x1\" is no verbosity")),
            (Kind::Duration, "1m", Ok("1m")),
            (Kind::Ip, "::", Ok("::")),
            (Kind::Ip, "010.0.0.1", Ok("010.0.0.1")),
            (Kind::Ip, "10.0.0", Err("\"10.0.0\" is not a valid IP address")),
            (Kind::TextList, "a,b", Ok("[a b]")),
            (Kind::TextList, "\"a,b\",\"c\"\"\"", Ok("[a,b c\"]")),
            (Kind::TextList, "a\"", Err("\"a\\\"\" has a quote in the middle")),
            (Kind::Map, "cpu=1, memory = 2Gi", Ok("{cpu:1 memory:2Gi}")),
            (Kind::Map, "cpu", Err("malformed pair, expect string=string")),
            (Kind::MapWhole, "a=b,c", Ok("{a:b,c}")),
            (Kind::Labels, "a=b,c", Ok("{a:b c:}")),
            (Kind::Thresholds, "memory.available<100Mi", Ok("{memory.available:100Mi}")),
            (Kind::Gates, "A=true,B=0", Ok("{A:true B:false}")),
            (Kind::Gates, "A", Err("missing bool value for A")),
            (Kind::Headers, "A:b,A:c,D:e", Ok("{A:[b c] D:[e]}")),
            (
                Kind::Taints,
                "a=b:NoSchedule,c:NoExecute",
                Ok("[{key:a value:b effect:NoSchedule} {key:c effect:NoExecute}]"),
            ),
            (
                Kind::Taints,
                "a=b",
                Err(
                    "invalid taint spec: a=b, the name must be 1 to 63 letters, digits, '-', '_' or '.', starting and ending \
                 with a letter or digit",
                ),
            ),
            (Kind::ReservedMemory, "0:memory=1Gi", Ok("[{numaNode:0 limits:{memory:1Gi}}]")),
            (Kind::Vmodule, "pod*=4", Ok("[{filePattern:pod* verbosity:4}]")),
            (Kind::Vmodule, "pod", Err("\"pod\" does not have the pattern=N format")),
        ] {
            let parsed = parse(kind, text, None).map(|tree| shown(&tree.value));
            assert_eq!(parsed.as_deref(), expected.map_err(str::to_owned).as_deref(), "{kind:?} {text}");
        }
    }

    #[test]
    fn repeated_flags_add_up() {
        let first = parse(Kind::Map, "a=1,b=2", None).unwrap();
        let both = parse(Kind::Map, "a=3", Some(&first)).unwrap();
        assert_eq!(shown(&both.value), "{b:2 a:3}");
        let first = parse(Kind::TextList, "a", None).unwrap();
        assert_eq!(shown(&parse(Kind::TextList, "b", Some(&first)).unwrap().value), "[a b]");
    }
}
