//! An error with its causes, as one line for the log, an event or a status.

use std::error::Error;

/// Where libraries refer to their documentation, which is of no use to who operates a node.
const DOCUMENTATION: &str = ": https://docs.rs/";

/// An error with everything below it on one line. What an error of a library says of its own cause is not said again.
pub fn chain(error: &dyn Error) -> String {
    let mut text = without_links(error.to_string());
    let mut next = error.source();
    while let Some(cause) = next {
        let reason = without_links(cause.to_string());
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        next = cause.source();
    }
    text
}

fn without_links(mut text: String) -> String {
    while let Some(start) = text.find(DOCUMENTATION) {
        let rest = &text[start + ": ".len()..];
        let end = rest.find(char::is_whitespace).map_or(text.len(), |length| start + ": ".len() + length);
        text.replace_range(start..end, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;

    #[derive(Debug)]
    enum Step {
        Quiet(std::io::Error),
        Talkative(std::io::Error),
    }

    impl std::fmt::Display for Step {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::Quiet(_) => write!(f, "open x"),
                Self::Talkative(cause) => write!(f, "open x: {cause}"),
            }
        }
    }

    impl std::error::Error for Step {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            let (Self::Quiet(cause) | Self::Talkative(cause)) = self;
            Some(cause)
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("no disk");
        assert_eq!(chain(&Step::Quiet(cause())), "open x: no disk");
        assert_eq!(chain(&Step::Talkative(cause())), "open x: no disk");
    }

    #[test]
    fn no_documentation_is_recommended() {
        let cause = || std::io::Error::other("closed early: https://docs.rs/rustls/howto/index.html#eof");
        assert_eq!(chain(&Step::Quiet(cause())), "open x: closed early");
        assert_eq!(chain(&Step::Talkative(cause())), "open x: closed early");
        let cause = std::io::Error::other("see: https://docs.rs/a#b or ask https://example.com");
        assert_eq!(chain(&Step::Quiet(cause)), "open x: see or ask https://example.com");
    }
}
