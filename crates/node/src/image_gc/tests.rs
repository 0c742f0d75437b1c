//! Collections played by hand, the cases of upstream's `image_gc_manager_test.go` among them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use model::observed::ImageMountObservation;
use model::{ContainerObservation, ContainerState, PodKey, PodObservation, PodUid};

use super::policy::ImageGcPolicy;
use super::*;
use crate::effect::{Action, Effect, EffectId, Failure};
use crate::pods::image_record::Image;
use crate::pods::record::{Desired, PodRecord};
use crate::pods::seen::Seen;
use crate::pressure::Amount;
use crate::tasks::{InFlight, PodTask};

/// A node whose images lie on a disk of 1,000 bytes.
struct Lab {
    gc: ImageGc,
    pods: PodRegistry,
    readings: Readings,
    settings: Settings,
    out: Outbox,
    /// Images that cannot be removed.
    stuck: BTreeSet<&'static str>,
    at: u64,
}

fn policy(minimum_age: u64, maximum_age: Option<u64>) -> ImageGcPolicy {
    ImageGcPolicy {
        high_percent: 90,
        low_percent: 80,
        minimum_age: Duration::from_secs(minimum_age),
        maximum_age: maximum_age.map(Duration::from_secs),
    }
}

fn observed(uid: &str, images: &[&str]) -> PodObservation {
    let mut pod = PodObservation::empty(PodUid::from(uid), PodKey::new("ns", uid));
    pod.containers.extend(images.iter().map(|image| ContainerObservation {
        image_used: Some((*image).into()),
        ..ContainerObservation::bare((*image).into(), "s".into(), *image, ContainerState::Created)
    }));
    pod
}

impl Lab {
    fn new(image_gc: ImageGcPolicy, images: &[(&str, u64)]) -> Self {
        let settings = Settings { image_gc, ..Settings::for_tests() };
        let (gc, pods, readings) = (ImageGc::default(), PodRegistry::default(), Readings::default());
        let mut lab =
            Self { gc, pods, readings, settings, out: Outbox::default(), stuck: BTreeSet::new(), at: 0 };
        lab.gc.relisted();
        lab.has_images(images);
        lab
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, mono: Duration::from_secs(self.at) }
    }

    fn has_images(&mut self, images: &[(&str, u64)]) {
        let image = |(id, size_bytes): &(&str, u64)| NodeImage {
            id: (*id).into(),
            names: vec![format!("name-of-{id}")],
            size_bytes: *size_bytes,
            is_pinned: id.starts_with("pinned"),
        };
        self.readings.images = images.iter().map(image).collect();
        self.gc.listed(&self.readings.images, self.now());
    }

    /// A pod whose containers are made from these images.
    fn has_pod(&mut self, uid: &str, images: &[&str]) {
        let seen = observed(uid, images);
        let mut record = PodRecord::new(seen.uid.clone(), seen.key.clone(), Desired::Orphan);
        record.seen = Seen::Fresh(Arc::new(seen));
        self.pods.insert(record);
    }

    fn pod(&mut self, uid: &str, change: impl FnOnce(&mut PodRecord)) {
        change(&mut self.pods.get_mut(&PodUid::from(uid)).unwrap());
    }

    fn has_no_pod(&mut self, uid: &str) {
        self.pods.remove(&PodUid::from(uid));
    }

    /// What happens when so much is left of the disk at this second, until there is nothing to do.
    fn sample(&mut self, at: u64, available: u64) -> Vec<String> {
        self.at = at;
        let disk = Amount { available, capacity: 1000 };
        self.take(Sample {
            at: self.now().mono,
            signals: [(Signal::ImageFs, disk)].into(),
            ..Sample::default()
        })
    }

    fn take(&mut self, sample: Sample) -> Vec<String> {
        self.gc.sampled(&sample, &self.settings);
        self.readings.sample = Some(sample);
        self.drive()
    }

    fn drive(&mut self) -> Vec<String> {
        let (now, mut told) = (self.now(), Vec::new());
        self.out.begin(now);
        loop {
            self.gc.drive(&self.pods, &self.readings, &self.settings, now, &mut self.out);
            let effects = self.out.take();
            if effects.is_empty() {
                return told;
            }
            for effect in effects {
                told.push(match effect {
                    Effect::Record(event) => format!("{}: {}", event.reason, event.message),
                    Effect::Start { id, action: Action::Image(action) } => {
                        let (text, outcome) = self.carry_out(&action);
                        self.out.finish(id);
                        self.gc.finished(outcome, now, &mut self.out);
                        text
                    }
                    other => panic!("{other:?}"),
                });
            }
        }
    }

    fn carry_out(&mut self, action: &ImageAction) -> (String, Outcome) {
        let ImageAction::Remove { image, cause } = action else {
            assert_eq!(*action, ImageAction::PruneRecords);
            return ("prune".to_owned(), Outcome::Done);
        };
        if self.stuck.contains(image.as_str()) {
            let message = format!("{image} is stuck");
            let failure = Failure { kind: FailureKind::Other, message };
            return (format!("{image} stays"), Outcome::Failed(failure));
        }
        (format!("{image} goes for its {}", cause.as_str()), Outcome::Done)
    }
}

