//! The codec of the document: how a field goes from what is written to its type and back. [`Wire`] is that step for one
//! type; [`document!`] writes it for a struct from one list of its fields.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

pub(crate) use crate::duration::GoDuration;
use crate::finding::{Finding, Findings};
use crate::tree::{Tree, Value};

/// A type that a field of the document can have.
pub(crate) trait Wire: Sized + Default {
    /// Reads it; what does not fit becomes a finding about the place `at`, and `None`.
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self>;

    /// Writes it as upstream does.
    fn encode(&self) -> Json;

    /// Whether Go's `omitempty` leaves it out.
    fn is_omitted(&self) -> bool;

    /// Replaces what is at `path` below this value. False if there is no such place.
    fn set(&mut self, path: &[&str], tree: &Tree, at: &str, findings: &mut Findings) -> bool {
        if !path.is_empty() {
            return false;
        }
        if let Some(value) = Self::decode(tree, at, findings) {
            *self = value;
        }
        true
    }
}

/// A list of which "absent" and "empty" are different things, as a Go slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Option<Vec<T>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> List<T> {
    /// Its items; an absent list has none.
    pub fn items(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// A map of which "absent" and "empty" are different things, as a Go map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dict<T>(pub Option<BTreeMap<String, T>>);

impl<T> Default for Dict<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Dict<T> {
    /// Its entries in the order of their keys; an absent map has none.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(BTreeMap::is_empty)
    }
}

/// HTTP headers. They may carry credentials, so that their values are not in its debug form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub BTreeMap<String, Vec<String>>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, "<masked>"))).finish()
    }
}

/// A duration that may also be written as a number of nanoseconds, which is how it once had to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextOrNanos {
    /// How long.
    pub duration: GoDuration,
    /// Whether it was written as a number.
    pub is_number: bool,
}

impl From<GoDuration> for TextOrNanos {
    fn from(duration: GoDuration) -> Self {
        Self { duration, is_number: false }
    }
}

/// A quantity as upstream writes it, in the notation it was written in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantityText(pub String);

/// A text that may be a secret, so that it is not in its debug form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<masked>")
    }
}

impl Wire for Secret {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        String::decode(tree, at, findings).map(Self)
    }

    fn encode(&self) -> Json {
        Json::String(self.0.clone())
    }

    fn is_omitted(&self) -> bool {
        self.0.is_empty()
    }
}

fn mismatch<T>(tree: &Tree, at: &str, want: &str, findings: &mut Findings) -> Option<T> {
    let message = format!("must be {want}, not {}", tree.value.kind());
    findings.push(Finding::error(at, message).at(tree.mark));
    None
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
                match &tree.value {
                    Value::Null => Some(0),
                    Value::Int(number) => Self::try_from(*number).ok().or_else(|| {
                        let message =
                            format!("{number} is out of range ({} to {})", Self::MIN, Self::MAX);
                        findings.push(Finding::error(at, message).at(tree.mark));
                        None
                    }),
                    _ => mismatch(tree, at, "a whole number", findings),
                }
            }

            fn encode(&self) -> Json {
                Json::from(*self)
            }

            fn is_omitted(&self) -> bool {
                *self == 0
            }
        }
    )*};
}

integers!(i32, i64, u32);

impl Wire for bool {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        match &tree.value {
            Value::Null => Some(false),
            Value::Bool(value) => Some(*value),
            _ => mismatch(tree, at, "true or false", findings),
        }
    }

    fn encode(&self) -> Json {
        Json::Bool(*self)
    }

    fn is_omitted(&self) -> bool {
        !*self
    }
}

impl Wire for f64 {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        match &tree.value {
            Value::Null => Some(0.0),
            #[allow(clippy::cast_precision_loss)]
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => mismatch(tree, at, "a number", findings),
        }
    }

    fn encode(&self) -> Json {
        Json::from(*self)
    }

    fn is_omitted(&self) -> bool {
        *self == 0.0
    }
}

impl Wire for String {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        match &tree.value {
            Value::Null => Some(Self::new()),
            Value::Text(text) => Some(text.clone()),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                mismatch(tree, at, "a string (put it in quotes)", findings)
            }
            _ => mismatch(tree, at, "a string", findings),
        }
    }

    fn encode(&self) -> Json {
        Json::String(self.clone())
    }

    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

