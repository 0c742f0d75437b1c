#!/usr/bin/env bash
# A pod of one container, read into k8s-openapi's types, takes more than ten times the length of its JSON.
#
# Versions:  k8s-openapi 0.29.0 (feature v1_37), serde_json 1.0.154, Rust 1.95
# Expected:  an object takes about what is in it: some words for each field that is set.
# Instead:   fields that are objects are part of their struct also where they are absent, so that a volume has room for each
#            of some thirty kinds at once, and a container for each handler of each probe. Lists of what has at most 1024
#            bytes begin with room for four, for the length of a JSON array is not known before its end, and nothing
#            gives that room back.
# Seen:      3280 bytes for a volume of any kind, 2336 for a container, room for four container statuses of 752 bytes
#            where there is one; 14 KB for a pod of 1.2 KB of JSON, of which a seventh is room in lists.
# Why care:  whoever keeps what a watch brings (a store, a reflector, an agent) has that for each pod, as often as it
#            keeps a version. Vec::shrink_to_fit on conditions, container statuses and the sources of projected volumes
#            gives the seventh back; no heap profile shows it as waste, for each piece is in use.
source "$(dirname "$0")/common.bash"

crate 'k8s-openapi = { version = "=0.29.0", features = ["v1_37"] }' 'serde_json = "=1.0.154"'

cat >src/main.rs <<'RUST'
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, Volume};

/// Counts the bytes that are held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const POD: &str = r#"{
    "metadata": { "name": "web", "namespace": "default", "uid": "6f9c7d0e-3b1f-4c57-9a55-0f3a7a3c2b11" },
    "spec": {
        "containers": [{ "name": "web", "image": "registry.example/web:1", "volumeMounts": [
            { "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true }] }],
        "volumes": [{ "name": "token", "projected": { "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } }] } }]
    },
    "status": {
        "conditions": [
            { "type": "PodReadyToStartContainers", "status": "True" }, { "type": "Initialized", "status": "True" },
            { "type": "Ready", "status": "True" }, { "type": "ContainersReady", "status": "True" },
            { "type": "PodScheduled", "status": "True" }],
        "containerStatuses": [{ "name": "web", "image": "registry.example/web:1", "imageID": "sha256:0", "ready": true,
            "restartCount": 0 }]
    }
}"#;

fn main() {
    let before = HELD.load(Ordering::Relaxed);
    let mut pod: Pod = serde_json::from_str(POD).unwrap();
    let read = HELD.load(Ordering::Relaxed) - before;
    let spec = pod.spec.as_mut().unwrap();
    let status = pod.status.as_mut().unwrap();
    let volumes = spec.volumes.as_mut().unwrap();
    let statuses = status.container_statuses.as_mut().unwrap();
    for (what, size, length, capacity) in [
        ("volume", size_of::<Volume>(), volumes.len(), volumes.capacity()),
        ("container", size_of::<Container>(), spec.containers.len(), spec.containers.capacity()),
        ("container status", size_of::<ContainerStatus>(), statuses.len(), statuses.capacity()),
    ] {
        println!("{what}: {size} bytes, {length} there, room for {capacity}");
    }
    spec.containers.shrink_to_fit();
    for volume in volumes.iter_mut() {
        volume.projected.as_mut().unwrap().sources.as_mut().unwrap().shrink_to_fit();
    }
    volumes.shrink_to_fit();
    statuses.shrink_to_fit();
    status.conditions.as_mut().unwrap().shrink_to_fit();
    let shrunk = HELD.load(Ordering::Relaxed) - before;
    println!("more than ten times its JSON: {}", read > 10 * POD.len());
    println!("a seventh or more is room in lists: {}", (read - shrunk) * 7 >= read);
    eprintln!("{} bytes of JSON, {read} as read, {shrunk} with lists as long as they are", POD.len());
}
RUST

cat >stated <<'TEXT'
volume: 3280 bytes, 1 there, room for 1
container: 2336 bytes, 1 there, room for 1
container status: 752 bytes, 1 there, room for 4
more than ten times its JSON: true
a seventh or more is room in lists: true
TEXT

check_crate
