//! The driver with an executor that does nothing real.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{
    ContainerObservation, ContainerState, Pod, PodKey, PodObservation, RuntimeCondition, RuntimeFeatures,
    RuntimeHealth, SandboxObservation,
};
use node::pressure::Sample;
use node::{HostAction, Machine, Restored, RuntimeAction, RuntimeOutcome, Settings, Source};

use super::*;

fn settings() -> Settings {
    Settings {
        node_name: "n".into(),
        capacity: node::CapacitySettings { max_pods: 10_000, ..node::CapacitySettings::default() },
        sources: vec![Source::Api],
        ..Settings::default()
    }
}

fn pod(number: usize) -> Arc<Pod> {
    let text = format!(
        r#"{{"metadata":{{"name":"p{number}","namespace":"d","uid":"u{number}"}},"spec":{{"nodeName":"n","containers":[{{"name":"c","image":"i"}}]}}}}"#
    );
    Arc::new(serde_json::from_str(&text).unwrap())
}

/// A driver whose executor counts how often each kind of action was asked for, and answers by a rule.
fn driver(
    answer: impl Fn(&Action) -> Option<Outcome> + Send + Sync + 'static,
) -> (Driver, mpsc::Sender<Input>, watch::Receiver<Arc<View>>, Arc<AtomicUsize>) {
    let (results, inbox) = inbox();
    let (view, published) = watch::channel(Arc::new(View::default()));
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (asked.clone(), Arc::new(answer));
    let perform = move |action: Action, cancel: CancellationToken| {
        counter.fetch_add(1, Ordering::Relaxed);
        let answer = answer.clone();
        async move {
            let work = async {
                match answer(&action) {
                    Some(outcome) => outcome,
                    None => std::future::pending().await,
                }
            };
            executor::to_the_end(work, &cancel).await
        }
        .boxed()
    };
    let driver = Driver {
        core: Node::new(settings()),
        clock: Clock::start(),
        executor: Executor { perform: Box::new(perform), record: Box::new(|_| {}) },
        inbox,
        results: results.clone(),
        view,
        tasks: TaskTracker::new(),
        running: HashMap::new(),
        sync_loop: Arc::default(),
        metering: Metering::new(Arc::default()),
        recorder: None,
        // Nobody commands the recorder.
        recorder_commands: mpsc::channel(1).1,
    };
    (driver, results, published, asked)
}

fn ready() -> Input {
    let met = || RuntimeCondition { is_met: true, reason: String::new(), message: String::new() };
    Input::RuntimeHealth(Ok(RuntimeHealth {
        runtime: met(),
        network: met(),
        handlers: Vec::new(),
        features: RuntimeFeatures::default(),
    }))
}

/// What the core is told at the start.
fn restored() -> Input {
    let machine = Machine { cpus: 1, memory_bytes: 1 << 30, ..Machine::default() };
    Input::Restored(Box::new(Restored { machine, ..Restored::default() }))
}

fn measured() -> Input {
    Input::Sample(Sample::default())
}

/// More inputs than the inbox holds, while every pod's results come in as well: whoever cannot
/// deliver waits, and nothing is lost.
#[tokio::test]
async fn a_full_inbox_delays_and_loses_nothing() {
    let pods = super::INBOX * 2;
    let (driver, inbox, mut view, asked) = driver(|action| match action {
        Action::Runtime(RuntimeAction::Relist) => {
            Some(Outcome::Runtime(RuntimeOutcome::Relisted(Vec::new())))
        }
        // Answered at once, so that results press into the inbox together with the pods.
        Action::Host(HostAction::EnsureCgroup { .. }) => Some(Outcome::Done),
        _ => None,
    });
    // Filled to the brim before anybody takes anything out.
    let mut waiting = Vec::new();
    for number in 0..pods {
        let input = Input::PodApplied { source: Source::Api, pod: pod(number) };
        if let Err(mpsc::error::TrySendError::Full(input)) = inbox.try_send(input) {
            let inbox = inbox.clone();
            waiting.push(tokio::spawn(async move { inbox.send(input).await.is_ok() }));
        }
    }
    assert!(waiting.len() >= super::INBOX, "the inbox is full");
    let feeding = tokio::spawn(async move {
        for input in [restored(), measured(), ready()] {
            inbox.send(input).await.unwrap();
        }
    });
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    view.wait_for(|v| v.pods.size() == pods && v.pods.values().all(|p| p.phase == node::Phase::Running))
        .await
        .unwrap();
    for sent in waiting {
        assert!(sent.await.unwrap());
    }
    feeding.await.unwrap();
    assert!(asked.load(Ordering::Relaxed) > pods, "each pod's actions were started");
    stop.cancel();
    driver.await.unwrap();
}

