//! What several tests need.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::{ContainerId, Now, PodKey, PodUid};

use crate::targets::{ContainerTarget, PodTarget};
use crate::{AskDriver, Clock};

/// So many seconds after 1970.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A clock that stands still, a thousand seconds after its start.
pub(crate) fn clock() -> Clock {
    Arc::new(|| Now { wall: at(1_000_000), mono: Duration::from_secs(1000) })
}

/// A pod in the group `/kubepods/pod<name>` with these containers, of which nothing exists.
pub(crate) fn pod(name: &str, containers: &[&str]) -> PodTarget {
    let container = |container: &&str| ContainerTarget {
        id: ContainerId::from(format!("{name}-{container}").as_str()),
        name: (*container).to_owned(),
        created_at: at(999_990),
    };
    PodTarget {
        uid: PodUid::from(name),
        key: PodKey::new("ns", name),
        group: Some(format!("/kubepods/pod{name}")),
        sandbox: format!("{name}-sandbox").as_str().into(),
        created_at: at(999_980),
        containers: containers.iter().map(container).collect(),
        volumes: Vec::new(),
        log_dir: "/no/such/logs".into(),
        hosts_file: "/no/such/hosts".into(),
    }
}

/// Nobody to be asked.
pub(crate) fn no_drivers() -> AskDriver {
    Arc::new(|_, _, _| Box::pin(async { Err("there is no driver".to_owned()) }))
}
