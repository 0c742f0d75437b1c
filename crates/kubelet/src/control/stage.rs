//! How far the start of the node has come.

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It connects to the API server, if it has one: without a certificate that can take long.
    Connecting,
    /// Cgroups, servers and watchers are made ready.
    Preparing,
    /// The core decides.
    Started,
}
