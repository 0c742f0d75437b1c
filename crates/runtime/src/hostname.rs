//! A pod's host name and domain
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-hostname/>).

use model::{Pod, pod};

/// A host name may have this many characters.
const MAX_HOSTNAME: usize = 63;
/// The kernel's limit for a whole domain name in that place.
const MAX_FQDN: usize = 64;

/// A pod's name on its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHostname {
    /// The short name.
    pub name: String,
    /// The domain, or an empty text.
    pub domain: String,
}

/// A host name that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// A field holds no valid name.
    #[error("pod {field} {value:?} is not a valid DNS {kind}")]
    Invalid {
        /// `Hostname`, `Subdomain` or `HostnameOverride`.
        field: &'static str,
        /// What it holds.
        value: String,
        /// `label` or `subdomain`.
        kind: &'static str,
    },
    /// The whole domain name does not fit.
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
         ({MAX_FQDN} characters is the max, {} characters requested)", fqdn.len()
    )]
    TooLong {
        /// The name.
        fqdn: String,
    },
}

/// The pod's name and domain.
///
/// # Errors
/// When a field of the pod holds no valid name.
pub fn of(pod: &Pod, cluster_domain: &str) -> Result<PodHostname, HostnameError> {
    let key = pod::key(pod);
    let spec = pod.spec.as_ref();
    if let Some(wanted) = spec.and_then(|s| s.hostname_override.as_deref()) {
        check("HostnameOverride", wanted, "subdomain", is_subdomain)?;
        return Ok(PodHostname { name: cut("HostnameOverride", wanted)?, domain: String::new() });
    }
    let name = match spec.and_then(|s| s.hostname.as_deref()).filter(|h| !h.is_empty()) {
        Some(wanted) => {
            check("Hostname", wanted, "label", is_label)?;
            cut("Hostname", wanted)?
        }
        None => cut("name", &key.name)?,
    };
    let domain = match spec.and_then(|s| s.subdomain.as_deref()).filter(|d| !d.is_empty()) {
        Some(subdomain) => {
            check("Subdomain", subdomain, "label", is_label)?;
            format!("{subdomain}.{}.svc.{cluster_domain}", key.namespace)
        }
        None => String::new(),
    };
    Ok(PodHostname { name, domain })
}

impl PodHostname {
    /// What the kernel should call the pod: its short name, or all of it for pods that want that.
    ///
    /// # Errors
    /// When all of it is too long.
    pub fn for_kernel(self, pod: &Pod) -> Result<String, HostnameError> {
        let wants_fqdn = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn).unwrap_or(false);
        if !wants_fqdn || self.domain.is_empty() {
            return Ok(self.name);
        }
        let fqdn = format!("{}.{}", self.name, self.domain);
        if fqdn.len() > MAX_FQDN { Err(HostnameError::TooLong { fqdn }) } else { Ok(fqdn) }
    }
}

fn check(
    field: &'static str,
    value: &str,
    kind: &'static str,
    is_valid: fn(&str) -> bool,
) -> Result<(), HostnameError> {
    if is_valid(value) {
        Ok(())
    } else {
        Err(HostnameError::Invalid { field, value: value.to_owned(), kind })
    }
}

/// Cuts a long name; what remains must not end in a separator.
fn cut(field: &'static str, name: &str) -> Result<String, HostnameError> {
    if name.len() <= MAX_HOSTNAME {
        return Ok(name.to_owned());
    }
    let kept = name.get(..MAX_HOSTNAME).unwrap_or_default().trim_end_matches(['-', '.']);
    if kept.is_empty() {
        return Err(HostnameError::Invalid { field, value: name.to_owned(), kind: "label" });
    }
    Ok(kept.to_owned())
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label_of_any_length)
}

fn is_label(name: &str) -> bool {
    name.len() <= MAX_HOSTNAME && is_label_of_any_length(name)
}

fn is_label_of_any_length(label: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty() && label.bytes().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(spec: &str) -> Result<String, HostnameError> {
        let pod: Pod = serde_json::from_str(&format!(
            r#"{{"metadata": {{"name": "{}", "namespace": "ns"}}, "spec": {spec}}}"#,
            "pod-".repeat(20)
        ))
        .unwrap();
        of(&pod, "cluster.local").and_then(|h| h.for_kernel(&pod))
    }

    #[test]
    fn follows_the_pods_wishes() {
        let long = format!("{}pod", "pod-".repeat(15));
        for (spec, expect) in [
            (r#"{"containers": []}"#, Ok(&*long)),
            (r#"{"containers": [], "hostname": "web", "subdomain": "sub"}"#, Ok("web")),
            (
                r#"{"containers": [], "hostname": "web", "subdomain": "sub", "setHostnameAsFQDN": true}"#,
                Ok("web.sub.ns.svc.cluster.local"),
            ),
            (r#"{"containers": [], "hostname": "web", "setHostnameAsFQDN": true}"#, Ok("web")),
            (
                r#"{"containers": [], "hostname": "web", "hostnameOverride": "a.example.com"}"#,
                Ok("a.example.com"),
            ),
            (r#"{"containers": [], "hostname": "Web"}"#, Err(())),
            (r#"{"containers": [], "subdomain": "a.b"}"#, Err(())),
            (r#"{"containers": [], "subdomain": "sub", "setHostnameAsFQDN": true}"#, Err(())),
            (r#"{"containers": [], "hostnameOverride": "a..b"}"#, Err(())),
        ] {
            assert_eq!(name(spec).as_deref().map_err(|_| ()), expect, "{spec}");
        }
    }
}
