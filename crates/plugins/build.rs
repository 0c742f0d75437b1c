//! Compiles `proto/pods.proto` into a service, `proto/registration.proto` and `proto/csi.proto` into clients, and
//! `proto/pod.proto` into the tables that pods are written by, without an external compiler. `proto/csi_controller.proto` is
//! for `fake-csi` alone.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, error::Error, fs};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Messages of CSI with secrets.
const SECRET: [&str; 9] = [
    "NodeStageVolumeRequest",
    "NodePublishVolumeRequest",
    "NodeExpandVolumeRequest",
    "CreateVolumeRequest",
    "DeleteVolumeRequest",
    "ControllerPublishVolumeRequest",
    "ControllerUnpublishVolumeRequest",
    "ValidateVolumeCapabilitiesRequest",
    "ControllerExpandVolumeRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let service = protox::compile(["pods.proto"], ["proto"])?;
    fs::write(out.join("pods.descriptor"), service.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .build_transport(false)
        // The bytes of a pod are made once and shared.
        .bytes(".")
        .compile_fds(service)?;
    let is_fake = env::var_os("CARGO_FEATURE_FAKE").is_some();
    for (name, all) in [("registration", "registration"), ("csi", "csi_controller")] {
        let service = protox::compile([format!("{all}.proto")], ["proto"])?;
        fs::write(out.join(format!("{name}.descriptor")), service.encode_to_vec())?;
        let service = if is_fake { service } else { protox::compile([format!("{name}.proto")], ["proto"])? };
        tonic_prost_build::configure()
            .build_client(true)
            .build_server(is_fake)
            .generate_default_stubs(true)
            .build_transport(false)
            .btree_map(".")
            // They hold secrets: `wire` writes their Debug by hand.
            .skip_debug(SECRET.map(|message| format!(".csi.v1.{message}")))
            .compile_fds(service)?;
    }
    let pod = protox::compile(["pod.proto"], ["proto"])?;
    fs::write(out.join("pod.descriptor"), pod.encode_to_vec())?;
    fs::write(out.join("shapes.rs"), shapes(&pod)?)?;
    Ok(())
}

/// Each message as a constant, the fields in the order of their numbers.
fn shapes(set: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let messages: Vec<&DescriptorProto> = set.file.iter().flat_map(|file| &file.message_type).collect();
    let mut out = String::new();
    for message in messages {
        let mut fields: Vec<&FieldDescriptorProto> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        writeln!(out, "/// `{}`.", message.name())?;
        writeln!(out, "pub(crate) static {}: Shape = Shape {{ fields: &[", constant(message.name()))?;
        for field in fields {
            let is_many = field.label() == Label::Repeated;
            let entry = message
                .nested_type
                .iter()
                .find(|nested| field.type_name().ends_with(&format!(".{}", nested.name())));
            let (count, of) = match entry {
                Some(entry) => ("Map", entry.field.get(1).ok_or("a map without a value")?),
                None => (if is_many { "Many" } else { "One" }, field),
            };
            writeln!(
                out,
                "    Field {{ name: {:?}, number: {}, count: Count::{count}, kind: {} }},",
                field.name(),
                field.number(),
                kind(of)?
            )?;
        }
        writeln!(out, "] }};")?;
    }
    Ok(out)
}

fn kind(field: &FieldDescriptorProto) -> Result<String, Box<dyn Error>> {
    Ok(match field.r#type() {
        Type::String => "Kind::Text".to_owned(),
        Type::Bytes => "Kind::Json".to_owned(),
        Type::Bool => "Kind::Flag".to_owned(),
        Type::Int32 | Type::Int64 => "Kind::Number".to_owned(),
        Type::Message => match field.type_name() {
            ".pod.Time" => "Kind::Time".to_owned(),
            ".pod.Quantity" => "Kind::Quantity".to_owned(),
            ".pod.IntOrString" => "Kind::IntOrString".to_owned(),
            ".pod.FieldsV1" => "Kind::Fields".to_owned(),
            name => format!("Kind::Message(&{})", constant(name.trim_start_matches(".pod."))),
        },
        other => return Err(format!("{} has a type that nothing has so far: {other:?}", field.name()).into()),
    })
}

fn constant(name: &str) -> String {
    name.chars().map(|c| c.to_ascii_uppercase()).collect()
}
