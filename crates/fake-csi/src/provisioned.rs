//! Volumes made and attached by the service Controller, as one state machine: made, attached, staged and published, and back
//! again in that order. Whatever leaves the order out is refused with the code that CSI names for it.

use std::collections::BTreeMap;

use plugins::wire::csi::{
    CapacityRange, ControllerPublishVolumeRequest, CreateVolumeRequest, Topology, TopologyRequirement, Volume,
};
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::check::{TOTAL_BYTES, is_supported, is_within, size};
use crate::journal::{Journal, shown_use};
use crate::volumes::{Known, Volumes};

/// In what attaching a volume tells: which attachment it is.
const ATTACHMENT: &str = "attachment";

/// What the service Controller has made.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Provisioned {
    /// The number of the latest volume: none is used again.
    last_volume: u64,
    /// The number of the latest attachment, likewise.
    last_attachment: u64,
    /// By their numbers.
    volumes: BTreeMap<u64, Made>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Made {
    /// What it was asked for by.
    name: String,
    bytes: i64,
    /// What it was made with, which nodes are told.
    parameters: BTreeMap<String, String>,
    /// How it was to be used.
    uses: Vec<String>,
    /// To the driver's node.
    attached: Option<Attachment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attachment {
    number: u64,
    /// How it is to be used.
    way: String,
    is_read_only: bool,
}

/// A part of the list of volumes.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Volumes, and whether they are attached.
    pub(crate) volumes: Vec<(Volume, bool)>,
    /// What the next part is asked for with; empty when there is none.
    pub(crate) next: String,
}

fn id(number: u64) -> String {
    format!("volume-{number}")
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("volume-")?.parse().ok()
}

fn unknown(volume: &str) -> Status {
    Status::not_found(format!("there is no volume {volume}"))
}

impl Made {
    fn volume(&self, number: u64) -> Volume {
        Volume {
            capacity_bytes: self.bytes,
            volume_id: id(number),
            volume_context: self.parameters.clone(),
            ..Volume::default()
        }
    }
}

impl Provisioned {
    fn find(&self, volume: &str) -> Result<&Made, Status> {
        number(volume).and_then(|number| self.volumes.get(&number)).ok_or_else(|| unknown(volume))
    }

    fn find_mut(&mut self, volume: &str) -> Result<&mut Made, Status> {
        number(volume).and_then(|number| self.volumes.get_mut(&number)).ok_or_else(|| unknown(volume))
    }

    fn used_bytes(&self) -> i64 {
        self.volumes.values().map(|made| made.bytes).sum()
    }

    /// The volume of this name, which is made if there is none.
    fn create(&mut self, request: &CreateVolumeRequest) -> Result<Volume, Status> {
        let CreateVolumeRequest { name, capacity_range, parameters, .. } = request;
        let uses: Vec<String> =
            request.volume_capabilities.iter().map(|way| shown_use(Some(way)).to_string()).collect();
        if let Some((number, made)) = self.volumes.iter().find(|(_, made)| made.name == *name) {
            let is_same = is_within(made.bytes, capacity_range.as_ref())
                && made.parameters == *parameters
                && made.uses == uses;
            return match is_same {
                true => Ok(made.volume(*number)),
                false => Err(Status::already_exists(format!("{name} is another volume"))),
            };
        }
        let bytes = size(capacity_range.as_ref())?;
        if bytes > TOTAL_BYTES - self.used_bytes() {
            return Err(Status::resource_exhausted("there is no room left"));
        }
        self.last_volume += 1;
        let made = Made { name: name.clone(), bytes, parameters: parameters.clone(), uses, attached: None };
        let volume = made.volume(self.last_volume);
        self.volumes.insert(self.last_volume, made);
        Ok(volume)
    }

