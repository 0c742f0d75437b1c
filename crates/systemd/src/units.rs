//! Slices: started, limited and stopped.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use host::cgroup::{CgroupLimits, Slice};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use zbus::{Message, MessageStream, OwnedObjectPath, Variant};

use crate::SystemdError;
use crate::link::{BusAddress, BusConnector, CALL_TIMEOUT, Link, is_lost};
use crate::properties::{self, Property, Value};

/// How long a job may take. A slice is started and stopped at once; systemd may have others to do first.
const JOB_TIMEOUT: Duration = Duration::from_secs(30);
/// Operations under way at most. systemd does one thing at a time; each waiting here costs the bus one match rule, of
/// which it allows a connection 512.
const AT_ONCE: usize = 16;
/// A new job takes the place of one that waits for the same unit.
const MODE: &str = "replace";

/// systemd's units. A clone talks over the same connection.
#[derive(Clone, Debug)]
pub struct Units {
    connector: Arc<BusConnector>,
    turns: Arc<Semaphore>,
    cgroup_version: u8,
}

/// What systemd can be asked for.
#[derive(Clone, Copy)]
enum Request<'a> {
    Start(&'a [Property]),
    Limit(&'a CgroupLimits, u8),
    Stop,
    Reset,
}

/// A property as D-Bus has it.
type Pair<'a> = (&'static str, Variant<'a>);

impl Units {
    /// The units of the systemd that is found by these addresses, for hierarchies of this version. Nothing is connected
    /// until there is something to ask.
    pub fn new(addresses: Vec<BusAddress>, cgroup_version: u8) -> Self {
        Self {
            connector: Arc::new(BusConnector::new(addresses)),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            cgroup_version,
        }
    }

    /// Connects, and says which version of systemd is there.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn version(&self) -> Result<u32, SystemdError> {
        Ok(Box::pin(self.connector.link()).await?.version)
    }

    /// Starts a slice. One that is there stays as it is.
    ///
    /// # Errors
    /// When systemd cannot be reached, refuses, or does not get there.
    pub async fn start(&self, slice: &Slice) -> Result<(), SystemdError> {
        let about = properties::of_new_slice(&slice.name, &slice.parent, self.cgroup_version);
        match self.ask(&slice.name, Request::Start(&about)).await {
            Err(SystemdError::Refused { source, .. }) if is_named(&source, "UnitExists") => Ok(()),
            Err(error @ SystemdError::Failed { .. }) => {
                // A unit that has failed would be in the way of the next attempt.
                self.reset(&slice.name).await;
                Err(error)
            }
            result => result,
        }
    }

    /// Limits a unit until the next boot. What the limits do not say stays as it is.
    ///
    /// # Errors
    /// When systemd cannot be reached or refuses.
    pub async fn limit(&self, unit: &str, limits: &CgroupLimits) -> Result<(), SystemdError> {
        self.ask(unit, Request::Limit(limits, self.cgroup_version)).await
    }

    /// Stops a unit and lets systemd forget it. One that is not there is fine.
    ///
    /// # Errors
    /// When systemd cannot be reached, refuses, or does not get there in time. That stopping failed is said to the log
    /// only: what is left is removed without systemd.
    pub async fn stop(&self, unit: &str) -> Result<(), SystemdError> {
        match self.ask(unit, Request::Stop).await {
            Err(SystemdError::Refused { source, .. }) if is_named(&source, "NoSuchUnit") => {}
            Err(error @ SystemdError::Failed { .. }) => {
                warn!(err = %error, unit, "Failed to stop systemd unit; removing its cgroup anyway");
            }
            result => result?,
        }
        self.reset(unit).await;
        Ok(())
    }

    async fn reset(&self, unit: &str) {
        // Almost always there is nothing to reset, and systemd has forgotten the unit.
        if let Err(error) = self.ask(unit, Request::Reset).await {
            debug!(err = %error, unit, "Failed to reset systemd unit");
        }
    }

    /// Asks once, and once more over a new connection if the one in use turns out to be lost. Asking again is safe: a
    /// slice that was started meanwhile is there, and one that was stopped is not.
    async fn ask(&self, unit: &str, request: Request<'_>) -> Result<(), SystemdError> {
        // D-Bus takes much room for its state, which would be part of every action a kubelet can take.
        Box::pin(self.ask_in_place(unit, request)).await
    }

    async fn ask_in_place(&self, unit: &str, request: Request<'_>) -> Result<(), SystemdError> {
        // Never closed, so that the permit is only missing when there is nobody to miss it.
        let _turn = self.turns.acquire().await.ok();
        let refused = |source: zbus::Error| SystemdError::Refused {
            what: request.what(),
            unit: unit.to_owned(),
            source: Box::new(source),
        };
        let link = self.connector.link().await?;
        match request.perform(&link, unit).await {
            Err(RequestFailure::DBus(error)) if is_lost(&error) => {
                self.connector.forget(&link, &error).await;
            }
            result => return result.map_err(|failure| failure.about(request, unit, refused)),
        }
        let link = self.connector.link().await?;
        request.perform(&link, unit).await.map_err(|failure| failure.about(request, unit, refused))
    }
}

