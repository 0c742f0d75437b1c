//! Names of functions, from the tables of symbols in the files that code comes from.
//!
//! Whoever fetches a profile through the API server has no copy of the program, and with one the tool finds
//! names only where there are line numbers, too, which a released program is without. So a profile brings its names.

use std::fs::File;
use std::path::Path;

use host::profile::CodeMapping;
use object::{Object as _, ObjectSegment as _, ReadCache};
use rustc_demangle::demangle;

/// Why a file tells no names.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    #[error("open it")]
    Open(#[source] std::io::Error),
    #[error("read its symbols")]
    Symbols(#[source] object::Error),
}

/// A function's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// For people.
    pub(super) shown: String,
    /// As it stands in the table. The tool takes names that are written alike for C++, and what is in angle brackets out.
    pub(super) symbol: String,
}

/// The names of the functions at some addresses of a mapping, in their order. `file` is where its code comes from. Blocks
/// on the disk.
pub(super) fn of(
    mapping: &CodeMapping,
    file: &Path,
    addresses: &[u64],
) -> Result<Vec<Option<Name>>, NameError> {
    // Read piecemeal: most of the file is of no interest.
    let cache = ReadCache::new(File::open(file).map_err(NameError::Open)?);
    let program = object::File::parse(&cache).map_err(NameError::Symbols)?;
    let symbols = program.symbol_map();
    let segments: Vec<_> = program.segments().map(|s| (s.file_range(), s.address())).collect();
    let name = |address: &u64| {
        let at = address.checked_sub(mapping.start)?.checked_add(mapping.offset)?;
        let address = segments.iter().find_map(|((offset, size), address)| {
            let within = at.checked_sub(*offset).filter(|within| within < size)?;
            address.checked_add(within)
        })?;
        // Without the hash that keeps functions of the same name apart. What C has in its tables may have a version.
        let symbol = symbols.before(address)?.name();
        let shown = format!("{:#}", demangle(symbol.split('@').next().unwrap_or(symbol)));
        Some(Name { shown, symbol: symbol.to_owned() })
    };
    Ok(addresses.iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_function_to_be_found() -> u64 {
        std::hint::black_box(7)
    }

    #[test]
    fn functions_of_this_program_have_their_names() {
        let address = a_function_to_be_found as fn() -> u64 as usize as u64;
        let mappings = host::profile::code_mappings().unwrap();
        let program = mappings.iter().find(|m| (m.start..m.end).contains(&address)).unwrap();
        let names = of(program, Path::new("/proc/self/exe"), &[address, program.start - 1]).unwrap();
        let found = names[0].as_ref().unwrap();
        assert!(found.shown.ends_with("names::tests::a_function_to_be_found"), "{found:?}");
        assert_ne!(found.symbol, found.shown);
        assert_eq!(names[1], None);
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        let mapping = CodeMapping { start: 0, end: 10, offset: 0, path: "/".into() };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text");
        assert!(matches!(of(&mapping, &file, &[1]), Err(NameError::Open(_))));
        for text in [&b""[..], b"words", b"\x7fELF\x02\x01\x01 and no more"] {
            std::fs::write(&file, text).unwrap();
            assert!(matches!(of(&mapping, &file, &[1]), Err(NameError::Symbols(_))), "{text:?}");
        }
    }
}
