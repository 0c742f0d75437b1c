//! `$(NAME)` in a probe's command, from the container's environment as written in its spec.
//!
//! Values that come from elsewhere (`valueFrom`) count as empty here, unknown names stay as they
//! are, and `$$` is one dollar: upstream expands probe commands exactly this far.

use k8s_openapi::api::core::v1::EnvVar;

/// The command with its references replaced.
pub(crate) fn expand_command(command: &[String], env: &[EnvVar]) -> Vec<String> {
    // The last of several variables with one name counts.
    let lookup = |name: &str| {
        env.iter().rev().find(|v| v.name == name).map(|v| v.value.as_deref().unwrap_or_default())
    };
    command.iter().map(|word| expand(word, &lookup)).collect()
}

fn expand<'e>(word: &str, lookup: &impl Fn(&str) -> Option<&'e str>) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_from_static_values_only() {
        let var = |name: &str, value: Option<&str>| EnvVar {
            name: name.into(),
            value: value.map(Into::into),
            ..Default::default()
        };
        let env = [var("A", Some("first")), var("A", Some("x")), var("FROM_SECRET", None)];
        for (word, want) in [
            ("$(A)", "x"),
            ("a$(A)b$(A)", "axbx"),
            ("$$(A)", "$(A)"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(FROM_SECRET)", ""),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("100$", "100$"),
            ("$", "$"),
            ("$$$$", "$$"),
            ("é$(A)é", "éxé"),
        ] {
            assert_eq!(expand_command(&[word.to_owned()], &env), [want], "{word}");
        }
    }
}
