//! Which plugins are taken. Texts are upstream's, since plugins print them.

use golang::quote::quoted;

use super::version::{self, Version};
use crate::effect::PluginInfo;

/// The type of CSI drivers.
pub(super) const CSI: &str = "CSIPlugin";
/// Types that upstream's kubelet takes and this one does not yet.
const NOT_YET: [&str; 2] = ["DevicePlugin", "DRAPlugin"];

/// What it says of itself is in order: the version it is spoken to in. `known` is the highest version of another driver of
/// that name.
///
/// # Errors
/// Why it is not taken.
pub(super) fn validate(info: &PluginInfo, socket: &str, known: Option<&Version>) -> Result<Version, String> {
    let PluginInfo { kind, name, endpoint, versions } = info;
    if NOT_YET.contains(&kind.as_str()) {
        return Err(format!(
            "RegisterPlugin error -- this kubelet does not support plugins of type {kind} yet: {name} at socket {socket}"
        ));
    }
    if kind != CSI {
        return Err(format!(
            "RegisterPlugin error -- no handler registered for plugin type: {kind} at socket {socket}"
        ));
    }
    supported(name, versions, known).map_err(|error| {
        let endpoint = if endpoint.is_empty() { socket } else { endpoint };
        format!(
            "RegisterPlugin error -- plugin validation failed with err: validation failed for CSI Driver {name} at endpoint \
             {endpoint}: kubernetes.io/csi: ValidatePlugin for CSI driver {} failed. {error}",
            quoted(name)
        )
    })
}

fn supported(name: &str, versions: &[String], known: Option<&Version>) -> Result<Version, String> {
    if name.is_empty() {
        return Err("driver name is empty".to_owned());
    }
    if versions.is_empty() {
        return Err("Plugin returned an empty list for supported versions".to_owned());
    }
    let highest = version::highest_supported(versions).map_err(|error| {
        let all: Vec<String> = versions.iter().map(|version| quoted(version)).collect();
        format!("None of the versions specified [{}] are supported. err={error}", all.join(" "))
    })?;
    compare(&highest, known)?;
    Ok(highest)
}

/// The same once more when a driver is to be registered: it is spoken to in this version.
///
/// # Errors
/// Another one of that name is not below it.
pub(super) fn is_higher(name: &str, version: &Version, known: Option<&Version>) -> Result<(), String> {
    compare(version, known).map_err(|error| {
        format!("kubernetes.io/csi: RegisterPlugin for CSI driver {} failed. {error}", quoted(name))
    })
}

fn compare(version: &Version, known: Option<&Version>) -> Result<(), String> {
    let Some(known) = known.filter(|known| *known >= version) else { return Ok(()) };
    let known = quoted(&known.to_string());
    Err(format!(
        "Another driver with the same name is already registered with a higher supported version: {known}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(kind: &str, name: &str, versions: &[&str], known: Option<&str>) -> Result<String, String> {
        let versions = versions.iter().map(|version| (*version).to_owned()).collect();
        let info =
            PluginInfo { kind: kind.to_owned(), name: name.to_owned(), endpoint: String::new(), versions };
        let known = known.map(|known| version::highest_supported(&[known.to_owned()]).unwrap());
        validate(&info, "/r/a.sock", known.as_ref()).map(|version| version.to_string())
    }

    #[test]
    fn drivers_are_taken_in_their_highest_version_and_others_are_told_why_not() {
        let invalid = |why: &str| {
            Err(format!(
                "RegisterPlugin error -- plugin validation failed with err: validation failed for CSI Driver d at endpoint \
                 /r/a.sock: kubernetes.io/csi: ValidatePlugin for CSI driver \"d\" failed. {why}"
            ))
        };
        let another = |version: &str| {
            invalid(&format!(
                "Another driver with the same name is already registered with a higher supported version: \"{version}\""
            ))
        };
        for (kind, versions, known, expected) in [
            (CSI, &["1.0.0", "0.3"][..], None, Ok("1.0.0".to_owned())),
            (CSI, &["1.1.0"], Some("1.0.0"), Ok("1.1.0".to_owned())),
            (CSI, &["1.0.0"], Some("1.0.0"), another("1.0.0")),
            (CSI, &["1.0.0"], Some("1.2"), another("1.2")),
            (CSI, &[], None, invalid("Plugin returned an empty list for supported versions")),
            (
                CSI,
                &["2.0.0", "x"],
                None,
                invalid(
                    "None of the versions specified [\"2.0.0\" \"x\"] are supported. err=could not find a highest supported \
                     version from versions ([2.0.0 x]) reported: could not parse \"x\" as version",
                ),
            ),
            (
                "Nothing",
                &["1.0.0"],
                None,
                Err("RegisterPlugin error -- no handler registered for plugin type: Nothing at socket /r/a.sock".into()),
            ),
            (
                "DevicePlugin",
                &["v1beta1"],
                None,
                Err("RegisterPlugin error -- this kubelet does not support plugins of type DevicePlugin yet: d at socket \
                     /r/a.sock"
                    .into()),
            ),
        ] {
            assert_eq!(judged(kind, "d", versions, known), expected, "{kind} {versions:?} {known:?}");
        }
        assert!(judged(CSI, "", &["1.0.0"], None).unwrap_err().ends_with("driver name is empty"));
    }
}
