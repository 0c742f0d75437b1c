//! From arguments to flag values, by the rules of Go's `pflag`: `--name=value`, `--name value`,
//! `-x value`, `-xvalue`, a bare switch, `_` for `-`, and `--` ends the flags.

use std::collections::BTreeMap;

use super::table::{FLAGS, OWN, REMOVED};
use super::{Flag, Kind, value};
use crate::finding::{Finding, Findings};
use crate::similar;
use crate::tree::{Tree, Value};

/// What the command line asked for: the flags that were set, in the order of their first use.
#[derive(Debug, Default)]
pub(crate) struct CommandLine {
    pub(crate) set: Vec<(&'static Flag, Tree)>,
    /// Flags that were given nothing and thus leave everything as it is.
    pub(crate) empty: Vec<&'static Flag>,
}

impl CommandLine {
    /// The value a flag was set to.
    pub(crate) fn get(&self, name: &str) -> Option<&Tree> {
        self.set.iter().find(|(flag, _)| flag.name == name).map(|(_, value)| value)
    }

    /// Every flag with its value, as Go prints it. What may be a credential is withheld.
    pub(crate) fn in_effect(&self) -> BTreeMap<&'static str, String> {
        let value = |flag: &Flag| match self.get(flag.name) {
            Some(_) if flag.kind == Kind::Headers => "CLASSIFIED".to_owned(),
            Some(tree) => shown(tree),
            None => match flag.kind {
                Kind::TextList => format!("[{}]", flag.default),
                _ => flag.default.to_owned(),
            },
        };
        let is_shown = |flag: &&Flag| {
            flag.name != "help" && (!OWN.contains(&flag.name) || self.get(flag.name).is_some())
        };
        FLAGS.iter().filter(is_shown).map(|flag| (flag.name, value(flag))).collect()
    }

    fn add(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        // As upstream, these take nothing for "leave it as it is".
        if text.is_empty() && matches!(flag.kind, Kind::Ip | Kind::ReservedMemory) {
            self.empty.push(flag);
            return Ok(());
        }
        let position = self.set.iter().position(|(known, _)| std::ptr::eq(*known, flag));
        let previous = position.map(|index| &self.set[index].1);
        let parsed = value::parse(flag.kind, text, previous)?;
        match position {
            Some(index) => self.set[index].1 = parsed,
            None => self.set.push((flag, parsed)),
        }
        Ok(())
    }
}

fn shown(tree: &Tree) -> String {
    match &tree.value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Map(fields) => {
            let pairs: Vec<_> = fields.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect();
            pairs.join(",")
        }
    }
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(arguments: &[String], findings: &mut Findings) -> CommandLine {
    let mut line = CommandLine::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            if let Some(word) = rest.next() {
                findings.push(stray(word));
            }
            break;
        }
        if let Some(long) = argument.strip_prefix("--") {
            parse_long(long, argument, &mut rest, &mut line, findings);
        } else if argument.len() > 1 && argument.starts_with('-') {
            parse_short(argument, &mut rest, &mut line, findings);
        } else {
            findings.push(stray(argument));
        }
    }
    line
}

fn parse_long(
    long: &str,
    argument: &str,
    rest: &mut std::slice::Iter<'_, String>,
    line: &mut CommandLine,
    findings: &mut Findings,
) {
    let (name, inline) = match long.split_once('=') {
        Some((name, text)) => (name, Some(text)),
        None => (long, None),
    };
    if name.is_empty() || name.starts_with('-') {
        findings.push(Finding::error("", format!("bad flag syntax: {argument}")));
        return;
    }
    let name = name.replace('_', "-");
    let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
        findings.push(unknown(&name));
        // Whether the next argument is its value cannot be known; one that is no flag would only
        // make a second message out of one mistake.
        if inline.is_none() && rest.as_slice().first().is_some_and(|next| !next.starts_with('-')) {
            rest.next();
        }
        return;
    };
    let text = match (inline, flag.kind) {
        (Some(text), _) => text,
        (None, Kind::Bool | Kind::Version) => "true",
        (None, _) => match rest.next() {
            Some(text) => text.as_str(),
            None => {
                let path = format!("--{name}");
                findings.push(Finding::error(path.as_str(), format!("flag needs an argument: {path}")));
                return;
            }
        },
    };
    set(line, flag, text, findings);
}

