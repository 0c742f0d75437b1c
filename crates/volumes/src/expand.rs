//! `$(NAME)` references in `subPathExpr`
//! (<https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath-expanded-environment>).

use std::collections::{BTreeMap, BTreeSet};

/// Replaces every `$(NAME)`; `$$` stands for a dollar, anything else for itself. A name without a
/// value, or with an empty one, is an error that lists all such names.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut missing = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            match env.get(name).filter(|value| !value.is_empty()) {
                Some(value) => out.push_str(value),
                None => drop(missing.insert(name.to_owned())),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    if missing.is_empty() { Ok(out) } else { Err(missing.into_iter().collect::<Vec<_>>().join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let env = BTreeMap::from([("A".to_owned(), "x".to_owned()), ("E".to_owned(), String::new())]);
        for (text, result) in [
            ("plain", Ok("plain")),
            ("$(A)/y", Ok("x/y")),
            ("$$(A)", Ok("$(A)")),
            ("$$$(A)", Ok("$x")),
            ("$A $", Ok("$A $")),
            ("$(A", Ok("$(A")),
            ("$(B)$(E)$(A)$(B)", Err("B, E")),
        ] {
            let expanded = expand(text, &env);
            assert_eq!(expanded.as_deref().map_err(String::as_str), result, "{text}");
        }
    }
}
