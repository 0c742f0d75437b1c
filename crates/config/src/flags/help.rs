//! What `--help` prints.

use std::fmt::Write as _;

use super::table::FLAGS;
use super::{Deprecation, Flag, Kind};

/// The usage text.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "The kubelet runs the pods that are bound to this node. It learns of them from the API server\n\
         (--kubeconfig), from files (staticPodPath) and from a URL (staticPodURL), starts their containers\n\
         through a CRI runtime, and reports how they and the node are.\n\n\
         Usage:\n  kubelet [flags]\n  kubelet config check|show ...   look at a configuration; see kubelet config --help\n  \
         kubelet explain [POD] ...       what this node or a pod waits for; see kubelet explain --help\n  \
         kubelet record start|stop|status  record what the running kubelet is told and decides\n  \
         kubelet replay FILE ...         look at a recording; see kubelet replay --help\n\nFlags:\n",
    );
    for flag in FLAGS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\n      {}{}", head(flag), flag.help, tail(flag));
    }
    text
}

fn head(flag: &Flag) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
    let kind = match flag.kind {
        Kind::Bool => "",
        Kind::Int32 | Kind::Int64 | Kind::Level => " int",
        Kind::Text => " string",
        Kind::Duration => " duration",
        Kind::Ip => " ip",
        Kind::Quantity => " quantity",
        Kind::TextList => " strings",
        Kind::Map | Kind::MapWhole | Kind::Labels | Kind::Thresholds => " mapStringString",
        Kind::Gates => " mapStringBool",
        Kind::Headers => " colonSeparatedMultimapStringString",
        Kind::Taints => " []api.Taint",
        Kind::ReservedMemory => " reserved-memory",
        Kind::Vmodule => " pattern=N,...",
        Kind::Version => " version[=true]",
    };
    format!("  {short}--{}{kind}", flag.name)
}

fn tail(flag: &Flag) -> String {
    let default = match flag.default {
        "" | "false" | "0" | "0s" => String::new(),
        default => format!(" (default {default})"),
    };
    let deprecation = match flag.deprecation {
        Deprecation::No => "",
        Deprecation::SetInFile => " (DEPRECATED: set it in the file given to --config)",
        Deprecation::GoingAway => " (DEPRECATED: will be removed)",
        Deprecation::Unused => " (DEPRECATED: has no effect)",
    };
    default + deprecation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_flag() {
        let text = help();
        for flag in FLAGS {
            assert!(text.contains(&format!("--{}", flag.name)), "{}", flag.name);
        }
        assert!(text.contains("  -v, --v int\n"), "{text}");
    }
}
