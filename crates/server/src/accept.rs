//! What content a client takes: the header `Accept`, read as Go's `goautoneg` reads it, whose oddities
//! decide which form of a page a client of upstream's gets.

/// One of the kinds of content a client takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clause<'a> {
    /// `text/plain`; a part can be `*`.
    pub(crate) media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f64,
}

impl<'a> Clause<'a> {
    /// A parameter, without quotes.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = match parts.next()? {
            "*" => "*/*",
            media if media.matches('/').count() == 1 => media,
            _ => return None,
        };
        let mut clause = Self { media, parameters: Vec::new(), quality: 1.0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name == "q" {
                clause.quality = value.parse().unwrap_or(0.0);
            } else {
                clause.parameters.push((name, value));
            }
        }
        Some(clause)
    }

    /// How many parts of it stand for anything.
    fn vagueness(&self) -> usize {
        self.media.matches('*').count()
    }
}

/// The clauses of a header, the one a client likes best first; among equals the more exact one, then the
/// first one.
pub(crate) fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut all: Vec<Clause<'_>> = header.split(',').filter_map(Clause::parse).collect();
    all.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(a.vagueness().cmp(&b.vagueness())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_comes_first() {
        for (header, want) in [
            ("", vec![]),
            ("nonsense, a/b/c", vec![]),
            ("a/b", vec!["a/b"]),
            ("*", vec!["*/*"]),
            ("a/b;q=0.1, c/d", vec!["c/d", "a/b"]),
            ("*/*, a/*, a/b", vec!["a/b", "a/*", "*/*"]),
            ("a/b, c/d", vec!["a/b", "c/d"]),
            ("a/b;q=x, c/d;q=0.2", vec!["c/d", "a/b"]),
        ] {
            let media: Vec<&str> = clauses(header).iter().map(|clause| clause.media).collect();
            assert_eq!(media, want, "{header}");
        }
    }

    #[test]
    fn parameters_lose_blanks_and_quotes() {
        let all = clauses("text/plain; version = \"0.0.4\";x; q=0.5");
        assert_eq!(all[0].parameter("version"), Some("0.0.4"));
        assert_eq!((all[0].parameter("x"), all[0].parameter("q")), (None, None));
    }
}
