//! Where a probe goes: host and port from the action, the pod and the container's ports.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Why an action names no reachable place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// The container has no port of that name.
    #[error("port {0:?} not found")]
    UnknownPort(String),
    /// Not a TCP port.
    #[error("invalid port number: {0}")]
    InvalidPort(i32),
    /// The action names no host and the pod has no address yet.
    #[error("pod has no IP address")]
    NoAddress,
}

/// The host (the pod's address unless the action names one) and port to connect to.
pub(crate) fn host_and_port(
    host: Option<&str>,
    port: &IntOrString,
    pod_ip: Option<IpAddr>,
    container: &Container,
) -> Result<(String, u16), TargetError> {
    let port = container_port(port, container)?;
    Ok((host_or_pod(host, pod_ip)?, port))
}

/// The action's host or the pod's address.
pub(crate) fn host_or_pod(host: Option<&str>, pod_ip: Option<IpAddr>) -> Result<String, TargetError> {
    match host.filter(|h| !h.is_empty()) {
        Some(host) => Ok(host.to_owned()),
        None => pod_ip.map(|ip| ip.to_string()).ok_or(TargetError::NoAddress),
    }
}

/// A number in 1..=65535.
pub(crate) fn port_number(number: i32) -> Result<u16, TargetError> {
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or(TargetError::InvalidPort(number))
}

fn container_port(port: &IntOrString, container: &Container) -> Result<u16, TargetError> {
    match port {
        IntOrString::Int(number) => port_number(*number),
        IntOrString::String(name) => {
            let ports = container.ports.as_deref().unwrap_or_default();
            let named = ports.iter().find(|p| p.name.as_deref() == Some(name));
            port_number(named.ok_or_else(|| TargetError::UnknownPort(name.clone()))?.container_port)
        }
    }
}