    /// Attaches a volume, and says what the node is to be told of that.
    fn attach(
        &mut self,
        request: &ControllerPublishVolumeRequest,
        room: i64,
    ) -> Result<BTreeMap<String, String>, Status> {
        let attached = self.volumes.values().filter(|made| made.attached.is_some()).count();
        let next = self.last_attachment + 1;
        let way = shown_use(request.volume_capability.as_ref()).to_string();
        let made = self.find_mut(&request.volume_id)?;
        let attachment = match &made.attached {
            Some(attachment) => {
                if attachment.way != way || attachment.is_read_only != request.readonly {
                    return Err(Status::already_exists("the volume is attached to be used otherwise"));
                }
                attachment.number
            }
            None if room > 0 && i64::try_from(attached).is_ok_and(|attached| attached >= room) => {
                return Err(Status::resource_exhausted(format!("the node has its {room} volumes")));
            }
            None => {
                made.attached = Some(Attachment { number: next, way, is_read_only: request.readonly });
                self.last_attachment = next;
                next
            }
        };
        Ok(BTreeMap::from([(ATTACHMENT.to_owned(), attachment.to_string())]))
    }

    /// Whether a volume is attached only to be read. Fails when it is not attached, or the node was told of an earlier attachment.
    pub(crate) fn is_attached_read_only(
        &self,
        volume: &str,
        told: &BTreeMap<String, String>,
        journal: &Journal,
    ) -> Result<bool, Status> {
        let attached = self.find(volume)?.attached.as_ref();
        let number = attached.map(|attachment| attachment.number.to_string());
        if number.is_none() || told.get(ATTACHMENT) != number.as_ref() {
            let what = format!("{volume} is to be used as {told:?} says and is attached as {number:?}");
            return Err(journal.forbidden(&what));
        }
        Ok(attached.is_some_and(|attachment| attachment.is_read_only))
    }

    fn page(&self, after: u64, most: usize) -> Page {
        let mut rest = self.volumes.range(after + 1..);
        let part = rest.by_ref().take(most);
        let volumes: Vec<(Volume, bool)> =
            part.map(|(number, made)| (made.volume(*number), made.attached.is_some())).collect();
        let last = volumes.last().and_then(|(volume, _)| number(&volume.volume_id));
        let next = last.filter(|_| rest.next().is_some()).map(|last| last.to_string()).unwrap_or_default();
        Page { volumes, next }
    }
}

/// Whether a volume that is reached from here is what was asked for.
fn is_reached_from(here: &BTreeMap<String, String>, requirement: Option<&TopologyRequirement>) -> bool {
    let is_here = |place: &Topology| place.segments.iter().all(|(key, value)| here.get(key) == Some(value));
    requirement.is_none_or(|requirement| {
        let TopologyRequirement { requisite, preferred } = requirement;
        let places = if requisite.is_empty() { preferred } else { requisite };
        places.is_empty() || places.iter().any(is_here)
    })
}

impl Known {
    fn is_in_use(&self, volume: &str) -> bool {
        self.staged.contains_key(volume) || self.published.values().any(|place| place.of == volume)
    }
}

impl Volumes {
    /// Makes a volume that is reached from here, unless it is there.
    pub(crate) fn create(
        &self,
        request: &CreateVolumeRequest,
        here: &BTreeMap<String, String>,
    ) -> Result<Volume, Status> {
        if !request.volume_capabilities.iter().all(is_supported) {
            return Err(Status::invalid_argument("volumes of this driver cannot be used so"));
        }
        if request.volume_content_source.is_some() || !request.mutable_parameters.is_empty() {
            return Err(Status::invalid_argument(
                "neither sources of content nor mutable parameters are known",
            ));
        }
        if !is_reached_from(here, request.accessibility_requirements.as_ref()) {
            return Err(Status::resource_exhausted("volumes are not reached from there"));
        }
        let mut volume = self.change(|known| {
            let volume = known.provisioned.create(request)?;
            self.make(&volume.volume_id)?;
            Ok(volume)
        })?;
        if !here.is_empty() {
            volume.accessible_topology = vec![Topology { segments: here.clone() }];
        }
        Ok(volume)
    }

    /// Takes a volume away with what it holds.
    pub(crate) fn delete(&self, volume: &str) -> Result<(), Status> {
        self.change(|known| {
            let Ok(made) = known.provisioned.find(volume) else { return Ok(()) };
            if made.attached.is_some() || known.is_in_use(volume) {
                return Err(Status::failed_precondition(format!("{volume} is in use")));
            }
            self.empty(volume)?;
            known.provisioned.volumes.retain(|number, _| id(*number) != volume);
            Ok(())
        })
    }