impl Wire for GoDuration {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        match &tree.value {
            // As upstream: nothing is no duration, unless the field as a whole may be absent.
            Value::Null => mismatch(tree, at, "a duration such as \"30s\"", findings),
            Value::Text(text) => match text.parse() {
                Ok(duration) => Some(duration),
                Err(error) => {
                    findings.push(Finding::error(at, error.to_string()).at(tree.mark));
                    None
                }
            },
            _ => mismatch(tree, at, "a duration such as \"30s\"", findings),
        }
    }

    fn encode(&self) -> Json {
        Json::String(self.to_string())
    }

    fn is_omitted(&self) -> bool {
        // A struct in Go, which omitempty never leaves out.
        false
    }
}

impl Wire for TextOrNanos {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        match &tree.value {
            Value::Int(nanos) => Some(Self { duration: GoDuration::from_nanos(*nanos), is_number: true }),
            Value::Null => Some(Self::default()),
            _ => GoDuration::decode(tree, at, findings).map(Self::from),
        }
    }

    fn encode(&self) -> Json {
        if self.is_number { Json::from(self.duration.nanos()) } else { self.duration.encode() }
    }

    fn is_omitted(&self) -> bool {
        false
    }
}

impl Wire for QuantityText {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        let text = match &tree.value {
            Value::Null => "0".to_owned(),
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            _ => return mismatch(tree, at, "a quantity such as \"10Mi\"", findings),
        };
        match text.parse::<model::Quantity>() {
            Ok(amount) => Some(Self(crate::amount::canonical(&text, amount))),
            Err(error) => {
                findings.push(Finding::error(at, error.to_string()).at(tree.mark));
                None
            }
        }
    }

    fn encode(&self) -> Json {
        Json::String(if self.0.is_empty() { "0".to_owned() } else { self.0.clone() })
    }

    fn is_omitted(&self) -> bool {
        false
    }
}

impl Wire for Headers {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        let headers = Dict::<List<String>>::decode(tree, at, findings)?;
        let entries = headers.0.unwrap_or_default().into_iter();
        Some(Self(entries.map(|(name, values)| (name, values.0.unwrap_or_default())).collect()))
    }

    fn encode(&self) -> Json {
        Json::Object(self.0.iter().map(|(name, values)| (name.clone(), Json::from(values.clone()))).collect())
    }

    fn is_omitted(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        match &tree.value {
            Value::Null => Some(None),
            _ => T::decode(tree, at, findings).map(Some),
        }
    }

    fn encode(&self) -> Json {
        self.as_ref().map_or(Json::Null, Wire::encode)
    }

    fn is_omitted(&self) -> bool {
        self.is_none()
    }
}

impl<T: Wire> Wire for List<T> {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        let items = match &tree.value {
            Value::Null => return Some(Self(None)),
            Value::List(items) => items,
            _ => return mismatch(tree, at, "a list", findings),
        };
        let each = items.iter().enumerate();
        let decoded: Vec<_> =
            each.map(|(index, item)| T::decode(item, &format!("{at}[{index}]"), findings)).collect();
        decoded.into_iter().collect::<Option<Vec<T>>>().map(|items| Self(Some(items)))
    }

    fn encode(&self) -> Json {
        Json::Array(self.items().iter().map(Wire::encode).collect())
    }

    fn is_omitted(&self) -> bool {
        self.items().is_empty()
    }
}

impl<T: Wire> Wire for Dict<T> {
    fn decode(tree: &Tree, at: &str, findings: &mut Findings) -> Option<Self> {
        let entries = match &tree.value {
            Value::Null => return Some(Self(None)),
            Value::Map(entries) => entries,
            _ => return mismatch(tree, at, "a map", findings),
        };
        let mut decoded = BTreeMap::new();
        let mut complete = true;
        for (key, value) in entries {
            let place = format!("{at}[{key}]");
            if decoded.contains_key(key) {
                findings.push(Finding::warning(place.as_str(), TWICE).at(value.mark));
            }
            match T::decode(value, &place, findings) {
                Some(value) => drop(decoded.insert(key.clone(), value)),
                None => complete = false,
            }
        }
        complete.then_some(Self(Some(decoded)))
    }

