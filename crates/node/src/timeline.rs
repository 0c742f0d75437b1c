//! How a pod came where it is: what was reached, and when.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use model::Now;
use serde::{Deserialize, Serialize};

/// Marks of a pod at most; the oldest go.
const MOST_MARKS: usize = 64;

/// Something reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Its source named it, or the runtime holds it.
    Seen,
    /// The node took it.
    Admitted,
    /// The node did not take it.
    TurnedAway,
    /// It has its cgroup.
    CgroupMade,
    /// It has its volumes.
    VolumesMounted,
    /// It has a sandbox.
    SandboxStarted {
        /// Sandboxes it had before.
        attempt: u32,
    },
    /// The image of a container can be used.
    ImageReady {
        /// Of which.
        container: String,
    },
    /// The image of a volume can be used.
    VolumeImageReady {
        /// Of which.
        volume: String,
    },
    /// A container runs.
    Started {
        /// Which.
        container: String,
        /// How often it was started before.
        attempt: u32,
    },
    /// A container has ended.
    Ended {
        /// Which.
        container: String,
        /// How often it was started before.
        attempt: u32,
        /// How.
        exit_code: i32,
    },
    /// It became ready, or is it no more.
    Ready(bool),
    /// It is to end.
    Ending,
    /// No process of it is left.
    Stopped,
    /// Its volumes are unmounted.
    Unmounted,
    /// Its cgroup is removed.
    CgroupRemoved,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen => f.write_str("first seen"),
            Self::Admitted => f.write_str("admitted"),
            Self::TurnedAway => f.write_str("turned away"),
            Self::CgroupMade => f.write_str("cgroup made"),
            Self::VolumesMounted => f.write_str("volumes mounted"),
            Self::SandboxStarted { attempt: 0 } => f.write_str("sandbox started"),
            Self::SandboxStarted { attempt } => write!(f, "sandbox started (attempt {attempt})"),
            Self::ImageReady { container } => write!(f, "image of {container} ready"),
            Self::VolumeImageReady { volume } => write!(f, "image of volume {volume} ready"),
            Self::Started { container, attempt: 0 } => write!(f, "{container} started"),
            Self::Started { container, attempt } => write!(f, "{container} started (restart {attempt})"),
            Self::Ended { container, exit_code, .. } => write!(f, "{container} ended with {exit_code}"),
            Self::Ready(true) => f.write_str("ready"),
            Self::Ready(false) => f.write_str("not ready any more"),
            Self::Ending => f.write_str("is to end"),
            Self::Stopped => f.write_str("all stopped"),
            Self::Unmounted => f.write_str("volumes unmounted"),
            Self::CgroupRemoved => f.write_str("cgroup removed"),
        }
    }
}

/// Marks in their order, each with its time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Timeline {
    marks: VecDeque<(Now, Mark)>,
    /// Those that hold now.
    held: Vec<Mark>,
}

impl Timeline {
    /// The marks, oldest first.
    pub fn marks(&self) -> impl Iterator<Item = &(Now, Mark)> {
        self.marks.iter()
    }

    /// Whether a mark holds now.
    pub(crate) fn holds(&self, mark: &Mark) -> bool {
        self.held.contains(mark)
    }

    /// What holds now; what did not before was reached.
    pub(crate) fn update(this: &mut Arc<Self>, held: Vec<Mark>, now: Now) {
        if this.held == held {
            return;
        }
        let this = Arc::make_mut(this);
        for mark in &held {
            if !this.held.contains(mark) {
                this.marks.push_back((now, mark.clone()));
            }
        }
        while this.marks.len() > MOST_MARKS {
            this.marks.pop_front();
        }
        this.held = held;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_reached_is_marked_once_and_the_oldest_marks_go() {
        let at = |second| Now { wall: jiff::Timestamp::UNIX_EPOCH, mono: Duration::from_secs(second) };
        let mut timeline = Arc::<Timeline>::default();
        let texts = |timeline: &Timeline| -> Vec<String> {
            timeline.marks().map(|(now, mark)| format!("{} {mark}", now.mono.as_secs())).collect()
        };
        Timeline::update(&mut timeline, vec![Mark::Seen], at(1));
        Timeline::update(&mut timeline, vec![Mark::Seen, Mark::Ready(true)], at(2));
        Timeline::update(&mut timeline, vec![Mark::Seen, Mark::Ready(true)], at(3));
        Timeline::update(&mut timeline, vec![Mark::Seen, Mark::Ready(false)], at(4));
        assert_eq!(texts(&timeline), ["1 first seen", "2 ready", "4 not ready any more"]);
        for second in 5..200 {
            Timeline::update(&mut timeline, vec![Mark::Seen, Mark::Ready(second % 2 == 0)], at(second));
        }
        assert_eq!(texts(&timeline).len(), 64);
        assert_eq!(texts(&timeline)[63], "199 not ready any more");
    }
}
