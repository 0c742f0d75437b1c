//! Cases for each flag and field that upstream says it has: a value of the right kind, one of the wrong kind, none.

use super::case::Case;
use super::judge::{Description, Field, Flag};

/// All of them.
pub(crate) fn cases(description: &Description) -> Vec<Case> {
    // Those that print something, and those whose verdict depends on the machine's cgroups.
    let is_apart = |name: &str| matches!(name, "version" | "help" | "fail-cgroupv1");
    let flags = description.flags.iter().filter(|flag| !is_apart(&flag.name));
    let of_flags = flags.flat_map(flag).map(Case::with_flag);
    let fields = description.fields.iter().filter(|field| field.path != "singleProcessOOMKill");
    let of_fields = fields.flat_map(field).map(Case::with_document);
    of_flags.chain(of_fields).collect()
}

/// A flag with several values, and with none.
fn flag(flag: &Flag) -> Vec<String> {
    let values: &[&str] = match flag.kind.as_str() {
        "bool" => &["true", "F", "yes", ""],
        "int32" | "int64" | "Level" => &["7", "0x10", "-1", "x", "1.5", "", "99999999999999999999"],
        "duration" => &["90s", "-1s", "5", "1.5h", "x"],
        "ip" => &["10.0.0.7", "fd00::1", "010.0.0.1", "::ffff:10.0.0.1", "x"],
        "quantity" => &["7Ki", "0", "7Kib"],
        "stringSlice" => &["a,b", "\"a,b\",c", ""],
        "mapStringString" => &["a=b", "a", "=", ""],
        _ => &["x", ""],
    };
    let with_value = values.iter().map(|value| format!("--{}={value}", flag.name));
    std::iter::once(format!("--{}", flag.name)).chain(with_value).collect()
}

/// A field with null, and with values of several kinds.
fn field(field: &Field) -> Vec<String> {
    let values: &[&str] = match field.kind.as_str() {
        "bool" => &["true", "false", "\"true\"", "1", "yes"],
        "int32" | "int64" | "v1.VerbosityLevel" => {
            &["7", "-1", "0", "\"7\"", "1.5", "2.0", "99999999999", "true", "[1]"]
        }
        "float64" => &["0.5", "1", "0", "\"0.5\"", "2"],
        "v1.Duration" | "v1.TimeOrMetaDuration" => {
            &["90s", "0s", "0", "5", "-1s", "\"\"", "x", "1.5h", "{duration: 1s}"]
        }
        "resource.QuantityValue" => &["7Ki", "7", "\"0\"", "7Kib", "1.5"],
        "map[string]string" | "v1.ResourceList" => &["{}", "{a: b}", "{a: 1}", "{memory: 1Gi}", "[a]", "a"],
        "map[string]bool" => &["{}", "{a: b}", "[a]"],
        "map[string][]string" => &["{}", "{a: [b, c]}", "{a: b}"],
        "[]string" => &["[]", "[a]", "[a, b]", "a", "[1]", "{}"],
        "[]int32" => &["[]", "[29]", "[x]", "29"],
        kind if kind.starts_with("[]") || kind == "v1.VModuleConfiguration" => &["[]", "{}", "[x]", "x"],
        "v1.Time" => &["\"2020-01-01T00:00:00Z\"", "x"],
        "string" => &["x", "\"\"", "7", "true", "[x]", "{}"],
        // The enumerations are texts too; what else there is are maps.
        kind if kind.ends_with("Mode") || kind.ends_with("Policy") || kind.ends_with("Strategy") => {
            &["x", "\"\"", "7"]
        }
        "v1.TaintEffect" => &["x", "\"\"", "7"],
        _ => &["{}", "x", "[]", "{unknown: 1}"],
    };
    std::iter::once("null").chain(values.iter().copied()).map(|value| document(&field.path, value)).collect()
}

/// The document that sets one field: `a: {b: [{c: VALUE}]}`.
fn document(path: &str, value: &str) -> String {
    let mut parts = path.split('.');
    let first = parts.next().unwrap_or_default();
    let nested = parts.rev().fold(value.to_owned(), |inner, part| match part.strip_suffix("[]") {
        Some(name) => format!("{{{name}: [{inner}]}}"),
        None => format!("{{{part}: {inner}}}"),
    });
    match first.strip_suffix("[]") {
        Some(name) => format!("{name}: [{nested}]"),
        None => format!("{first}: {nested}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nests_fields() {
        assert_eq!(document("port", "1"), "port: 1");
        assert_eq!(document("a.b.c", "x"), "a: {b: {c: x}}");
        assert_eq!(document("a[].b", "x"), "a: [{b: x}]");
        assert_eq!(document("a.b[].c", "x"), "a: {b: [{c: x}]}");
    }
}
