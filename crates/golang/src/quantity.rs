//! An amount of Kubernetes as its library in Go holds it in memory, which depends on how it was written: a number and a
//! power of ten where both are small, a decimal of any size otherwise, and the text if it needs no rewriting.
//!
//! Numbers beyond 10²⁹ are not followed: their text stands for them.

use std::fmt::{self, Write};

/// The finest power of ten that upstream keeps.
const NANO: i32 = -9;
/// Resources are rounded up to thousandths.
const MILLI: i32 = -3;
/// Decimal digits that certainly fit into 64 bits.
const DIGITS: i32 = 18;
/// The largest amount with a binary suffix.
const LARGEST: u128 = i64::MAX as u128;

/// What upstream makes of an amount.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Quantity {
    number: Number,
    /// The text, if upstream would write the same.
    text: String,
    format: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// This many times ten to the power of.
    Small(i64, i32),
    Large(Decimal),
}

impl Default for Number {
    fn default() -> Self {
        Self::Small(0, 0)
    }
}

/// `unscaled` divided by ten to the power of `scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    unscaled: u128,
    scale: i32,
}

impl Decimal {
    /// With this scale, rounded away from zero.
    fn round(self, scale: i32) -> Option<Self> {
        let shift = scale.checked_sub(self.scale)?;
        let factor = 10_u128.checked_pow(shift.unsigned_abs())?;
        let unscaled = match shift {
            0.. => self.unscaled.checked_mul(factor)?,
            _ => self.unscaled.div_ceil(factor),
        };
        Some(Self { unscaled, scale, ..self })
    }
}

/// The decimal suffixes and their powers of ten.
const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
/// The binary suffixes and their powers of two.
const BINARY_SUFFIXES: [(&str, i32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// The parts of an amount as it is written.
struct Parts<'a> {
    is_negative: bool,
    /// Digits before the point, without leading zeros, but at least one.
    whole: &'a str,
    /// Digits behind it.
    fraction: &'a str,
    /// All of the number, with its sign.
    number: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let significant = unsigned.trim_start_matches('0');
        let digits = |text: &'a str| -> (&'a str, &'a str) {
            text.split_at(text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
        };
        let (whole, rest) = digits(significant);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), digits);
        Self {
            is_negative: text.starts_with('-'),
            whole: if whole.is_empty() { "0" } else { whole },
            fraction,
            number: if significant.is_empty() { "0" } else { &text[..text.len() - suffix.len()] },
            suffix,
        }
    }
}

/// Base and exponent of what stands behind a number.
fn suffix(text: &str) -> Option<(u32, i32, &'static str)> {
    let find = |table: &[(&str, i32)]| table.iter().find(|(name, _)| *name == text).map(|found| found.1);
    if let Some(exponent) = find(&DECIMAL_SUFFIXES) {
        return Some((10, exponent, "DecimalSI"));
    }
    if let Some(exponent) = find(&BINARY_SUFFIXES) {
        return Some((2, exponent, "BinarySI"));
    }
    let exponent = text.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((10, exponent, "DecimalExponent"))
}

/// A number times a power of ten, when that is a whole number.
fn whole(digits: u128, exponent: i32) -> Option<u128> {
    let factor = 10_u128.checked_pow(exponent.unsigned_abs())?;
    match exponent {
        0.. => digits.checked_mul(factor),
        _ => digits.is_multiple_of(factor).then_some(digits / factor),
    }
}

/// A number without a factor, and how often it had it. Not for zero.
fn without_factors(mut number: u128, factor: u128) -> (u128, i32) {
    let mut times = 0;
    while number.is_multiple_of(factor) {
        number /= factor;
        times += 1;
    }
    (number, times)
}

