//! Plugins, from the socket they make to the word that they are registered: what each is, whether it is taken, and when one
//! that was not is asked again.
//!
//! ```text
//! a socket ─► GetInfo ─► validation ─► what its type asks for ─► the objects tell of it ─► Notify: registered
//!                │            └──────────────┴── no ──► Notify: why not ──┐
//!                └── no answer ───────────────────────────────────────────┴► again, after a back-off
//! ```
//!
//! Each socket goes its own way: a plugin that does not answer holds up nobody else. Of two drivers of one name the one with
//! the higher version counts; when that one goes, the other one is asked again.

mod validation;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::Now;
use serde::{Deserialize, Serialize};

use crate::csi::{self, CsiDrivers};
use crate::cx::Cx;
use crate::effect::{CsiNodeInfo, Outcome, PluginAction, PluginInfo, PluginOutcome};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::schedule::earliest;
use crate::tasks::Owner;
use crate::wait::{Found, WaitOn};
use version::Version;

/// All plugins of the node.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plugins {
    sockets: BTreeMap<String, Socket>,
    csi: CsiDrivers,
    /// What is published of them.
    shown: Arc<BTreeMap<String, bool>>,
}

/// A socket at which a plugin registers.
#[derive(Debug, Serialize, Deserialize)]
struct Socket {
    /// Another one when it was made anew.
    number: u64,
    stage: Stage,
    /// Who is behind it, since it has said so.
    plugin: Option<Identity>,
    /// That it was not taken.
    retry: Option<Retry>,
}

/// A plugin that may be taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Identity {
    name: String,
    endpoint: String,
    version: Version,
}

impl Socket {
    /// Whether another one had taken its place, and that one is gone: it begins anew.
    fn is_forsaken(&self, csi: &CsiDrivers) -> bool {
        let is_driver = matches!(self.stage, Stage::Installing | Stage::Registered);
        is_driver && self.plugin.as_ref().is_some_and(|plugin| !csi.has(&plugin.name))
    }

    fn is_named(&self, name: &str) -> bool {
        self.plugin.as_ref().is_some_and(|plugin| plugin.name == name)
    }
}

/// How far a registration is.
#[derive(Debug, Serialize, Deserialize)]
enum Stage {
    /// It is to be asked what it is, now or when its back-off is over.
    Due,
    /// It is asked what it is.
    Asked,
    /// The driver is asked what it calls the node.
    AskedForNode,
    /// The API server is to know of it.
    Installing,
    /// It is told that it is registered.
    Confirmed,
    /// It is told why it is not.
    Refused(String),
    /// It is registered.
    Registered,
}

impl Stage {
    /// Whether its name is its own to use, or soon is.
    fn is_taken(&self) -> bool {
        matches!(self, Self::AskedForNode | Self::Installing | Self::Confirmed | Self::Registered)
    }
}

fn owner(socket: &str) -> Owner {
    Owner::Plugin(socket.to_owned())
}

impl Plugins {
    /// Tests that are not about plugins begin with a CSINode that is there.
    #[cfg(test)]
    pub(crate) fn initialized() -> Self {
        Self { csi: CsiDrivers::initialized(), ..Self::default() }
    }

    /// The CSI drivers among them.
    pub(crate) fn csi(&self) -> &CsiDrivers {
        &self.csi
    }

    /// The same, for results.
    pub(crate) fn csi_mut(&mut self) -> &mut CsiDrivers {
        &mut self.csi
    }

    /// The sockets there are, and whether the plugin behind each is taken.
    pub(crate) fn shown(&self) -> &Arc<BTreeMap<String, bool>> {
        &self.shown
    }

    /// These sockets are there now.
    pub(crate) fn sockets_found(&mut self, found: &BTreeMap<String, u64>, out: &mut Outbox) {
        let is_there = |(path, socket): &(&String, &Socket)| found.get(*path) == Some(&socket.number);
        let gone = self.sockets.iter().filter(|entry| !is_there(entry)).map(|(path, _)| path.clone());
        for path in gone.collect::<Vec<_>>() {
            out.cancel_task(&owner(&path));
            let gone = self.sockets.remove(&path);
            let Some(Socket { stage, plugin: Some(plugin), .. }) = gone else { continue };
            self.csi.deregister(&plugin.name, &path);
            if stage.is_taken() {
                self.hurry(&plugin.name);
            }
        }
        for (path, number) in found {
            let new = || Socket { number: *number, stage: Stage::Due, plugin: None, retry: None };
            self.sockets.entry(path.clone()).or_insert_with(new);
        }
    }

