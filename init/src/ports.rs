//! Ports and port ranges as people write them, and as iptables' `multiport` match takes them.
//!
//! `config` parses the excluded ports into a [`PortList`]; `rules` asks it for the matches.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use thiserror::Error;

use crate::cidr::entries;

/// A multiport match takes 15 ports, and a range counts as two.
const MULTIPORT_SLOTS: usize = 15;

/// The ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    fn slots(self) -> usize {
        if self.first == self.last { 1 } else { 2 }
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    fn from_str(text: &str) -> Result<PortRange, PortError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first, text)?, port(last, text)?);
        if first > last {
            return Err(PortError::Reversed { text: text.to_owned(), first: last, last: first });
        }
        Ok(PortRange { first, last })
    }
}

/// Why a text is not a port or a range of ports.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PortError {
    #[error("`{text}` is not a port: write a number from 1 to 65535, or a range like 8000-8010")]
    NotAPort { text: String },
    #[error("`{text}` ends before it begins: write {first}-{last}")]
    Reversed { text: String, first: NonZeroU16, last: NonZeroU16 },
}

/// Ports and ranges separated by commas; none for an empty text. Sorted, with ranges that touch
/// or overlap made one, so that the same ports always make the same rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortList(Vec<PortRange>);

impl PortList {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values of as many `--dports` as are needed, each within what multiport takes.
    pub fn multiports(&self) -> Vec<String> {
        let mut values = Vec::new();
        let mut value = String::new();
        let mut slots = 0;
        for range in &self.0 {
            if slots + range.slots() > MULTIPORT_SLOTS {
                values.push(std::mem::take(&mut value));
                slots = 0;
            }
            if !value.is_empty() {
                value.push(',');
            }
            value.push_str(&written(*range, ':'));
            slots += range.slots();
        }
        if !value.is_empty() {
            values.push(value);
        }
        values
    }
}

impl fmt::Display for PortList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<String> = self.0.iter().map(|range| written(*range, '-')).collect();
        f.write_str(&ranges.join(","))
    }
}

impl FromStr for PortList {
    type Err = PortError;

    fn from_str(text: &str) -> Result<PortList, PortError> {
        let mut ranges = entries(text).map(str::parse).collect::<Result<Vec<PortRange>, _>>()?;
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(before) if range.first.get() <= before.last.get().saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Ok(PortList(merged))
    }
}

fn port(text: &str, whole: &str) -> Result<NonZeroU16, PortError> {
    let text = text.trim();
    // `from_str` of a number would also take `+80`.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(PortError::NotAPort { text: whole.to_owned() }),
    }
}

fn written(range: PortRange, separator: char) -> String {
    if range.first == range.last {
        range.first.to_string()
    } else {
        format!("{}{separator}{}", range.first, range.last)
    }
}

#[cfg(test)]
mod tests;
