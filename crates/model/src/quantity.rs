//! Amounts as Kubernetes writes them: `250m`, `64Mi`, `1.5`, `1e3`
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::{Deserialize, Serialize};

const NANO: i128 = 1_000_000_000;

/// An exact amount. Upstream keeps nine decimal places, so does this; anything finer is rounded
/// up, as upstream does. Amounts compare by what they are, however they are written.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Quantity {
    #[serde(with = "nanos_as_text")]
    nanos: i128,
    /// Whether it was written with a binary suffix, and is to be written so again.
    is_binary: bool,
}

/// More digits than most readers of JSON take for a number.
mod nanos_as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(nanos: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(nanos)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a quantity: want a number with an optional suffix such as m, k, Mi, G or e3")]
pub struct ParseQuantityError {
    text: String,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self::decimal(0);

    const fn decimal(nanos: i128) -> Self {
        Self { nanos, is_binary: false }
    }

    /// A whole amount, such as bytes or cores.
    pub fn from_units(units: i64) -> Self {
        Self::decimal(i128::from(units) * NANO)
    }

    /// Thousandths, such as millicores.
    pub fn from_millis(millis: i64) -> Self {
        Self::decimal(i128::from(millis) * (NANO / 1000))
    }

    /// The amount in whole units, rounded up as upstream's `Value()`.
    pub fn units(self) -> i64 {
        clamp(div_ceil(self.nanos, NANO))
    }

    /// The amount in thousandths, rounded up as upstream's `MilliValue()`.
    pub fn millis(self) -> i64 {
        clamp(div_ceil(self.nanos, NANO / 1000))
    }

    /// Whether it is exactly zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// The sum, saturating, written as the first of the two that is not zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos), is_binary: self.style(other) }
    }

    /// The difference, saturating; may be negative. Written as a sum would be.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos), is_binary: self.style(other) }
    }

    fn style(self, other: Self) -> bool {
        if self.nanos == 0 { other.is_binary } else { self.is_binary }
    }

    /// Written with binary suffixes where exact (`64Mi`), as suits memory.
    pub fn to_binary_api(self) -> ApiQuantity {
        Self { is_binary: true, ..self }.to_api()
    }

    /// Written with decimal suffixes where exact (`250m`, `2k`), however it was written before.
    pub fn to_decimal_api(self) -> ApiQuantity {
        Self { is_binary: false, ..self }.to_api()
    }

    /// Written in the canonical form, in the notation it was read in.
    pub fn to_api(self) -> ApiQuantity {
        ApiQuantity(self.to_string())
    }

    /// Parses the API's form; an unparsable amount counts as absent, since the API server has
    /// validated what it stores.
    pub fn from_api(quantity: &ApiQuantity) -> Option<Self> {
        quantity.0.parse().ok()
    }
}

const BINARY_SUFFIXES: [(&str, i128); 6] =
    [("Ei", 1 << 60), ("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

const DECIMAL_SUFFIXES: [(&str, i128); 9] = [
    ("E", 1_000_000_000_000_000_000 * NANO),
    ("P", 1_000_000_000_000_000 * NANO),
    ("T", 1_000_000_000_000 * NANO),
    ("G", 1_000_000_000 * NANO),
    ("M", 1_000_000 * NANO),
    ("k", 1000 * NANO),
    ("", NANO),
    ("m", NANO / 1000),
    ("u", NANO / 1_000_000),
];

/// The canonical form: the largest suffix that leaves a whole number.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary = BINARY_SUFFIXES.iter().map(|(suffix, factor)| (*suffix, factor * NANO));
        let binary = binary.filter(|_| self.is_binary);
        // What has no whole binary form has a decimal one: below 1024, or not of whole units.
        let decimal = DECIMAL_SUFFIXES.into_iter().filter(|(suffix, _)| !self.is_large_binary(suffix));
        match binary.chain(decimal).find(|(_, factor)| self.nanos % factor == 0) {
            Some((suffix, factor)) => write!(f, "{}{suffix}", self.nanos / factor),
            None => write!(f, "{}n", self.nanos),
        }
    }
}

