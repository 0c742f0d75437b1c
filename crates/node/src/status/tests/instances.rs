//! Instances of one container that follow each other.

use super::*;

/// An instance whose postStart hook is under way is not shown, and the one before it is not shown as the last word.
#[test]
fn what_is_replaced_has_not_ended_for_good_while_its_successor_is_in_its_hook() {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]});
    let mut world = World::new(spec).with("a", 1, "running").with("a", 0, "exit 143");
    world.notes.get_mut("a").unwrap().is_in_post_start = true;
    for _ in 0..2 {
        world.previous = world.generate(Stage::Running);
        assert_eq!(texts(&world.previous), ["a: wait ContainerCreating, last exit 143"]);
    }
    world.notes.get_mut("a").unwrap().is_in_post_start = false;
    assert_eq!(texts(&world.generate(Stage::Running)), ["a: running, last exit 143, restarts 1"]);
}

/// The end of an instance that was shown as the last one, since another was to follow, is its state and no other's
/// when none followed.
#[test]
fn the_last_state_is_not_that_of_the_same_instance() {
    let spec = json!({"restartPolicy": "Always", "containers": [{"name": "a", "image": "i"}]});
    let mut world = World::new(spec).with("a", 0, "exit 1").waiting("a", "CrashLoopBackOff");
    world.previous = world.generate(Stage::Running);
    assert_eq!(texts(&world.previous), ["a: wait CrashLoopBackOff, last exit 1"]);
    world.notes.get_mut("a").unwrap().waiting = None;
    assert_eq!(texts(&world.generate(Stage::Running)), ["a: exit 1"]);
}

/// Whatever its image came to since.
#[test]
fn what_ended_for_good_and_is_gone_does_not_wait() {
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]});
    let world = World::new(spec).with("a", 0, "exit 0").with("b", 0, "exit 1").then_lost(Stage::Running);
    let world = world.waiting("a", "ImageInspectError").waiting("b", "ImageInspectError");
    let said = world.generate(Stage::Running);
    assert_eq!(texts(&said), ["a: exit 0", "b: wait ImageInspectError, last exit 1"]);
}

/// A pod that ends while all its containers are being restarted says so once, and the same ever after.
#[test]
fn the_end_of_a_pod_ends_the_restart_of_all() {
    let rule = json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}});
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [rule]},
        {"name": "b", "image": "i"},
    ]});
    let mut world = World::new(spec).with("a", 0, "exit 42").with("b", 0, "running");
    world.previous = world.generate(Stage::Running);
    world.observed.containers.retain(|c| c.name == "a");
    world.previous = world.generate(Stage::Running);
    assert_eq!(texts(&world.previous)[1], "b: wait RestartingAllContainers, last exit 137, restarts 1");
    for _ in 0..3 {
        world.previous = world.generate(Stage::Ended(Cause::Ordinary));
        assert_eq!(texts(&world.previous)[1], "b: exit 137, restarts 1");
    }
}
