//! Hosts files, termination files and log folders on a real disk.

use serde_json::json;

use super::*;

fn pod(spec: serde_json::Value) -> Pod {
    let mut spec = spec;
    spec["containers"] = json!([]);
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn writes_the_hosts_file() {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node-hosts");
    fs::write(&node, "127.0.0.1\tnode\n").unwrap();
    let loopback = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                    fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    let ips = ["10.0.0.2".to_owned(), "fd00::2".to_owned()];
    for (spec, domain, expect) in [
        (json!({}), "", format!("# Kubernetes-managed hosts file.\n{loopback}10.0.0.2\tweb\nfd00::2\tweb\n")),
        (
            json!({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
            "d.svc",
            format!(
                "# Kubernetes-managed hosts file.\n{loopback}10.0.0.2\tweb.d.svc\tweb\nfd00::2\tweb.d.svc\tweb\n\n\
                 # Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
            ),
        ),
        (
            json!({"hostNetwork": true, "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a"]}]}),
            "",
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1\tnode\n\n\
             # Entries added by HostAliases.\n1.2.3.4\ta\n"
                .to_owned(),
        ),
    ] {
        let hostname = PodHostname { name: "web".into(), domain: domain.into() };
        let mount = write_hosts_file(dir.path(), &pod(spec), &hostname, &ips, &node).unwrap();
        assert_eq!(fs::read_to_string(&mount.host_path).unwrap(), expect);
        assert_eq!((&*mount.container_path, mode(&mount.host_path)), ("/etc/hosts", 0o644));
        assert!(mount.is_relabelled);
    }
}

#[test]
fn leaves_a_containers_own_hosts_file_alone() {
    let own = ContainerMount {
        image: None,
        host_path: "/x".into(),
        container_path: "/etc/hosts".into(),
        is_read_only: true,
        is_recursive_read_only: false,
        is_relabelled: false,
        bind_options: Vec::new(),
        propagation: MountPropagation::Private,
    };
    let ips = ["10.0.0.2".to_owned()];
    for (spec, mounts, ips, expect) in [
        (json!({}), &[][..], &ips[..], true),
        (json!({}), &[][..], &[][..], false),
        (json!({"hostNetwork": true}), &[][..], &[][..], true),
        (json!({}), std::slice::from_ref(&own), &ips[..], false),
    ] {
        assert_eq!(wants_hosts_file(&pod(spec), mounts, ips), expect);
    }
}

#[test]
fn makes_a_file_for_last_words_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = create_termination_file(dir.path(), "app").unwrap();
    let second = create_termination_file(dir.path(), "app").unwrap();
    assert_ne!(first, second);
    assert_eq!((mode(&first), mode(first.parent().unwrap()) & 0o027), (0o666, 0));
    let name = first.file_name().unwrap().to_str().unwrap();
    assert!(name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
}

#[test]
fn keeps_logs_apart_by_restart() {
    let dir = tempfile::tempdir().unwrap();
    let logs = pod_log_dir(dir.path(), &PodKey::new("ns", "p"), &"u".into());
    assert_eq!(logs.file_name().unwrap(), "ns_p_u");
    assert_eq!(next_attempt(&logs, "app"), 0);
    create_container_log_dir(&logs, "app").unwrap();
    create_container_log_dir(&logs, "app").unwrap();
    assert_eq!(next_attempt(&logs, "app"), 0);
    for name in ["0.log", "9.log", "10.log", "12.log.20260101-000000.gz", "x.log", "99"] {
        fs::write(logs.join("app").join(name), "").unwrap();
    }
    assert_eq!(next_attempt(&logs, "app"), 13);
    assert_eq!(container_log_path("app", 13), "app/13.log");
    remove_pod_log_dir(&logs).unwrap();
    remove_pod_log_dir(&logs).unwrap();
    assert!(!logs.exists());
}

#[test]
fn links_logs_under_a_name_that_fits() {
    let key = PodKey::new("ns", "p");
    let id = ContainerId::from("abc");
    assert_eq!(log_link_name(&key, "app", &id), "p_ns_app-abc.log");
    let long = log_link_name(&PodKey::new("ns", &"p".repeat(250)), "app", &id);
    assert!(long.len() == 255 && long.ends_with("_.log"), "{long}");

    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    link_log(dir.path(), "link", &log).unwrap();
    assert!(fs::symlink_metadata(dir.path().join("link")).is_err());
    fs::write(&log, "").unwrap();
    link_log(dir.path(), "link", &log).unwrap();
    link_log(dir.path(), "link", &log).unwrap();
    assert_eq!(fs::read_link(dir.path().join("link")).unwrap(), log);
}