/// Why a request was not met, before it is said what it was about.
enum RequestFailure {
    DBus(zbus::Error),
    Job(String),
    Slow(Duration),
}

impl RequestFailure {
    fn about(
        self,
        request: Request<'_>,
        unit: &str,
        refused: impl FnOnce(zbus::Error) -> SystemdError,
    ) -> SystemdError {
        let (what, unit) = (request.what(), unit.to_owned());
        match self {
            Self::DBus(zbus::Error::InputOutput(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
                SystemdError::Slow { what, unit, after: CALL_TIMEOUT }
            }
            Self::DBus(error) => refused(error),
            Self::Job(result) => SystemdError::Failed { what, unit, result },
            Self::Slow(after) => SystemdError::Slow { what, unit, after },
        }
    }
}

impl From<zbus::Error> for RequestFailure {
    fn from(error: zbus::Error) -> Self {
        Self::DBus(error)
    }
}

impl Request<'_> {
    fn what(self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Limit(..) => "set properties of",
            Self::Stop => "stop",
            Self::Reset => "reset",
        }
    }

    async fn perform(self, link: &Link, unit: &str) -> Result<(), RequestFailure> {
        match self {
            Self::Limit(limits, cgroup_version) => {
                let properties = properties::of_limits(limits, cgroup_version, link.version);
                if !properties.is_empty() {
                    link.call_units("SetUnitProperties", &(unit, true, pairs(&properties))).await?;
                }
                Ok(())
            }
            Self::Reset => {
                link.call_units("ResetFailedUnit", &(unit,)).await?;
                Ok(())
            }
            Self::Start(about) => {
                // Listening begins before the call: a job may have ended when the call is answered.
                let ended = link.ended_jobs(unit).await?;
                let companions: Vec<(&str, Vec<Pair<'_>>)> = Vec::new();
                let body = (unit, MODE, pairs(about), companions);
                let answer = link.call_units("StartTransientUnit", &body).await?;
                end_of_job(ended, &answer).await
            }
            Self::Stop => {
                let ended = link.ended_jobs(unit).await?;
                let answer = link.call_units("StopUnit", &(unit, MODE)).await?;
                end_of_job(ended, &answer).await
            }
        }
    }
}

/// Waits until the job an answer names has ended.
async fn end_of_job(mut ended: MessageStream, answer: &Message) -> Result<(), RequestFailure> {
    let job: OwnedObjectPath = answer.body().deserialize()?;
    let wait = async {
        while let Some(message) = ended.next().await {
            let body = message?.body();
            let (_, path, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
            if path == job {
                return if result == "done" { Ok(()) } else { Err(RequestFailure::Job(result)) };
            }
        }
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        Err(RequestFailure::DBus(lost.into()))
    };
    timeout(JOB_TIMEOUT, wait).await.unwrap_or(Err(RequestFailure::Slow(JOB_TIMEOUT)))
}

fn pairs(properties: &[Property]) -> Vec<Pair<'_>> {
    let variant = |value: &Value| match value {
        Value::Bool(value) => Variant::from(*value),
        Value::Number(value) => Variant::from(*value),
        Value::Text(text) => Variant::from(text.clone()),
        Value::Units(names) => Variant::from(names.clone()),
        Value::Bits(bits) => Variant::from(bits.clone()),
    };
    properties.iter().map(|property| (property.name, variant(&property.value))).collect()
}

/// Whether an error is systemd's of that name.
fn is_named(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(full, ..)
        if full.as_str().strip_prefix("org.freedesktop.systemd1.") == Some(name))
}
