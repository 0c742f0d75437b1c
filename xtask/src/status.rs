//! The status table of the README: what is there and what is not yet, area by area.
//!
//! `cargo xtask tidy` compares the README with it, and `UPDATE_DOCS=1 cargo xtask tidy` writes it there.

/// One area of what a kubelet does.
struct Row {
    area: &'static str,
    /// What tests cover.
    there: &'static str,
    /// The end-to-end tests that fail without it.
    proofs: &'static [&'static str],
    /// What upstream has beside that.
    missing: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        area: "configuration",
        there: "all flags, the whole `v1beta1` document, drop-ins, feature gates, credential providers, kubeconfigs, \
                compared with upstream's kubelet in more than two thousand cases; every mistake reported at once \
                with line and column; `kubelet config check`, `show` and `kubeconfig`",
        proofs: &[
            "http_api::tell_the_same_configuration",
            "startup::drop_ins_change_the_configuration",
            "registry::a_program_opens_it",
            "identity::a_program_knows_the_credentials",
        ],
        missing: "fields for features that are missing are accepted with a warning that says so; gates of such \
                  features are listed in [docs/FEATURE_GATES.md](docs/FEATURE_GATES.md)",
    },
    Row {
        area: "start and end",
        there: "checks of swap, cgroup version and kernel settings, `--lock-file`, limits, systemd's notify and \
                watchdog, standalone mode, upstream's exit codes and last words",
        proofs: &[
            "startup::lock_file_is_handed_over",
            "startup::systemd_is_told",
            "static_pods::run_without_an_api_server",
            "folders::are_upstreams",
        ],
        missing: "",
    },
    Row {
        area: "log and metrics",
        there: "klog text and JSON, `-v`, `--vmodule` and `PUT /debug/flags/v`, contextual fields, split streams; \
                `/metrics` with what is done for pods, containers, images and the node, for volumes, with calls to \
                the runtime, requests to the API server and to this one; OpenTelemetry traces of the same",
        proofs: &[
            "node::changes_its_log_verbosity",
            "clients::prometheus_reads_every_page",
            "vulnerabilities::nothing_secret_is_in_the_most_verbose_log",
            "traces::of_a_pods_start",
            "traces::of_a_request_with_a_trace",
        ],
        missing: "metrics of what is missing: shutdown, devices, resize",
    },
    Row {
        area: "pods",
        there: "from the API server, the static pod folder and a URL, with mirror pods and upstream's uids; start, \
                restart with back-off, init, sidecar and ephemeral containers, probes, hooks, graceful end, \
                restart rules, upstream's status, conditions and events; upstream's state files of what pods were granted",
        proofs: &[
            "lifecycle::pod_runs_and_is_deleted_gracefully",
            "lifecycle::pre_stop_hook_runs_first",
            "restarts::failing_container_backs_off",
            "restarts::rule_restarts_all_containers",
            "init::containers_run_in_order",
            "init::sidecar_ends_last",
            "debugging::container_in_a_pod",
            "environment::config_maps_secrets_and_fields",
            "environment::variables_from_files",
            "probes::http_tcp_and_grpc",
            "static_pods::mirror_change_and_removal",
            "pods_from_url::come_change_and_go",
            "state_files::say_what_pods_have",
            "state_files::are_read_by_the_other_kubelet",
        ],
        missing: "in-place resize (it is pending as infeasible), preemption, limits of local storage",
    },
    Row {
        area: "container runtime",
        there: "CRI v1: sandboxes, containers, images, log rotation, RuntimeClass, pull secrets and credential \
                provider plugins, credentials verified for images that are present, garbage collection of images by disk \
                usage and age, user namespaces",
        proofs: &[
            "sandboxes::dead_ones_are_replaced_and_free_what_they_held",
            "rotation::follower_misses_nothing",
            "registry::pull_secrets_open_it",
            "registry::what_a_secret_opened_stays_closed_to_others",
            "image_gc::makes_room_and_leaves_what_is_used",
            "containers::users_of_a_user_namespace_are_others_outside",
            "disruption::containerd_restart_leaves_pods_alone",
        ],
        missing: "",
    },
    Row {
        area: "volumes",
        there: "emptyDir (huge pages included), hostPath, configMap, secret, downwardAPI, projected, images, subPath, relabelling for \
                SELinux, CSI drivers: their registration, their inline volumes and claimed ones, with \
                `fsGroup`, secrets and tokens, and growth on the node; NFS; persistent volumes of the kinds local and hostPath",
        proofs: &[
            "volumes::show_their_content",
            "volumes::empty_dir_is_shared_and_belongs_to_the_group",
            "volumes::sub_paths_and_host_paths",
            "configuration::update_reaches_the_volume",
            "csi::drivers_come_change_and_go",
            "node_volumes::of_folders_are_bound_for_each_pod",
            "node_volumes::that_cannot_be_had_say_why",
            "node_volumes::that_are_paths_are_shown_as_they_are",
            "node_volumes::that_servers_export",
            "node_volumes::on_disks_outlive_a_kubelet_that_is_killed",
            "csi_volumes::live_with_their_pods",
            "csi_volumes::are_claimed_and_keep_what_is_written",
            "csi_volumes::are_staged_once_for_all_pods",
            "csi_volumes::whose_driver_is_gone_are_waited_for",
            "csi_volumes::outlive_a_kubelet_that_is_killed",
            "csi_attacher::keeps_the_data_of_a_stateful_set",
            "csi_growth::is_followed_by_the_node",
            "csi_uses::of_one_pod_are_refused_to_others",
            "csi_uses::of_claims_of_their_own_need_them",
            "image_volumes::show_what_is_in_them",
            "image_volumes::that_cannot_be_pulled_keep_back_who_mounts_them",
            "registry::pull_secrets_open_volumes",
            "trust_bundles::reach_the_volume",
            "pod_certificates::reach_the_volume",
        ],
        missing: "of CSI block volumes; iSCSI, Fibre \
                  Channel, FlexVolume, mounts with an SELinux context",
    },
    Row {
        area: "node",
        there: "registration, addresses, status with pressure conditions, lease, labels and taints, the iptables chains others \
                rely on, events about processes that the kernel killed for want of memory, eviction of pods when memory, disk, inodes or \
                process ids run short",
        proofs: &[
            "node_object::is_the_one_upstream_writes",
            "node_object::tells_what_happens_to_it",
            "node_object::shows_images_that_others_bring",
            "addresses::node_of_both_families",
            "addresses::of_name_and_default_route_are_found_anew",
            "packet_rules::come_back_after_a_flush",
            "memory::that_ran_out_is_told",
            "eviction::of_who_fills_the_disk",
            "eviction::of_who_uses_up_inodes",
            "eviction::of_who_eats_memory",
            "eviction::of_who_forks",
        ],
        missing: "graceful shutdown, hints of the kernel that memory runs short",
    },
    Row {
        area: "credentials",
        there: "TLS bootstrap, rotation of the client certificate, serving certificates signed by the cluster, files \
                that are replaced, tokens, exec plugins, proxies by HTTP, HTTPS and SOCKS 5; dead connections are \
                replaced",
        proofs: &[
            "identity::a_token_becomes_a_certificate",
            "identity::client_certificate_is_rotated",
            "identity::serving_certificate_is_signed_by_the_cluster",
            "identity::dead_connection_is_replaced",
            "certificates::are_read_again_when_they_change",
        ],
        missing: "",
    },
    Row {
        area: "resources",
        there: "QoS and pod cgroups, cgroup v1 and v2, with the cgroupfs driver or, as kubeadm sets a node up, with \
                systemd's; node allocatable and reserved cgroups enforced (systemd's driver was compared with \
                upstream's on Debian 12 with systemd 252; the tests that come along have no systemd); memory \
                protected and limited by QoS class",
        proofs: &[
            "containers::resources_reach_the_cgroup",
            "containers::memory_limit_kills",
            "gates::room_is_what_the_node_says",
        ],
        missing: "static CPU, memory and topology policies, device plugins, DRA, the pod-resources socket",
    },
    Row {
        area: "stats",
        there: "`/stats/summary`, `/metrics/resource` and `/metrics/cadvisor` with everything upstream shows, from \
                control groups of both versions, from CSI drivers for their volumes, from the runtime (writable layers, images; pods too with the gate \
                `PodAndContainerStatsFromCRI`) and from file systems, whose use is added up in the background; read \
                only when somebody asks",
        proofs: &[
            "stats::summary_and_resource_metrics",
            "csi_usage::of_claims_is_told_by_their_driver",
            "cadvisor::families_labels_and_values",
            "clients::kubectl_top_shows_nodes_and_pods",
        ],
        missing: "the health of volumes that drivers tell",
    },
    Row {
        area: "server",
        there: "TLS, client certificates and webhook; health, pods, configz, logs, exec, attach, port-forward, the \
                machine's logs and log query, checkpoints, profiles, `/flagz`, `/statusz`, `/metrics` as text and \
                protobuf; compared with upstream's kubelet in more than a thousand requests; the Pods API",
        proofs: &[
            "http_api::answer_as_upstreams",
            "streams::logs",
            "streams::exec",
            "streams::attach",
            "streams::port_forward",
            "terminals::exec",
            "pods_api::tells_a_pods_life",
            "floods::strangers_change_nothing",
        ],
        missing: "",
    },
    Row { area: "platform", there: "Linux", proofs: &["node::reports_itself"], missing: "Windows" },
];

