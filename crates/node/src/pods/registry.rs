//! The pods a node knows: by uid, by name, by the objects they refer to. A step looks up the few that an input concerns
//! and does not go through all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use model::references::{ObjectName, references};
use model::{AllocatedPod, Pod, PodKey, PodUid};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use super::record::PodRecord;
use crate::allocation::Ledger;

/// Every pod that is known, and which of them have something to do in this step.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "SavedRegistry")]
pub(crate) struct PodRegistry {
    // Boxed: a node of the tree has room for eleven, half of it in use.
    held: BTreeMap<PodUid, Box<Held>>,
    index: Index,
    dirty: BTreeSet<PodUid>,
}

/// What is written down of it: the rest follows.
#[derive(Deserialize)]
struct SavedRegistry {
    records: Vec<PodRecord>,
    dirty: BTreeSet<PodUid>,
    changed_statics: BTreeSet<PodKey>,
}

impl From<SavedRegistry> for PodRegistry {
    fn from(saved: SavedRegistry) -> Self {
        let mut pods = Self::default();
        saved.records.into_iter().for_each(|record| pods.insert(record));
        pods.dirty = saved.dirty;
        pods.index.changed_statics = saved.changed_statics;
        pods
    }
}

impl Serialize for PodRegistry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut saved = serializer.serialize_struct("SavedRegistry", 3)?;
        saved.serialize_field("records", &self.iter().collect::<Vec<_>>())?;
        saved.serialize_field("dirty", &self.dirty)?;
        saved.serialize_field("changed_statics", &self.index.changed_statics)?;
        saved.end()
    }
}

/// A pod, and what it was found under when it was last looked at.
#[derive(Debug)]
struct Held {
    record: PodRecord,
    listed: Listed,
}

/// What a pod is found under.
#[derive(Clone, Debug)]
struct Listed {
    key: PodKey,
    pod: Option<Arc<Pod>>,
    is_static: bool,
    is_admitting: bool,
    /// With what it has of the node; `None` when that is nothing.
    held: Option<AllocatedPod>,
}

impl Listed {
    fn of(record: &PodRecord) -> Self {
        Self {
            key: record.key.clone(),
            pod: record.desired.pod().cloned(),
            is_static: record.desired.is_static(),
            is_admitting: record.life.is_admitting(),
            held: record.held_of_node(),
        }
    }

    /// Whether the pod refers to the same objects.
    fn has_same_spec(&self, other: &Self) -> bool {
        match (&self.pod, &other.pod) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.spec == b.spec,
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    fn references(&self) -> BTreeSet<ObjectName> {
        self.pod.as_deref().map(references).unwrap_or_default()
    }
}

/// Ways to find pods other than by uid.
#[derive(Debug, Default)]
struct Index {
    by_key: BTreeMap<PodKey, BTreeSet<PodUid>>,
    by_object: BTreeMap<ObjectName, BTreeSet<PodUid>>,
    admitting: BTreeSet<PodUid>,
    /// Names of which static pods have come or gone since this was last asked for.
    changed_statics: BTreeSet<PodKey>,
    /// What they have of the node.
    ledger: Ledger,
}

impl Index {
    fn change(&mut self, uid: &PodUid, before: Option<&Listed>, now: Option<&Listed>) {
        let key = |listed: Option<&Listed>| listed.map(|l| l.key.clone());
        move_entry(&mut self.by_key, uid, key(before), key(now));
        let has_same_spec = before.zip(now).is_some_and(|(before, now)| before.has_same_spec(now));
        if !has_same_spec {
            let (old, new) = (objects(before), objects(now));
            for gone in old.difference(&new) {
                move_entry(&mut self.by_object, uid, Some(gone.clone()), None);
            }
            for added in new.difference(&old) {
                move_entry(&mut self.by_object, uid, None, Some(added.clone()));
            }
        }
        match now.and_then(|listed| listed.held.as_ref()) {
            Some(pod) => self.ledger.reserve(uid, pod),
            None => self.ledger.release(uid),
        }
        if now.is_some_and(|l| l.is_admitting) {
            self.admitting.insert(uid.clone());
        } else {
            self.admitting.remove(uid);
        }
        let held = |listed: Option<&Listed>| listed.filter(|l| l.is_static).map(|l| l.key.clone());
        if held(before) != held(now) {
            self.changed_statics.extend(held(before).into_iter().chain(held(now)));
        }
    }
}

fn objects(listed: Option<&Listed>) -> BTreeSet<ObjectName> {
    listed.map(Listed::references).unwrap_or_default()
}

fn move_entry<K: Ord>(
    map: &mut BTreeMap<K, BTreeSet<PodUid>>,
    uid: &PodUid,
    before: Option<K>,
    now: Option<K>,
) {
    if before == now {
        return;
    }
    if let Some(before) = before
        && let Some(uids) = map.get_mut(&before)
    {
        uids.remove(uid);
        if uids.is_empty() {
            map.remove(&before);
        }
    }
    if let Some(now) = now {
        map.entry(now).or_default().insert(uid.clone());
    }
}

/// A pod that may be changed. Afterwards it is found under what it has become.
pub(crate) struct PodMut<'a> {
    held: &'a mut Held,
    index: &'a mut Index,
}

