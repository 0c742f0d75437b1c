//! The one way in which upstream writes a quantity: in the notation it was read in (binary, decimal, exponent), with
//! the largest suffix that leaves a whole number.

use model::Quantity;

/// Decimal suffixes from 10⁻⁹ in steps of 1000.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Where the numbers without suffix are in that list.
const ONES: usize = 3;

/// Writes an amount that was read from a text. A `Quantity` knows binary and decimal suffixes; exponents are kept here.
pub(crate) fn canonical(text: &str, amount: Quantity) -> String {
    let plain = amount.to_string();
    let digits = plain.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let is_exponent = text.find(['e', 'E']).is_some_and(|at| at + 1 < text.len());
    let place = DECIMAL.iter().position(|suffix| *suffix == &plain[digits.len()..]);
    match place.filter(|place| is_exponent && *place != ONES) {
        Some(place) => format!("{digits}e{}", exponent(place)),
        None => plain,
    }
}

fn exponent(place: usize) -> i32 {
    i32::try_from(place).map_or(0, |place| (place - 3) * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_upstream_does() {
        for (text, expected) in [
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("12e6", "12e6"),
            ("0", "0"),
            ("1073741824", "1073741824"),
            ("-1000", "-1k"),
        ] {
            assert_eq!(canonical(text, text.parse().unwrap()), expected, "{text}");
        }
    }
}
