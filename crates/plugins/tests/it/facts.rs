//! `proto/` against `tests/data/`: every message, field, number, type, enum value and call of upstream's Pods API
//! v1alpha1, of plugin registration v1, and of what a pod is made of, as of v0.37.2; of CSI v1.13 the services Identity and
//! Node without what is experimental, and of Controller what is neither that nor about snapshots or changed parameters.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

#[test]
fn our_protocols_have_exactly_upstreams_facts() {
    let service = include_bytes!(concat!(env!("OUT_DIR"), "/pods.descriptor"));
    let registration = include_bytes!(concat!(env!("OUT_DIR"), "/registration.descriptor"));
    let csi = include_bytes!(concat!(env!("OUT_DIR"), "/csi.descriptor"));
    let pod = include_bytes!(concat!(env!("OUT_DIR"), "/pod.descriptor"));
    for (upstream, bytes, least) in [
        (include_str!("../data/pods-facts.txt"), &service[..], 18),
        (include_str!("../data/registration-facts.txt"), &registration[..], 12),
        (include_str!("../data/csi-facts.txt"), &csi[..], 250),
        (include_str!("../data/pod-facts.txt"), &pod[..], 700),
    ] {
        let upstream: BTreeSet<String> = upstream.lines().map(str::to_owned).collect();
        let ours = facts(&FileDescriptorSet::decode(bytes).unwrap());
        let missing: Vec<_> = upstream.difference(&ours).collect();
        let extra: Vec<_> = ours.difference(&upstream).collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}, extra: {extra:#?}");
        assert!(upstream.len() >= least, "the file of facts is cut");
    }
}

fn facts(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for file in set.file.iter().filter(|file| file.package() != "google.protobuf") {
        file.enum_type.iter().for_each(|e| add_enum(&mut facts, "", e));
        file.message_type.iter().for_each(|m| add_message(&mut facts, "", m));
        for service in &file.service {
            for method in &service.method {
                let (input, output) = (short(method.input_type()), short(method.output_type()));
                let stream = if method.server_streaming() { "stream " } else { "" };
                assert!(!method.client_streaming());
                facts.insert(format!("rpc {}.{}({input})={stream}{output}", service.name(), method.name()));
            }
        }
    }
    facts
}

fn add_message(facts: &mut BTreeSet<String>, prefix: &str, message: &DescriptorProto) {
    let name = format!("{prefix}{}", message.name());
    facts.insert(format!("message {name}"));
    for field in &message.field {
        let kind = kind(&name, message, field);
        facts.insert(format!("{name}.{}={}:{kind}", field.name(), field.number()));
    }
    message.enum_type.iter().for_each(|e| add_enum(facts, &format!("{name}."), e));
    let nested = message.nested_type.iter().filter(|nested| !is_map(nested));
    nested.for_each(|nested| add_message(facts, &format!("{name}."), nested));
}

fn is_map(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn add_enum(facts: &mut BTreeSet<String>, prefix: &str, of: &EnumDescriptorProto) {
    for value in &of.value {
        facts.insert(format!("enum {prefix}{}.{}={}", of.name(), value.name(), value.number()));
    }
}

fn kind(full: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name()).to_owned(),
        simple => simple.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    if field.label() != Label::Repeated {
        return name;
    }
    let entry = name.strip_prefix(&format!("{full}."));
    let mut maps = message.nested_type.iter().filter(|nested| is_map(nested));
    match entry.and_then(|entry| maps.find(|nested| nested.name() == entry)) {
        Some(map) => format!("map<{},{}>", kind(&name, map, &map.field[0]), kind(&name, map, &map.field[1])),
        None => format!("repeated {name}"),
    }
}

fn short(name: &str) -> &str {
    let packages = [".v1alpha1.", ".pod.", ".pluginregistration.", ".csi.v1."];
    packages.iter().find_map(|package| name.strip_prefix(package)).unwrap_or(name)
}
