//! The form of a profile that `go tool pprof` reads
//! (<https://github.com/google/pprof/blob/main/proto/profile.proto>), and a way to put one together.

use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::names::Name;

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

/// What is counted and in which unit, both as places in the table of strings.
#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    /// Whether the names of its functions are in the profile, so that nobody looks for them.
    #[prost(bool, tag = "7")]
    has_functions: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
}

/// A profile that is being put together.
pub(super) struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    addresses: HashMap<u64, u64>,
    /// By the place of their symbols in the table of strings.
    functions: HashMap<i64, u64>,
}

impl Builder {
    /// A profile whose samples have these values: what, and in which unit.
    pub(super) fn new(values: &[(&str, &str)]) -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            strings: HashMap::new(),
            addresses: HashMap::new(),
            functions: HashMap::new(),
        };
        // The first string is the empty one, by definition.
        builder.string("");
        builder.profile.sample_type = values.iter().map(|value| builder.value_type(*value)).collect();
        builder
    }

    /// When it was begun and how long it took, nanoseconds.
    pub(super) fn time(&mut self, begun: i64, took: i64) {
        (self.profile.time_nanos, self.profile.duration_nanos) = (begun, took);
    }

    /// How much of what lies between two samples.
    pub(super) fn period(&mut self, value: (&str, &str), period: i64) {
        self.profile.period_type = Some(self.value_type(value));
        self.profile.period = period;
    }

    /// Code that samples may be in; the program itself first.
    pub(super) fn mapping(&mut self, mapping: &host::profile::CodeMapping) {
        let filename = self.string(&mapping.path.to_string_lossy());
        self.profile.mapping.push(Mapping {
            id: self.profile.mapping.len() as u64 + 1,
            memory_start: mapping.start,
            memory_limit: mapping.end,
            file_offset: mapping.offset,
            filename,
            has_functions: false,
        });
    }

    /// A sample of a call stack, innermost address first. It is cut off where it leaves the code:
    /// what comes after that was no frame.
    pub(super) fn stack(&mut self, stack: &[u64], values: &[i64]) {
        let mut location_id = Vec::with_capacity(stack.len());
        for (depth, address) in stack.iter().enumerate() {
            // Callers go on after the call, which is what they are in.
            let address = address.saturating_sub(u64::from(depth > 0));
            let Some(id) = self.address(address) else { break };
            location_id.push(id);
        }
        if !location_id.is_empty() {
            self.profile.sample.push(Sample { location_id, value: values.to_vec() });
        }
    }

    /// Addresses of a mapping that samples are at; mappings count from 0.
    pub(super) fn addresses_in(&self, mapping: usize) -> Vec<u64> {
        let wanted = mapping as u64 + 1;
        self.profile.location.iter().filter(|l| l.mapping_id == wanted).map(|l| l.address).collect()
    }

    /// Names the functions at those addresses, in the same order.
    pub(super) fn name(&mut self, mapping: usize, names: Vec<Option<Name>>) {
        let wanted = mapping as u64 + 1;
        let places: Vec<usize> = self
            .profile
            .location
            .iter()
            .enumerate()
            .filter(|(_, l)| l.mapping_id == wanted)
            .map(|(i, _)| i)
            .collect();
        for (place, name) in places.into_iter().zip(names) {
            let Some(name) = name else { continue };
            let function_id = self.function(&name.shown, &name.symbol);
            if let Some(location) = self.profile.location.get_mut(place) {
                location.line = vec![Line { function_id }];
            }
        }
        if let Some(mapping) = self.profile.mapping.get_mut(mapping) {
            mapping.has_functions = true;
        }
    }

    /// A sample of something with a name instead of an address.
    pub(super) fn named(&mut self, name: &str, values: &[i64]) {
        let line = vec![Line { function_id: self.function(name, name) }];
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, mapping_id: 0, address: 0, line });
        self.profile.sample.push(Sample { location_id: vec![id], value: values.to_vec() });
    }

    /// The profile as it is sent.
    pub(super) fn finish(self) -> std::io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.profile.encode_to_vec())?;
        encoder.finish()
    }

    fn address(&mut self, address: u64) -> Option<u64> {
        if let Some(id) = self.addresses.get(&address) {
            return Some(*id);
        }
        let holds = |mapping: &&Mapping| (mapping.memory_start..mapping.memory_limit).contains(&address);
        let mapping_id = self.profile.mapping.iter().find(holds)?.id;
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, mapping_id, address, line: Vec::new() });
        self.addresses.insert(address, id);
        Some(id)
    }

    fn function(&mut self, name: &str, symbol: &str) -> u64 {
        let (name, system_name) = (self.string(name), self.string(symbol));
        if let Some(known) = self.functions.get(&system_name) {
            return *known;
        }
        let id = self.profile.function.len() as u64 + 1;
        self.profile.function.push(Function { id, name, system_name });
        self.functions.insert(system_name, id);
        id
    }

    fn value_type(&mut self, (kind, unit): (&str, &str)) -> ValueType {
        ValueType { kind: self.string(kind), unit: self.string(unit) }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = i64::try_from(self.profile.string_table.len()).unwrap_or(0);
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn stacks_share_what_they_have_in_common() {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        builder.mapping(&host::profile::CodeMapping {
            start: 0x1000,
            end: 0x2000,
            offset: 0,
            path: "/k".into(),
        });
        builder.stack(&[0x1010, 0x1021, 0x5, 0x1031], &[1, 10]);
        builder.stack(&[0x1020], &[2, 20]);
        builder.stack(&[0x3000], &[4, 40]);
        builder.named("threads", &[8, 80]);
        assert_eq!(builder.addresses_in(0), [0x1010, 0x1020]);
        let name =
            |symbol: &str| Some(Name { shown: "<K as T>::threads".to_owned(), symbol: symbol.to_owned() });
        builder.name(0, vec![name("_K1"), name("_K2")]);
        builder.period(("cpu", "nanoseconds"), 10);
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&builder.finish().unwrap()[..]).read_to_end(&mut bytes).unwrap();
        let profile = Profile::decode(&bytes[..]).unwrap();
        let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
        assert_eq!(text(0), "");
        assert_eq!(text(profile.sample_type[1].kind), "cpu");
        let samples: Vec<_> = profile.sample.iter().map(|s| (s.location_id.as_slice(), s.value[0])).collect();
        assert_eq!(samples, [(&[1, 2][..], 1), (&[2], 2), (&[3], 8)]);
        let addresses: Vec<_> = profile.location.iter().map(|l| (l.mapping_id, l.address)).collect();
        assert_eq!(addresses, [(1, 0x1010), (1, 0x1020), (0, 0)]);
        let names: Vec<_> = profile.location.iter().map(|l| l.line.first().map(|l| l.function_id)).collect();
        assert_eq!(names, [Some(2), Some(3), Some(1)]);
        let known: Vec<_> = profile.function.iter().map(|f| (text(f.name), text(f.system_name))).collect();
        assert_eq!(
            known,
            [("threads", "threads"), ("<K as T>::threads", "_K1"), ("<K as T>::threads", "_K2")]
        );
        assert!(profile.mapping[0].has_functions);
    }
}
