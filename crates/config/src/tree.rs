//! A document before its fields are known: YAML or JSON as a tree in which every value still
//! knows its line, and in which a key that was written twice is still there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

/// The largest document that is read, in bytes: what a ConfigMap can hold, which is where kubeadm keeps it.
pub(crate) const MOST_BYTES: usize = 1 << 20;

/// Levels a document may have. Those we read have six; reading takes tens of kilobytes of stack for each.
const MOST_DEPTH: usize = 16;

/// Beyond this, neighbouring floats are more than one apart.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A place in a file: line and column, both from 1; zero where it was not read from a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// What can be written down in YAML and JSON alike.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Value {
    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        Self { mark: Mark::default(), value }
    }
}

impl From<&serde_json::Value> for Tree {
    fn from(json: &serde_json::Value) -> Self {
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(value) => Value::Int(value),
                None => Value::Float(number.as_f64().unwrap_or(f64::MAX)),
            },
            serde_json::Value::String(text) => Value::Text(text.clone()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(fields) => {
                Value::Map(fields.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect())
            }
        };
        value.into()
    }
}

impl Tree {
    /// Reads a document as upstream does: JSON if it starts like JSON, else the first document of YAML 1.1. Nothing
    /// but comments is null.
    ///
    /// # Errors
    /// Why it is neither, with the line. The text itself is not repeated.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
        }
        let is_json = text.trim_start().starts_with('{');
        if is_json {
            // YAML is laxer; it is only read for the places.
            let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
            checked.map_err(|error| error.to_string())?;
        }
        let options = serde_saphyr::options! {
            legacy_octal_numbers: true,
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            with_snippet: false,
            budget: serde_saphyr::budget! { max_depth: MOST_DEPTH },
        };
        let mut reader = text.trim_start_matches('\u{feff}').as_bytes();
        let first = serde_saphyr::read_with_options::<_, Self>(&mut reader, options).next();
        let mut tree = first.unwrap_or(Ok(Value::Null.into())).map_err(|error| error.to_string())?;
        if !is_json {
            tree.make_whole();
        }
        Ok(tree)
    }

    /// Turns `7.0` into `7`: YAML's floats become whole numbers where that loses nothing.
    fn make_whole(&mut self) {
        match &mut self.value {
            Value::Float(number) if number.fract() == 0.0 && number.abs() < MOST_EXACT => {
                #[allow(clippy::cast_possible_truncation)]
                let whole = *number as i64;
                self.value = Value::Int(whole);
            }
            Value::List(items) => items.iter_mut().for_each(Self::make_whole),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| value.make_whole()),
            _ => {}
        }
    }

    /// The first key that a map in it has twice, with its place.
    pub(crate) fn repeated(&self) -> Option<(&str, Mark)> {
        match &self.value {
            Value::List(items) => items.iter().find_map(Self::repeated),
            Value::Map(entries) => {
                let mut seen = BTreeSet::new();
                entries.iter().find_map(|(key, value)| {
                    let is_first = seen.insert(key);
                    if is_first { value.repeated() } else { Some((key.as_str(), value.mark)) }
                })
            }
            _ => None,
        }
    }

    /// The value of a key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text it is, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Applies a JSON merge patch (RFC 7396): maps are merged key by key, null removes, anything
    /// else replaces.
    pub(crate) fn merge(&mut self, patch: Self) {
        let Value::Map(changes) = patch.value else {
            *self = patch;
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            *self = Self { mark: patch.mark, value: Value::Map(Vec::new()) };
        }
        let Value::Map(entries) = &mut self.value else { return };
        let mut places: BTreeMap<String, usize> =
            entries.iter().enumerate().map(|(index, (key, _))| (key.clone(), index)).collect();
        let mut removed = BTreeSet::new();
        for (key, change) in changes {
            match (places.get(&key).copied(), change.value == Value::Null) {
                (Some(index), true) => drop(removed.insert(index)),
                (None, true) => {}
                (Some(index), false) => {
                    if removed.remove(&index) {
                        entries[index].1 = Self::from(Value::Null);
                    }
                    entries[index].1.merge(change);
                }
                (None, false) => {
                    let mut value = Self::from(Value::Null);
                    value.merge(change);
                    places.insert(key.clone(), entries.len());
                    entries.push((key, value));
                }
            }
        }
        let mut index = 0;
        entries.retain(|_| {
            index += 1;
            !removed.contains(&(index - 1))
        });
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let number = |number: u64| u32::try_from(number).unwrap_or(0);
        let at = spanned.referenced;
        Ok(Self { mark: Mark { line: number(at.line()), column: number(at.column()) }, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // Above i64 no field has a use for the exact number: it is out of range for all of them.
        #[allow(clippy::cast_precision_loss)]
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_lines_and_repeated_keys() {
        let tree = Tree::parse("a: 1\nb:\n  - x\n  - y: true\na: 2\n").unwrap();
        let Value::Map(entries) = &tree.value else { panic!("{tree:?}") };
        assert_eq!(entries.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_eq!(entries[2].1, Tree { mark: Mark { line: 5, column: 4 }, value: Value::Int(2) });
        let Value::List(items) = &entries[1].1.value else { panic!("{tree:?}") };
        assert_eq!(
            items[1].get("y"),
            Some(&Tree { mark: Mark { line: 4, column: 8 }, value: Value::Bool(true) })
        );
    }

    #[test]
    fn merges_as_rfc_7396_says() {
        for (base, patch, merged) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let mut tree = strip(Tree::parse(base).unwrap());
            tree.merge(strip(Tree::parse(patch).unwrap()));
            assert_eq!(tree, strip(Tree::parse(merged).unwrap()), "{base} + {patch}");
        }
    }

    fn strip(tree: Tree) -> Tree {
        match tree.value {
            Value::List(items) => Value::List(items.into_iter().map(strip).collect()).into(),
            Value::Map(entries) => {
                Value::Map(entries.into_iter().map(|(key, value)| (key, strip(value))).collect()).into()
            }
            value => value.into(),
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[a-z0-9:{}\\[\\], \n\"'-]{0,60}") {
            let _ = Tree::parse(&text);
        }
    }
}
