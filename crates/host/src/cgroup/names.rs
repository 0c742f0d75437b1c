//! What groups are called. A group has a place (`kubepods`, `burstable`, `pod<uid>`), which each driver
//! spells in its own way: as folders with these names, or as systemd's slices, whose names repeat
//! those of all slices around them (`kubepods-burstable-pod<uid>.slice`).

use std::path::{Component, Path, PathBuf};

use model::{PodUid, QosClass};

use super::CgroupError;

const KUBEPODS: &str = "kubepods";
const POD_PREFIX: &str = "pod";
const SLICE_SUFFIX: &str = ".slice";
/// The slice around all others, whose folder is the root of the hierarchies.
const ROOT_SLICE: &str = "-.slice";

/// Who makes groups, and with that how they are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The kubelet, in the file system.
    Cgroupfs,
    /// systemd, as transient slices.
    Systemd,
}

/// A group the kubelet limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// All pods together: `kubepods`.
    Kubepods,
    /// The pods of a class. Guaranteed pods have no group of their own but `kubepods`.
    Class(QosClass),
    /// One pod.
    Pod {
        /// Whose.
        uid: PodUid,
        /// Decides under which parent it is.
        qos: QosClass,
    },
    /// A group somebody else makes (`systemReservedCgroup`, `kubeReservedCgroup`), as configured.
    Existing(String),
}

/// A unit of systemd that stands for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its name, `kubepods-burstable.slice`.
    pub name: String,
    /// The slice it is in, `kubepods.slice`.
    pub parent: String,
}

/// The names below one `cgroupRoot`, spelled for one driver.
#[derive(Clone, Debug)]
pub(super) struct Names {
    driver: CgroupDriver,
    root: Place,
}

/// A group's place: the plain names of the groups from the hierarchies' roots down to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place(Vec<String>);

impl Names {
    /// Names below `cgroup_root`, which is written as a path whatever the driver is, as upstream takes it.
    pub(super) fn new(driver: CgroupDriver, cgroup_root: &str) -> Result<Self, CgroupError> {
        Ok(Self { driver, root: Place::of_path(cgroup_root)? })
    }

    pub(super) fn driver(&self) -> CgroupDriver {
        self.driver
    }

    /// `cgroupRoot` itself, relative to the hierarchies' roots.
    pub(super) fn root(&self) -> PathBuf {
        self.root.spelled(self.driver)
    }

    /// A group, relative to the hierarchies' roots.
    pub(super) fn path(&self, group: &Group) -> Result<PathBuf, CgroupError> {
        Ok(self.place(group)?.spelled(self.driver))
    }

    /// A group's slice; `None` where there are no slices.
    pub(super) fn slice(&self, group: &Group) -> Result<Option<Slice>, CgroupError> {
        let place = self.place(group)?;
        Ok((self.driver == CgroupDriver::Systemd).then(|| {
            let (parent, whole) = (&place.0[..place.0.len().saturating_sub(1)], &place.0[..]);
            Slice { name: slice_name(whole), parent: slice_name(parent) }
        }))
    }

    /// The pod whose folder this is, among the groups of its class.
    pub(super) fn pod_of(&self, qos: QosClass, folder: &str) -> Option<PodUid> {
        let uid = match self.driver {
            CgroupDriver::Cgroupfs => folder.strip_prefix(POD_PREFIX)?.to_owned(),
            CgroupDriver::Systemd => {
                let class = self.class(qos);
                let around = slice_name(&class.0);
                let stem = folder.strip_suffix(SLICE_SUFFIX)?;
                let own = stem.strip_prefix(around.strip_suffix(SLICE_SUFFIX)?)?.strip_prefix('-')?;
                unescape(own.strip_prefix(POD_PREFIX)?)
            }
        };
        (!uid.is_empty()).then(|| PodUid::from(uid.as_str()))
    }

    fn place(&self, group: &Group) -> Result<Place, CgroupError> {
        match group {
            Group::Kubepods => Ok(self.class(QosClass::Guaranteed)),
            Group::Class(qos) => Ok(self.class(*qos)),
            Group::Pod { uid, qos } => Ok(self.class(*qos).child(&format!("{POD_PREFIX}{}", self.uid(uid)?))),
            Group::Existing(name) => match self.driver {
                CgroupDriver::Cgroupfs => Place::of_path(name),
                CgroupDriver::Systemd => Place::of_slice(name),
            },
        }
    }

    fn class(&self, qos: QosClass) -> Place {
        let kubepods = self.root.child(KUBEPODS);
        match qos {
            QosClass::Guaranteed => kubepods,
            QosClass::Burstable => kubepods.child("burstable"),
            QosClass::BestEffort => kubepods.child("besteffort"),
        }
    }

