//! How actions end, and what one takes while it is under way.

use model::AllocatedPod;

use super::*;

fn pod() -> Arc<model::Pod> {
    Arc::default()
}

#[tokio::test]
async fn work_ends_in_one_outcome_whatever_happens() {
    let cancel = CancellationToken::new();
    let done = to_the_end(async { Outcome::Done }, &cancel).await;
    assert!(matches!(done, Outcome::Done));
    let panicked = to_the_end(async { panic!("a bug") }, &cancel).await;
    assert!(matches!(panicked, Outcome::Failed(_)));
    cancel.cancel();
    let cancelled = to_the_end(std::future::pending(), &cancel).await;
    assert!(matches!(cancelled, Outcome::Cancelled));
}

/// Hundreds of actions are under way when a node is filled, and each is a task of this size.
#[test]
fn an_action_under_way_is_small() {
    fn bytes<T: 'static, F>(_: impl Fn(&'static T) -> F) -> usize {
        size_of::<F>()
    }
    fn whole<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }
    let probe = |probes: &'static Probes| async move {
        let (pod, id) = (pod(), model::ContainerId::from(""));
        probes.attempt(&pod, "c", &id, model::probe::ProbeKind::Liveness, None).await
    };
    let start = |containers: &'static containers::Containers| {
        containers.start(node::ContainerStart {
            pod: AllocatedPod::granted(pod()),
            container: String::new(),
            sandbox: model::SandboxId::from(""),
            attempt: 0,
            image: model::ImageRef::from(""),
            image_volumes: std::collections::BTreeMap::new(),
            published_volumes: std::collections::BTreeMap::new(),
            volume_groups: Vec::new(),
            sandbox_attempt: 0,
            facts: model::downward::PodFacts::default(),
            handler: model::RuntimeHandler::default(),
            target: None,
        })
    };
    let run = |sandboxes: &'static sandboxes::Sandboxes| async move {
        let handler = model::RuntimeHandler::default();
        sandboxes.run(AllocatedPod::granted(pod()), 0, None, &handler, Vec::new()).await
    };
    for (what, bytes, most) in [
        ("any action", whole(carry_out), 1088),
        ("a probe", bytes(probe), 4096),
        ("the start of a sandbox", bytes(run), 8192),
        ("the start of a container", bytes(start), 8192),
    ] {
        assert!(bytes <= most, "{what} takes {bytes} bytes, more than {most}");
    }
}
