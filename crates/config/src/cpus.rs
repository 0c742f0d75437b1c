//! Lists of CPUs, as the kernel and the configuration write them.

use std::collections::BTreeSet;

/// CPUs a machine may have; a list that names more is a slip.
const MOST_CPUS: u32 = 1 << 16;

/// Reads a list such as `0-3,7`; an empty text is an empty list.
///
/// # Errors
/// What is wrong with it.
pub fn cpu_list(text: &str) -> Result<BTreeSet<u32>, String> {
    let mut all = BTreeSet::new();
    if text.is_empty() {
        return Ok(all);
    }
    let number = |part: &str| match part.strip_prefix('+').unwrap_or(part).parse::<u32>() {
        Ok(cpu) if cpu < MOST_CPUS => Ok(cpu),
        _ => Err(format!("{text:?} is no list of CPUs such as \"0-3,7\": {part:?} is no CPU")),
    };
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{range:?} starts after its end"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let read = |text| cpu_list(text).map(|cpus| cpus.into_iter().collect::<Vec<_>>());
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("7,0-2,1"), Ok(vec![0, 1, 2, 7]));
        for bad in ["a", "3-1", "0-", "-1", "1,,2", "0-65536", " 1"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
