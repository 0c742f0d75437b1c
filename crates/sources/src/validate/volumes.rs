//! Rules about volumes and about how containers mount them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, Volume, VolumeMount,
};
use model::Quantity;
use model::json::to_tree;

use super::{Report, is_label};

/// The volumes of a pod, by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

pub(super) fn check<'a>(volumes: &'a [Volume], report: &mut Report) -> Volumes<'a> {
    let mut all = Volumes::new();
    for (index, volume) in volumes.iter().enumerate() {
        let field = format!("spec.volumes[{index}]");
        report.require(
            is_label(&volume.name),
            format!("{field}.name"),
            format!("{:?} is not a DNS-1123 label", volume.name),
        );
        report.require(
            all.insert(volume.name.as_str(), volume).is_none(),
            format!("{field}.name"),
            format!("{:?} is there twice", volume.name),
        );
        if let Some(source) = &volume.host_path {
            check_host_path(source, &field, report);
        }
        if let Some(source) = &volume.empty_dir {
            check_empty_dir(source, &format!("{field}.emptyDir"), report);
        }
        check_files(volume, &field, report);
        let sources = to_tree(volume).ok().and_then(|value| value.as_object().map(serde_json::Map::len));
        report.require(sources.unwrap_or(2) <= 2, field, "may have one source only");
    }
    all
}

fn check_host_path(source: &HostPathVolumeSource, field: &str, report: &mut Report) {
    const KINDS: [&str; 8] =
        ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
    report.require(!source.path.is_empty(), format!("{field}.hostPath.path"), "required");
    let has_dots = source.path.split('/').any(|part| part == "..");
    report.require(!has_dots, format!("{field}.hostPath.path"), "must not contain '..'");
    report.one_of(source.type_.as_deref(), &KINDS, format!("{field}.hostPath.type"));
}

fn check_empty_dir(source: &EmptyDirVolumeSource, field: &str, report: &mut Report) {
    let is_amount = source
        .size_limit
        .as_ref()
        .is_none_or(|limit| Quantity::from_api(limit).is_some_and(|limit| limit >= Quantity::from_units(0)));
    report.require(is_amount, format!("{field}.sizeLimit"), "is not an amount");
    let is_mode = source.mode.is_none_or(|mode| (0..=0o1777).contains(&mode));
    report.require(is_mode, format!("{field}.mode"), "must be between 0 and 01777 (octal)");
}

/// Modes and owners of the files that are written for a static pod: what is not here refers to the API server.
fn check_files(volume: &Volume, field: &str, report: &mut Report) {
    let check = |report: &mut Report, field: &str, mode: (&str, Option<i32>), user: (&str, Option<i64>)| {
        let is_mode = mode.1.is_none_or(|mode| (0..=0o777).contains(&mode));
        report.require(is_mode, format!("{field}.{}", mode.0), "must be between 0 and 0777 (octal)");
        let is_user = user.1.is_none_or(|user| (0..=i64::from(i32::MAX)).contains(&user));
        report.require(is_user, format!("{field}.{}", user.0), "must be between 0 and 2147483647");
    };
    let check_items = |report: &mut Report, field: &str, items: &[DownwardAPIVolumeFile]| {
        for (index, item) in items.iter().enumerate() {
            check(report, &format!("{field}.items[{index}]"), ("mode", item.mode), ("user", item.user));
        }
    };
    if let Some(source) = &volume.downward_api {
        let field = format!("{field}.downwardAPI");
        let user = ("defaultUser", source.default_user);
        check(report, &field, ("defaultMode", source.default_mode), user);
        check_items(report, &field, source.items.as_deref().unwrap_or_default());
    }
    if let Some(source) = &volume.projected {
        let field = format!("{field}.projected");
        let user = ("defaultUser", source.default_user);
        check(report, &field, ("defaultMode", source.default_mode), user);
        for (index, part) in source.sources.iter().flatten().enumerate() {
            let items = part.downward_api.as_ref().and_then(|part| part.items.as_deref());
            check_items(report, &format!("{field}.sources[{index}].downwardAPI"), items.unwrap_or_default());
        }
    }
}

pub(super) fn check_mounts(container: &Container, field: &str, volumes: &Volumes<'_>, report: &mut Report) {
    let mut mounts = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        report.require(
            volumes.contains_key(mount.name.as_str()),
            format!("{field}.name"),
            format!("no volume is named {:?}", mount.name),
        );
        report.require(!mount.mount_path.is_empty(), format!("{field}.mountPath"), "required");
        report.require(
            mounts.insert(&mount.mount_path),
            format!("{field}.mountPath"),
            format!("{:?} is there twice", mount.mount_path),
        );
        check_sub_path(mount, &field, report);
        check_propagation(mount, container, &field, report);
        let is_image = volumes.get(mount.name.as_str()).is_some_and(|volume| volume.image.is_some());
        check_options(mount, is_image, &field, report);
    }
}

fn check_sub_path(mount: &VolumeMount, field: &str, report: &mut Report) {
    let (fixed, expanded) = (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref());
    for (name, path) in [("subPath", fixed), ("subPathExpr", expanded)] {
        let path = path.unwrap_or_default();
        let escapes = path.starts_with('/') || path.split('/').any(|part| part == "..");
        report.require(!escapes, format!("{field}.{name}"), "must be a relative path without '..'");
    }
    let is_set = |path: Option<&str>| path.is_some_and(|path| !path.is_empty());
    report.require(
        !is_set(fixed) || !is_set(expanded),
        format!("{field}.subPathExpr"),
        "may not be set beside subPath",
    );
}

fn check_propagation(mount: &VolumeMount, container: &Container, field: &str, report: &mut Report) {
    let propagation = mount.mount_propagation.as_deref();
    report.one_of(
        propagation,
        &["Bidirectional", "HostToContainer", "None"],
        format!("{field}.mountPropagation"),
    );
    let context = container.security_context.as_ref();
    let is_privileged = context.and_then(|context| context.privileged) == Some(true);
    report.require(
        propagation != Some("Bidirectional") || is_privileged,
        format!("{field}.mountPropagation"),
        "\"Bidirectional\" is for privileged containers only",
    );
    let recursive = mount.recursive_read_only.as_deref();
    let field = format!("{field}.recursiveReadOnly");
    report.one_of(recursive, &["Disabled", "Enabled", "IfPossible"], field.clone());
    if matches!(recursive, Some("Enabled" | "IfPossible")) {
        report.require(mount.read_only == Some(true), field.clone(), "needs readOnly");
        report.require(
            propagation.is_none_or(|propagation| propagation == "None"),
            field,
            "does not go together with mount propagation",
        );
    }
}

fn check_options(mount: &VolumeMount, is_image: bool, field: &str, report: &mut Report) {
    let mut options = BTreeSet::new();
    for (index, option) in mount.bind_mount_options.iter().flatten().enumerate() {
        let field = format!("{field}.bindMountOptions[{index}]");
        report.one_of(Some(option), &["nodev", "noexec", "nosuid"], field.clone());
        report.require(options.insert(option), field, format!("{option:?} is there twice"));
    }
    report.require(
        options.is_empty() || !is_image,
        format!("{field}.bindMountOptions"),
        "not allowed for an image volume",
    );
}
