//! End-to-end tests of a kubelet on a real cluster: `cargo xtask test`.
//!
//! One cluster serves all scenarios. Each has a namespace of its own ([`scene::Scene`]); those that leave the node
//! alone run side by side, those that stop a program of it run one after another. Whatever a scenario waits for is
//! watched, with a deadline.

mod addresses;
mod cadvisor;
mod certificates;
mod clients;
mod configuration;
mod containers;
mod copies;
mod csi;
mod csi_attacher;
mod csi_growth;
mod csi_sanity;
mod csi_usage;
mod csi_uses;
mod csi_volumes;
mod debugging;
mod disruption;
mod environment;
mod eviction;
mod explain;
mod failures;
mod floods;
mod folders;
mod gates;
mod http_api;
mod identity;
mod image_gc;
mod image_volumes;
mod init;
mod lifecycle;
mod many_streams;
mod memory;
mod node;
mod node_object;
mod node_volumes;
mod packet_rules;
mod pod_certificates;
mod pods_api;
mod pods_from_url;
mod probes;
mod recordings;
mod registration;
mod registry;
mod restarts;
mod reviews;
mod rotation;
mod runner;
mod sandboxes;
mod scene;
mod second_node;
mod startup;
mod state_files;
mod static_pods;
mod stats;
mod streams;
mod terminals;
mod traces;
mod trust_bundles;
mod volumes;
mod vulnerabilities;
mod web;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;

use crate::cluster::{Cluster, Paths};
use runner::{Effect, Scenario};

/// Lists scenarios under the names of their functions.
macro_rules! scenarios {
    ($($effect:ident $theme:ident :: $name:ident,)*) => {
        vec![$(Scenario {
            name: concat!(stringify!($theme), "::", stringify!($name)),
            effect: Effect::$effect,
            run: |scene| Box::pin($theme::$name(scene)),
        },)*]
    };
}

