//! The node's resolver configuration, from which pods inherit (resolv.conf(5)).

use std::path::Path;

use crate::text::{self, FileError};

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver` lines, in order.
    pub nameservers: Vec<String>,
    /// The last `search` (or `domain`) line's names, in order.
    pub searches: Vec<String>,
    /// `options`, of all lines; the last of each option counts.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads a file. An empty path means no configuration, as the kubelet's `resolvConf: ""` does.
    pub fn read(path: &str) -> Result<Self, FileError> {
        if path.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self::parse(&text::read(Path::new(path))?))
    }

    /// Understands the text; lines it does not know are skipped.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut fields = line.split_whitespace();
            match fields.next() {
                Some("nameserver") => conf.nameservers.extend(fields.next().map(str::to_owned)),
                Some("search" | "domain") => {
                    // A trailing dot only says that the name is complete, except for the root.
                    let trim =
                        |f: &str| if f == "." { f.to_owned() } else { f.trim_end_matches('.').to_owned() };
                    conf.searches = fields.map(trim).collect();
                }
                Some("options") => fields.for_each(|option| conf.set_option(option)),
                _ => {}
            }
        }
        conf
    }

    fn set_option(&mut self, option: &str) {
        let name = |o: &str| o.split_once(':').map_or_else(|| o.to_owned(), |(n, _)| n.to_owned());
        let wanted = name(option);
        self.options.retain(|o| name(o) != wanted);
        self.options.push(option.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there() {
        let conf = ResolvConf::parse(
            "# comment\n; other\nnameserver 10.0.0.1\nnameserver  fe80::1%eth0 trailing\nnameserver\n\
             domain old.example\nsearch a.example. b.example .\n\toptions ndots:2 rotate\noptions ndots:5\nfuture x\n",
        );
        assert_eq!(conf.nameservers, ["10.0.0.1", "fe80::1%eth0"]);
        assert_eq!(conf.searches, ["a.example", "b.example", "."]);
        assert_eq!(conf.options, ["rotate", "ndots:5"]);
        assert_eq!(ResolvConf::read("").unwrap(), ResolvConf::default());
        assert!(ResolvConf::read("/no/such/file").unwrap_err().is_not_found());
    }
}
