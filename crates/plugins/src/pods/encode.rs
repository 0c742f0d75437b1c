//! A pod in protobuf, as `Pod.Marshal` of the API machinery writes it.
//!
//! A pod is written by way of its JSON, whose keys are the names of the fields in `proto/pod.proto`; the tables of it are
//! made at build time. What is not in the JSON is not written, which reads as the same pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde::Serialize;
use serde_json::Value;

/// Fields whose message has no key in JSON: its own fields stand among those of the message around it.
const INLINE: &[&str] = &["ephemeralContainerCommon", "handler", "localObjectReference", "volumeSource"];

/// A message.
#[derive(Debug)]
pub(crate) struct Shape {
    fields: &'static [Field],
}

#[derive(Debug)]
struct Field {
    name: &'static str,
    number: u32,
    count: Count,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Count {
    One,
    Many,
    Map,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Number,
    Flag,
    /// Bytes that are JSON as it is.
    Json,
    Message(&'static Shape),
    Time,
    Quantity,
    IntOrString,
    /// The fields that somebody manages, which are JSON.
    Fields,
}

mod shapes {
    #![allow(dead_code, reason = "those of what has another form in JSON are not used")]
    use super::{Count, Field, Kind, Shape};

    include!(concat!(env!("OUT_DIR"), "/shapes.rs"));
}

/// Writes a pod.
///
/// # Errors
/// A part of it has no JSON.
pub(crate) fn pod(
    metadata: &ObjectMeta,
    spec: Option<&PodSpec>,
    status: &PodStatus,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    part(1, &shapes::OBJECTMETA, metadata, &mut out)?;
    if let Some(spec) = spec {
        part(2, &shapes::PODSPEC, spec, &mut out)?;
    }
    part(3, &shapes::PODSTATUS, status, &mut out)?;
    Ok(out)
}

fn part(
    number: u32,
    shape: &Shape,
    object: &impl Serialize,
    out: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let value = model::json::to_tree(object)?;
    bytes(number, &message(shape, &value), out);
    Ok(())
}

fn message(shape: &Shape, object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { name, number, count, kind } in shape.fields {
        if let (Kind::Message(shape), true) = (kind, INLINE.contains(name)) {
            bytes(*number, &message(shape, object), &mut out);
            continue;
        }
        let Some(value) = object.get(name) else { continue };
        match (count, value) {
            (Count::Many, Value::Array(all)) => {
                all.iter().for_each(|one| field(*number, *kind, one, &mut out))
            }
            (Count::Map, Value::Object(all)) => {
                for (key, one) in all {
                    let mut entry = Vec::new();
                    bytes(1, key.as_bytes(), &mut entry);
                    field(2, *kind, one, &mut entry);
                    bytes(*number, &entry, &mut out);
                }
            }
            _ => field(*number, *kind, value, &mut out),
        }
    }
    out
}

/// One value. What has another type than the field has none here: typed objects make the JSON.
fn field(number: u32, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    match (kind, value) {
        (_, Value::Null) => {}
        (Kind::Text, Value::String(text)) => bytes(number, text.as_bytes(), out),
        (Kind::Flag, Value::Bool(flag)) => varint(number, u64::from(*flag), out),
        (Kind::Number, Value::Number(n)) => {
            varint(number, n.as_i64().unwrap_or_default().cast_unsigned(), out)
        }
        (Kind::Json, json) => bytes(number, json.to_string().as_bytes(), out),
        (Kind::Message(shape), object) => bytes(number, &message(shape, object), out),
        (Kind::Time, Value::String(text)) => bytes(number, &time(text), out),
        (Kind::Quantity, Value::String(text)) => inner(number, out, |out| bytes(1, text.as_bytes(), out)),
        (Kind::IntOrString, Value::Number(n)) => inner(number, out, |out| {
            varint(1, 0, out);
            varint(2, n.as_i64().unwrap_or_default().cast_unsigned(), out);
            bytes(3, b"", out);
        }),
        (Kind::IntOrString, Value::String(text)) => inner(number, out, |out| {
            varint(1, 1, out);
            varint(2, 0, out);
            bytes(3, text.as_bytes(), out);
        }),
        (Kind::Fields, json) => inner(number, out, |out| bytes(1, json.to_string().as_bytes(), out)),
        _ => {}
    }
}

fn time(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(time) = text.parse::<Timestamp>() {
        varint(1, time.as_second().cast_unsigned(), &mut out);
        varint(2, i64::from(time.subsec_nanosecond()).cast_unsigned(), &mut out);
    }
    out
}

fn inner(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    bytes(number, &body, out);
}

fn varint(number: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value, out);
}

fn bytes(number: u32, body: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    /// `tests/data/pod.pb` is what v1.37.2 of the API machinery makes of `tests/data/pod.json`, a pod that has everything:
    /// `pods-client sample` in `tools/kubernetes` writes both.
    #[test]
    fn a_pod_that_has_everything_is_written_as_upstream_writes_it() {
        let all: Pod = serde_json::from_str(include_str!("../../tests/data/pod.json")).unwrap();
        let upstreams = include_bytes!("../../tests/data/pod.pb");
        let ours = pod(&all.metadata, all.spec.as_ref(), &all.status.unwrap()).unwrap();
        let same = ours.iter().zip(upstreams).take_while(|(one, other)| one == other).count();
        let near = |all: &[u8]| {
            String::from_utf8_lossy(&all[same.saturating_sub(40)..(same + 40).min(all.len())]).into_owned()
        };
        assert!(ours == upstreams, "after {same} bytes: {:?} instead of {:?}", near(&ours), near(upstreams));
    }

    #[test]
    fn what_is_not_there_is_not_written() {
        let metadata = ObjectMeta { name: Some("a".to_owned()), ..ObjectMeta::default() };
        let bytes = pod(&metadata, None, &PodStatus::default()).unwrap();
        assert_eq!(bytes, [10, 3, 10, 1, b'a', 26, 0]);
    }
}