fn all() -> Vec<Scenario> {
    scenarios![
        // Slow ones first: they wait for back-off or for the kubelet's own period.
        Calm packet_rules::come_back_after_a_flush,
        Calm stats::summary_and_resource_metrics,
        Calm static_pods::deleted_mirror_comes_back,
        Calm restarts::failing_container_backs_off,
        Calm configuration::update_reaches_the_volume,
        Calm failures::missing_image_is_reported_and_retried,
        Calm failures::missing_secret_volume_is_mounted_once_created,
        CalmButStricter failures::every_missing_volume_is_told,
        Calm failures::volume_without_a_plugin_is_told,
        Calm folders::outlive_the_end_of_their_pod,
        Calm failures::missing_config_map_is_reported_and_recovers,
        Calm failures::missing_command_is_a_start_error,
        Calm failures::image_that_may_not_be_pulled,
        Calm failures::pod_that_does_not_fit_is_rejected,
        Calm gates::apparmor_needs_a_host_with_it,
        Calm failures::every_wait_is_explained,
        CalmButStricter explain::image_that_does_not_exist,
        CalmButStricter explain::missing_config_map,
        CalmButStricter explain::full_node,
        CalmButStricter explain::busy_unmount,
        Calm registry::pull_secrets_open_it,
        Calm sandboxes::dead_ones_are_replaced_and_free_what_they_held,
        Calm init::sidecars_hooks_run_at_the_start_of_the_end,
        Calm restarts::changed_image_is_run_whatever_the_policy,
        Calm restarts::failed_liveness_asks_the_policy_not_the_exit_code,
        Calm restarts::rule_restarts_all_containers,
        Calm lifecycle::pod_runs_and_is_deleted_gracefully,
        Calm lifecycle::pre_stop_hook_runs_first,
        Calm lifecycle::post_start_hook_runs,
        Calm lifecycle::post_start_hook_holds_the_next_container_back,
        Calm lifecycle::failed_post_start_hook_tells_no_secret,
        Calm lifecycle::finished_pods_report_exit_code_and_message,
        Calm lifecycle::deadline_ends_a_pod,
        Calm lifecycle::forced_deletion_removes_the_container,
        Calm containers::security_context_is_applied,
        Calm containers::memory_limit_kills,
        Calm containers::resources_reach_the_cgroup,
        Calm containers::host_network_and_names,
        Calm containers::a_resize_is_done_only_when_it_is_made,
        Calm containers::users_of_a_user_namespace_are_others_outside,
        Calm environment::config_maps_secrets_and_fields,
        Calm environment::host_network_pods_have_the_nodes_addresses,
        Calm environment::variables_from_files,
        Calm volumes::show_their_content,
        Calm volumes::empty_dir_is_shared_and_belongs_to_the_group,
        Calm volumes::sub_paths_and_host_paths,
        Calm node_volumes::of_folders_are_bound_for_each_pod,
        Calm node_volumes::that_cannot_be_had_say_why,
        Calm node_volumes::that_are_paths_are_shown_as_they_are,
        Calm trust_bundles::reach_the_volume,
        Calm trust_bundles::are_waited_for,
        Calm pod_certificates::reach_the_volume,
        Calm pod_certificates::that_are_refused_say_so,
        Calm image_volumes::show_what_is_in_them,
        Calm image_volumes::that_cannot_be_pulled_keep_back_who_mounts_them,
        Calm image_volumes::say_what_is_wrong_with_them,
        Calm image_volumes::that_nobody_mounts_hold_up_nobody,
        CalmButStricter image_volumes::that_are_missing_are_explained,
        Calm registry::pull_secrets_open_volumes,
        Calm restarts::on_failure_stops_after_success,
        Calm probes::liveness_restarts,
        Calm probes::readiness_flips,
        Calm probes::startup_holds_the_others_back,
        Calm probes::http_tcp_and_grpc,
        Calm probes::command_that_does_not_exist_is_told,
        Calm init::containers_run_in_order,
        Calm init::failure_fails_the_pod,
        Calm init::sidecar_starts_before_and_does_not_hold_up_the_end,
        Calm init::sidecar_ends_last,
        Calm static_pods::mirror_change_and_removal,
        Calm static_pods::mirror_of_an_edited_pod_stays_until_it_has_ended,
        Calm static_pods::removed_and_recreated_file_restarts_its_pod,
        Calm static_pods::backup_rewriting_and_renaming,
        Calm static_pods::broken_manifest_beside_a_good_one,
        Calm static_pods::reference_to_a_config_map_is_refused,
        Calm streams::logs,
        Calm streams::logs_of_the_previous_container,
        Calm streams::exec,
        Calm streams::attach,
        Calm streams::port_forward,
        Calm streams::port_forward_of_several_ports,
        Calm terminals::exec,
        Calm terminals::attach,
        Calm copies::go_both_ways,
        Calm debugging::container_in_a_pod,
        Calm debugging::pod_on_the_node,
        Calm cadvisor::families_labels_and_values,
        Calm clients::prometheus_reads_every_page,
        Calm pods_api::tells_a_pods_life,
        Calm state_files::say_what_pods_have,
        Calm node::reports_itself,
        Calm node::serves_pods_metrics_and_configuration,
        Calm node::changes_its_log_verbosity,
        Calm memory::that_ran_out_is_told,
        Calm node_object::pod_ranges_reach_the_runtime,
        Calm node_object::shows_images_that_others_bring,
        Calm vulnerabilities::user_of_the_image_is_kept_over_restarts,
        Calm vulnerabilities::git_repositories_are_refused,
        Calm vulnerabilities::a_filled_hosts_file_counts_against_its_pod,
        Stricter disruption::fifty_pods_outlive_stop_and_kill,
        Disturbing disruption::hung_runtime_call_holds_up_its_own_pod,
        Disturbing disruption::kubelet_restart_leaves_pods_alone,
        Stricter disruption::kubelet_restart_keeps_probed_pods_ready,
        Disturbing disruption::kubelet_restart_cuts_no_initial_delay_short,
        Stricter static_pods::kubelet_restart_leaves_their_status_alone,
        Stricter static_pods::removed_without_a_kubelet_is_told,
        Stricter disruption::takes_over_from_the_go_kubelet,
        Stricter disruption::hands_over_to_the_go_kubelet,
        Disturbing disruption::kubelet_killed_during_start_recovers,
        Disturbing disruption::kubelet_killed_during_deletion_finishes_it,
        Disturbing disruption::container_that_ends_while_the_kubelet_is_away,
        Disturbing disruption::pod_deleted_while_the_kubelet_is_away,
        Disturbing static_pods::run_without_an_api_server,
        Disturbing disruption::api_server_away_at_start,
        Disturbing disruption::api_server_away_for_a_while,
        Disturbing disruption::containerd_restart_leaves_pods_alone,
        Stricter disruption::damaged_files_do_not_stop_the_node,
        Stricter explain::hung_runtime_call,
        Stricter explain::behind_its_predecessor,
        Stricter explain::no_api_server_at_start,
        Stricter explain::state_file_that_cannot_be_written,
        Stricter identity::a_certificate_that_nobody_approves_is_explained,
        Disturbing identity::a_token_becomes_a_certificate,
        Disturbing identity::client_certificate_is_rotated,
        Disturbing identity::serving_certificate_is_signed_by_the_cluster,
        Disturbing identity::a_program_knows_the_credentials,
        Disturbing identity::a_name_alone_is_certified_with_its_gate,
        Disturbing certificates::are_read_again_when_they_change,
        Disturbing certificates::stay_without_their_gates,
        Disturbing certificates::name_uids_with_their_gate,
        Disturbing registry::a_program_opens_it,
        Disturbing registry::a_program_is_given_a_token_with_its_gate,
        Disturbing registry::what_a_secret_opened_stays_closed_to_others,
        Stricter registry::kubelets_read_each_others_records,
        Disturbing pods_from_url::come_change_and_go,
        Disturbing pods_api::is_not_there_without_its_gate,
        Disturbing rotation::follower_misses_nothing,
        Disturbing rotation::looks_no_oftener_than_configured,
        Disturbing reviews::are_kept_as_long_as_configured,
        Disturbing streams::idle_ones_are_closed,
        Disturbing containers::what_others_write_to_a_cgroup_is_told,
        Disturbing containers::the_signal_that_ends_one_can_be_chosen,
        Disturbing containers::a_resize_without_room_changes_nothing,
        Disturbing volumes::have_the_owners_and_modes_the_pod_names,
        Disturbing trust_bundles::are_not_there_without_their_gate,
        Disturbing pod_certificates::are_not_there_without_their_gate,
        Stricter image_volumes::are_named_in_the_status_with_their_gate,
        Disturbing image_gc::makes_room_and_leaves_what_is_used,
        Disturbing eviction::of_who_fills_the_disk,
        Disturbing eviction::of_who_uses_up_inodes,
        Disturbing eviction::of_who_eats_memory,
        Disturbing eviction::of_who_forks,
        Disturbing startup::drop_ins_change_the_configuration,
        Disturbing startup::lock_file_is_handed_over,
        Stricter startup::says_why_it_cannot_be_set_up,
        Disturbing startup::systemd_is_told,
        Disturbing probes::http2_and_grpc_over_tls_have_gates,
        Stricter gates::what_is_on_goes_when_turned_off,
        Stricter gates::without_the_event_stream,
        Stricter gates::what_is_off_comes_when_turned_on,
        Disturbing gates::what_they_hold_back_is_refused,
        Disturbing gates::room_is_what_the_node_says,
        Disturbing memory::is_held_back_from_lower_classes,
        Stricter memory::of_huge_pages_is_not_free,
        Disturbing memory::empty_resources_of_a_pod_and_its_class,
        Disturbing second_node::lists_in_chunks_with_their_gate,
        Disturbing second_node::pods_that_the_runtime_has_lost_start_anew,
        Disturbing second_node::a_refused_pull_tells_of_missing_secrets,
        Disturbing second_node::options_of_bind_mounts_with_their_gate,
        Disturbing second_node::what_pods_ask_of_the_runtime_reaches_it,
        Disturbing second_node::what_goes_wrong_before_a_start_is_told,
        Stricter csi::drivers_come_change_and_go,
        Stricter csi::one_that_is_not_had_holds_up_no_other,
        Stricter csi::room_is_asked_for_again,
        Stricter csi::the_object_is_the_one_upstream_writes,
        CalmButStricter csi_sanity::finds_a_driver,
        CalmButStricter csi_uses::that_are_to_be_published_again_are,
        Disturbing csi_attacher::keeps_the_data_of_a_stateful_set,
        Stricter csi_uses::of_one_pod_are_refused_to_others,
        Stricter csi_uses::of_claims_of_their_own_need_them,
        Stricter node_volumes::that_servers_export,
        Disturbing node_volumes::on_disks_outlive_a_kubelet_that_is_killed,
        Stricter csi_volumes::live_with_their_pods,
        Stricter csi_volumes::are_claimed_and_keep_what_is_written,
        Stricter csi_volumes::are_staged_once_for_all_pods,
        Stricter csi_volumes::that_are_only_read_and_those_of_a_group,
        Stricter csi_volumes::whose_driver_fails_are_told_and_tried_again,
        Stricter csi_volumes::whose_driver_hangs_hold_up_their_pods_only,
        Stricter csi_volumes::whose_driver_is_gone_are_waited_for,
        Stricter csi_volumes::outlive_a_kubelet_that_is_killed,
        Stricter csi_volumes::are_attached_before_anything_else,
        Stricter csi_volumes::change_hands_between_kubelets,
        Calm csi_growth::is_followed_by_the_node,
        Calm csi_usage::of_claims_is_told_by_their_driver,
        Stricter csi_volumes::of_pods_that_went_while_the_kubelet_was_away_are_taken_back,
        Disturbing traces::of_a_pods_start,
        Stricter traces::of_a_request_with_a_trace,
        Stricter many_streams::a_thousand_at_once,
        Stricter identity::expired_client_certificate_is_replaced_without_a_restart,
        Stricter identity::dead_connection_is_replaced,
        Disturbing clients::kubectl_top_shows_nodes_and_pods,
        Disturbing vulnerabilities::nothing_secret_is_in_the_most_verbose_log,
        Disturbing vulnerabilities::neighbours_cannot_reach_loopback_addresses,
        Stricter addresses::node_of_ipv6,
        Stricter addresses::node_of_both_families,
        Disturbing addresses::of_name_and_default_route_are_found_anew,
        Disturbing addresses::of_another_machine_are_not_reported,
        Disturbing node_object::tells_what_happens_to_it,
        Disturbing registration::of_a_node_that_may_not_create_itself,
        Stricter node_object::is_the_one_upstream_writes,
        Stricter folders::are_upstreams,
        Stricter state_files::outlive_sigkill,
        Stricter state_files::are_read_by_the_other_kubelet,
        Stricter state_files::damaged_one_is_set_aside,
        Stricter floods::strangers_change_nothing,
        Stricter http_api::answer_as_upstreams,
        Stricter http_api::tell_the_same_configuration,
    ]
}