/// What `/healthz/syncloop` and the watchdog go by: a round that does not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_stuck_or_gone_is_ill() {
    let (mut driver, inbox, _view, _asked) = driver(|_| None);
    let (enter, mut entered) = mpsc::channel(1);
    let (release, released) = std::sync::mpsc::channel::<()>();
    // Only the first action is held up.
    let held = std::sync::Mutex::new(Some((enter, released)));
    driver.executor.perform = Box::new(move |_, _| {
        let first = held.lock().unwrap().take();
        if let Some((enter, released)) = first {
            enter.try_send(()).unwrap();
            released.recv().unwrap();
        }
        std::future::pending().boxed()
    });
    let sync_loop = driver.sync_loop.clone();
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    for input in [restored(), measured(), ready()] {
        inbox.send(input).await.unwrap();
    }
    entered.recv().await.unwrap();
    assert_eq!(sync_loop.check(), Ok(()), "not for long enough");
    let later = sync_loop.now() + 120_000;
    let reason = sync_loop.check_at(later).unwrap_err();
    assert!(reason.starts_with("the core has been busy with one round for "), "{reason}");
    release.send(()).unwrap();
    stop.cancel();
    driver.await.unwrap();
    assert_eq!(sync_loop.check(), Err("the core has ended".to_owned()));
}

/// A pod with one running container.
fn held() -> PodObservation {
    let mut held = PodObservation::empty("u1".into(), PodKey::new("d", "p1"));
    held.sandboxes.push(SandboxObservation {
        id: "s".into(),
        attempt: 0,
        is_ready: true,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        ips: Vec::new(),
    });
    let running = ContainerState::Running { started_at: None };
    held.containers.push(ContainerObservation::bare("x".into(), "s".into(), "c", running));
    held
}

/// After a restart over a pod that is to go, the first look at it and the stop of its container are one step. The stop
/// starts before the picture shows the container; whoever carries it out still knows where to read the container back, and
/// so does not lose its exit code.
#[tokio::test]
async fn a_stop_is_complete_before_the_container_is_published() {
    let (mut driver, inbox, view, _asked) = driver(|_| None);
    let (tell, mut told) = mpsc::channel(1);
    driver.executor.perform = Box::new(move |action, _| match action {
        Action::Runtime(RuntimeAction::Relist) => {
            std::future::ready(Outcome::Runtime(RuntimeOutcome::Relisted(vec![held()]))).boxed()
        }
        Action::Runtime(RuntimeAction::Observe { .. }) => {
            std::future::ready(Outcome::Runtime(RuntimeOutcome::Observed(held()))).boxed()
        }
        Action::Runtime(RuntimeAction::StopContainer { container, sandbox, .. }) => {
            let is_published = view.borrow().pods.values().any(|pod| pod.container("c").is_some());
            tell.try_send((container, sandbox, is_published)).unwrap();
            std::future::pending().boxed()
        }
        _ => std::future::pending().boxed(),
    });
    let mut deleted = pod(1);
    let metadata = &mut Arc::make_mut(&mut deleted).metadata;
    metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    metadata.deletion_grace_period_seconds = Some(30);
    // The API server's pods are there before the runtime has said anything: nobody asks it twice.
    for input in [restored(), measured()] {
        inbox.try_send(input).unwrap();
    }
    inbox.try_send(Input::PodsListed { source: Source::Api, pods: vec![deleted] }).unwrap();
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    assert_eq!(told.recv().await.unwrap(), ("c".to_owned(), "s".into(), false));
    stop.cancel();
    driver.await.unwrap();
}