/// Upstream's `TestFreeSpaceImagesInUseContainersAreIgnored`, `TestDoNotDeletePinnedImage` and `TestAllPinnedImages`.
#[test]
fn what_is_used_or_pinned_stays() {
    let mut lab = Lab::new(policy(0, None), &[("0", 100), ("1", 200), ("pinned", 100)]);
    lab.has_pod("a", &["1"]);
    assert_eq!(lab.sample(1, 100), ["0 goes for its space", "prune"]);
    assert_eq!(lab.gc.shortage, None);
}

/// Upstream's `handleImageVolumes`; and what upstream does not see: starts that are under way, or came to nobody knows what.
#[test]
fn who_holds_an_image() {
    let lab = || {
        let mut lab = Lab::new(policy(0, None), &[("0", 200)]);
        lab.has_pod("a", &[]);
        lab.pod("a", |pod| {
            pod.containers.insert("c".to_owned(), Box::default());
        });
        lab
    };
    let stays = |mut lab: Lab| lab.sample(1, 0).iter().all(|told| told.starts_with("FreeDiskSpaceFailed"));
    assert!(!stays(lab()));

    let mut mounted = lab();
    mounted.pod("a", |pod| {
        let mut seen = observed("a", &["other"]);
        let mount = ImageMountObservation { container_path: "/v".to_owned(), image: "0".into() };
        seen.containers[0].image_mounts.push(mount);
        pod.seen = Seen::Fresh(Arc::new(seen));
    });
    assert!(stays(mounted), "mounted");

    let mut named = lab();
    named.pod("a", |pod| pod.seen = Seen::Fresh(Arc::new(observed("a", &["name-of-0"]))));
    assert!(stays(named), "by a name of it");

    let mut ready = lab();
    ready.pod("a", |pod| {
        pod.containers.get_mut("c").unwrap().image.state = Image::Ready("0".into());
    });
    assert!(stays(ready), "about to be started");

    let mut unseen = lab();
    unseen.pod("a", |pod| pod.containers.get_mut("c").unwrap().started_from = vec!["0".into()]);
    unseen.pod("a", |pod| pod.seen.outdate());
    assert!(stays(unseen), "perhaps started");

    let mut starting = lab();
    starting.pod("a", |pod| {
        // Its object may have got another image meanwhile.
        pod.containers.get_mut("c").unwrap().started_from = vec!["0".into()];
        let in_flight = InFlight { id: EffectId(99), since: Duration::ZERO };
        pod.tasks.begin(PodTask::Container("c".to_owned()), in_flight);
    });
    assert!(stays(starting), "being started");

    let mut seen = lab();
    seen.pod("a", |pod| pod.containers.get_mut("c").unwrap().started_from = vec!["0".into()]);
    assert!(!stays(seen), "it was seen not to be");
}

#[test]
fn nothing_goes_before_every_pod_was_read() {
    let mut lab = Lab::new(policy(0, None), &[("0", 200)]);
    lab.pods.insert(PodRecord::new("a".into(), PodKey::new("ns", "a"), Desired::Orphan));
    assert_eq!(lab.sample(1, 0), [""; 0]);
    assert_eq!(lab.gc.next_deadline(&lab.settings), Some(Duration::from_secs(11)));
    lab.pod("a", |pod| pod.seen = Seen::nothing(pod.uid.clone(), pod.key.clone()));
    assert_eq!(lab.sample(11, 0), ["0 goes for its space", "prune"]);
}

