//! Amounts of CPU and memory as Kubernetes writes them: `100m`, `0.5`, `64Mi`, `1e3`.
//!
//! `annotations` and `config` parse them, so that a wrong one is named here, by its annotation,
//! and not by the API server as a field of a container that nobody wrote.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An amount, as it was written. Compared by its value: `1` equals `1000m`.
#[derive(Clone, Debug)]
pub struct Quantity {
    text: String,
    /// In billionths, the smallest unit that there is.
    nano: u128,
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> std::cmp::Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// A text that is no amount.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{text}` is not an amount: write it like 100m or 0.5 for CPUs, 64Mi for memory")]
pub struct QuantityError {
    text: String,
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        let text = text.trim();
        match nano(text) {
            Some(nano) if nano <= MOST => Ok(Quantity { text: text.to_owned(), nano }),
            _ => Err(QuantityError { text: text.to_owned() }),
        }
    }
}

/// The API's limit: 2^63 - 1.
const MOST: u128 = (i64::MAX as u128) * UNIT;

const UNIT: u128 = 1_000_000_000;

fn nano(text: &str) -> Option<u128> {
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_ends);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // `parse` also refuses a second point.
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits.checked_mul(factor(suffix)?)? / scale)
}

/// What the suffix multiplies by, in billionths.
fn factor(suffix: &str) -> Option<u128> {
    let binary = |power: u32| 1024_u128.checked_pow(power)?.checked_mul(UNIT);
    let decimal = |power: u32| 10_u128.checked_pow(power);
    match suffix {
        "n" => decimal(0),
        "u" => decimal(3),
        "m" => decimal(6),
        "" => decimal(9),
        "k" => decimal(12),
        "M" => decimal(15),
        "G" => decimal(18),
        "T" => decimal(21),
        "P" => decimal(24),
        "E" => decimal(27),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            decimal(u32::try_from(exponent.checked_add(9)?).ok()?)
        }
    }
}

#[cfg(test)]
mod tests;
