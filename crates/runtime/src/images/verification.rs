//! Which images are asked about at all, before anybody's credentials are
//! (<https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification>).

use config::ImageVerification;

use super::name::repository;

/// Whether a pod needs credentials for an image that is present. `image` is its name as the pod has it; `is_pulled`
/// tells that a kubelet brought it here.
pub(super) fn is_asked_for(verification: &ImageVerification, image: &str, is_pulled: bool) -> bool {
    match verification {
        ImageVerification::Never => false,
        ImageVerification::Pulled => is_pulled,
        ImageVerification::Unlisted(listed) => !listed.iter().any(|entry| covers(entry, repository(image))),
        ImageVerification::Always => true,
    }
}

fn covers(entry: &str, repository: &str) -> bool {
    match entry.strip_suffix('*') {
        Some(beginning) => repository.starts_with(beginning),
        None => entry == repository,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_asks_for_its_images() {
        let listed = || {
            let entries = ["r.example/team/*", "r.example:5000/one", "busybox"].map(str::to_owned);
            ImageVerification::Unlisted(entries.to_vec())
        };
        for (verification, image, is_pulled, is_asked) in [
            (ImageVerification::Never, "a", true, false),
            (ImageVerification::Pulled, "a", true, true),
            (ImageVerification::Pulled, "a", false, false),
            (ImageVerification::Always, "a", false, true),
            (listed(), "busybox", true, false),
            (listed(), "busybox:1.36", true, false),
            (listed(), "busybox@sha256:00", true, false),
            // As the pod wrote it, not as a registry would understand it.
            (listed(), "docker.io/library/busybox", false, true),
            (listed(), "r.example:5000/one:2", false, false),
            (listed(), "r.example:5000/one/more", false, true),
            (listed(), "r.example/team/a/b:1", false, false),
            (listed(), "r.example/team:1", false, true),
            (listed(), "r.example/teams/a", false, true),
        ] {
            assert_eq!(is_asked_for(&verification, image, is_pulled), is_asked, "{verification:?} {image}");
        }
    }
}