impl Deref for PodMut<'_> {
    type Target = PodRecord;

    fn deref(&self) -> &PodRecord {
        &self.held.record
    }
}

impl DerefMut for PodMut<'_> {
    fn deref_mut(&mut self) -> &mut PodRecord {
        &mut self.held.record
    }
}

impl Drop for PodMut<'_> {
    fn drop(&mut self) {
        let Held { record, listed } = &mut *self.held;
        let now = Listed::of(record);
        self.index.change(&record.uid, Some(listed), Some(&now));
        *listed = now;
    }
}

impl PodRegistry {
    // ---- the pods ----

    pub(crate) fn get(&self, uid: &PodUid) -> Option<&PodRecord> {
        self.held.get(uid).map(|held| &held.record)
    }

    pub(crate) fn get_mut(&mut self, uid: &PodUid) -> Option<PodMut<'_>> {
        Some(PodMut { held: self.held.get_mut(uid)?, index: &mut self.index })
    }

    pub(crate) fn contains(&self, uid: &PodUid) -> bool {
        self.held.contains_key(uid)
    }

    /// A pod that was not known, or has begun anew. It has something to do.
    pub(crate) fn insert(&mut self, record: PodRecord) {
        let uid = record.uid.clone();
        self.remove(&uid);
        let listed = Listed::of(&record);
        self.index.change(&uid, None, Some(&listed));
        self.dirty.insert(uid.clone());
        self.held.insert(uid, Box::new(Held { record, listed }));
    }

    pub(crate) fn remove(&mut self, uid: &PodUid) {
        if let Some(held) = self.held.remove(uid) {
            self.index.change(uid, Some(&held.listed), None);
        }
    }

    /// All of them, in the order of their uids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PodRecord> {
        self.held.values().map(|held| &held.record)
    }

    /// Shows each to `work`, which says whether the pod has something to do about it.
    pub(crate) fn mark_where(&mut self, mut work: impl FnMut(&mut PodRecord) -> bool) {
        for (uid, held) in &mut self.held {
            let mut pod = PodMut { held, index: &mut self.index };
            if work(&mut pod) {
                self.dirty.insert(uid.clone());
            }
        }
    }

    /// Those of this name. Several may have it: one ends, the next waits for that.
    pub(crate) fn named<'a>(&'a self, key: &PodKey) -> impl Iterator<Item = &'a PodRecord> + use<'a> {
        self.index.by_key.get(key).into_iter().flatten().filter_map(|uid| self.get(uid))
    }

    /// Uids of those that may refer to an object.
    pub(crate) fn referring_to(&self, object: &ObjectName) -> Vec<PodUid> {
        self.index.by_object.get(object).into_iter().flatten().cloned().collect()
    }

    /// Whether a static pod has this name.
    pub(crate) fn has_static(&self, key: &PodKey) -> bool {
        self.named(key).any(|record| record.desired.is_static())
    }

    /// Names of which static pods have come or gone since this was asked last.
    pub(crate) fn take_changed_statics(&mut self) -> BTreeSet<PodKey> {
        std::mem::take(&mut self.index.changed_statics)
    }

    /// What pods have of the node.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.index.ledger
    }

    // ---- which of them have something to do ----

    pub(crate) fn mark(&mut self, uid: PodUid) {
        self.dirty.insert(uid);
    }

    pub(crate) fn mark_all(&mut self) {
        self.dirty.extend(self.held.keys().cloned());
    }

    pub(crate) fn mark_admitting(&mut self) {
        self.dirty.extend(self.index.admitting.iter().cloned());
    }

    pub(crate) fn mark_named(&mut self, key: &PodKey) {
        self.dirty.extend(self.index.by_key.get(key).into_iter().flatten().cloned());
    }

    /// Those of this name that wait to be let in.
    pub(crate) fn mark_waiting_for(&mut self, key: &PodKey) {
        let named = self.index.by_key.get(key).into_iter().flatten();
        self.dirty.extend(named.filter(|uid| self.index.admitting.contains(*uid)).cloned());
    }

    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(crate) fn take_dirty(&mut self) -> Option<PodUid> {
        self.dirty.pop_first()
    }

    pub(crate) fn dirty(&self) -> impl Iterator<Item = &PodRecord> {
        self.dirty.iter().filter_map(|uid| self.get(uid))
    }
}

