//! Secrets and ConfigMaps that pods on this node name: each watched on its own, read from memory.
//!
//! The node may only see objects its pods name, one by one, so there is a watch for each. Pods
//! register when they are admitted ([`ObjectCache::register`]); the first one that names an
//! object starts its watch, so that the object is here when volumes and containers ask for it,
//! and the last one to go stops it. An immutable object needs no watch once it is here.
//!
//! Whoever does not want watches ([`Detection`]) has objects read whenever they are needed, or kept for a
//! while; nobody is told of changes then.

mod expiring;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use model::references::references;
pub use model::references::{ObjectKind, ObjectName};
use model::{Pod, PodUid};
use thiserror::Error;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

use crate::call::{Purpose, RequestError, call};
use crate::connect::Connection;
use crate::watch::{Change, Freshness, Watch, Watched};
use expiring::Expiring;

/// Watches on one connection. The API server allows 100 requests at a time on one, and a client
/// that wants more waits for ever.
const WATCHES_PER_CONNECTION: usize = 80;
/// How long a read waits for the first list of its watch.
const FIRST_LIST: Duration = Duration::from_secs(10);
/// Changes kept for a slow listener: a listener that misses some is told so and looks at
/// everything. A node sees a handful a minute; 256 covers an operator changing all of them.
const CHANGES: usize = 256;

/// The collection an object is in.
fn path(object: &ObjectName) -> String {
    let resource = match object.kind {
        ObjectKind::Secret => "secrets",
        ObjectKind::ConfigMap => "configmaps",
    };
    format!("/api/v1/namespaces/{}/{resource}", object.namespace)
}

fn purpose(object: &ObjectName, is_watch: bool) -> Purpose {
    let operation = match (object.kind, is_watch) {
        (ObjectKind::Secret, true) => "watch secret",
        (ObjectKind::Secret, false) => "get secret",
        (ObjectKind::ConfigMap, true) => "watch configmap",
        (ObjectKind::ConfigMap, false) => "get configmap",
    };
    Purpose::new(operation, format!("{}/{}", object.namespace, object.name))
}

