//! A pod as upstream's kubelet has it in memory, written as Go's `spew` writes a value with its types.
//!
//! What upstream hashes is this text, so that every field counts, also those that are not set, in the order and with
//! the types in which upstream declares them. They are facts of one version, kept in `types.txt`, a line each type:
//!
//! ```text
//! core.Protocol string
//! core.PodIP IP=ip:string
//! ```
//!
//! The first is another name for a type, the second a structure with its fields: what each is called, how it is spelt
//! in a manifest unless that is the same with a small letter in front (nothing: its own fields stand in its place), and
//! its type. The file comes from `tools/kubernetes/manifest-judge`, and `cargo xtask parity` says when it is out of
//! date.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use golang::quantity::Quantity;
use jiff::Timestamp;
use serde_json::Value;

pub(super) const TYPES: &str = include_str!("types.txt");

/// Seconds from the first year, where Go begins to count, to 1970.
const EPOCH: i64 = 62_135_596_800;

/// The time zone of a node without one, as Go holds it.
const UTC: &str = "{name:(string)Local zone:([]time.zone)[{name:(string)UTC offset:(int)0 isDST:(bool)false}] \
    tx:([]time.zoneTrans)[{when:(int64)-9223372036854775808 index:(uint8)0 isstd:(bool)false isutc:(bool)false}] \
    extend:(string)UTC0 cacheStart:(int64)-9223372036854775808 cacheEnd:(int64)9223372036854775807 \
    cacheZone:(*time.zone){name:(string)UTC offset:(int)0 isDST:(bool)false}}";

/// Writes a pod, given as it would be in a manifest.
pub(super) fn pod(pod: &Value, out: &mut impl Write) -> fmt::Result {
    let types = TYPES.lines().filter_map(|line| line.split_once(' ')).collect();
    Printer { types, out, depth: 0, zone: None }.typed("*core.Pod", pod)
}

struct Printer<'a, W> {
    types: BTreeMap<&'static str, &'static str>,
    out: &'a mut W,
    /// How many structures, lists and maps this is in.
    depth: usize,
    /// How deep the time zone, to which every time points, was written, until a pointer that is no deeper follows: what
    /// is deeper in between counts as part of it, and the zone is not written in itself.
    zone: Option<usize>,
}

