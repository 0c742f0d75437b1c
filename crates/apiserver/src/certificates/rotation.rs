//! Keeps one certificate of the node valid for as long as the node lives.
//!
//! ```text
//!   wait for 70–90 % of its life, or for other names ──► make a key, ask, wait for the signer
//!        ▲                                                   │            │
//!        └───────────── written, linked, in use ◄────────────┘            └─► failed: try again
//! ```
//!
//! Upstream's client exits when its certificate has expired, to be started again with bootstrap
//! credentials. Here each attempt looks what there is: a pair somebody put into the folder, the
//! node's own certificate, else the bootstrap credentials, read afresh from their file.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use model::chain;
use thiserror::Error;
use tokio::sync::watch;

use super::key::RequestKey;
use super::pair::CertificatePair;
use super::request::{self, Template, Use};
use super::signing::{Question, SigningError, ask, certificate_of};
use super::store::{CertificateStore, StoreError};
use crate::connect::{ConnectError, Initial};

/// How long one request may wait for its approval before another one is made.
const APPROVAL_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Pauses after failed attempts: the first, doubled four times, and the last one from then on.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(32);
/// The longest sleep in one piece: the machine's clock may be set meanwhile, and a suspended
/// machine's timers stand still.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// An attempt that brought no certificate.
#[derive(Debug, Error)]
pub enum RotationError {
    /// No key could be made.
    #[error("make a private key")]
    Key(#[source] request::RequestError),
    /// There are no credentials to ask with.
    #[error("connect to ask for a certificate")]
    Connect(#[source] ConnectError),
    /// The request was refused, denied or deleted.
    #[error("ask for a certificate")]
    Signing(#[source] SigningError),
    /// Nobody approved or signed it.
    #[error("certificate request {name} was not signed within {limit:?}: it needs an approver")]
    NotSigned {
        /// The request.
        name: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The certificate that asked expired while it waited.
    #[error("the certificate expired before request {name} was signed")]
    Expired {
        /// The request.
        name: String,
    },
    /// The pair could not be written.
    #[error("keep the new certificate")]
    Store(#[source] StoreError),
}

/// What happens to a certificate.
#[derive(Clone, Debug)]
pub enum RotationEvent {
    /// This pair is in use from now on.
    Current(Arc<CertificatePair>),
    /// A pair was replaced by a new one; how old it was.
    Replaced {
        /// Since its `notBefore`.
        age: Duration,
    },
    /// Another one was asked for, and has to be approved and signed.
    Asked {
        /// The certificate signing request.
        request: String,
    },
    /// An attempt failed.
    Failed {
        /// Why.
        error: String,
        /// When it is tried again.
        next_try: Timestamp,
    },
}

/// Called at each event. Called from the task: must not block.
pub(crate) type Listener = Arc<dyn Fn(RotationEvent) + Send + Sync>;

/// With which credentials requests are made.
pub(crate) enum Requester {
    /// Those of a connection.
    Node(Client),
    /// The node's own while its certificate is valid, else the ones it starts with.
    Starting {
        /// Shows the node's certificate.
        node: Client,
        /// The kubeconfig to start with.
        initial: Initial,
    },
}

impl Requester {
    async fn client(&self, is_own_valid: bool) -> Result<Client, ConnectError> {
        match self {
            Self::Node(client) => Ok(client.clone()),
            Self::Starting { node, .. } if is_own_valid => Ok(node.clone()),
            Self::Starting { initial, .. } => initial.client().await,
        }
    }

    /// Whether there are credentials beside the node's own.
    fn has_others(&self) -> bool {
        matches!(self, Self::Starting { .. })
    }
}

/// See the module.
pub struct RotationTask {
    purpose: Use,
    store: CertificateStore,
    template: watch::Receiver<Option<Template>>,
    requester: Requester,
    listener: Listener,
    random: fastrand::Rng,
    current: Option<Arc<CertificatePair>>,
    /// Rotate now, whatever the certificate says.
    is_forced: bool,
    /// The server did not know the node's certificate, valid as it is.
    is_own_refused: bool,
    /// The last failure told to the log.
    told: Option<String>,
}

impl std::fmt::Debug for RotationTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotationTask").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// How an attempt ended that did not fail.
enum Attempt {
    /// There is a new pair.
    Renewed(Arc<CertificatePair>),
    /// Something else is wanted by now.
    Superseded,
}

impl RotationTask {
    /// `current` is in use already; `is_forced` replaces it at once. The listener is told of
    /// `current` too, if it is valid.
    pub(crate) fn new(
        purpose: Use,
        store: CertificateStore,
        template: watch::Receiver<Option<Template>>,
        requester: Requester,
        listener: Listener,
    ) -> Self {
        let mut task = Self {
            purpose,
            store,
            template,
            requester,
            listener,
            random: fastrand::Rng::new(),
            current: None,
            is_forced: false,
            is_own_refused: false,
            told: None,
        };
        if let Some(found) = task.on_disk() {
            task.adopt(found);
        }
        task
    }

    /// A serving certificate: asked for with the node's own credentials, with the names in
    /// `template`, none while that is `None`.
    pub fn for_serving(
        client: Client,
        store: CertificateStore,
        template: watch::Receiver<Option<Template>>,
        listener: impl Fn(RotationEvent) + Send + Sync + 'static,
    ) -> Self {
        Self::new(Use::Serving, store, template, Requester::Node(client), Arc::new(listener))
    }

    /// Begins with this pair if the store has none that is valid, and replaces it at once.
    pub(crate) fn begin_with(&mut self, pair: Arc<CertificatePair>) {
        if self.valid().is_none() {
            self.adopt(pair);
            self.is_forced = true;
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            self.until_due().await;
            self.is_forced = false;
            let mut failures = 0_u32;
            loop {
                match self.attempt().await {
                    Ok(Attempt::Renewed(pair)) => {
                        let replaced = self.current.clone();
                        self.adopt(pair);
                        if let Some(age) = replaced.and_then(|old| age(&old, Timestamp::now())) {
                            (self.listener)(RotationEvent::Replaced { age });
                        }
                        break;
                    }
                    Ok(Attempt::Superseded) => break,
                    Err(error) => {
                        // With other credentials there is no reason to wait.
                        let is_over = matches!(error, RotationError::Expired { .. });
                        let pause = (!(is_over && self.requester.has_others())).then(|| self.pause(failures));
                        self.failed(&error, pause.unwrap_or_default());
                        if let Some(pause) = pause {
                            self.wait(pause).await;
                        }
                        failures = failures.saturating_add(1);
                    }
                }
            }
        }
    }

    /// Returns when a certificate is to be asked for and it is known what for.
    async fn until_due(&mut self) {
        // Drawn once a certificate: a change of the template does not draw again.
        let share = 0.7 + 0.2 * self.random.f64();
        loop {
            let is_wanted = self.template.borrow_and_update().is_some();
            let wait = if is_wanted { self.time_left(share, Timestamp::now()) } else { SLEEP_MAX };
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                // Cancel-safe: only time.
                () = tokio::time::sleep(wait.min(SLEEP_MAX)) => {}
                // Cancel-safe: a change not seen stays to be seen.
                () = changed(&mut self.template) => {}
            }
        }
    }

    /// Time until the certificate is due; zero when it is, is missing, or lacks something.
    fn time_left(&self, share: f64, now: Timestamp) -> Duration {
        let template = self.template.borrow();
        let Some(current) = self.current.as_ref().filter(|_| !self.is_forced) else { return Duration::ZERO };
        if template.as_ref().is_some_and(|wanted| !current.satisfies(wanted)) {
            return Duration::ZERO;
        }
        Duration::try_from(deadline(current, share).duration_since(now)).unwrap_or_default()
    }

    async fn attempt(&mut self) -> Result<Attempt, RotationError> {
        if let Some(found) = self.laid_down() {
            tracing::info!(purpose = ?self.purpose, "Using the certificate found on disk");
            return Ok(Attempt::Renewed(found));
        }
        let Some(template) = self.template.borrow_and_update().clone() else {
            return Ok(Attempt::Superseded);
        };
        let key = RequestKey::generate().map_err(RotationError::Key)?;
        let is_own_valid = self.valid().is_some() && !self.is_own_refused;
        let client = self.requester.client(is_own_valid).await.map_err(RotationError::Connect)?;
        let usages = self.purpose.usages(key.is_rsa());
        let question =
            Question { template: &template, key: &key, signer: self.purpose.signer(), usages, name: None };
        let asked = ask(&client, question).await;
        let asked = asked.inspect_err(|error| {
            let is_unknown = matches!(error, SigningError::Submit(refusal) if refusal.code() == Some(401));
            // Next time with the other credentials, if there are any.
            self.is_own_refused = is_unknown && is_own_valid;
        });
        let asked = asked.map_err(RotationError::Signing)?;
        tracing::info!(purpose = ?self.purpose, request = asked.name, "Created certificate signing request");
        (self.listener)(RotationEvent::Asked { request: asked.name.clone() });
        let chain_pem = tokio::select! {
            // Cancel-safe, all of them: they wait and watch, and change nothing.
            answer = certificate_of(&client, &asked) => answer.map_err(RotationError::Signing)?,
            () = tokio::time::sleep(APPROVAL_LIMIT) => {
                return Err(RotationError::NotSigned { name: asked.name, limit: APPROVAL_LIMIT });
            }
            () = expiry(self.current.as_deref().filter(|_| is_own_valid)) => {
                return Err(RotationError::Expired { name: asked.name });
            }
            () = superseded(&mut self.template, &template, self.current.as_deref()) => {
                return Ok(Attempt::Superseded);
            }
        };
        let store = self.store.clone();
        let written =
            tokio::task::spawn_blocking(move || store.update(&chain_pem, key.pem(), Timestamp::now()));
        match written.await {
            Ok(Ok(pair)) => Ok(Attempt::Renewed(Arc::new(pair))),
            Ok(Err(error)) => Err(RotationError::Store(error)),
            // The runtime goes down, and with it this task.
            Err(_) => Ok(Attempt::Superseded),
        }
    }

    fn valid(&self) -> Option<&Arc<CertificatePair>> {
        self.current.as_ref().filter(|pair| !pair.is_expired(Timestamp::now()))
    }

    /// A valid pair on disk. A damaged one is reported and does not keep the node from another.
    fn on_disk(&self) -> Option<Arc<CertificatePair>> {
        match self.store.current() {
            Ok(found) => found.filter(|pair| !pair.is_expired(Timestamp::now())).map(Arc::new),
            Err(error) => {
                tracing::warn!(purpose = ?self.purpose, error = chain(&error), "Failed to load certificate; requesting another one");
                None
            }
        }
    }

    /// A pair that somebody put into the folder while the one in use has expired.
    fn laid_down(&self) -> Option<Arc<CertificatePair>> {
        if self.valid().is_some() { None } else { self.on_disk() }
    }

    fn adopt(&mut self, pair: Arc<CertificatePair>) {
        self.current = Some(pair.clone());
        self.is_own_refused = false;
        if self.told.take().is_some() {
            tracing::info!(purpose = ?self.purpose, "Certificate rotation succeeded after failures");
        }
        tracing::debug!(purpose = ?self.purpose, until = %pair.leaf().not_after, "Certificate in use");
        (self.listener)(RotationEvent::Current(pair));
    }

    fn failed(&mut self, error: &RotationError, pause: Duration) {
        let text = chain(error);
        let next_try = Timestamp::now() + pause;
        (self.listener)(RotationEvent::Failed { error: text.clone(), next_try });
        if self.told.as_ref() == Some(&text) {
            tracing::debug!(purpose = ?self.purpose, error = text, "Certificate rotation failed again");
            return;
        }
        let state = match &self.current {
            Some(pair) if pair.is_expired(Timestamp::now()) => "the one in use has expired",
            Some(_) => "the one in use is still valid",
            None => "there is none yet",
        };
        tracing::warn!(purpose = ?self.purpose, error = text, state, "Certificate rotation failed, will retry");
        self.told = Some(text);
    }

    /// How long to wait after so many failures.
    fn pause(&mut self, failures: u32) -> Duration {
        let pause = PAUSE_FIRST.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
        pause.mul_f64(1.0 + 0.1 * self.random.f64())
    }

    /// Waits between attempts; less if what is wanted changes.
    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            // Cancel-safe: only time.
            () = tokio::time::sleep(pause) => {}
            // Cancel-safe: a change not seen stays to be seen.
            () = changed(&mut self.template) => {}
        }
    }
}

/// When a certificate is to be replaced: at this share of its life.
fn deadline(pair: &CertificatePair, share: f64) -> Timestamp {
    let (from, until) = (pair.leaf().not_before, pair.leaf().not_after);
    let life = until.duration_since(from).as_secs_f64().max(0.0);
    SignedDuration::try_from_secs_f64(life * share)
        .map_or(until, |after| from.saturating_add(after).unwrap_or(until))
}

fn age(pair: &CertificatePair, now: Timestamp) -> Option<Duration> {
    now.duration_since(pair.leaf().not_before).try_into().ok()
}

/// Returns at the next change; never when there will be none.
async fn changed(template: &mut watch::Receiver<Option<Template>>) {
    if template.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns when something else is wanted than what was asked for, and the pair in use lacks it.
async fn superseded(
    template: &mut watch::Receiver<Option<Template>>,
    asked: &Template,
    current: Option<&CertificatePair>,
) {
    loop {
        changed(template).await;
        let wanted = template.borrow();
        let Some(wanted) = wanted.as_ref() else { continue };
        if wanted != asked && !current.is_some_and(|pair| pair.satisfies(wanted)) {
            return;
        }
    }
}

/// Returns when a pair has expired; never without one.
async fn expiry(pair: Option<&CertificatePair>) {
    let Some(pair) = pair else { return std::future::pending().await };
    loop {
        let left = pair.leaf().not_after.duration_since(Timestamp::now());
        match Duration::try_from(left) {
            // A millisecond more than none: timers are no finer.
            Ok(left) if !left.is_zero() => {
                tokio::time::sleep(left.min(SLEEP_MAX) + Duration::from_millis(1)).await;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests;