impl Quantity {
    /// The amount that a text stands for.
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        Self::read(text).unwrap_or_else(|| Self { text: text.to_owned(), ..Self::default() })
    }

    /// The amount that a text stands for; `None` when it stands for none, or for one that is not followed here.
    pub fn parse(text: &str) -> Option<Self> {
        Some(text.trim()).filter(|text| !text.is_empty()).and_then(Self::read)
    }

    /// The amount as that of a resource.
    pub fn of_resource(text: &str) -> Self {
        let quantity = Self::of(text);
        let rounded = match quantity.number {
            Number::Small(value, scale) if scale < MILLI => {
                let factor = 10_i64.checked_pow(MILLI.abs_diff(scale));
                let (whole, rest) = factor.map_or((0, value), |factor| (value / factor, value % factor));
                Number::Small(whole + rest.signum(), MILLI)
            }
            Number::Large(decimal) => match decimal.round(-MILLI) {
                Some(decimal) => Number::Large(decimal),
                None => return quantity,
            },
            Number::Small(..) => return quantity,
        };
        Self { number: rounded, text: String::new(), ..quantity }
    }

    fn read(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self { text: text.to_owned(), format: "DecimalSI", ..Self::default() });
        }
        let parts = Parts::of(text);
        let (base, exponent, format) = suffix(parts.suffix)?;
        if let Some(small) = Self::small(text, &parts, base, exponent, format) {
            return Some(small);
        }
        Self::large(&parts, base, exponent, format)
    }

    /// Upstream's way for numbers with few digits. That text which it keeps.
    fn small(text: &str, parts: &Parts<'_>, base: u32, exponent: i32, format: &'static str) -> Option<Self> {
        let count = |digits: &str| i32::try_from(digits.len()).ok();
        let (whole, fraction) = (count(parts.whole)?, count(parts.fraction)?);
        let (mantissa, scale, room) = match base {
            10 => (1, exponent, DIGITS - (whole + fraction)),
            // Binary exponents are multiples of ten, each of which takes three digits.
            _ if fraction == 0 => {
                (1_i64.checked_shl(exponent.unsigned_abs())?, 0, 14 - whole - exponent / 10 * 3)
            }
            _ => return None,
        };
        let scale = scale.checked_sub(fraction)?;
        if room < 0 || scale < NANO {
            return None;
        }
        let digits = format!("{}{}", parts.whole, parts.fraction);
        let value: i64 = digits.parse().ok()?;
        let product = value.checked_mul(mantissa)?;
        let is_kept = match base {
            10 => scale % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0'),
            _ => value & 7 != 0,
        };
        let number = Number::Small(if parts.is_negative { -product } else { product }, scale);
        Some(Self { number, text: if is_kept { text.to_owned() } else { String::new() }, format })
    }

    fn large(parts: &Parts<'_>, base: u32, exponent: i32, format: &'static str) -> Option<Self> {
        let digits: String = parts.number.bytes().filter(u8::is_ascii_digit).map(char::from).collect();
        let mut number = Decimal {
            is_negative: parts.is_negative,
            unscaled: digits.parse().ok()?,
            scale: i32::try_from(parts.fraction.len()).ok()?,
        };
        match base {
            10 => number.scale = number.scale.checked_sub(exponent)?,
            _ => {
                number.unscaled = number.unscaled.checked_mul(1_u128.checked_shl(exponent.unsigned_abs())?)?
            }
        }
        if number.unscaled == 0 {
            return Some(Self {
                number: Number::Large(Decimal { is_negative: false, ..number }),
                text: String::new(),
                format,
            });
        }
        number = number.round(-NANO)?;
        let one = 10_u128.pow(NANO.unsigned_abs());
        let mut format = format;
        if base == 2 && number.unscaled > LARGEST * one {
            number = Decimal { unscaled: LARGEST, scale: 0, ..number };
        } else if base == 2 && number.unscaled < one {
            format = "DecimalSI";
        }
        Some(Self { number: Number::Large(number), text: String::new(), format })
    }

    /// The amount as upstream writes it: the canonical form, in the notation it was read in.
    pub fn canonical(&self) -> String {
        if !self.text.is_empty() {
            return self.text.clone();
        }
        let (is_negative, digits, exponent) = match self.number {
            Number::Small(value, scale) => (value < 0, u128::from(value.unsigned_abs()), scale),
            Number::Large(Decimal { is_negative, unscaled, scale }) => (is_negative, unscaled, -scale),
        };
        if digits == 0 {
            return "0".to_owned();
        }
        let sign = if is_negative { "-" } else { "" };
        if self.format == "BinarySI"
            && let Some(whole) = whole(digits, exponent).filter(|whole| *whole >= 1024)
        {
            let (whole, times) = without_factors(whole, 1024);
            let suffix = BINARY_SUFFIXES.iter().find(|(_, power)| *power == 10 * times);
            return format!("{sign}{whole}{}", suffix.map_or("", |(name, _)| name));
        }
        let (mut digits, times) = without_factors(digits, 10);
        let mut exponent = exponent + times;
        while exponent % 3 != 0 {
            digits *= 10;
            exponent -= 1;
        }
        if self.format == "DecimalExponent" {
            return if exponent == 0 {
                format!("{sign}{digits}")
            } else {
                format!("{sign}{digits}e{exponent}")
            };
        }
        // What is beyond them loses its power of ten upstream.
        let suffix = DECIMAL_SUFFIXES.iter().find(|(_, power)| *power == exponent);
        format!("{sign}{digits}{}", suffix.map_or("", |(name, _)| name))
    }

    /// All of it, in the order of upstream's fields.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn print(&self, out: &mut impl Write) -> fmt::Result {
        let (value, scale) = match self.number {
            Number::Small(value, scale) => (value, scale),
            Number::Large(_) => (0, 0),
        };
        write!(out, "{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} ")?;
        out.write_str("d:(resource.infDecAmount){Dec:(*inf.Dec)")?;
        match self.number {
            Number::Small(..) => out.write_str("<nil>")?,
            Number::Large(Decimal { is_negative, unscaled, scale }) => {
                write!(out, "{{unscaled:(big.Int){{neg:(bool){is_negative} abs:(big.nat)")?;
                // The words of a number, the lowest first; none for zero.
                match (unscaled as u64, (unscaled >> 64) as u64) {
                    (0, 0) => out.write_str("<nil>")?,
                    (low, 0) => write!(out, "[{low}]")?,
                    (low, high) => write!(out, "[{low} {high}]")?,
                }
                write!(out, "}} scale:(inf.Scale){scale}}}")?;
            }
        }
        write!(out, "}} s:(string){} Format:(resource.Format){}}}", self.text, self.format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither more than the types hold nor no digits may end in a panic.
    #[test]
    fn odd_amounts_are_written_somehow() {
        let long = "9".repeat(100);
        for text in
            ["", ".", "-", "+", "e", "1e", "1e99999999999", "1e2147483647", "1e-2147483648", "KiKi", &long]
        {
            let mut written = String::new();
            Quantity::of(text).print(&mut written).unwrap();
            Quantity::of_resource(text).print(&mut written).unwrap();
            assert_eq!(written.matches("{i:").count(), 2, "{text}: {written}");
        }
    }
}