    /// Attaches a volume to the node, which can have so many; 0 for any number.
    pub(crate) fn attach(
        &self,
        request: &ControllerPublishVolumeRequest,
        room: i64,
    ) -> Result<BTreeMap<String, String>, Status> {
        self.change(|known| known.provisioned.attach(request, room))
    }

    /// Detaches a volume, which must not be staged or published any more.
    pub(crate) fn detach(&self, volume: &str, journal: &Journal) -> Result<(), Status> {
        self.change(|known| {
            if known.is_in_use(volume) {
                return Err(journal.forbidden(&format!("{volume} is to be detached and is in use")));
            }
            if let Ok(made) = known.provisioned.find_mut(volume) {
                made.attached = None;
            }
            Ok(())
        })
    }

    /// Makes a volume as large as asked for, unless it is, and says how large it is then.
    pub(crate) fn grow(&self, volume: &str, range: &CapacityRange) -> Result<i64, Status> {
        self.change(|known| {
            let wanted = size(Some(range))?;
            let rest = TOTAL_BYTES - known.provisioned.used_bytes();
            let made = known.provisioned.find_mut(volume)?;
            let bytes = made.bytes.max(wanted);
            if bytes - made.bytes > rest || !is_within(bytes, Some(range)) {
                return Err(Status::out_of_range(format!("{volume} has {} bytes", made.bytes)));
            }
            made.bytes = bytes;
            Ok(bytes)
        })
    }

    /// Fails unless there is a volume of this name.
    pub(crate) fn exists(&self, volume: &str) -> Result<(), Status> {
        self.known().provisioned.find(volume).map(drop)
    }

    /// The volumes after the one that a token names, at most so many; 0 for all.
    pub(crate) fn page(&self, token: &str, most: i32) -> Result<Page, Status> {
        let after = match token {
            "" => 0,
            _ => token
                .parse()
                .map_err(|_| Status::aborted(format!("{token:?} is no token of this driver's")))?,
        };
        let most = usize::try_from(most).map_err(|_| Status::invalid_argument("max_entries is negative"))?;
        Ok(self.known().provisioned.page(after, if most == 0 { usize::MAX } else { most }))
    }

    /// How much room there is, bytes.
    pub(crate) fn free_bytes(&self) -> i64 {
        TOTAL_BYTES - self.known().provisioned.used_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_in_parts_whatever_was_deleted_in_between() {
        let mut provisioned = Provisioned::default();
        for name in ["a", "b", "c"] {
            provisioned
                .create(&CreateVolumeRequest { name: name.to_owned(), ..CreateVolumeRequest::default() })
                .unwrap();
        }
        let shown = |page: &Page| -> Vec<String> {
            page.volumes.iter().map(|(volume, _)| volume.volume_id.clone()).collect()
        };
        let first = provisioned.page(0, 2);
        assert_eq!((shown(&first), first.next.as_str()), (vec![id(1), id(2)], "2"));
        provisioned.volumes.remove(&2);
        let second = provisioned.page(2, 2);
        assert_eq!((shown(&second), second.next.as_str()), (vec![id(3)], ""));
        assert_eq!(shown(&provisioned.page(3, 2)), Vec::<String>::new());
    }

    #[test]
    fn a_node_that_was_told_of_an_earlier_attachment_is_refused() {
        let (mut provisioned, journal) = (Provisioned::default(), Journal::default());
        let create = CreateVolumeRequest { name: "a".to_owned(), ..CreateVolumeRequest::default() };
        let volume = provisioned.create(&create).unwrap().volume_id;
        let request = ControllerPublishVolumeRequest { volume_id: volume.clone(), ..Default::default() };
        let first = provisioned.attach(&request, 1).unwrap();
        assert_eq!(provisioned.attach(&request, 1).unwrap(), first);
        assert!(!provisioned.is_attached_read_only(&volume, &first, &journal).unwrap());
        provisioned.find_mut(&volume).unwrap().attached = None;
        let second = provisioned.attach(&request, 1).unwrap();
        assert_ne!(first, second);
        provisioned.is_attached_read_only(&volume, &first, &journal).unwrap_err();
        assert!(!journal.wrong().is_empty());
    }
}