    /// The uid, if it can be part of a name and be read back from it. It comes from the API server or from
    /// a manifest, which may say anything.
    fn uid<'a>(&self, uid: &'a PodUid) -> Result<&'a str, CgroupError> {
        let uid = uid.as_str();
        let is_named = match self.driver {
            CgroupDriver::Cgroupfs => !uid.contains(['/', '\0']),
            // The underscore stands for the dash, and systemd keeps `@` and `\` for itself.
            CgroupDriver::Systemd => {
                uid.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':'))
            }
        };
        if uid.is_empty() || !is_named {
            return Err(CgroupError::BadName { name: uid.to_owned() });
        }
        Ok(uid)
    }
}

impl Place {
    /// Cuts the leading slash off and refuses anything but plain names.
    fn of_path(path: &str) -> Result<Self, CgroupError> {
        let bad = || CgroupError::BadName { name: path.to_owned() };
        let parts = Path::new(path.trim_start_matches('/')).components().map(|part| match part {
            Component::Normal(name) => name.to_str().map(str::to_owned).ok_or_else(bad),
            _ => Err(bad()),
        });
        Ok(Self(parts.collect::<Result<_, _>>()?))
    }

    /// Of a slice only the last name counts, since it repeats the others; it may lack its suffix.
    fn of_slice(path: &str) -> Result<Self, CgroupError> {
        let Some(last) = Self::of_path(path)?.0.pop() else { return Ok(Self(Vec::new())) };
        let stem = last.strip_suffix(SLICE_SUFFIX).unwrap_or(&last);
        let parts: Vec<String> = stem.split('-').map(unescape).collect();
        if parts.iter().any(String::is_empty) {
            return Err(CgroupError::BadName { name: path.to_owned() });
        }
        Ok(Self(parts))
    }

