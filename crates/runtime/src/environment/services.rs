//! Variables that tell a container where services are, in the form of old Docker links
//! (<https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables>).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

/// The API server's own service; every pod is told of it.
const MASTER_NAMESPACE: &str = "default";
const MASTER_NAME: &str = "kubernetes";

/// Variables for the services of `namespace` (when the pod wants links) and for the API server.
/// A service named `kubernetes` in the pod's own namespace outranks the API server's.
pub(super) fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut chosen = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        if home == MASTER_NAMESPACE && name == MASTER_NAME {
            chosen.entry(name).or_insert(service);
        } else if home == namespace && links {
            chosen.insert(name, service);
        }
    }
    let mut variables = BTreeMap::new();
    for (name, service) in chosen {
        add(&mut variables, name, service);
    }
    variables
}

fn add(variables: &mut BTreeMap<String, String>, name: &str, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let Some(ports) = spec.ports.as_deref().filter(|ports| !ports.is_empty()) else { return };
    let prefix = variable_name(name);
    let address = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    for (index, port) in ports.iter().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP");
        let url = format!("{}://{address}:{number}", protocol.to_lowercase());
        if index == 0 {
            variables.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
            variables.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), number.to_string());
        }
        let port_prefix = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        variables.insert(port_prefix.clone(), url);
        variables.insert(format!("{port_prefix}_PROTO"), protocol.to_lowercase());
        variables.insert(format!("{port_prefix}_PORT"), number.to_string());
        variables.insert(format!("{port_prefix}_ADDR"), ip.to_owned());
    }
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}
