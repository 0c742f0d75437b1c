//! Label selectors as the API has them: labels that are wanted, and expressions about labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use thiserror::Error;

/// An expression that means nothing. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// Its operator is none of the four.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// It is about a set of values, which is empty.
    #[error("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")]
    NoValues,
    /// It is not about values, and names some.
    #[error("values: Invalid value: {0:?}: values set must be empty for exists and does not exist")]
    Values(Vec<String>),
}

/// What is said of one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    Equals(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

/// All of the requirements have to be met; without any, everything matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector(Vec<(String, Requirement)>);

impl Selector {
    pub(super) fn new(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let labels = selector.match_labels.iter().flatten();
        let mut all: Vec<_> =
            labels.map(|(key, value)| (key.clone(), Requirement::Equals(value.clone()))).collect();
        for expression in selector.match_expressions.iter().flatten() {
            let mut values = expression.values.clone().unwrap_or_default();
            values.sort_unstable();
            let requirement = match (expression.operator.as_str(), values.is_empty()) {
                ("In" | "NotIn", true) => return Err(SelectorError::NoValues),
                ("In", false) => Requirement::In(values),
                ("NotIn", false) => Requirement::NotIn(values),
                ("Exists" | "DoesNotExist", false) => return Err(SelectorError::Values(values)),
                ("Exists", true) => Requirement::Exists,
                ("DoesNotExist", true) => Requirement::DoesNotExist,
                (other, _) => return Err(SelectorError::Operator(other.to_owned())),
            };
            all.push((expression.key.clone(), requirement));
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self(all))
    }

    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, requirement)| {
            let value = labels.get(key);
            match requirement {
                Requirement::Equals(wanted) => value == Some(wanted),
                Requirement::In(values) => value.is_some_and(|value| values.contains(value)),
                Requirement::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Requirement::Exists => value.is_some(),
                Requirement::DoesNotExist => value.is_none(),
            }
        })
    }

    /// As it is written in queries: `a=b,c in (d,e),f notin (g),h,!i`.
    pub(super) fn text(&self) -> String {
        let one = |(key, requirement): &(String, Requirement)| match requirement {
            Requirement::Equals(value) => format!("{key}={value}"),
            Requirement::In(values) => format!("{key} in ({})", values.join(",")),
            Requirement::NotIn(values) => format!("{key} notin ({})", values.join(",")),
            Requirement::Exists => key.clone(),
            Requirement::DoesNotExist => format!("!{key}"),
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selector(value: Value) -> Result<Selector, SelectorError> {
        Selector::new(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn requirements() {
        let expression = |operator: &str, values: Value| json!({ "matchExpressions": [{ "key": "k", "operator": operator, "values": values }] });
        let of_v = |value: &str| BTreeMap::from([("k".to_owned(), value.to_owned())]);
        for (wanted, text, with_a, with_c, without) in [
            (json!({}), "", true, true, true),
            (json!({ "matchLabels": { "k": "a" } }), "k=a", true, false, false),
            (expression("In", json!(["b", "a"])), "k in (a,b)", true, false, false),
            (expression("NotIn", json!(["b", "a"])), "k notin (a,b)", false, true, true),
            (expression("Exists", json!(null)), "k", true, true, false),
            (expression("DoesNotExist", json!([])), "!k", false, false, true),
        ] {
            let selector = selector(wanted).unwrap();
            let matched = [of_v("a"), of_v("c"), BTreeMap::new()].map(|labels| selector.matches(&labels));
            assert_eq!((&*selector.text(), matched), (text, [with_a, with_c, without]));
        }
        for (wrong, message) in [
            (expression("Near", json!(["a"])), "\"Near\" is not a valid label selector operator"),
            (
                expression("In", json!([])),
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ),
            (
                expression("Exists", json!(["a"])),
                "values: Invalid value: [\"a\"]: values set must be empty for exists and does not exist",
            ),
        ] {
            assert_eq!(selector(wrong).unwrap_err().to_string(), message);
        }
    }
}
