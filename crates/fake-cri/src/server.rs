//! The server: its state, its two sockets, its end.

use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::wire::image_service_server::ImageServiceServer;
use runtime::wire::runtime_service_server::RuntimeServiceServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use crate::control;
use crate::gate::Gate;
use crate::images::Images;
use crate::latency::Latencies;
use crate::world::World;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it speaks CRI.
    pub socket: PathBuf,
    /// Where it takes [`crate::Command`]s.
    pub control: PathBuf,
    /// What it calls the mount point of its images' file system; a folder that exists.
    pub image_folder: PathBuf,
    /// How long calls take.
    pub latencies: Latencies,
}

/// The server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be made.
    #[error("listen on {path}", path = path.display())]
    Listen {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The CRI server broke.
    #[error("serve CRI")]
    Cri(#[source] tonic::transport::Error),
    /// The control socket broke.
    #[error("serve the control socket")]
    Control(#[source] io::Error),
}

/// A runtime whose sockets exist.
pub struct Server {
    cri: UnixListener,
    control: UnixListener,
    state: Arc<State>,
}

impl Server {
    /// Makes the sockets, over what an earlier server left in their place. From now on callers can
    /// connect; they are answered once [`Server::serve`] runs.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn bind(options: Options) -> Result<Self, ServeError> {
        let state = State {
            gate: Gate::new(options.latencies),
            image_folder: options.image_folder,
            world: Mutex::new(World::new()),
            images: Mutex::default(),
        };
        Ok(Self { cri: listen(&options.socket)?, control: listen(&options.control)?, state: Arc::new(state) })
    }

    /// Answers calls for ever. Dropping it ends all connections and forgets everything.
    ///
    /// # Errors
    /// When a socket breaks.
    pub async fn serve(self) -> Result<std::convert::Infallible, ServeError> {
        let cri = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(Service(Arc::clone(&self.state))))
            .add_service(ImageServiceServer::new(Service(Arc::clone(&self.state))))
            .serve_with_incoming(UnixListenerStream::new(self.cri));
        // Cancel-safe: whichever ends, the server as a whole is over.
        tokio::select! {
            ended = cri => {
                ended.map_err(ServeError::Cri)?;
                Err(ServeError::Control(io::Error::other("the CRI socket was closed")))
            }
            error = control::serve(self.control, self.state) => Err(ServeError::Control(error)),
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let listen = || {
        // Anything but a socket is somebody's file, and in the way.
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        UnixListener::bind(path)
    };
    listen().map_err(|source| ServeError::Listen { path: path.to_owned(), source })
}

/// What calls and commands work on.
pub(crate) struct State {
    pub(crate) gate: Gate,
    pub(crate) image_folder: PathBuf,
    world: Mutex<World>,
    images: Mutex<Images>,
}

impl State {
    /// The world, for one change or one look.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The images that somebody asked for.
    pub(crate) fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state as the generated server wants it.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<State>);

impl Deref for Service {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}