    fn encode(&self) -> Json {
        if self.0.is_none() {
            return Json::Null;
        }
        Json::Object(self.iter().map(|(key, value)| (key.to_owned(), value.encode())).collect())
    }

    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

/// Said of a key that a map has twice. As upstream, which tries strictly first and leniently then, this and an
/// unknown field are worth a warning only.
pub(crate) const TWICE: &str = "key is set twice; the last one counts";

/// Reports an unknown field, with the known one that looks most like it.
pub(crate) fn unknown_field(tree: &Tree, at: &str, known: &[&str], name: &str, findings: &mut Findings) {
    let mut finding = Finding::warning(at, format!("unknown field {name:?}")).at(tree.mark);
    let near = match findings.are_many() {
        true => None,
        false => crate::similar::nearest(name, known.iter().copied()),
    };
    if let Some(near) = near {
        finding = finding.hint(format!("did you mean {near:?}?"));
    }
    findings.push(finding);
}

/// The name of the field a key stands for. Drop-ins are read without regard to case, as upstream does.
pub(crate) fn field_name<'a>(key: &'a str, known: &[&'static str], findings: &Findings) -> &'a str {
    if !findings.folds_case() || known.contains(&key) {
        return key;
    }
    known.iter().copied().find(|name| name.eq_ignore_ascii_case(key)).unwrap_or(key)
}

/// The entries of a map in the order in which they count.
pub(crate) fn in_order<'a>(entries: &'a [(String, Tree)], findings: &Findings) -> Vec<&'a (String, Tree)> {
    let mut entries: Vec<_> = entries.iter().collect();
    if findings.folds_case() {
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    }
    entries
}

/// The place of a field below `at`.
pub(crate) fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// Declares a struct of the document and its [`Wire`] form: `field: Type = "jsonName"`, followed by
/// `always` where Go has no `omitempty`.
macro_rules! document {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $type:ty = $json:literal $($always:ident)? , )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $name {
            /// The names of its fields in the document.
            pub(crate) const FIELDS: &'static [&'static str] = &[$($json),*];
        }

        impl $crate::codec::Wire for $name {
            fn decode(
                tree: &$crate::tree::Tree,
                at: &str,
                findings: &mut $crate::finding::Findings,
            ) -> Option<Self> {
                let mut decoded = Self::default();
                let entries = match &tree.value {
                    $crate::tree::Value::Null => return Some(decoded),
                    $crate::tree::Value::Map(entries) => entries,
                    other => {
                        let message = format!("must be a map, not {}", other.kind());
                        findings.push($crate::finding::Finding::error(at, message).at(tree.mark));
                        return None;
                    }
                };
                let mut seen = std::collections::BTreeSet::new();
                for (key, value) in $crate::codec::in_order(entries, findings) {
                    let key = $crate::codec::field_name(key, Self::FIELDS, findings);
                    let place = $crate::codec::below(at, key);
                    if !seen.insert(key) {
                        let finding = $crate::finding::Finding::warning(place.as_str(), $crate::codec::TWICE);
                        findings.push(finding.at(value.mark));
                    }
                    match key {
                        "apiVersion" | "kind" if at.is_empty() => {}
                        $( $json => {
                            if let Some(field) = $crate::codec::Wire::decode(value, &place, findings) {
                                decoded.$field = field;
                            }
                        } )*
                        _ => $crate::codec::unknown_field(value, &place, Self::FIELDS, key, findings),
                    }
                }
                Some(decoded)
            }

            fn encode(&self) -> serde_json::Value {
                let mut fields = serde_json::Map::new();
                $(
                    if document!(@always $($always)?) || !$crate::codec::Wire::is_omitted(&self.$field) {
                        fields.insert($json.to_owned(), $crate::codec::Wire::encode(&self.$field));
                    }
                )*
                serde_json::Value::Object(fields)
            }

            fn is_omitted(&self) -> bool {
                false
            }

            fn set(
                &mut self,
                path: &[&str],
                tree: &$crate::tree::Tree,
                at: &str,
                findings: &mut $crate::finding::Findings,
            ) -> bool {
                match path {
                    $( [$json, rest @ ..] => $crate::codec::Wire::set(&mut self.$field, rest, tree, at, findings), )*
                    _ => false,
                }
            }
        }
    };
    (@always always) => { true };
    (@always) => { false };
}
pub(crate) use document;
