//! From the text after a flag to a value of the document.

use std::net::IpAddr;

use super::Kind;
use crate::duration::GoDuration;
use crate::tree::{Tree, Value};

/// Reads the text given to a flag. `previous` is the value of the same flag further left, to which
/// lists and maps add.
pub(super) fn parse(kind: Kind, text: &str, previous: Option<&Tree>) -> Result<Tree, String> {
    let value = match kind {
        Kind::Bool => Value::Bool(boolean(text)?),
        Kind::Int32 => Value::Int(i64::from(integer::<i32>(text)?)),
        Kind::Level => Value::Int(i64::from(integer::<u32>(text)?)),
        Kind::Int64 => Value::Int(integer(text)?),
        Kind::Text | Kind::Version => Value::Text(text.to_owned()),
        Kind::Duration => {
            text.parse::<GoDuration>().map_err(|error| error.to_string())?;
            Value::Text(text.to_owned())
        }
        Kind::Ip => {
            text.trim().parse::<IpAddr>().map_err(|_| format!("failed to parse IP: {text:?}"))?;
            Value::Text(text.trim().to_owned())
        }
        Kind::Quantity => {
            text.parse::<model::Quantity>().map_err(|error| error.to_string())?;
            Value::Text(text.to_owned())
        }
        Kind::TextList => list(previous, separated(text).map(|item| Value::Text(item.to_owned()))),
        Kind::Map => map(previous, pairs(text, "=", false)?),
        Kind::MapWhole => map(previous, vec![pair(text, "=", false)?]),
        Kind::Labels => map(previous, pairs(text, "=", true)?),
        Kind::Thresholds => map(previous, pairs(text, "<", false)?),
        Kind::Gates => map(previous, gates(text)?),
        Kind::Headers => headers(previous, text)?,
        Kind::Taints => {
            list(previous, separated(text).map(taint).collect::<Result<Vec<_>, _>>()?.into_iter())
        }
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
    let magnitude =
        i128::from_str_radix(digits, radix).map_err(|_| format!("{text:?} is not a whole number"))?;
    i64::try_from(if negative { -magnitude } else { magnitude })
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{text:?} is out of range"))
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

fn taint(text: &str) -> Result<Value, String> {
    let invalid = || format!("invalid taint spec: {text}, want key=value:Effect or key:Effect");
    let (left, effect) = text.split_once(':').ok_or_else(invalid)?;
    let (key, value) = left.split_once('=').unwrap_or((left, ""));
    if key.is_empty() || !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(invalid());
    }
    Ok(object([("key", key), ("value", value), ("effect", effect)]))
}

fn object<const N: usize>(fields: [(&str, &str); N]) -> Value {
    let field = |(name, text): (&str, &str)| (name.to_owned(), Value::Text(text.to_owned()).into());
    Value::Map(fields.into_iter().map(field).collect())
}

/// `0:memory=1Gi,hugepages-1Gi=2Gi`, one NUMA node a flag.
fn reserved_memory(text: &str) -> Result<Vec<Value>, String> {
    let (node, amounts) = text.split_once(':').ok_or("invalid format, want numa:type=quantity")?;
    let node = Value::Int(i64::from(integer::<i32>(node)?));
    let limits = map(None, pairs(amounts, "=", false)?);
    Ok(vec![Value::Map(vec![("numaNode".to_owned(), node.into()), ("limits".to_owned(), limits.into())])])
}

fn vmodule(text: &str) -> Result<Vec<Value>, String> {
    separated(text)
        .map(|item| {
            let (pattern, level) = item
                .split_once('=')
                .filter(|(pattern, level)| !pattern.is_empty() && !level.is_empty())
                .ok_or_else(|| format!("{item:?} does not have the pattern=N format"))?;
            let level = Value::Int(i64::from(integer::<u32>(level.trim())?));
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
            (Kind::Int32, "2147483648", Err("\"2147483648\" is out of range")),
            (Kind::Int32, "--1", Err("\"--1\" is not a whole number")),
            (Kind::Level, "-1", Err("\"-1\" is out of range")),
            (Kind::Duration, "1m", Ok("1m")),
            (Kind::Ip, "::", Ok("::")),
            (Kind::Ip, "10.0.0", Err("failed to parse IP: \"10.0.0\"")),
            (Kind::TextList, "a,b", Ok("[a b]")),
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
                Ok("[{key:a value:b effect:NoSchedule} {key:c value: effect:NoExecute}]"),
            ),
            (Kind::Taints, "a=b", Err("invalid taint spec: a=b, want key=value:Effect or key:Effect")),
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