    /// Whoever stood back for another of its name need not wait for its back-off.
    fn hurry(&mut self, name: &str) {
        let waiting = self.sockets.values_mut().filter(|socket| matches!(socket.stage, Stage::Due));
        waiting.filter(|socket| socket.is_named(name)).for_each(|socket| socket.retry = None);
    }

    /// Each plugin that can be taken further is, and so are the drivers.
    pub(crate) fn drive(&mut self, cx: &mut Cx<'_>) {
        let mut refused = Vec::new();
        for (path, socket) in &mut self.sockets {
            let is_due = socket.retry.as_ref().is_none_or(|retry| retry.next_at <= cx.now.mono);
            let is_open = cx.out.is_open(&owner(path));
            if socket.is_forsaken(&self.csi) {
                socket.stage = Stage::Due;
            }
            match &socket.stage {
                // What was given up may still be under way.
                Stage::Due if is_due && !is_open => {
                    socket.stage = Stage::Asked;
                    cx.out.start(owner(path), PluginAction::GetInfo { socket: path.clone() });
                }
                Stage::Installing => {
                    let Some(plugin) = &socket.plugin else { continue };
                    if let Some(refusal) = self.csi.refusal(&plugin.name, cx.node) {
                        refused.push((path.clone(), refusal));
                    } else if self.csi.is_installed(&plugin.name, cx.node) {
                        socket.stage = Stage::Confirmed;
                        cx.out
                            .start(owner(path), PluginAction::Notify { socket: path.clone(), refusal: None });
                    }
                }
                _ => {}
            }
        }
        for (path, refusal) in refused {
            self.refuse(&path, unregistered(&refusal), cx.out);
        }
        self.csi.drive(cx);
        self.show();
    }

    fn show(&mut self) {
        let shown = self.sockets.iter().map(|(path, socket)| (path, socket.stage.is_taken()));
        if !shown.clone().eq(self.shown.iter().map(|(path, is_taken)| (path, *is_taken))) {
            self.shown = Arc::new(shown.map(|(path, is_taken)| (path.clone(), is_taken)).collect());
        }
    }

    /// Takes in what a plugin has said, or that it has not.
    pub(crate) fn finished(&mut self, path: &str, outcome: Outcome, cx: &mut Cx<'_>) {
        let Some(socket) = self.sockets.get_mut(path) else { return };
        match (std::mem::replace(&mut socket.stage, Stage::Due), outcome) {
            (Stage::Asked, Outcome::Plugin(PluginOutcome::Info(info))) => self.identified(path, info, cx.out),
            (Stage::Asked, Outcome::Failed(failure)) => self.failed(path, failure.message, cx.now),
            (Stage::AskedForNode, Outcome::Plugin(PluginOutcome::NodeInfo(info))) => self.met(path, info, cx),
            (Stage::AskedForNode, Outcome::Failed(failure)) => {
                self.refuse(path, unregistered(&failure.message), cx.out);
            }
            (Stage::Confirmed, Outcome::Done) => (socket.stage, socket.retry) = (Stage::Registered, None),
            (Stage::Confirmed, Outcome::Failed(failure)) => {
                if let Some(plugin) = &socket.plugin {
                    self.csi.deregister(&plugin.name, path);
                }
                self.failed(path, failure.message, cx.now);
            }
            (Stage::Refused(refusal), _) => self.failed(path, refusal, cx.now),
            // Of a task that was given up; the stage is as it was.
            (stage, _) => socket.stage = stage,
        }
    }

    /// The highest version of another driver of that name.
    fn namesake(&self, path: &str, name: &str) -> Option<&Version> {
        let others = self.sockets.iter().filter(|(other, socket)| *other != path && socket.stage.is_taken());
        let named =
            others.filter_map(|(_, socket)| socket.plugin.as_ref()).filter(|plugin| plugin.name == name);
        named.map(|plugin| &plugin.version).max()
    }

