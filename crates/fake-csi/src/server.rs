//! The server: its state, its three sockets, its end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugins::wire::csi::controller_server::ControllerServer;
use plugins::wire::csi::identity_server::IdentityServer;
use plugins::wire::csi::node_server::NodeServer;
use plugins::wire::registration::registration_server::RegistrationServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use crate::control;
use crate::driver::Service;
use crate::gate::{self, Gate, Mode};
use crate::journal::Journal;
use crate::volumes::{Capability, Volumes};

/// Who the driver says it is.
#[derive(Clone, Debug)]
pub struct Driver {
    /// `CSIPlugin`, or another type of plugin.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Versions of CSI it says it speaks.
    pub versions: Vec<String>,
    /// What it calls the node.
    pub node_id: String,
    /// How many volumes it says the node can have, at first.
    pub max_volumes: i64,
    /// Where it says the node is.
    pub topology: BTreeMap<String, String>,
    /// What it says it can do.
    pub capabilities: Vec<Capability>,
    /// Whether it has the service Controller: its volumes are made and attached by that alone then.
    pub has_controller: bool,
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it registers.
    pub registration: PathBuf,
    /// Where it speaks CSI.
    pub socket: PathBuf,
    /// Where it takes [`crate::Command`]s.
    pub control: PathBuf,
    /// Where its volumes are, and what it knows of them.
    pub volumes: PathBuf,
    /// Who it is.
    pub driver: Driver,
    /// Calls that hang from the start on.
    pub hung: Vec<String>,
}

/// The server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no call of this name.
    #[error("no call {0:?}")]
    Call(String),
    /// What an earlier process has left of volumes cannot be read.
    #[error("open volumes in {path}", path = path.display())]
    Volumes {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A socket cannot be made.
    #[error("listen on {path}", path = path.display())]
    Listen {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The gRPC server broke.
    #[error("serve gRPC")]
    Grpc(#[source] tonic::transport::Error),
    /// The control socket broke.
    #[error("serve the control socket")]
    Control(#[source] io::Error),
}

/// A driver whose sockets exist.
pub struct Server {
    registration: UnixListener,
    socket: UnixListener,
    control: UnixListener,
    state: Arc<State>,
}

/// What calls and commands work on.
pub(crate) struct State {
    pub(crate) gate: Gate,
    pub(crate) journal: Journal,
    pub(crate) volumes: Volumes,
    pub(crate) driver: Driver,
    pub(crate) endpoint: String,
}

impl Server {
    /// Makes the sockets, each in one step in place of what an earlier driver has left, and the one for registration last.
    ///
    /// # Errors
    /// When a socket cannot be made, the volumes cannot be read, or a call to hang is none.
    pub fn bind(options: Options) -> Result<Self, ServeError> {
        let Options { registration, socket, control, volumes: folder, driver, hung } = options;
        let endpoint = socket.to_string_lossy().into_owned();
        let has_stage = driver.capabilities.contains(&Capability::Stage);
        let volumes = Volumes::open(&folder, has_stage, driver.has_controller)
            .map_err(|source| ServeError::Volumes { path: folder.clone(), source })?;
        let (gate, journal) = (Gate::new(driver.max_volumes), Journal::default());
        let state = State { gate, journal, volumes, driver, endpoint };
        for name in hung {
            let Some(call) = gate::call(&name) else { return Err(ServeError::Call(name)) };
            state.gate.set(call, Some(Mode::Hang));
        }
        let (control, socket) = (listen(&control)?, listen(&socket)?);
        Ok(Self { control, socket, registration: listen(&registration)?, state: Arc::new(state) })
    }

    /// Answers calls for ever.
    ///
    /// # Errors
    /// When a socket breaks.
    pub async fn serve(self) -> Result<std::convert::Infallible, ServeError> {
        let service = || Service(Arc::clone(&self.state));
        let registration = tonic::transport::Server::builder()
            .add_service(RegistrationServer::new(service()))
            // As drivers do that register by the socket they work on.
            .add_service(IdentityServer::new(service()))
            .add_service(NodeServer::new(service()))
            .serve_with_incoming(UnixListenerStream::new(self.registration));
        let csi = tonic::transport::Server::builder()
            .add_service(IdentityServer::new(service()))
            .add_service(NodeServer::new(service()))
            .add_optional_service(self.state.driver.has_controller.then(|| ControllerServer::new(service())))
            .serve_with_incoming(UnixListenerStream::new(self.socket));
        // Cancel-safe: whichever ends, the server as a whole is over.
        let ended = tokio::select! {
            ended = registration => ended,
            ended = csi => ended,
            error = control::serve(self.control, self.state) => return Err(ServeError::Control(error)),
        };
        ended.map_err(ServeError::Grpc)?;
        Err(ServeError::Control(io::Error::other("a socket was closed")))
    }
}

/// Under a hidden name first, so that nobody finds it before somebody listens.
fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let listen = || {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hidden = path.with_file_name(format!(".{name}"));
        match std::fs::remove_file(&hidden) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&hidden)?;
        std::fs::rename(&hidden, path)?;
        Ok(listener)
    };
    listen().map_err(|source| ServeError::Listen { path: path.to_owned(), source })
}