#[cfg(test)]
mod tests {
    use model::pod;
    use model::references::ObjectKind;
    use serde_json::{Value, json};

    use super::*;
    use crate::allocation::Granted;
    use crate::input::Source;
    use crate::pods::life::{Life, Running, Terminated};
    use crate::pods::record::Desired;

    fn manifest(name: &str, uid: &str, spec: &Value) -> Arc<Pod> {
        let metadata = json!({ "namespace": "ns", "name": name, "uid": uid });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
    }

    fn record(source: Source, pod: &Arc<Pod>) -> PodRecord {
        let desired = Desired::Present { source, pod: pod.clone() };
        PodRecord::new(pod::uid(pod), pod::key(pod), desired)
    }

    fn running() -> Life {
        Life::Running(Running::new(jiff::Timestamp::UNIX_EPOCH))
    }

    fn shows(config_map: &str) -> Value {
        json!({ "containers": [], "volumes": [{ "name": "v", "configMap": { "name": config_map } }] })
    }

    fn object(name: &str) -> ObjectName {
        ObjectName { kind: ObjectKind::ConfigMap, namespace: "ns".into(), name: name.into() }
    }

    fn texts<'a>(uids: impl IntoIterator<Item = &'a PodUid>) -> Vec<&'a str> {
        uids.into_iter().map(PodUid::as_str).collect()
    }

    fn named<'a>(pods: &'a PodRegistry, name: &str) -> Vec<&'a str> {
        pods.named(&PodKey::new("ns", name)).map(|record| record.uid.as_str()).collect()
    }

    /// What has something to do, and no more.
    fn taken(pods: &mut PodRegistry) -> Vec<String> {
        std::iter::from_fn(|| pods.take_dirty()).map(|uid| uid.to_string()).collect()
    }

    #[test]
    fn a_pod_is_found_under_what_it_has_become() {
        let mut pods = PodRegistry::default();
        for (name, uid, shown) in [("web", "1", "a"), ("web", "2", "b"), ("db", "3", "a")] {
            pods.insert(record(Source::Api, &manifest(name, uid, &shows(shown))));
        }
        assert_eq!(taken(&mut pods), ["1", "2", "3"]);
        assert_eq!((named(&pods, "web"), named(&pods, "db")), (vec!["1", "2"], vec!["3"]));
        assert_eq!(texts(&pods.referring_to(&object("a"))), ["1", "3"]);

        let uid = PodUid::from("1");
        let pod = manifest("db", "1", &shows("c"));
        {
            let mut record = pods.get_mut(&uid).unwrap();
            record.key = pod::key(&pod);
            record.desired = Desired::Present { source: Source::Api, pod };
        }
        assert_eq!((named(&pods, "web"), named(&pods, "db")), (vec!["2"], vec!["1", "3"]));
        assert_eq!(texts(&pods.referring_to(&object("a"))), ["3"]);
        assert_eq!(texts(&pods.referring_to(&object("c"))), ["1"]);

        pods.remove(&uid);
        assert_eq!((named(&pods, "db"), pods.contains(&uid)), (vec!["3"], false));
        assert_eq!(texts(&pods.referring_to(&object("c"))), [""; 0]);
        assert_eq!(pods.index.by_object.len(), 2, "nothing stays behind");
    }

    #[test]
    fn those_that_wait_are_told_apart_from_those_that_were_let_in() {
        let mut pods = PodRegistry::default();
        for uid in ["1", "2"] {
            pods.insert(record(Source::Api, &manifest("web", uid, &shows("a"))));
        }
        taken(&mut pods);
        pods.get_mut(&PodUid::from("1")).unwrap().life = running();
        pods.mark_admitting();
        assert_eq!(taken(&mut pods), ["2"]);
        pods.mark_waiting_for(&PodKey::new("ns", "web"));
        assert_eq!(taken(&mut pods), ["2"]);
        pods.mark_named(&PodKey::new("ns", "web"));
        assert_eq!(taken(&mut pods), ["1", "2"]);
    }

    #[test]
    fn what_pods_have_counts_from_the_grant_to_their_end() {
        let mut pods = PodRegistry::default();
        let uid = PodUid::from("1");
        pods.insert(record(Source::Api, &manifest("web", "1", &shows("a"))));
        pods.get_mut(&uid).unwrap().life = running();
        assert_eq!(pods.ledger().pods(), 0);
        pods.get_mut(&uid).unwrap().granted = Granted::AsAsked;
        assert_eq!(pods.ledger().pods(), 1);
        // A newer version of it is still one pod.
        pods.get_mut(&uid).unwrap().desired =
            Desired::Present { source: Source::Api, pod: manifest("web", "1", &shows("b")) };
        assert_eq!(pods.ledger().pods(), 1);
        pods.get_mut(&uid).unwrap().life = Life::Terminated(Terminated::but_for_logs());
        assert_eq!(pods.ledger().pods(), 0);
        // Something of it was found to run.
        pods.get_mut(&uid).unwrap().life = running();
        assert_eq!(pods.ledger().pods(), 1);
        pods.remove(&uid);
        assert_eq!(pods.ledger().pods(), 0);
    }

    #[test]
    fn names_of_static_pods_are_told_when_pods_come_and_go() {
        let mut pods = PodRegistry::default();
        let key = PodKey::new("ns", "web");
        let changed = |pods: &mut PodRegistry| {
            let names: Vec<String> = pods.take_changed_statics().iter().map(ToString::to_string).collect();
            names.join(" ")
        };
        pods.insert(record(Source::Api, &manifest("db", "1", &shows("a"))));
        assert_eq!((changed(&mut pods).as_str(), pods.has_static(&key)), ("", false));
        pods.insert(record(Source::File, &manifest("web", "2", &shows("a"))));
        assert_eq!((changed(&mut pods).as_str(), pods.has_static(&key)), ("ns/web", true));
        let uid = PodUid::from("2");
        pods.get_mut(&uid).unwrap().life = Life::Terminated(Terminated::but_for_logs());
        assert_eq!(changed(&mut pods), "");
        pods.remove(&uid);
        assert_eq!((changed(&mut pods).as_str(), pods.has_static(&key)), ("ns/web", false));
    }
}
