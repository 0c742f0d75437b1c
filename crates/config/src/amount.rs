//! The one way in which upstream writes a quantity: in the notation it was read in (binary, decimal, exponent), with
//! the largest suffix that leaves a whole number.

use model::Quantity;

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// From 10⁻⁹ in steps of 1000.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Where the numbers without suffix are in that list.
const ONES: usize = 3;

/// Writes an amount that was read from a text.
pub(crate) fn canonical(text: &str, amount: Quantity) -> String {
    let (mantissa, mut place) = parts(amount);
    if text.ends_with('i') && place == ONES && mantissa.abs() >= 1024 {
        let (number, power) = shorten(mantissa, 1024, BINARY.len() - 1);
        return format!("{number}{}", BINARY[power]);
    }
    let (number, steps) = shorten(mantissa, 1000, DECIMAL.len() - 1 - place);
    place += steps;
    let is_exponent = text.find(['e', 'E']).is_some_and(|at| at + 1 < text.len());
    match (is_exponent, place) {
        (_, ONES) => number.to_string(),
        (true, place) => format!("{number}e{}", exponent(place)),
        (false, place) => format!("{number}{}", DECIMAL[place]),
    }
}

fn exponent(place: usize) -> i32 {
    i32::try_from(place).map_or(0, |place| (place - 3) * 3)
}

/// A whole number and the place of its unit in the list of decimal suffixes.
fn parts(amount: Quantity) -> (i128, usize) {
    let plain = amount.to_string();
    let digits = plain.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let place = DECIMAL.iter().position(|suffix| *suffix == &plain[digits.len()..]).unwrap_or(ONES);
    (digits.parse().unwrap_or(0), place)
}

/// Divides as often as nothing is lost, but not more than so many times.
fn shorten(mut number: i128, by: i128, most: usize) -> (i128, usize) {
    let mut times = 0;
    while number != 0 && number % by == 0 && times < most {
        number /= by;
        times += 1;
    }
    (number, times)
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
