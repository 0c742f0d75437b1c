//! Whether a pod may set the kernel parameters it wants to.
//!
//! A parameter is safe when it belongs to the pod's own namespaces and does not reach other pods;
//! others must be allowed by configuration.

use model::Pod;
use model::reason::Refusal;
use model::sysctl::{Namespace, namespace_of, with_dots};

use super::{AdmissionContext, Rejection};

/// The safe ones, each with the first kernel that has it in a namespace.
const SAFE: [(&str, (u32, u32)); 14] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
    ("net.ipv4.tcp_slow_start_after_idle", (4, 15)),
    ("net.ipv4.tcp_notsent_lowat", (4, 6)),
];

pub(super) fn check(pod: &Pod, ctx: &AdmissionContext<'_>) -> Result<(), Rejection> {
    let Some(spec) = pod.spec.as_ref() else { return Ok(()) };
    let sysctls = spec.security_context.as_ref().and_then(|c| c.sysctls.as_deref()).unwrap_or_default();
    let is_of_host = |namespace| match namespace {
        Namespace::Ipc => spec.host_ipc.unwrap_or(false),
        Namespace::Net => spec.host_network.unwrap_or(false),
        // Sharing the host's users is the default.
        Namespace::User => spec.host_users.unwrap_or(true),
        Namespace::Uts => false,
    };
    for sysctl in sysctls {
        let name = with_dots(&sysctl.name);
        let Some(namespace) = allowed(&name, ctx) else {
            return Err(forbidden(format!("{name:?} not allowlisted")));
        };
        if is_of_host(namespace) {
            return Err(forbidden(format!("{name:?} not allowed with host {} enabled", name_of(namespace))));
        }
    }
    Ok(())
}

fn forbidden(why: String) -> Rejection {
    Rejection::new(Refusal::SysctlForbidden, format!("forbidden sysctl: {why}"))
}

/// The namespace of a parameter that pods may set; `None` for one they may not.
fn allowed(name: &str, ctx: &AdmissionContext<'_>) -> Option<Namespace> {
    let kernel = kernel_version(&ctx.machine.kernel_version);
    let is_safe = SAFE.iter().any(|(safe, since)| *safe == name && kernel >= *since);
    if is_safe {
        return namespace_of(name);
    }
    ctx.settings.allowed_unsafe_sysctls.iter().find_map(|pattern| {
        let pattern = with_dots(pattern);
        let (start, is_match) = match pattern.split_once('*') {
            Some((prefix, _)) => (prefix, name.starts_with(prefix)),
            None => (pattern.as_str(), name == pattern),
        };
        if is_match { namespace_of(start) } else { None }
    })
}

/// How a message names it.
fn name_of(namespace: Namespace) -> &'static str {
    match namespace {
        Namespace::Ipc => "IPC",
        Namespace::Net => "Net",
        Namespace::Uts => "UTS",
        Namespace::User => "User",
    }
}

/// Major and minor version; zero when it cannot be read, which no bounded parameter accepts.
fn kernel_version(text: &str) -> (u32, u32) {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}