    /// It has said what it is.
    fn identified(&mut self, path: &str, info: PluginInfo, out: &mut Outbox) {
        let judged = validation::validate(&info, path, self.namesake(path, &info.name));
        let Some(socket) = self.sockets.get_mut(path) else { return };
        let endpoint = if info.endpoint.is_empty() { path.to_owned() } else { info.endpoint };
        let name = info.name;
        match judged {
            Ok(version) => {
                socket.plugin = Some(Identity { name: name.clone(), endpoint: endpoint.clone(), version });
                socket.stage = Stage::AskedForNode;
                out.start(owner(path), PluginAction::NodeGetInfo { driver: name, endpoint });
            }
            Err(refusal) => {
                // For whoever it stands back for.
                let version = Version::default();
                socket.plugin = Some(Identity { name, endpoint, version });
                self.refuse(path, refusal, out);
            }
        }
    }

    /// The driver has said what it calls the node.
    fn met(&mut self, path: &str, info: CsiNodeInfo, cx: &mut Cx<'_>) {
        let identity = self.sockets.get(path).and_then(|socket| socket.plugin.clone());
        let Some(Identity { name, endpoint, version }) = identity else { return };
        // Another one may have come meanwhile.
        let judged = validation::is_higher(&name, &version, self.namesake(path, &name));
        let judged = judged.and_then(|()| match info.node_id.as_str() {
            "" => Err("error adding CSI driver node info: driverNodeID must not be empty".to_owned()),
            _ if !cx.settings.has_api => Err(csi::of_node("error getting kube client")),
            _ => Ok(()),
        });
        match (judged, self.sockets.get_mut(path)) {
            (Ok(()), Some(socket)) => {
                socket.stage = Stage::Installing;
                self.csi.register(&name, path, &endpoint, info, cx.now);
            }
            (Err(refusal), _) => self.refuse(path, unregistered(&refusal), cx.out),
            _ => {}
        }
    }

    fn refuse(&mut self, path: &str, refusal: String, out: &mut Outbox) {
        let Some(socket) = self.sockets.get_mut(path) else { return };
        socket.stage = Stage::Refused(refusal.clone());
        out.start(owner(path), PluginAction::Notify { socket: path.to_owned(), refusal: Some(refusal) });
        if let Some(plugin) = &socket.plugin {
            self.csi.deregister(&plugin.name, path);
        }
    }

    fn failed(&mut self, path: &str, error: String, now: Now) {
        let Some(socket) = self.sockets.get_mut(path) else { return };
        socket.retry = Some(Retry::after(socket.retry.as_ref(), error, Pauses::VOLUMES, now));
        socket.stage = Stage::Due;
    }

    /// When [`Plugins::drive`] has something to do by itself; monotonic.
    pub(crate) fn next_deadline(&self, out: &Outbox) -> Option<Duration> {
        let due = self
            .sockets
            .iter()
            .filter(|(path, socket)| matches!(socket.stage, Stage::Due) && !out.is_open(&owner(path)));
        let retries = due.filter_map(|(_, socket)| socket.retry.as_ref().map(|retry| retry.next_at));
        earliest(retries.min(), self.csi.next_deadline(out))
    }

    /// Finds who is not registered yet, and what the API server does not know of those who are.
    pub(crate) fn find_waits(&self, out: &Outbox, found: &mut Found) {
        for (path, socket) in &self.sockets {
            if matches!(socket.stage, Stage::Registered) {
                continue;
            }
            let on = || WaitOn::Plugin(path.clone());
            found.retrying(on(), socket.retry.as_ref());
            if let Some(since) = out.since(&owner(path)) {
                let wait = found.add(on());
                (wait.next_try, wait.since) = (None, since);
            }
        }
        self.csi.find_waits(out, found);
    }
}

/// Upstream's words for a plugin that is in order and cannot be registered.
fn unregistered(error: &str) -> String {
    format!("RegisterPlugin error -- plugin registration failed with err: {error}")
}

#[cfg(test)]
mod tests;
