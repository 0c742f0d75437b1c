//! Patterns as Go's `path.Match` has them, for names without slashes.

/// Whether the whole name matches. `*` is anything, `?` one letter, `[a-c]` and `[^a-c]` a letter
/// (not) of a class, `\` takes the next letter as it is. A pattern that is malformed matches nothing.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut from) = (0, 0);
    // Where the last star was, and how much it has swallowed up to.
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() || from < pattern.len() {
        if pattern.get(from) == Some(&'*') {
            star = Some((from, at));
            from += 1;
            continue;
        }
        match name.get(at).and_then(|letter| one(&pattern[from..], *letter)) {
            Some(length) => {
                from += length;
                at += 1;
            }
            None => match star {
                Some((position, start)) if start < name.len() => {
                    star = Some((position, start + 1));
                    from = position + 1;
                    at = start + 1;
                }
                _ => return false,
            },
        }
    }
    true
}

/// How much of the pattern the letter takes, if it fits.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['[', ..] => class(pattern, letter),
        ['\\', escaped, ..] => (*escaped == letter).then_some(2),
        [plain, ..] => (*plain == letter).then_some(1),
        [] => None,
    }
}

/// The same for a class, `pattern` beginning with its bracket.
fn class(pattern: &[char], letter: char) -> Option<usize> {
    let is_negated = pattern.get(1) == Some(&'^');
    let first = if is_negated { 2 } else { 1 };
    let (mut at, mut is_in) = (first, false);
    loop {
        if pattern.get(at)? == &']' && at > first {
            return (is_in != is_negated).then_some(at + 1);
        }
        let (low, after) = class_letter(pattern, at)?;
        let (high, after) = match pattern.get(after)? {
            '-' => class_letter(pattern, after + 1)?,
            _ => (low, after),
        };
        is_in |= (low..=high).contains(&letter);
        at = after;
    }
}

fn class_letter(pattern: &[char], at: usize) -> Option<(char, usize)> {
    match pattern.get(at)? {
        '-' | ']' => None,
        '\\' => pattern.get(at + 1).map(|letter| (*letter, at + 2)),
        plain => Some((*plain, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("pod", "pod", true),
            ("pod", "pods", false),
            ("pods", "pod", false),
            ("pod*", "pods", true),
            ("pod*", "pod", true),
            ("*od*", "pods", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbxc", false),
            ("?od", "pod", true),
            ("?", "", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("**", "ab", true),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[^a-c]x", "dx", true),
            ("[^a-c]x", "ax", false),
            ("[abz]", "z", true),
            ("*[0-9]", "pod7", true),
            ("a[", "a[", false),
            ("[]a]", "]", false),
            ("[-a]", "-", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"[\]]", "]", true),
            ("ü?", "üß", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
