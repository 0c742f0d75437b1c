//! `/flagz` and `/statusz`: what the process was started with and what it is, for people as text and
//! for programs as an object of `config.k8s.io`
//! (<https://kubernetes.io/docs/reference/instrumentation/zpages/>).
//!
//! Programs have to name the object they want, version included; a plain "JSON, please" is refused,
//! as upstream refuses it.

use std::collections::BTreeMap;

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, WARNING};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::accept::{self, Clause};
use crate::answer::{self, Answer};
use crate::ports::BuildInfo;
use crate::settings::EndpointSettings;

const GROUP: &str = "config.k8s.io";
const COMPONENT: &str = "kubelet";

/// The flags in effect.
pub(crate) fn flags(flags: &BTreeMap<&'static str, String>, headers: &HeaderMap) -> Answer {
    respond("Flagz", headers, |form| match form {
        Form::Text => {
            let lines = flags.iter().map(|(name, value)| format!("{name}={value}\n"));
            Body::Text(lines.collect())
        }
        Form::Object { .. } => Body::Fields(json!({ "flags": flags })),
    })
}

/// The process.
pub(crate) fn status(build: &BuildInfo, endpoints: &EndpointSettings, headers: &HeaderMap) -> Answer {
    let uptime = (Timestamp::now().as_second() - build.started.as_second()).max(0);
    let paths = paths(endpoints);
    respond("Statusz", headers, |form| match form {
        Form::Text => Body::Text(format!(
            "\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nGo version: \nBinary version: {}\n\
             Emulation version: {}\nPaths: {}\n",
            build.started.strftime("%a %b %e %H:%M:%S UTC %Y"),
            uptime / 3600,
            uptime / 60 % 60,
            uptime % 60,
            build.version,
            build.emulated,
            paths.join(" "),
        )),
        Form::Object { .. } => Body::Fields(json!({
            "startTime": build.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "uptimeSeconds": uptime,
            // There is no Go in this program, but the field is not optional.
            "goVersion": "",
            "binaryVersion": build.version,
            "emulationVersion": build.emulated,
            "paths": paths,
        })),
    })
}

/// The first parts of the paths upstream lists: those that are not behind its router of REST services.
fn paths(endpoints: &EndpointSettings) -> Vec<&'static str> {
    let mut paths = vec!["/configz", "/debug"];
    if endpoints.has_flags {
        paths.push("/flagz");
    }
    paths.push("/healthz");
    if !endpoints.has_system_logs {
        paths.push("/logs");
    }
    paths.push("/metrics");
    paths
}

/// A way to write a page down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Object { is_yaml: bool, is_old: bool },
}

enum Body {
    Text(String),
    Fields(Value),
}

fn respond(kind: &str, headers: &HeaderMap, body: impl Fn(Form) -> Body) -> Answer {
    let accepted = headers.get(ACCEPT).map(|value| value.to_str().unwrap_or("?")).unwrap_or_default();
    let Some(form) = form(accepted, kind) else { return not_acceptable() };
    let (mut object, version, media) = match (body(form), form) {
        (Body::Text(text), _) => {
            let name = kind.to_lowercase();
            let warning = "Warning: for people who look for a fault. Its form may change at any time.";
            return answer::text(StatusCode::OK, format!("\n{COMPONENT} {name}\n{warning}\n{text}"));
        }
        (Body::Fields(_), Form::Text) => return not_acceptable(),
        (Body::Fields(fields), Form::Object { is_yaml, is_old }) => {
            let media = if is_yaml { "application/yaml" } else { "application/json" };
            (fields, if is_old { "v1alpha1" } else { "v1beta1" }, media)
        }
    };
    object["kind"] = kind.into();
    object["apiVersion"] = format!("{GROUP}/{version}").into();
    object["metadata"] = json!({ "name": COMPONENT });
    // JSON is YAML, too.
    let mut answer = answer::json(format!("{object}\n"));
    let media = format!("{media};g={GROUP};v={version};as={kind}");
    if let Ok(media) = HeaderValue::from_str(&media) {
        answer.headers_mut().insert(CONTENT_TYPE, media);
    }
    if version == "v1alpha1" {
        let text = format!(
            "299 - \"This version of the {} endpoint is deprecated. Please use a newer version.\"",
            kind.to_lowercase()
        );
        if let Ok(text) = HeaderValue::from_str(&text) {
            answer.headers_mut().insert(WARNING, text);
        }
    }
    answer
}

/// The form a client likes best of those there are.
fn form(accepted: &str, kind: &str) -> Option<Form> {
    if accepted.trim().is_empty() {
        return Some(Form::Text);
    }
    accept::clauses(accepted).iter().find_map(|clause| form_of(clause, kind))
}

fn form_of(clause: &Clause<'_>, kind: &str) -> Option<Form> {
    let takes = |media: &str| {
        let major = media.split('/').next().unwrap_or_default();
        let accepted = clause.media;
        accepted == media || accepted == "*/*" || accepted.strip_suffix("/*") == Some(major)
    };
    let [wanted, group, version] = ["as", "g", "v"].map(|name| clause.parameter(name));
    if wanted.is_none() && group.is_none() && version.is_none() {
        return takes("text/plain").then_some(Form::Text);
    }
    let is_old = match version? {
        "v1beta1" => false,
        "v1alpha1" => true,
        _ => return None,
    };
    if wanted != Some(kind) || group != Some(GROUP) {
        return None;
    }
    if takes("application/json") {
        Some(Form::Object { is_yaml: false, is_old })
    } else {
        takes("application/yaml").then_some(Form::Object { is_yaml: true, is_old })
    }
}

fn not_acceptable() -> Answer {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "only the following media types are accepted: application/json, application/yaml, text/plain",
        "reason": "NotAcceptable",
        "code": 406,
    });
    let mut answer = answer::json(status.to_string());
    *answer.status_mut() = StatusCode::NOT_ACCEPTABLE;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_negotiated() {
        let object = |is_yaml, is_old| Some(Form::Object { is_yaml, is_old });
        let beta = "g=config.k8s.io;v=v1beta1;as=Flagz";
        for (accepted, want) in [
            ("", Some(Form::Text)),
            ("text/plain", Some(Form::Text)),
            ("text/*;q=0.1", Some(Form::Text)),
            ("*/*", Some(Form::Text)),
            ("application/json", None),
            ("text/html", None),
            ("text/html, */*;q=0.1", Some(Form::Text)),
            (&format!("application/json;{beta}"), object(false, false)),
            (&format!("application/json;{beta}, text/plain"), object(false, false)),
            (&format!("application/json;q=0.5;{beta}, text/plain"), Some(Form::Text)),
            (&format!("application/yaml;{beta}"), object(true, false)),
            (&format!("*/*;{beta}"), object(false, false)),
            (&format!("text/plain;{beta}"), None),
            ("application/json;g=config.k8s.io;v=v1alpha1;as=Flagz", object(false, true)),
            ("application/json;g=config.k8s.io;v=v1;as=Flagz", None),
            ("application/json;g=config.k8s.io;v=v1beta1;as=Statusz", None),
            ("application/json;v=v1beta1;as=Flagz", None),
        ] {
            assert_eq!(form(accepted, "Flagz"), want, "{accepted}");
        }
    }
}
