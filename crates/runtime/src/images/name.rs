//! Image names as users write them (<https://kubernetes.io/docs/concepts/containers/images/#image-names>).

/// A name that is none: reason `InvalidImageName`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {problem}")]
pub struct ImageNameError {
    image: String,
    problem: &'static str,
}

/// Longest repository name, registry included.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name with tag `latest` when it has neither tag nor digest; otherwise as it is.
///
/// # Errors
/// When no registry could have such an image.
pub fn normalize(image: &str) -> Result<String, ImageNameError> {
    let invalid = |problem| ImageNameError { image: image.to_owned(), problem };
    if image.len() == 64 && image.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(invalid("cannot specify 64-byte hexadecimal strings as a repository name"));
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash belongs to the registry's port.
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[last..].find(':') {
        Some(at) => (&name[..last + at], Some(&name[last + at + 1..])),
        None => (name, None),
    };
    let (domain, path) = split_domain(repository);
    let is_fine = domain.is_none_or(is_domain)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    if !is_fine {
        let lower = path.to_lowercase();
        let is_case = path != lower && lower.split('/').all(is_component);
        return Err(invalid(if is_case {
            "repository name must be lowercase"
        } else {
            "invalid reference format"
        }));
    }
    if repository.len() > MAX_NAME {
        return Err(invalid("repository name must not be more than 255 characters"));
    }
    if tag.is_none() && digest.is_none() { Ok(format!("{image}:latest")) } else { Ok(image.to_owned()) }
}

/// An image's name without tag and digest.
pub(super) fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    }
}

/// The first part is a registry when it looks like a host, as Docker decides it.
fn split_domain(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase() =>
        {
            (Some(first), rest)
        }
        _ => (None, repository),
    }
}

fn is_domain(domain: &str) -> bool {
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((ip, port)) = rest.split_once(']') else { return false };
        return ip.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
    }
    let (host, port) = match domain.find(':') {
        Some(at) => domain.split_at(at),
        None => (domain, ""),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && (port.is_empty() || is_port(port))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case words joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separator = String::new();
    if !component.starts_with(is_word) || !component.ends_with(is_word) {
        return false;
    }
    for c in component.chars() {
        if is_word(c) {
            let is_joint =
                matches!(&*separator, "" | "." | "_" | "__") || separator.chars().all(|c| c == '-');
            if !is_joint {
                return false;
            }
            separator.clear();
        } else if matches!(c, '.' | '_' | '-') {
            separator.push(c);
        } else {
            return false;
        }
    }
    true
}

fn is_tag(tag: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.starts_with(is_first)
        && tag.len() <= MAX_TAG
        && tag.chars().all(|c| is_first(c) || c == '.' || c == '-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_no_tag() {
        for (image, repository_) in [
            ("docker.io/library/busybox:1.36", "docker.io/library/busybox"),
            ("r.example:5000/a", "r.example:5000/a"),
            ("r.example:5000/a:1", "r.example:5000/a"),
            ("r.example/a@sha256:00", "r.example/a"),
            ("r.example/a:1@sha256:00", "r.example/a"),
        ] {
            assert_eq!(repository(image), repository_);
        }
    }

    #[test]
    fn adds_the_default_tag_and_refuses_nonsense() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, expect) in [
            ("busybox", Some("busybox:latest".to_owned())),
            ("busybox:1", Some("busybox:1".to_owned())),
            ("host:5000/a/b", Some("host:5000/a/b:latest".to_owned())),
            ("localhost/a", Some("localhost/a:latest".to_owned())),
            ("Registry.example.com/a__b-c.d", Some("Registry.example.com/a__b-c.d:latest".to_owned())),
            ("[::1]:5000/a:b", Some("[::1]:5000/a:b".to_owned())),
            (&format!("a@{digest}"), Some(format!("a@{digest}"))),
            (&format!("a:b@{digest}"), Some(format!("a:b@{digest}"))),
            ("", None),
            ("Busybox", None),
            ("a//b", None),
            ("a b", None),
            ("a:", None),
            ("a:-x", None),
            ("a@sha256:12", None),
            ("a___b", None),
            ("a..b", None),
            ("-a", None),
            ("/a", None),
            ("a/", None),
            (&"f".repeat(64), None),
            (&format!("x/{}", "a".repeat(255)), None),
        ] {
            assert_eq!(normalize(image).ok(), expect, "{image}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let text = normalize("Foo").unwrap_err().to_string();
        assert_eq!(
            text,
            "Failed to apply default image tag \"Foo\": couldn't parse image name \"Foo\": \
             repository name must be lowercase"
        );
    }
}