/// The names of all of them.
pub(crate) fn names() -> Vec<&'static str> {
    all().into_iter().map(|scenario| scenario.name).collect()
}

/// Inside the cluster's namespaces: starts it, runs the scenarios, reports.
pub(crate) async fn inside(paths: Paths, filter: &[String]) -> Result<ExitCode> {
    let upstream = paths.kubelet == paths.peers.kubernetes("kubelet");
    let chosen: Vec<Scenario> = all()
        .into_iter()
        .filter(|scenario| !upstream || !scenario.effect.is_stricter())
        .filter(|scenario| {
            filter.is_empty() || filter.iter().any(|part| scenario.name.contains(part.as_str()))
        })
        .collect();
    eprintln!("==> start the cluster");
    let flags = if upstream { Vec::new() } else { vec![recordings::flag(&paths)] };
    let cluster = Arc::new(Cluster::start_with(paths, flags).await?);
    eprintln!("==> run {} end-to-end tests", chosen.len());
    let mut tally = runner::run(&cluster, chosen).await;
    if !upstream {
        runner::last(&mut tally, "recordings::replay_as_recorded", recordings::replay_as_recorded(&cluster))
            .await;
    }
    cluster.paths.write_result(&serde_json::json!({ "passed": tally.passed, "failed": tally.failed }))?;
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