/// Upstream's `TestFreeSpaceRemoveByLeastRecentlyUsed` and `TestFreeSpaceTiesBrokenByDetectedTime`.
#[test]
fn what_was_used_least_recently_goes_first() {
    let all = ["never", "b-youngest", "early", "late"].map(|image| format!("{image} goes for its space"));
    for (available, count) in [(100, 1), (99, 2), (0, 2)] {
        let mut lab = Lab::new(policy(0, None), &[("late", 100)]);
        lab.at = 1;
        lab.has_images(&[("late", 100), ("early", 100), ("never", 100)]);
        lab.gc.ages.used(&"early".into(), Duration::from_secs(2));
        lab.gc.ages.used(&"late".into(), Duration::from_secs(3));
        lab.at = 4;
        lab.has_images(&[("late", 100), ("early", 100), ("never", 100), ("b-youngest", 100)]);
        let told = lab.sample(5, available);
        assert_eq!(told[..told.len() - 1], all[..count], "{available} bytes are left");
    }
}

/// Upstream's `TestGarbageCollectImageNotOldEnough`; and it need not wait for the next regular turn.
#[test]
fn what_is_young_stays_until_it_is_not() {
    let mut lab = Lab::new(policy(60, None), &[("0", 100), ("1", 200)]);
    lab.has_pod("a", &["1"]);
    let told = lab.sample(1, 100);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("FreeDiskSpaceFailed: Insufficient free disk space"), "{told:?}");
    assert_eq!(lab.gc.next_deadline(&lab.settings), Some(Duration::from_secs(60)));
    assert_eq!(lab.sample(59, 100), [""; 0]);
    assert_eq!(lab.sample(60, 100), ["0 goes for its space", "prune"]);
    assert_eq!(lab.gc.next_deadline(&lab.settings), Some(Duration::from_secs(301)));
}

/// Upstream's `TestGarbageCollectImageTooOld` and `TestGarbageCollectImageMaxAgeDisabled`.
#[test]
fn what_was_not_used_for_too_long_goes() {
    for (maximum_age, expected) in [(Some(60), vec!["0 goes for its age", "prune"]), (None, vec![])] {
        let mut lab = Lab::new(policy(0, maximum_age), &[("0", 100), ("1", 200), ("pinned", 1)]);
        lab.has_pod("a", &["0"]);
        lab.has_pod("b", &["1"]);
        assert_eq!(lab.sample(1, 900), [""; 0], "used");
        lab.has_no_pod("a");
        assert_eq!(lab.sample(61, 900), [""; 0], "its time has not come");
        assert_eq!(lab.sample(301, 900), expected, "{maximum_age:?}");
    }
}

#[test]
fn what_was_never_used_is_old_once_the_process_is() {
    let mut lab = Lab::new(policy(0, Some(600)), &[("0", 100)]);
    assert_eq!(lab.sample(1, 900), [""; 0]);
    assert_eq!(lab.sample(301, 900), [""; 0], "an earlier process may have used it");
    lab.has_images(&[("0", 100), ("young", 100)]);
    assert_eq!(lab.sample(601, 900), ["0 goes for its age", "young goes for its age", "prune"]);
}

#[test]
fn it_is_measured_again_when_old_images_went() {
    let mut lab = Lab::new(policy(0, Some(60)), &[("0", 100), ("1", 100)]);
    lab.has_pod("a", &["1"]);
    lab.sample(1, 900);
    lab.has_no_pod("a");
    lab.gc.ages.used(&"1".into(), Duration::from_secs(299));
    lab.at = 301;
    let full = Amount { available: 0, capacity: 1000 };
    let before = Sample {
        at: Duration::from_secs(300),
        signals: [(Signal::ImageFs, full)].into(),
        ..Sample::default()
    };
    assert_eq!(lab.take(before), ["0 goes for its age"], "the sample is from before that");
    assert_eq!(lab.sample(310, 300), ["prune"]);
}

/// Upstream's `TestGarbageCollectNotEnoughFreed`. That it has failed is told by another event when it fails again.
#[test]
fn too_little_is_told() {
    let mut lab = Lab::new(policy(0, None), &[("0", 50)]);
    let text = "Insufficient free disk space on the node's image filesystem (95% of 1000 B used). Failed to free \
                sufficient space by deleting unused images (freed 50 bytes). Investigate disk usage, as it could be \
                used by active images, logs, volumes, or other data.";
    let told = format!("FreeDiskSpaceFailed: {text}");
    assert_eq!(lab.sample(1, 50), ["0 goes for its space", told.as_str(), "prune"]);
    let mut waits = Found::default();
    lab.gc.find_waits(&lab.settings, &lab.out, &mut waits);
    assert!(waits.has(&WaitOn::ImageSpace));
    lab.has_images(&[]);
    let told = lab.sample(301, 50);
    assert_eq!(told[1], told[0].replace("FreeDiskSpaceFailed", "ImageGCFailed"));
    assert!(told[0].contains("(freed 0 bytes)"), "{told:?}");
    assert_eq!(lab.sample(601, 500), [""; 0]);
    let mut waits = Found::default();
    lab.gc.find_waits(&lab.settings, &lab.out, &mut waits);
    assert!(!waits.has(&WaitOn::ImageSpace));
    assert_eq!(lab.sample(901, 50).len(), 1, "it went well in between");
}

