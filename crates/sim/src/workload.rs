//! What people do.

use std::sync::Arc;

use model::{Pod, PodUid, pod};
use node::Input;

use crate::process::wall;
use crate::world::World;
use crate::{specs, storage, text};

const NAMES: [&str; 3] = ["a", "b", "c"];
const STATIC_NAMES: [&str; 2] = ["x-node", "y-node"];

impl World {
    /// A user does something.
    pub(crate) fn user_acts(&mut self) {
        let is_static = self.rng.percent(25);
        if is_static {
            return self.edit_files();
        }
        if self.api.is_away {
            return;
        }
        let name = *self.rng.pick(&NAMES).unwrap_or(&"a");
        let key = model::PodKey::new("default", name);
        let Some(uid) = self.api.by_key(&key).map(|p| pod::uid(p)) else { return self.create(name) };
        match self.rng.number(0, 9) {
            0..=5 => self.delete(&uid),
            6 => self.change_image(&uid),
            7 => self.resize(&uid),
            8 => self.delete_some_mirror(),
            _ => self.tell(Input::ManyObjectsChanged),
        }
    }

    fn create(&mut self, name: &str) {
        self.next_uid += 1;
        let uid = format!("{name}-{}", self.next_uid);
        let mut made = specs::pod(&mut self.rng, name, &uid, model::time::to_seconds(wall(self.at)));
        storage::add_volumes(&mut self.rng, &mut made);
        self.note(|_| format!("user creates {}", text::spec(&made)));
        let change = self.api.apply(made);
        self.announce(change);
    }

    fn delete(&mut self, uid: &PodUid) {
        let grace = match self.rng.number(0, 9) {
            0..=4 => None,
            5 => Some(0),
            _ => Some(self.rng.number(1, 40)),
        };
        self.note(|_| format!("user deletes {uid} with grace {grace:?}"));
        if let Some(change) = self.api.delete(uid, grace, wall(self.at)) {
            self.announce(change);
        }
    }

    fn delete_some_mirror(&mut self) {
        let mirrors: Vec<PodUid> =
            self.api.pods.values().filter(|p| pod::is_mirror(p)).map(|p| pod::uid(p)).collect();
        let Some(uid) = self.rng.pick(&mirrors).cloned() else { return };
        self.delete(&uid);
    }

    fn change_image(&mut self, uid: &PodUid) {
        let Some(old) = self.api.pods.get(uid) else { return };
        let mut new: Pod = (**old).clone();
        let image = format!("image-{}", self.rng.number(0, 5));
        if let Some(container) = new.spec.as_mut().and_then(|s| s.containers.first_mut()) {
            container.image = Some(image.clone());
        }
        new.metadata.generation = new.metadata.generation.map(|g| g + 1);
        self.note(|_| format!("user changes the image of {uid} to {image}"));
        let change = self.api.apply(new);
        self.announce(change);
    }

    /// Asks for more or less than the pod was granted, or for that again.
    fn resize(&mut self, uid: &PodUid) {
        let Some(old) = self.api.pods.get(uid) else { return };
        let mut new: Pod = (**old).clone();
        let cpu_millis = *self.rng.pick(&[100, 500, 900, 50_000]).unwrap_or(&100);
        if let Some(container) = new.spec.as_mut().and_then(|s| s.containers.first_mut()) {
            container.resources = specs::requests(cpu_millis);
        }
        new.metadata.generation = new.metadata.generation.map(|g| g + 1);
        self.note(|_| format!("user asks for {cpu_millis}m for {uid}"));
        let change = self.api.apply(new);
        self.announce(change);
    }

    fn edit_files(&mut self) {
        let name = *self.rng.pick(&STATIC_NAMES).unwrap_or(&"x-node");
        let has = self.files.contains_key(name);
        if has && self.rng.percent(50) {
            self.note(|_| format!("user removes {name}.yaml"));
            self.files.remove(name);
        } else {
            // A few versions only, so that a removed one comes back.
            let version = self.rng.number(0, 2);
            let mut rng = crate::rng::SimRng::new(u64::from(version) + 1000 * u64::from(self.truth.flavour));
            let made = specs::static_pod(&mut rng, name, wall(std::time::Duration::ZERO), version);
            self.note(|_| format!("user writes {name}.yaml: {}", text::spec(&made)));
            self.files.insert(name.to_owned(), Arc::clone(&made));
        }
        self.files_changed();
    }
}