impl Quantity {
    /// Whether a decimal suffix would stand for thousands of what is written in binary.
    fn is_large_binary(&self, suffix: &str) -> bool {
        self.is_binary && self.nanos % NANO == 0 && matches!(suffix, "E" | "P" | "T" | "G" | "M" | "k")
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseQuantityError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (numerator, denominator) = scale(suffix)?;
    let mut mantissa: i128 = 0;
    let mut decimals: u32 = 0;
    for digit in whole.bytes() {
        mantissa = mantissa.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
    }
    // More than eighteen decimal places cannot change the result after rounding up to nano,
    // except through being non-zero at all, which the last kept digit stands in for.
    for digit in fraction.bytes().take(18) {
        mantissa = mantissa.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        decimals += 1;
    }
    let divisor = 10_i128.pow(decimals).checked_mul(denominator)?;
    let magnitude = match mantissa.checked_mul(numerator).and_then(|m| m.checked_mul(NANO)) {
        Some(scaled) => div_ceil(scaled, divisor),
        None => (mantissa / divisor).saturating_mul(numerator).saturating_mul(NANO),
    };
    let nanos = if negative { -magnitude } else { magnitude };
    Some(Quantity { nanos, is_binary: suffix.ends_with('i') })
}

/// The factor a suffix stands for, as numerator and denominator.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power =
                10_i128.checked_pow(exponent.unsigned_abs()).filter(|p| *p <= 1_000_000_000_000_000_000)?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

fn div_ceil(value: i128, divisor: i128) -> i128 {
    value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_notation() {
        for (text, units, millis) in [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("250m", 1, 250),
            ("1.5", 2, 1500),
            (".5", 1, 500),
            ("64Mi", 67_108_864, 67_108_864_000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("1k", 1000, 1_000_000),
            ("1e3", 1000, 1_000_000),
            ("1E3", 1000, 1_000_000),
            ("12e-1", 2, 1200),
            ("1E", 1_000_000_000_000_000_000, i64::MAX),
            ("100n", 1, 1),
            ("-1", -1, -1000),
            ("+2", 2, 2000),
        ] {
            let parsed: Quantity = text.parse().unwrap();
            assert_eq!((parsed.units(), parsed.millis()), (units, millis), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "-", "Mi", "1.2.3", "1 Gi", "1mi", "1e", "0x10", "1e99999", "é"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["0", "1", "250m", "1500m", "7u", "3n", "67108864", "128M", "64Mi", "3Ki", "2k", "-5Gi"] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), text);
        }
        assert_eq!("67108864".parse::<Quantity>().unwrap().to_binary_api().0, "64Mi");
        assert_eq!("1000".parse::<Quantity>().unwrap().to_binary_api().0, "1000");
        assert_eq!("64Mi".parse::<Quantity>().unwrap().to_decimal_api().0, "67108864");
    }

    /// What upstream's library makes of each.
    #[test]
    fn writes_the_canonical_form() {
        for (text, want) in [
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1500", "1500"),
            ("8000", "8k"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("2Ki", "2Ki"),
            ("0.5Ki", "512"),
            ("1000Ki", "1000Ki"),
            ("0.0005Ki", "512m"),
            ("134217728500m", "134217728500m"),
            ("8383852544", "8383852544"),
            ("100e-3", "100m"),
            ("0Mi", "0"),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), want, "{text}");
        }
        let [a, b, none]: [Quantity; 3] = ["1Mi", "1000000", "0"].map(|text| text.parse().unwrap());
        assert_eq!(a.plus(b).to_string(), "2048576");
        assert_eq!(b.plus(b).to_string(), "2M");
        assert_eq!(none.plus(a).to_string(), "1Mi");
    }
}