    fn child(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    fn spelled(&self, driver: CgroupDriver) -> PathBuf {
        match driver {
            CgroupDriver::Cgroupfs => self.0.iter().collect(),
            CgroupDriver::Systemd => (1..=self.0.len()).map(|depth| slice_name(&self.0[..depth])).collect(),
        }
    }
}

/// The name of the slice with these plain names.
fn slice_name(parts: &[String]) -> String {
    if parts.is_empty() {
        return ROOT_SLICE.to_owned();
    }
    let escaped: Vec<String> = parts.iter().map(|part| part.replace('-', "_")).collect();
    format!("{}{SLICE_SUFFIX}", escaped.join("-"))
}

fn unescape(part: &str) -> String {
    part.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(driver: CgroupDriver, root: &str) -> Names {
        Names::new(driver, root).unwrap()
    }

    fn pod(uid: &str, qos: QosClass) -> Group {
        Group::Pod { uid: PodUid::from(uid), qos }
    }

    #[test]
    fn each_driver_spells_a_group_in_its_own_way() {
        let (uid, guaranteed) = ("1234-abcd-5678", QosClass::Guaranteed);
        let cases = [
            ("/", Group::Kubepods, "kubepods", "kubepods.slice"),
            ("", Group::Class(guaranteed), "kubepods", "kubepods.slice"),
            (
                "/",
                Group::Class(QosClass::Burstable),
                "kubepods/burstable",
                "kubepods.slice/kubepods-burstable.slice",
            ),
            (
                "/",
                pod(uid, guaranteed),
                "kubepods/pod1234-abcd-5678",
                "kubepods.slice/kubepods-pod1234_abcd_5678.slice",
            ),
            (
                "/",
                pod(uid, QosClass::BestEffort),
                "kubepods/besteffort/pod1234-abcd-5678",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1234_abcd_5678.slice",
            ),
            (
                "/a/b-c",
                pod("u", QosClass::Burstable),
                "a/b-c/kubepods/burstable/podu",
                "a.slice/a-b_c.slice/a-b_c-kubepods.slice/a-b_c-kubepods-burstable.slice/a-b_c-kubepods-burstable-podu.slice",
            ),
            // Upstream takes the root for a path even when it looks like a slice.
            ("/a.slice", Group::Kubepods, "a.slice/kubepods", "a.slice.slice/a.slice-kubepods.slice"),
        ];
        for (root, group, cgroupfs, systemd) in cases {
            let spelled = |driver| names(driver, root).path(&group).unwrap();
            assert_eq!(spelled(CgroupDriver::Cgroupfs), Path::new(cgroupfs), "{root} {group:?}");
            assert_eq!(spelled(CgroupDriver::Systemd), Path::new(systemd), "{root} {group:?}");
        }
        assert_eq!(names(CgroupDriver::Systemd, "/x-y/z").root(), Path::new("x_y.slice/x_y-z.slice"));
        assert_eq!(names(CgroupDriver::Systemd, "/").root(), Path::new(""));
    }

    #[test]
    fn slices_name_the_slice_around_them() {
        let slice = |group: Group| {
            let slice = names(CgroupDriver::Systemd, "/").slice(&group).unwrap().unwrap();
            (slice.name, slice.parent)
        };
        let pair = |name: &str, parent: &str| (name.to_owned(), parent.to_owned());
        assert_eq!(slice(Group::Kubepods), pair("kubepods.slice", "-.slice"));
        assert_eq!(
            slice(pod("a-b", QosClass::BestEffort)),
            pair("kubepods-besteffort-poda_b.slice", "kubepods-besteffort.slice")
        );
        assert_eq!(slice(pod("a-b", QosClass::Guaranteed)), pair("kubepods-poda_b.slice", "kubepods.slice"));
        assert_eq!(names(CgroupDriver::Cgroupfs, "/").slice(&Group::Kubepods).unwrap(), None);
    }

    #[test]
    fn groups_of_others_are_named_by_path_or_by_slice() {
        for (name, cgroupfs, systemd) in [
            ("/system", "system", "system.slice"),
            ("/system.slice", "system.slice", "system.slice"),
            ("system.slice", "system.slice", "system.slice"),
            ("/a.slice/a-b_c.slice", "a.slice/a-b_c.slice", "a.slice/a-b_c.slice"),
            ("/a/b", "a/b", "b.slice"),
        ] {
            let group = Group::Existing(name.to_owned());
            for (driver, path) in [(CgroupDriver::Cgroupfs, cgroupfs), (CgroupDriver::Systemd, systemd)] {
                assert_eq!(names(driver, "/").path(&group).unwrap(), Path::new(path), "{name}");
            }
        }
        for name in ["/../x", "/a--b.slice", "/.slice"] {
            let group = Group::Existing(name.to_owned());
            assert!(names(CgroupDriver::Systemd, "/").path(&group).is_err(), "{name}");
        }
    }

    #[test]
    fn pods_are_told_from_the_names_of_their_groups() {
        use QosClass::{BestEffort, Burstable, Guaranteed};
        for (driver, root, qos, folder, uid) in [
            (CgroupDriver::Cgroupfs, "/", Guaranteed, "podab-1", Some("ab-1")),
            (CgroupDriver::Cgroupfs, "/", Guaranteed, "pod", None),
            (CgroupDriver::Cgroupfs, "/", Guaranteed, "burstable", None),
            (CgroupDriver::Systemd, "/", Guaranteed, "kubepods-podab_1.slice", Some("ab-1")),
            (CgroupDriver::Systemd, "/", Guaranteed, "kubepods-burstable.slice", None),
            (CgroupDriver::Systemd, "/", Guaranteed, "kubepods-burstable-podx.slice", None),
            (CgroupDriver::Systemd, "/", Guaranteed, "kubepods-pod.slice", None),
            (CgroupDriver::Systemd, "/", Guaranteed, "kubepods-podx.scope", None),
            (CgroupDriver::Systemd, "/", Burstable, "kubepods-burstable-podab_1.slice", Some("ab-1")),
            (CgroupDriver::Systemd, "/", BestEffort, "kubepods-burstable-podab_1.slice", None),
            (
                CgroupDriver::Systemd,
                "/r-s",
                BestEffort,
                "r_s-kubepods-besteffort-podab_1.slice",
                Some("ab-1"),
            ),
        ] {
            let found = names(driver, root).pod_of(qos, folder);
            assert_eq!(found, uid.map(PodUid::from), "{driver:?} {root} {qos:?} {folder}");
        }
    }

    #[test]
    fn uids_that_cannot_be_read_back_are_refused() {
        for (uid, cgroupfs, systemd) in [
            ("", false, false),
            ("a/b", false, false),
            ("a_b", true, false),
            ("a@b", true, false),
            ("../x", false, false),
            ("0cc175b9c0f1b6a831c399e269772661", true, true),
        ] {
            let group = pod(uid, QosClass::Burstable);
            for (driver, is_fine) in [(CgroupDriver::Cgroupfs, cgroupfs), (CgroupDriver::Systemd, systemd)] {
                assert_eq!(names(driver, "/").path(&group).is_ok(), is_fine, "{driver:?} {uid:?}");
            }
        }
    }
}
