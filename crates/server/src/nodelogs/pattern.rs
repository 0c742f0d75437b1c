//! Whether a pattern is a regular expression: its brackets, escapes and repetitions.
//!
//! The journal's own library has the last word on what a pattern means; what is wrong on the face
//! of it is told to the client before a program is started. A whole engine only to say that would
//! cost more than it is worth.

/// What is wrong with a pattern, in the words Go has for it.
pub(super) fn fault(pattern: &str) -> Option<String> {
    let mut groups = 0_usize;
    // Whether there is something a repetition could apply to.
    let mut has_atom = false;
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => {
                if rest.next().is_none() {
                    return Some("trailing backslash at end of expression: ``".to_owned());
                }
                has_atom = true;
            }
            '[' => match after_class(rest.as_str()) {
                Some(after) => {
                    rest = after.chars();
                    has_atom = true;
                }
                None => return Some(format!("missing closing ]: `[{}`", rest.as_str())),
            },
            '(' => {
                groups += 1;
                has_atom = false;
                // What kind of group it is, is the engine's business; its mark is no repetition.
                if let Some(after) = rest.as_str().strip_prefix('?') {
                    rest = after.chars();
                }
            }
            ')' => {
                let Some(open) = groups.checked_sub(1) else {
                    return Some(format!("unexpected ): `{pattern}`"));
                };
                groups = open;
                has_atom = true;
            }
            '*' | '+' | '?' => {
                if !has_atom {
                    return Some(format!("missing argument to repetition operator: `{character}`"));
                }
            }
            '|' => has_atom = false,
            _ => has_atom = true,
        }
    }
    (groups > 0).then(|| format!("missing closing ): `{pattern}`"))
}

/// What comes after a class of characters whose bracket is open.
fn after_class(text: &str) -> Option<&str> {
    let start = text.strip_prefix('^').unwrap_or(text);
    let mut characters = start.char_indices().peekable();
    // A bracket that comes first stands for itself.
    let mut is_first = true;
    while let Some((index, character)) = characters.next() {
        match character {
            ']' if !is_first => return start.get(index + 1..),
            '\\' => {
                characters.next();
            }
            '[' if characters.peek().is_some_and(|(_, next)| *next == ':') => {
                let inner = start.get(index + 2..)?;
                if let Some(end) = inner.find(":]") {
                    while characters.next_if(|(at, _)| *at < index + 2 + end + 2).is_some() {}
                }
            }
            _ => {}
        }
        is_first = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_show() {
        for good in [
            "",
            "a",
            "(a|b)+",
            "[a-z]*?",
            "[]]",
            "[^]a]",
            "[[:alpha:]_]+",
            r"\(",
            r"[\]]",
            "(?i)x",
            "(?:a)",
            "(?P<n>a)",
            "a{2,3}",
            "^$",
            "()*",
            "[(]",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for (bad, want) in [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("[]", "missing closing ]: `[]`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("\\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(fault(bad).as_deref(), Some(want), "{bad}");
        }
    }
}