/// An object cannot be had.
#[derive(Clone, Debug, Error)]
pub enum ObjectError {
    /// It does not exist.
    #[error("{0} not found")]
    NotFound(ObjectName),
    /// The node may not read it: usually the API server has not seen yet that a pod of this node
    /// names it.
    #[error("{0} may not be read by this node")]
    Forbidden(ObjectName, #[source] Arc<RequestError>),
    /// The request failed otherwise.
    #[error("{0} cannot be read")]
    Failed(ObjectName, #[source] Arc<RequestError>),
    /// No answer yet.
    #[error("{0} has not been read yet")]
    Pending(ObjectName),
}

impl ObjectError {
    fn of(name: &ObjectName, error: RequestError) -> Self {
        if error.is_not_found() {
            Self::NotFound(name.clone())
        } else if error.is_forbidden() {
            Self::Forbidden(name.clone(), Arc::new(error))
        } else {
            Self::Failed(name.clone(), Arc::new(error))
        }
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectChange {
    /// This object.
    One(ObjectName),
    /// Too much to say; look at everything.
    Many,
}

/// Changes of objects in use.
pub struct ObjectChanges(broadcast::Receiver<ObjectName>);

impl ObjectChanges {
    /// The next change; `None` when the cache is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<ObjectChange> {
        match self.0.recv().await {
            Ok(name) => Some(ObjectChange::One(name)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(ObjectChange::Many),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// How changes are found out (`configMapAndSecretChangeDetectionStrategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detection {
    /// Every object is watched.
    #[default]
    Watch,
    /// Every read is a request.
    Get,
    /// A read is a request when the last one is too long ago.
    Cache,
}

enum Stored {
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
}

/// A kind of object this cache holds.
trait Cached: Watched + Send + Sync + 'static {
    fn is_immutable(&self) -> bool;
    fn lean(&mut self);
    fn store(object: Arc<Self>) -> Stored;
    fn take(stored: &Stored) -> Option<Arc<Self>>;
}

impl Cached for Secret {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
    fn lean(&mut self) {
        self.metadata.managed_fields = None;
    }
    fn store(object: Arc<Self>) -> Stored {
        Stored::Secret(object)
    }
    fn take(stored: &Stored) -> Option<Arc<Self>> {
        match stored {
            Stored::Secret(object) => Some(object.clone()),
            Stored::ConfigMap(_) => None,
        }
    }
}

impl Cached for ConfigMap {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
    fn lean(&mut self) {
        self.metadata.managed_fields = None;
    }
    fn store(object: Arc<Self>) -> Stored {
        Stored::ConfigMap(object)
    }
    fn take(stored: &Stored) -> Option<Arc<Self>> {
        match stored {
            Stored::ConfigMap(object) => Some(object.clone()),
            Stored::Secret(_) => None,
        }
    }
}

// Neither these nor what holds them is `Debug`: a Secret must not get into a log.
enum Known<K> {
    Pending,
    Present(Arc<K>),
    Absent,
    Unreadable(ObjectError),
}

impl<K> Clone for Known<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Pending => Self::Pending,
            Self::Present(object) => Self::Present(Arc::clone(object)),
            Self::Absent => Self::Absent,
            Self::Unreadable(error) => Self::Unreadable(error.clone()),
        }
    }
}

#[derive(Clone)]
enum View {
    Secret(watch::Receiver<Known<Secret>>),
    ConfigMap(watch::Receiver<Known<ConfigMap>>),
}

/// A watch and who needs it. Dropping it stops the watch.
struct Entry {
    pods: BTreeSet<PodUid>,
    view: View,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// See the module. Clones share one cache; it needs a tokio runtime.
#[derive(Clone)]
pub struct ObjectCache {
    connection: Connection,
    // Registrations only: held for a look-up, never across a wait. Objects are in the entries'
    // channels, each written by its own task.
    entries: Arc<Mutex<HashMap<ObjectName, Entry>>>,
    pool: Arc<Mutex<Vec<Arc<Client>>>>,
    /// Only with [`Detection::Cache`].
    expiring: Arc<Expiring>,
    detection: Detection,
    changes: broadcast::Sender<ObjectName>,
}

impl ObjectCache {
    /// An empty cache that watches.
    pub fn new(connection: Connection) -> Self {
        Self::with(connection, Detection::Watch)
    }

    /// An empty cache.
    pub fn with(connection: Connection, detection: Detection) -> Self {
        let (changes, _) = broadcast::channel(CHANGES);
        let (entries, pool, expiring) = Default::default();
        Self { connection, entries, pool, expiring, detection, changes }
    }

    /// Whether changes are told of; otherwise objects have to be read again now and then.
    pub fn tells_of_changes(&self) -> bool {
        self.detection == Detection::Watch
    }

    /// How long an object that was read is new; `None` is a minute. Only with [`Detection::Cache`].
    pub fn set_ttl(&self, ttl: Option<Duration>) {
        self.expiring.set_ttl(ttl);
    }

    /// Changes from now on.
    pub fn changes(&self) -> ObjectChanges {
        ObjectChanges(self.changes.subscribe())
    }

    /// Watches what a pod names. Again with a changed pod: watches what it names now.
    pub fn register(&self, pod: &Pod) {
        match self.detection {
            Detection::Watch => {}
            Detection::Get => return,
            Detection::Cache => return self.expiring.register(pod),
        }
        let uid = model::pod::uid(pod);
        let wanted = references(pod);
        let mut entries = self.entries();
        entries.retain(|name, entry| {
            if !wanted.contains(name) {
                entry.pods.remove(&uid);
            }
            !entry.pods.is_empty()
        });
        for name in wanted {
            let entry = entries.entry(name);
            let entry = entry.or_insert_with_key(|name| self.start(name));
            entry.pods.insert(uid.clone());
        }
    }

    /// A pod is gone: watches only it needed stop.
    pub fn unregister(&self, uid: &PodUid) {
        self.expiring.unregister(uid);
        self.entries().retain(|_, entry| {
            entry.pods.remove(uid);
            !entry.pods.is_empty()
        });
    }

    /// A Secret. From memory when a registered pod names it, else one request. Cancel-safe.
    ///
    /// # Errors
    /// See [`ObjectError`]; an object that appears later is returned later.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        let name = ObjectName { kind: ObjectKind::Secret, namespace: namespace.into(), name: name.into() };
        match self.view(&name) {
            Some(View::Secret(view)) => wait(view, &name).await,
            _ => self.read(&name).await,
        }
    }

    /// A ConfigMap, like [`Self::secret`].
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        let name = ObjectName { kind: ObjectKind::ConfigMap, namespace: namespace.into(), name: name.into() };
        match self.view(&name) {
            Some(View::ConfigMap(view)) => wait(view, &name).await,
            _ => self.read(&name).await,
        }
    }

    /// Objects with a registration.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether no pod names anything.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ObjectName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, name: &ObjectName) -> Option<View> {
        self.entries().get(name).map(|entry| entry.view.clone())
    }

    /// Without a watch.
    async fn read<K: Cached>(&self, name: &ObjectName) -> Result<Arc<K>, ObjectError> {
        match self.detection {
            Detection::Cache => self.expiring.read(name, |is_refresh| self.fetch(name, is_refresh)).await,
            Detection::Get | Detection::Watch => self.fetch(name, false).await,
        }
    }

