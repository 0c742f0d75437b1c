//! The calls systemd gets, and what is made of its answers.

use host::cgroup::{CgroupLimits, Slice};

use crate::fake::{Answer, Fake};
use crate::{BusAddress, SystemdError, Units};

const STARTED: &str = "StartTransientUnit kubepods-podu.slice replace \
    Description=\"libcontainer container kubepods-podu.slice\" Wants=[\"kubepods.slice\"] MemoryAccounting=true \
    CPUAccounting=true IOAccounting=true TasksAccounting=true DefaultDependencies=false";
const STOPPED: &str = "StopUnit kubepods-podu.slice replace";
const RESET: &str = "ResetFailedUnit kubepods-podu.slice";

fn slice() -> Slice {
    Slice { name: "kubepods-podu.slice".to_owned(), parent: "kubepods.slice".to_owned() }
}

fn limits() -> CgroupLimits {
    CgroupLimits {
        cpu_shares: Some(512),
        cpu_quota_us: Some(12_300),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(64 << 20),
        cpus: Some("0-1".to_owned()),
        pids_max: Some(77),
        ..CgroupLimits::default()
    }
}

fn units(fake: &Fake) -> Units {
    Units::new(fake.addresses(), 2)
}

#[tokio::test]
async fn a_slice_is_started_limited_and_stopped() {
    let fake = Fake::start(&[]);
    let units = units(&fake);
    assert_eq!(units.version().await.unwrap(), 252);
    units.start(&slice()).await.unwrap();
    units.limit("kubepods-podu.slice", &limits()).await.unwrap();
    units.limit("kubepods-podu.slice", &CgroupLimits::default()).await.unwrap();
    units.stop("kubepods-podu.slice").await.unwrap();
    let limited = "SetUnitProperties kubepods-podu.slice true MemoryMax=67108864 CPUWeight=20 \
        CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=130000 TasksMax=77 AllowedCPUs=[3]";
    let numbers_have_types: Vec<String> = fake
        .calls()
        .iter()
        .map(|call| call.replace("uint64 ", "").replace("@as ", "").replace("byte ", "").replace("0x03", "3"))
        .collect();
    assert_eq!(numbers_have_types, [STARTED, limited, STOPPED, RESET]);
}

#[tokio::test]
async fn what_is_there_already_or_gone_already_is_fine() {
    let fake =
        Fake::start(&[Answer::Error("UnitExists"), Answer::Error("NoSuchUnit"), Answer::Error("NoSuchUnit")]);
    let units = units(&fake);
    units.start(&slice()).await.unwrap();
    units.stop("kubepods-podu.slice").await.unwrap();
    assert_eq!(fake.calls(), [STARTED, STOPPED, RESET]);
}

#[tokio::test]
async fn a_job_that_fails_is_an_error_and_leaves_nothing_in_the_way() {
    let fake = Fake::start(&[Answer::Job("failed"), Answer::Nothing, Answer::Job("timeout")]);
    let units = units(&fake);
    let error = units.start(&slice()).await.unwrap_err();
    let text = "start kubepods-podu.slice: systemd ended the job with \"failed\"; systemctl status \
                kubepods-podu.slice may say why";
    assert_eq!(error.to_string(), text);
    units.stop("kubepods-podu.slice").await.unwrap();
    assert_eq!(fake.calls(), [STARTED, RESET, STOPPED, RESET]);
}

#[tokio::test]
async fn a_refusal_says_what_systemd_said() {
    let fake = Fake::start(&[Answer::Error("BadUnitSetting"), Answer::Error("BadUnitSetting")]);
    let units = units(&fake);
    for error in [
        units.start(&slice()).await.unwrap_err(),
        units.limit("kubepods-podu.slice", &limits()).await.unwrap_err(),
    ] {
        let SystemdError::Refused { source, .. } = &error else { panic!("{error}") };
        assert!(source.to_string().contains("BadUnitSetting: because"), "{source}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_made_anew() {
    let fake = Fake::start(&[
        Answer::HangUp,
        Answer::Job("done"),
        Answer::JobAndHangUp,
        Answer::Error("NoSuchUnit"),
        Answer::Nothing,
        Answer::HangUp,
        Answer::HangUp,
    ]);
    let units = units(&fake);
    units.start(&slice()).await.unwrap();
    units.stop("kubepods-podu.slice").await.unwrap();
    assert_eq!(fake.calls(), [STARTED, STARTED, STOPPED, STOPPED, RESET]);
    // Once more, and not for ever: whoever asked tries again later.
    units.start(&slice()).await.unwrap_err();
    assert_eq!(fake.calls().len(), 7);
    units.start(&slice()).await.unwrap();
}

#[tokio::test]
async fn without_systemd_every_way_tried_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let units = Units::new(vec![BusAddress::Socket(nowhere.clone())], 2);
    let error = units.start(&slice()).await.unwrap_err().to_string();
    assert!(error.starts_with("reach systemd over D-Bus: "), "{error}");
    assert!(error.contains(&nowhere.display().to_string()), "{error}");
    assert!(error.contains("systemctl status dbus"), "{error}");

    // It is looked for anew each time, so that it may come back.
    let fake = Fake::start(&[]);
    let units = Units::new(vec![BusAddress::Socket(nowhere), BusAddress::Socket(fake.socket())], 2);
    units.start(&slice()).await.unwrap();
}

#[tokio::test]
async fn many_at_once_get_their_own_answers() {
    let fake = Fake::start(&[]);
    let units = units(&fake);
    let slices = (0..200).map(|number| Slice {
        name: format!("kubepods-pod{number}.slice"),
        parent: "kubepods.slice".to_owned(),
    });
    let tasks: Vec<_> = slices
        .map(|slice| {
            let units = units.clone();
            tokio::spawn(async move {
                units.start(&slice).await?;
                units.stop(&slice.name).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(fake.calls().len(), 600);
}
