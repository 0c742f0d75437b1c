//! The command line: what a flag is, and which there are.

mod help;
mod parse;
mod table;
mod value;

pub(crate) use help::help;
pub(crate) use parse::{CommandLine, parse};
pub(crate) use table::{FLAGS, OWN};

use crate::codec::{Dict, GoDuration, document};

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its name, without the dashes.
    pub(crate) name: &'static str,
    /// Its one-letter form.
    pub(crate) short: Option<char>,
    /// What its value looks like.
    pub(crate) kind: Kind,
    /// Its default, as it would be written on the command line.
    pub(crate) default: &'static str,
    /// Whether it is on its way out.
    pub(crate) deprecation: Deprecation,
    /// Where its value goes.
    pub(crate) place: Place,
    /// What it does, for `--help`.
    pub(crate) help: &'static str,
}

/// What the value of a flag looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`; the bare flag means `true`.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A log verbosity.
    Level,
    /// Anything.
    Text,
    /// A Go duration.
    Duration,
    /// An IP address.
    Ip,
    /// An amount such as `64Ki`.
    Quantity,
    /// `a,b,c`; repeated flags add up.
    TextList,
    /// `key=value,key=value`; repeated flags add up.
    Map,
    /// One `key=value`, whose value may contain commas; repeated flags add up.
    MapWhole,
    /// `key=value,key`, where a missing value is empty.
    Labels,
    /// `signal<quantity,signal<quantity`.
    Thresholds,
    /// `Gate=true,Gate=false`; merged into those of the document.
    Gates,
    /// `Name:value,Name:value`.
    Headers,
    /// `key=value:Effect,key:Effect`.
    Taints,
    /// `numa:type=quantity,type=quantity`, repeatable.
    ReservedMemory,
    /// `pattern=level,pattern=level`.
    Vmodule,
    /// `true`, `false`, `raw` or a version to report.
    Version,
}

impl Kind {
    /// What Go's flag library calls it; nothing stands for a switch.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Level => "Level",
            Self::Text => "string",
            Self::Duration => "duration",
            Self::Ip => "ip",
            Self::Quantity => "quantity",
            Self::TextList => "stringSlice",
            Self::Map | Self::MapWhole | Self::Labels | Self::Thresholds => "mapStringString",
            Self::Gates => "mapStringBool",
            Self::Headers => "colonSeparatedMultimapStringString",
            Self::Taints => "[]v1.Taint",
            Self::ReservedMemory => "reserved-memory",
            Self::Vmodule => "pattern=N,...",
            Self::Version => "version",
        }
    }

    /// What the flag means without a value; nothing if it needs one.
    pub(crate) fn bare_value(self) -> &'static str {
        match self {
            Self::Bool | Self::Version => "true",
            _ => "",
        }
    }
}

/// Whether a flag is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deprecation {
    /// It is not.
    No,
    /// It has a place in the document.
    SetInFile,
    /// It works, and has no place in the document: what it does is going to go with it.
    GoingAway,
    /// It has no effect any more.
    Unused,
}

/// Where the value of a flag goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To this field of the document.
    Document(&'static str),
    /// To the field of [`LocalFlags`] that has the name of the flag.
    Local,
    /// Nowhere; this version has no use for it yet.
    Ignored,
    /// It makes the kubelet print something and leave.
    Print,
}

document! {
    /// The flags that have no place in the document, since they differ from node to node.
    pub(crate) struct LocalFlags {
        /// Path of the document.
        pub config: String = "config",
        /// Folder with drop-ins for the document.
        pub config_dir: String = "config-dir",
        /// Path of the API server's credentials; empty for a node without API server.
        pub kubeconfig: String = "kubeconfig",
        /// Path of credentials to obtain the former with.
        pub bootstrap_kubeconfig: String = "bootstrap-kubeconfig",
        /// The name the node is to have instead of the host's.
        pub hostname_override: String = "hostname-override",
        /// The node's address, or a pair of two families.
        pub node_ip: String = "node-ip",
        /// Folder for certificates.
        pub cert_dir: String = "cert-dir",
        /// Empty or `external`.
        pub cloud_provider: String = "cloud-provider",
        /// Folder for all state.
        pub root_dir: String = "root-dir",
        /// Whether containers without a seccomp profile get the runtime's; this or the field of
        /// the document turns it on, neither turns it off.
        pub seccomp_default: bool = "seccomp-default",
        /// Folder for a recording of what the core is told.
        pub record: String = "record",
        /// A file to lock while running.
        pub lock_file: String = "lock-file",
        /// Whether to end when another process opens that file.
        pub exit_on_lock_contention: bool = "exit-on-lock-contention",
        /// The least age of dead containers that are removed.
        pub minimum_container_ttl_duration: GoDuration = "minimum-container-ttl-duration",
        /// How many dead instances of a container are kept; all when negative.
        pub maximum_dead_containers_per_container: i32 = "maximum-dead-containers-per-container",
        /// How many dead containers are kept in all; all when negative.
        pub maximum_dead_containers: i32 = "maximum-dead-containers",
        /// Whether what pods may use includes what hard eviction thresholds keep free.
        pub experimental_allocatable_ignore_eviction: bool = "experimental-allocatable-ignore-eviction",
        /// Labels the node registers with.
        pub node_labels: Dict<String> = "node-labels",
        /// The cgroup the container runtime runs in.
        pub runtime_cgroups: String = "runtime-cgroups",
        /// File or folder with the configuration of credential providers.
        pub image_credential_provider_config: String = "image-credential-provider-config",
        /// Folder with the executables of credential providers.
        pub image_credential_provider_bin_dir: String = "image-credential-provider-bin-dir",
    }
}