/// Areas whose tests are not among those that are `known`, in words.
pub(crate) fn unproven(known: &[&str]) -> Vec<String> {
    let unknown = |row: &Row| {
        let unknown: Vec<_> = row.proofs.iter().filter(|proof| !known.contains(*proof)).copied().collect();
        let is_bare = row.proofs.is_empty() || !unknown.is_empty();
        is_bare
            .then(|| format!("README: no end-to-end test shows {:?}; there is none of {unknown:?}", row.area))
    };
    ROWS.iter().filter_map(unknown).collect()
}

const HEAD: &str = "| area | there | not yet |\n|---|---|---|\n";

/// The table as Markdown.
fn table() -> String {
    let mut table = HEAD.to_owned();
    for Row { area, there, missing, .. } in ROWS {
        let missing = if missing.is_empty() { " ".to_owned() } else { format!(" {missing} ") };
        table.push_str(&format!("| {area} | {there} |{missing}|\n"));
    }
    table
}

/// The README with the table in the place of the one it has; `None` if it has none.
pub(crate) fn renewed(readme: &str) -> Option<String> {
    let (before, rest) = readme.split_once(HEAD)?;
    let after: String =
        rest.lines().skip_while(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
    Some(format!("{before}{}{after}", table()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_an_old_one() {
        let old = format!("# Title\n\n{HEAD}| x | y | z |\n\nThe end.\n");
        let new = renewed(&old).unwrap();
        assert_eq!(new, format!("# Title\n\n{}\nThe end.\n", table()));
        assert_eq!(renewed(&new), Some(new.clone()));
        assert_eq!(renewed("no table\n"), None);
    }

    #[test]
    fn cells_do_not_break_the_table() {
        assert!(table().lines().all(|line| line.matches('|').count() == 4));
    }
}
