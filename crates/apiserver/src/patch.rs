//! The difference between two versions of a status as a strategic merge patch.
//!
//! A strategic merge patch treats a list either as one value or, where the API says so, as a map
//! with a key in each item. [`Lists`] says which field is which.

use serde_json::{Map, Value, json};

/// How a list in a status is patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// Items have a key; only changed ones are sent, vanished ones are deleted by key.
    /// `delete` is false where others own items too (node conditions).
    Keyed { key: &'static str, delete: bool },
    /// Declared as keyed by the API, but order and duplicates matter: sent whole, marked
    /// `$patch: replace`.
    Replaced,
}

/// Fields that are not plain values, by name.
pub(crate) type Lists = &'static [(&'static str, ListKind)];

/// What turns `old` into `new`; `None` when nothing does. Fields absent from both stay untouched.
pub(crate) fn diff(old: &Value, new: &Value, lists: Lists) -> Option<Map<String, Value>> {
    let empty = Map::new();
    let old = old.as_object().unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (name, value) in new {
        let before = old.get(name);
        if before == Some(value) {
            continue;
        }
        let kind = lists.iter().find(|(field, _)| field == name).map(|(_, kind)| *kind);
        let change = match (kind, value) {
            (Some(ListKind::Keyed { key, delete }), Value::Array(items)) => {
                keyed(before.and_then(Value::as_array), items, key, delete)
            }
            (Some(ListKind::Replaced), Value::Array(items)) => Some(replaced(items)),
            (None, Value::Object(_)) if before.is_some_and(Value::is_object) => {
                diff(before.unwrap_or(&Value::Null), value, &[]).map(Value::Object)
            }
            _ => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    for (name, before) in old {
        if new.contains_key(name) {
            continue;
        }
        let kind = lists.iter().find(|(field, _)| field == name).map(|(_, kind)| *kind);
        let change = match (kind, before) {
            (Some(ListKind::Keyed { key, delete }), Value::Array(items)) => {
                keyed(Some(items), &[], key, delete)
            }
            (Some(ListKind::Replaced), _) => Some(replaced(&[])),
            _ => Some(Value::Null),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(patch)
}

fn replaced(items: &[Value]) -> Value {
    let mut items = items.to_vec();
    items.push(json!({"$patch": "replace"}));
    Value::Array(items)
}

fn keyed(old: Option<&Vec<Value>>, new: &[Value], key: &str, delete: bool) -> Option<Value> {
    let old = old.map(Vec::as_slice).unwrap_or_default();
    let find = |items: &'_ [Value], id: Option<&Value>| items.iter().position(|item| item.get(key) == id);
    let mut items = Vec::new();
    for item in new {
        let id = item.get(key);
        let before = find(old, id).map(|index| &old[index]);
        if before == Some(item) {
            continue;
        }
        // An item is merged into the one with its key: what it lost has to be said.
        let change = match before {
            Some(before) => diff(before, item, &[]).map(|mut change| {
                change.insert(key.to_owned(), id.cloned().unwrap_or(Value::Null));
                Value::Object(change)
            }),
            None => Some(item.clone()),
        };
        items.extend(change);
    }
    if delete {
        let gone = old.iter().filter(|item| find(new, item.get(key)).is_none());
        items.extend(gone.map(|item| json!({"$patch": "delete", key: item.get(key)})));
    }
    (!items.is_empty()).then_some(Value::Array(items))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: Lists = &[
        ("conditions", ListKind::Keyed { key: "type", delete: true }),
        ("shared", ListKind::Keyed { key: "type", delete: false }),
        ("ips", ListKind::Replaced),
    ];

    #[test]
    fn table() {
        let cases = [
            ("equal", json!({"a": 1}), json!({"a": 1}), Value::Null),
            ("scalar changed", json!({"a": 1, "b": 2}), json!({"a": 3, "b": 2}), json!({"a": 3})),
            ("scalar removed", json!({"a": 1, "b": 2}), json!({"b": 2}), json!({"a": null})),
            (
                "map entry removed",
                json!({"m": {"x": 1, "y": 2}}),
                json!({"m": {"x": 1}}),
                json!({"m": {"y": null}}),
            ),
            ("plain list whole", json!({"l": [1, 2]}), json!({"l": [2]}), json!({"l": [2]})),
            (
                "condition changed",
                json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}),
                json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "False"}]}),
                json!({"conditions": [{"type": "B", "status": "False"}]}),
            ),
            (
                "condition lost its reason",
                json!({"conditions": [{"type": "A", "status": "True", "reason": "r"}]}),
                json!({"conditions": [{"type": "A", "status": "True"}]}),
                json!({"conditions": [{"type": "A", "reason": null}]}),
            ),
            (
                "condition order alone",
                json!({"conditions": [{"type": "A"}, {"type": "B"}]}),
                json!({"conditions": [{"type": "B"}, {"type": "A"}]}),
                Value::Null,
            ),
            (
                "condition removed",
                json!({"conditions": [{"type": "A"}, {"type": "B"}]}),
                json!({"conditions": [{"type": "B"}]}),
                json!({"conditions": [{"$patch": "delete", "type": "A"}]}),
            ),
            ("others' condition kept", json!({"shared": [{"type": "A"}]}), json!({}), Value::Null),
            (
                "addresses replaced",
                json!({"ips": [{"ip": "1"}, {"ip": "2"}]}),
                json!({"ips": [{"ip": "2"}, {"ip": "1"}]}),
                json!({"ips": [{"ip": "2"}, {"ip": "1"}, {"$patch": "replace"}]}),
            ),
            (
                "addresses gone",
                json!({"ips": [{"ip": "1"}]}),
                json!({}),
                json!({"ips": [{"$patch": "replace"}]}),
            ),
        ];
        for (name, old, new, want) in cases {
            let got = diff(&old, &new, LISTS).map_or(Value::Null, Value::Object);
            assert_eq!(got, want, "{name}");
        }
    }
}
