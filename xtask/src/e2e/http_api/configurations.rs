//! The configurations in which the two kubelets are compared, from `configurations.yaml`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::Paths;

/// How a configuration differs from that of the other scenarios; `null` removes a field.
pub(super) fn fields(name: &str, paths: &Paths) -> Result<Value> {
    let authority = paths.file("ca.crt").display().to_string();
    let mut all = load(&authority)?;
    all.remove(name).with_context(|| format!("there is no configuration {name:?}"))
}

/// Their names.
#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    load("").unwrap().into_keys().collect()
}

fn load(authority: &str) -> Result<BTreeMap<String, Value>> {
    let text = include_str!("configurations.yaml").replace("AUTHORITY", authority);
    serde_saphyr::from_str(&text).context("read the configurations of the HTTP API")
}