/// Upstream gives up at the first failure of that kind, and frees no space when an old image stays.
#[test]
fn an_image_that_cannot_be_removed_holds_up_no_other() {
    let mut lab = Lab::new(policy(0, Some(60)), &[("0", 100), ("1", 100), ("2", 100), ("3", 100)]);
    lab.has_pod("a", &["2", "3"]);
    lab.sample(1, 900);
    lab.has_no_pod("a");
    lab.gc.ages.used(&"2".into(), Duration::from_secs(300));
    lab.gc.ages.used(&"3".into(), Duration::from_secs(301));
    lab.stuck = ["0", "2"].into();
    let told = lab.sample(302, 100);
    let of_age = ["0 stays", "1 goes for its age"];
    assert_eq!(told, [&of_age[..], &["0 stays", "2 stays", "3 goes for its space", "prune"]].concat());
    lab.has_images(&[("0", 100), ("2", 100)]);
    let told = lab.sample(602, 100);
    assert_eq!(
        told.last().unwrap(),
        "ImageGCFailed: wanted to free images older than 1m0s, encountered errors in image deletion: [0 is stuck, 2 is \
         stuck]; wanted to free 100 bytes, but freed 0 bytes space with errors in image deletion: [0 is stuck, 2 is \
         stuck]; Insufficient free disk space on the node's image filesystem (90% of 1000 B used). Failed to free \
         sufficient space by deleting unused images (freed 0 bytes). Investigate disk usage, as it could be used by \
         active images, logs, volumes, or other data."
    );
}

#[test]
fn a_disk_that_fills_up_is_not_left_so_for_minutes() {
    let mut lab = Lab::new(policy(0, None), &[("0", 100), ("1", 100)]);
    assert_eq!(lab.sample(1, 900), [""; 0]);
    assert_eq!(lab.sample(11, 110), [""; 0], "89 percent");
    assert_eq!(lab.sample(21, 109), ["0 goes for its space", "prune"]);
    lab.has_images(&[("1", 100)]);
    assert_eq!(lab.sample(31, 50), [""; 0], "it is as full as it was: nothing has come up since");
    assert_eq!(lab.sample(41, 900), [""; 0]);
    // What was brought forward tells of nothing.
    lab.stuck = ["1"].into();
    assert_eq!(lab.sample(51, 50), ["1 stays"]);
    assert_eq!(lab.gc.next_deadline(&lab.settings), Some(Duration::from_secs(301)));
}

/// Upstream's `TestGarbageCollectCadvisorFailure`.
#[test]
fn a_disk_that_cannot_be_measured_is_told() {
    let mut lab = Lab::new(policy(0, None), &[("0", 100)]);
    assert_eq!(lab.take(Sample::default()), [""; 0]);
    lab.at = 300;
    let told = lab.take(Sample { at: Duration::from_secs(300), ..Sample::default() });
    assert!(
        told[0].starts_with("ImageGCFailed: failed to get the usage of the image filesystem"),
        "{told:?}"
    );
    lab.at = 600;
    let nothing = Amount { available: 0, capacity: 0 };
    let told = lab.take(Sample {
        at: Duration::from_secs(600),
        signals: [(Signal::ImageFs, nothing)].into(),
        ..Sample::default()
    });
    assert_eq!(told[0], "InvalidDiskCapacity: invalid capacity 0 on image filesystem");
}

#[test]
fn nothing_is_done_when_it_is_off_or_nobody_knows_the_images() {
    let off = ImageGcPolicy { high_percent: 100, ..policy(0, None) };
    let mut lab = Lab::new(off, &[("0", 100)]);
    assert_eq!((lab.sample(1, 0), lab.gc.next_deadline(&lab.settings)), (vec![], None));
    for is_listed in [true, false] {
        let gc = ImageGc { is_listed, is_relisted: !is_listed, ..ImageGc::default() };
        let mut lab = Lab { gc, ..Lab::new(policy(0, None), &[]) };
        assert_eq!((lab.sample(1, 0), lab.gc.next_deadline(&lab.settings)), (vec![], None));
    }
}
