//! Image names as users write them (<https://kubernetes.io/docs/concepts/containers/images/#image-names>).

use std::borrow::Cow;

/// A name that is none: reason `InvalidImageName`, in the words of Docker's library of references, which people know from
/// upstream's events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {image:?}: {problem}")]
pub struct ImageNameError {
    image: String,
    problem: String,
}

/// The registry of names without one.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Longest name, bytes, without the registry.
const MAX_PATH: usize = 255;
/// Longest tag, bytes.
const MAX_TAG: usize = 128;
/// Fewest digits that make a digest of any algorithm.
const MIN_DIGEST_DIGITS: usize = 32;

/// The name with tag `latest` when it has neither tag nor digest; otherwise as it is.
///
/// # Errors
/// When no registry could have such an image.
pub fn normalize(image: &str) -> Result<String, ImageNameError> {
    match check(image) {
        Ok(is_bare) if is_bare => Ok(format!("{image}:latest")),
        Ok(_) => Ok(image.to_owned()),
        Err(problem) => Err(ImageNameError { image: image.to_owned(), problem }),
    }
}

/// Whether a good name has neither tag nor digest; or what is wrong with a bad one.
fn check(image: &str) -> Result<bool, String> {
    const MALFORMED: &str = "invalid reference format";
    if image.len() == 64 && image.bytes().all(is_lower_hex) {
        return Err(format!("invalid repository name ({image}), cannot specify 64-byte hexadecimal strings"));
    }
    let (domain, rest) = split_domain(image);
    let case = rest.split(':').next().unwrap_or_default();
    if case != case.to_lowercase() {
        return Err(format!("{MALFORMED}: repository name ({case}) must be lowercase"));
    }
    let (name, digest) = match rest.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (&*rest, None),
    };
    let (path, tag) = match name.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (name, None),
    };
    let is_formed = is_domain(domain)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    if !is_formed {
        return Err(MALFORMED.to_owned());
    }
    if path.len() > MAX_PATH {
        return Err(format!("repository name must not be more than {MAX_PATH} characters"));
    }
    digest.map_or(Ok(()), check_digest)?;
    Ok(tag.is_none() && digest.is_none())
}

/// An image's name without tag and digest.
pub(super) fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    }
}

/// The registry, and what it calls the image. The first part is a registry when it looks like a host, as Docker decides it, whose
/// own images are below `library`.
fn split_domain(image: &str) -> (&str, Cow<'_, str>) {
    let is_host =
        |first: &str| first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase();
    let (domain, rest) = match image.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, image),
    };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        (domain, Cow::Owned(format!("library/{rest}")))
    } else {
        (domain, Cow::Borrowed(rest))
    }
}

fn is_domain(domain: &str) -> bool {
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((ip, port)) = rest.split_once(']') else { return false };
        let is_ip = !ip.is_empty() && ip.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        return is_ip && (port.is_empty() || is_port(port));
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

/// Whether it looks like a digest: an algorithm of words joined by `-`, `_`, `+` or `.`, and hexadecimal digits.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, digits)) = digest.split_once(':') else { return false };
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(is_word)
        && digits.len() >= MIN_DIGEST_DIGITS
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether what looks like a digest is one that can be checked.
fn check_digest(digest: &str) -> Result<(), String> {
    let (algorithm, digits) = digest.split_once(':').unwrap_or((digest, ""));
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ if algorithm.bytes().any(|b| b.is_ascii_uppercase()) => {
            return Err("invalid checksum digest format".to_owned());
        }
        _ => return Err("unsupported digest algorithm".to_owned()),
    };
    if digits.len() != length {
        return Err("invalid checksum digest length".to_owned());
    }
    if !digits.bytes().all(is_lower_hex) {
        return Err("invalid checksum digest format".to_owned());
    }
    Ok(())
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
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

    /// The right side is what the library says that upstream uses (`distribution/reference` v0.6.0).
    #[test]
    fn says_what_is_wrong() {
        let is_lower =
            |name: &str| format!("invalid reference format: repository name ({name}) must be lowercase");
        let (a64, a255) = ("a".repeat(64), "a".repeat(255));
        let malformed = || "invalid reference format".to_owned();
        let too_long = || "repository name must not be more than 255 characters".to_owned();
        for (image, problem) in [
            ("Foo".to_owned(), is_lower("library/Foo")),
            ("foo/Bar".into(), is_lower("foo/Bar")),
            ("r.io/Foo:1".into(), is_lower("Foo")),
            ("Foo:BAR".into(), is_lower("library/Foo")),
            ("A:".into(), is_lower("library/A")),
            ("index.docker.io/Foo".into(), is_lower("library/Foo")),
            ("docker.io/Foo".into(), is_lower("library/Foo")),
            ("UP/foo/Bar".into(), is_lower("foo/Bar")),
            ("A b".into(), is_lower("library/A b")),
            ("[::1]:5000/A".into(), is_lower("A")),
            ("a/B@sha256:12".into(), is_lower("a/B@sha256")),
            ("a//b".into(), malformed()),
            (String::new(), malformed()),
            ("a:b:c".into(), malformed()),
            ("a@sha256:12".into(), malformed()),
            ("a@".into(), malformed()),
            (format!("foo@sha256:{a64}:x"), malformed()),
            ("R/a_".into(), malformed()),
            ("r.io:x/a".into(), malformed()),
            (
                a64.clone(),
                format!("invalid repository name ({a64}), cannot specify 64-byte hexadecimal strings"),
            ),
            (a255.clone(), too_long()),
            (format!("r.io/a{a255}"), too_long()),
            (format!("x/{a255}"), too_long()),
            (format!("a@sha256:{a64}a"), "invalid checksum digest length".into()),
            (format!("a@sha512:{a64}"), "invalid checksum digest length".into()),
            (format!("a@sha256:{}", "A".repeat(64)), "invalid checksum digest format".into()),
            (format!("a@md5:{a64}"), "unsupported digest algorithm".into()),
        ] {
            let error = normalize(&image).unwrap_err();
            assert_eq!(error.to_string(), format!("couldn't parse image name {image:?}: {problem}"));
        }
        assert!(normalize(&format!("r.io/{a255}")).is_ok(), "the registry does not count");
    }
}
