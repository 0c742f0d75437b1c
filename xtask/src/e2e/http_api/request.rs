//! The table of requests, and the cases that follow from its rows.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Every combination of what its lists hold is a case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Configurations of the kubelet.
    #[serde(rename = "in")]
    configurations: Vec<String>,
    #[serde(default = "main")]
    ports: Vec<Port>,
    /// Names of callers.
    #[serde(rename = "as", default = "admin")]
    callers: Vec<String>,
    #[serde(default = "get")]
    methods: Vec<String>,
    /// `NS` stands for the namespace of the pods, `UID` for the uid of the one called `running`.
    paths: Vec<String>,
    /// Sets of headers; one at a time.
    #[serde(default)]
    headers: Vec<BTreeMap<String, String>>,
    #[serde(default)]
    body: String,
    /// Plain HTTP where TLS is expected.
    #[serde(default)]
    plain: bool,
    #[serde(default)]
    http2: bool,
    #[serde(default)]
    compare: Compare,
}

fn main() -> Vec<Port> {
    vec![Port::Main]
}

fn admin() -> Vec<String> {
    vec!["admin".to_owned()]
}

fn get() -> Vec<String> {
    vec!["GET".to_owned()]
}

/// Which of the node's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Port {
    Main,
    ReadOnly,
    Healthz,
}

impl Port {
    pub(super) fn number(self) -> u16 {
        match self {
            Self::Main => 10250,
            Self::ReadOnly => 10255,
            Self::Healthz => 10248,
        }
    }
}

/// What of the body has to be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Compare {
    /// Nothing.
    Head,
    /// The shape of JSON and metrics, and every letter of any other text.
    #[default]
    Shape,
    /// Of JSON the values too.
    Values,
}

/// One request.
#[derive(Debug)]
pub(super) struct Case {
    /// Says it all; lists refer to it.
    pub(super) name: String,
    pub(super) configuration: String,
    pub(super) port: Port,
    pub(super) caller: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
    pub(super) is_plain: bool,
    pub(super) is_http2: bool,
    pub(super) compare: Compare,
}

/// The cases for these configurations.
pub(super) fn cases(configurations: &[&str], namespace: &str, uid: &str) -> Result<Vec<Case>> {
    let mut cases = all()?;
    cases.retain(|case| configurations.contains(&case.configuration.as_str()));
    for case in &mut cases {
        case.path = case.path.replace("NS", namespace).replace("UID", uid);
    }
    Ok(cases)
}

fn all() -> Result<Vec<Case>> {
    let rows: Vec<Row> =
        serde_saphyr::from_str(include_str!("requests.yaml")).context("read the table of requests")?;
    let mut cases = Vec::new();
    for row in &rows {
        let no_headers = [BTreeMap::new()];
        let headers = if row.headers.is_empty() { no_headers.as_slice() } else { &row.headers };
        for configuration in &row.configurations {
            for port in &row.ports {
                for caller in &row.callers {
                    for method in &row.methods {
                        for path in &row.paths {
                            cases.extend(headers.iter().map(|headers| {
                                row.case(configuration, *port, caller, method, path, headers)
                            }));
                        }
                    }
                }
            }
        }
    }
    Ok(merged(cases))
}

/// Each request once, even if several rows ask for it, with the most that any of them compares.
fn merged(cases: Vec<Case>) -> Vec<Case> {
    let mut places = BTreeMap::new();
    let mut once: Vec<Case> = Vec::new();
    for case in cases {
        let place = *places.entry(case.name.clone()).or_insert(once.len());
        match once.get_mut(place) {
            Some(known) => known.compare = known.compare.max(case.compare),
            None => once.push(case),
        }
    }
    once
}

impl Row {
    fn case(
        &self,
        configuration: &str,
        port: Port,
        caller: &str,
        method: &str,
        path: &str,
        headers: &BTreeMap<String, String>,
    ) -> Case {
        let mut name = format!("{configuration}/{} {caller} {method} {path}", port.number());
        for (header, value) in headers {
            name += &format!(" {header}={value}");
        }
        for (part, text) in [(self.plain, " plain"), (self.http2, " http2")] {
            name += if part { text } else { "" };
        }
        if !self.body.is_empty() {
            name += &format!(" <{}", self.body.chars().take(20).collect::<String>());
        }
        Case {
            name,
            configuration: configuration.to_owned(),
            port,
            caller: caller.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: headers.clone(),
            body: self.body.clone(),
            is_plain: self.plain,
            is_http2: self.http2,
            compare: self.compare,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let cases = all().unwrap();
        assert!(cases.len() >= 150, "{}", cases.len());
        let known = super::super::configurations::names();
        assert!(cases.iter().all(|case| known.contains(&case.configuration)));
    }
}
