//! Which known name an unknown one was probably meant to be.

/// Bytes of the longest name worth comparing; no field, flag or gate is that long.
const LONGEST: usize = 100;

/// The candidate with the fewest edits between it and `name`, if few enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing that long is a slip, and comparing takes time.
    if name.len() > LONGEST {
        return None;
    }
    let limit = 1 + name.chars().count() / 4;
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance without regard to case.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_slips_only() {
        let known = ["maxPods", "podCIDR", "port"];
        for (name, expected) in
            [("maxPod", Some("maxPods")), ("maxpods", Some("maxPods")), ("prot", Some("port")), ("zzz", None)]
        {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
    }
}