    /// One request, which the server may answer from its cache if this is to refresh what is known.
    async fn fetch<K: Cached>(&self, name: &ObjectName, is_refresh: bool) -> Result<Arc<K>, ObjectError> {
        let resource_version = is_refresh.then(|| "0".to_owned());
        let request = Request::new(path(name)).get(&name.name, &GetParams { resource_version });
        let fetched: Result<K, _> = call(&self.connection.api, &purpose(name, false), request).await;
        let mut object = fetched.map_err(|error| ObjectError::of(name, error))?;
        object.lean();
        Ok(Arc::new(object))
    }

    #[expect(clippy::disallowed_methods, reason = "the entry holds the handle that aborts the task")]
    fn start(&self, name: &ObjectName) -> Entry {
        let client = self.client();
        let (view, task) = match name.kind {
            ObjectKind::Secret => {
                let (known, view) = watch::channel(Known::Pending);
                (View::Secret(view), tokio::spawn(follow(client, name.clone(), known, self.changes.clone())))
            }
            ObjectKind::ConfigMap => {
                let (known, view) = watch::channel(Known::Pending);
                (
                    View::ConfigMap(view),
                    tokio::spawn(follow(client, name.clone(), known, self.changes.clone())),
                )
            }
        };
        Entry { pods: BTreeSet::new(), view, task: task.abort_handle() }
    }

    /// A client with room for one more watch. A watch's claim is its clone of the `Arc`.
    fn client(&self) -> Arc<Client> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let free = pool.iter().find(|client| Arc::strong_count(client) <= WATCHES_PER_CONNECTION);
        if let Some(client) = free {
            return Arc::clone(client);
        }
        // The kubeconfig's parts were good at start; should that ever fail, share a connection.
        let client = self.connection.another().unwrap_or_else(|error| {
            tracing::warn!(
                error = model::chain(&error),
                "Failed to open another connection for watches; sharing one"
            );
            self.connection.api.clone()
        });
        let client = Arc::new(client);
        // Connections nobody watches on any more are given up.
        pool.retain(|client| Arc::strong_count(client) > 1);
        pool.push(Arc::clone(&client));
        client
    }
}

async fn wait<K>(mut view: watch::Receiver<Known<K>>, name: &ObjectName) -> Result<Arc<K>, ObjectError> {
    let ready = view.wait_for(|known| !matches!(known, Known::Pending));
    let known = match tokio::time::timeout(FIRST_LIST, ready).await {
        Ok(Ok(known)) => known.clone(),
        // Unregistered meanwhile, or no answer.
        Ok(Err(_)) | Err(_) => return Err(ObjectError::Pending(name.clone())),
    };
    match known {
        Known::Present(object) => Ok(object),
        Known::Absent => Err(ObjectError::NotFound(name.clone())),
        Known::Unreadable(error) => Err(error),
        Known::Pending => Err(ObjectError::Pending(name.clone())),
    }
}

/// Keeps one object true until aborted. Ends early for an immutable one, keeping its last value:
/// the channel's sender is given up, its receivers still read it.
async fn follow<K: Cached>(
    client: Arc<Client>,
    name: ObjectName,
    known: watch::Sender<Known<K>>,
    changes: broadcast::Sender<ObjectName>,
) {
    let fields = format!("metadata.name={}", name.name);
    let purpose = purpose(&name, true);
    let mut watch =
        Watch::<K>::new((*client).clone(), &path(&name), Some(fields), Freshness::Latest, purpose);
    let mut version = None;
    loop {
        let current = match watch.try_next().await {
            Ok(Change::Listed(objects)) => objects.into_iter().next(),
            Ok(Change::Applied(object)) => Some(object),
            Ok(Change::Deleted(_)) => None,
            Err(error) => {
                // What was read once stays readable while the server is away, and while it forgets who may read it, as
                // it does for a moment after its own start.
                let is_known = matches!(&*known.borrow(), Known::Present(_) | Known::Absent);
                if !is_known {
                    known.send_replace(Known::Unreadable(ObjectError::of(&name, error)));
                }
                continue;
            }
        };
        let fresh = current.as_ref().map(|object| object.version().unwrap_or_default().to_owned());
        if version.as_ref() == Some(&fresh) {
            continue;
        }
        version = Some(fresh);
        let is_immutable = current.as_ref().is_some_and(Cached::is_immutable);
        known.send_replace(match current {
            Some(mut object) => {
                object.lean();
                Known::Present(Arc::new(object))
            }
            None => Known::Absent,
        });
        // Nobody listening is no error.
        let _ = changes.send(name.clone());
        if is_immutable {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