impl<W: Write> Printer<'_, W> {
    /// A value with its type in front.
    fn typed(&mut self, name: &str, value: &Value) -> fmt::Result {
        write!(self.out, "({name})")?;
        let Some(target) = name.strip_prefix('*') else { return self.bare(name, value) };
        self.pointer(self.depth);
        if value.is_null() { self.out.write_str("<nil>") } else { self.bare(target, value) }
    }

    fn pointer(&mut self, depth: usize) {
        self.zone = self.zone.filter(|zone| *zone < depth);
    }

    fn bare(&mut self, name: &str, value: &Value) -> fmt::Result {
        if let Some(element) = name.strip_prefix("[]") {
            return self.list(element, value);
        }
        if let Some((_, element)) = name.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            return self.map(element, value);
        }
        match name {
            "string" => self.out.write_str(value.as_str().unwrap_or_default()),
            "bool" => write!(self.out, "{}", value.as_bool().unwrap_or_default()),
            "int32" | "int64" => write!(self.out, "{}", value.as_i64().unwrap_or_default()),
            "resource.Quantity" => self.amount(value, Quantity::of),
            "intstr.IntOrString" => self.number_or_name(value),
            "v1.Time" => self.time(value),
            "v1.FieldsV1" => self.fields(value),
            // Upstream forgets what it was read from.
            "v1.TypeMeta" => self.structure("Kind:string APIVersion:string", &Value::Null),
            "core.ResourceList" => self.resources(value),
            _ => match self.types.get(name).copied() {
                Some(fields) if fields.contains(':') => self.structure(fields, value),
                Some(other) => self.bare(other, value),
                None => Ok(()),
            },
        }
    }

    fn structure(&mut self, fields: &str, value: &Value) -> fmt::Result {
        self.out.write_char('{')?;
        self.depth += 1;
        for (index, field) in fields.split(' ').enumerate() {
            let Some((names, kind)) = field.split_once(':') else { continue };
            let (name, spelt) =
                names.split_once('=').map_or((names, None), |(name, spelt)| (name, Some(spelt)));
            write!(self.out, "{}{name}:", if index > 0 { " " } else { "" })?;
            let inner = match spelt {
                Some("") => value,
                Some(spelt) => &value[spelt],
                None => &value[lower_camel(name)],
            };
            self.typed(kind, inner)?;
        }
        self.depth -= 1;
        self.out.write_char('}')
    }

    fn list(&mut self, element: &str, value: &Value) -> fmt::Result {
        let Value::Array(items) = value else { return self.out.write_str("<nil>") };
        self.out.write_char('[')?;
        self.depth += 1;
        for (index, item) in items.iter().enumerate() {
            self.out.write_str(if index > 0 { " " } else { "" })?;
            self.bare(element, item)?;
        }
        self.depth -= 1;
        self.out.write_char(']')
    }

    fn map(&mut self, element: &str, value: &Value) -> fmt::Result {
        self.entries(value, |printer, item| printer.bare(element, item))
    }

    fn resources(&mut self, value: &Value) -> fmt::Result {
        self.entries(value, |printer, item| printer.amount(item, Quantity::of_resource))
    }

    fn entries(&mut self, value: &Value, print: impl Fn(&mut Self, &Value) -> fmt::Result) -> fmt::Result {
        let Value::Object(object) = value else { return self.out.write_str("<nil>") };
        let sorted: BTreeMap<_, _> = object.iter().collect();
        self.out.write_str("map[")?;
        self.depth += 1;
        for (index, (key, item)) in sorted.into_iter().enumerate() {
            write!(self.out, "{}{key}:", if index > 0 { " " } else { "" })?;
            print(self, item)?;
        }
        self.depth -= 1;
        self.out.write_char(']')
    }

    fn amount(&mut self, value: &Value, read: fn(&str) -> Quantity) -> fmt::Result {
        // A pointer to its decimal is a field of a field of it.
        self.pointer(self.depth + 2);
        value.as_str().map(read).unwrap_or_default().print(self.out)
    }

    fn number_or_name(&mut self, value: &Value) -> fmt::Result {
        let kind = i32::from(value.is_string());
        let (number, name) = (value.as_i64().unwrap_or_default(), value.as_str().unwrap_or_default());
        write!(self.out, "{{Type:(intstr.Type){kind} IntVal:(int32){number} StrVal:(string){name}}}")
    }

    /// A time that is set is in the node's time zone, of which only that of a node without one is known here.
    fn time(&mut self, value: &Value) -> fmt::Result {
        let time = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let (nanos, seconds) =
            time.map_or((0, 0), |time| (time.subsec_nanosecond(), EPOCH + time.as_second()));
        let depth = self.depth + 2;
        self.pointer(depth);
        let zone = match (time, self.zone) {
            (None, _) => "<nil>",
            (Some(_), Some(_)) => "<shown>",
            (Some(_), None) => {
                self.zone = Some(depth);
                UTC
            }
        };
        write!(
            self.out,
            "{{Time:(time.Time){{wall:(uint64){nanos} ext:(int64){seconds} loc:(*time.Location){zone}}}}}"
        )
    }

    /// The bytes of the object.
    fn fields(&mut self, value: &Value) -> fmt::Result {
        self.out.write_str("{Raw:([]uint8)[")?;
        for (index, byte) in value.to_string().bytes().enumerate() {
            write!(self.out, "{}{byte}", if index > 0 { " " } else { "" })?;
        }
        self.out.write_str("]}")
    }
}

fn lower_camel(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}