fn parse_short(
    argument: &str,
    rest: &mut std::slice::Iter<'_, String>,
    line: &mut CommandLine,
    findings: &mut Findings,
) {
    for (at, letter) in argument[1..].char_indices() {
        let Some(flag) = FLAGS.iter().find(|flag| flag.short == Some(letter)) else {
            let mut finding = Finding::error("", format!("unknown shorthand flag: {letter:?} in {argument}"));
            let name = argument.trim_start_matches('-').split('=').next().unwrap_or_default();
            if FLAGS.iter().any(|flag| flag.name == name) {
                finding = finding.hint(format!("long flags take two dashes: --{name}"));
            }
            findings.push(finding);
            return;
        };
        let after = &argument[1 + at + letter.len_utf8()..];
        match flag.kind {
            Kind::Bool if !after.starts_with('=') => set(line, flag, "true", findings),
            _ => {
                let text = match after.strip_prefix('=').unwrap_or(after) {
                    "" => rest.next().map(String::as_str),
                    text => Some(text),
                };
                match text {
                    Some(text) => set(line, flag, text, findings),
                    None => findings.push(Finding::error(
                        format!("-{letter}"),
                        format!("flag needs an argument: {letter:?} in {argument}"),
                    )),
                }
                return;
            }
        }
    }
}

fn set(line: &mut CommandLine, flag: &'static Flag, text: &str, findings: &mut Findings) {
    if let Err(reason) = line.add(flag, text) {
        let path = format!("--{}", flag.name);
        // The value of a header may be a credential.
        let shown = if flag.kind == Kind::Headers { "<masked>" } else { text };
        let message = format!("invalid argument {shown:?} for {path:?} flag: {reason}");
        findings.push(Finding::error(path, message));
    }
}

fn stray(word: &str) -> Finding {
    Finding::error("", format!("unknown command {word}"))
        .hint("the kubelet takes flags only; a switch is turned off with --name=false")
}

fn unknown(name: &str) -> Finding {
    let finding = Finding::error(format!("--{name}"), format!("unknown flag: --{name}"));
    if REMOVED.contains(&name) {
        return finding.hint("it was removed in v1.37; delete it");
    }
    match similar::nearest(name, FLAGS.iter().map(|flag| flag.name)) {
        Some(near) => finding.hint(format!("did you mean --{near}?")),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Value;

    fn read(arguments: &[&str]) -> (CommandLine, Vec<String>) {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let mut findings = Findings::default();
        let line = parse(&arguments, &mut findings);
        (line, findings.into_list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_every_spelling() {
        for (arguments, name, expected) in [
            (&["--port=1"][..], "port", Value::Int(1)),
            (&["--port", "0x10"], "port", Value::Int(16)),
            (&["--max_pods=3"], "max-pods", Value::Int(3)),
            (&["--register-node"], "register-node", Value::Bool(true)),
            (&["--register-node=F"], "register-node", Value::Bool(false)),
            (&["-v=4"], "v", Value::Int(4)),
            (&["-v", "4"], "v", Value::Int(4)),
            (&["-v4"], "v", Value::Int(4)),
            (&["--v", "4"], "v", Value::Int(4)),
            (&["-h"], "help", Value::Bool(true)),
            (&["--root-dir", "--x"], "root-dir", Value::Text("--x".into())),
            (&["--root-dir="], "root-dir", Value::Text(String::new())),
            (&["--port=1", "--port=2"], "port", Value::Int(2)),
            (&["--node-ip=10.0.0.1,fd00::1"], "node-ip", Value::Text("10.0.0.1,fd00::1".into())),
        ] {
            let (line, findings) = read(arguments);
            assert_eq!(findings, [""; 0], "{arguments:?}");
            assert_eq!(line.get(name).map(|tree| tree.value.clone()), Some(expected), "{arguments:?}");
        }
    }

    #[test]
    fn names_every_mistake_at_once() {
        let (_, findings) = read(&[
            "--prot=1",
            "-port=2",
            "--port=x",
            "--register-node",
            "false",
            "--nonsense",
            "value",
            "--containerd=/x",
            "--=",
            "--address",
        ]);
        assert_eq!(
            findings,
            [
                "--prot: unknown flag: --prot (did you mean --port?)",
                "unknown shorthand flag: 'p' in -port=2 (long flags take two dashes: --port)",
                "--port: invalid argument \"x\" for \"--port\" flag: \"x\" is not a whole number",
                "unknown command false (the kubelet takes flags only; a switch is turned off with --name=false)",
                "--nonsense: unknown flag: --nonsense",
                "--containerd: unknown flag: --containerd (it was removed in v1.37; delete it)",
                "bad flag syntax: --=",
                "--address: flag needs an argument: --address",
            ]
        );
    }

    #[test]
    fn no_flag_is_there_twice() {
        for (index, flag) in FLAGS.iter().enumerate() {
            assert!(FLAGS[..index].iter().all(|other| other.name != flag.name), "{}", flag.name);
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(arguments in proptest::collection::vec("(--?[a-z=-]{0,12})|(\\PC{0,12})", 0..6)) {
            parse(&arguments, &mut Findings::default());
        }
    }
}
