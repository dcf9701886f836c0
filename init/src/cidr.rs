//! Address ranges as people write them: parsed once here, exact from then on.
//!
//! `config` parses the command line into these types and `rules` turns them into matches. A value
//! of type [`Cidr`] has a prefix that fits its family and no host bits, so its text is the very
//! text that `iptables-save` prints.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// An address family: each has tables of its own in the kernel, and tools of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The longest prefix: a single address.
    fn bits(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// An address range such as `10.96.0.0/12` or `fd00:10:96::/112`.
///
/// Parsing refuses host bits instead of masking them: `10.96.7.0/12` is as likely a wrong prefix
/// as a wrong address, and a rule for a range that nobody meant is hard to find later. An address
/// without a prefix is that one address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    pub fn address(self) -> IpAddr {
        self.address
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn family(self) -> Family {
        family_of(self.address)
    }

    /// Every address of the family.
    pub fn everything(family: Family) -> Cidr {
        let address = match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Cidr { address, prefix: 0 }
    }

    pub fn is_everything(self) -> bool {
        self.prefix == 0
    }

    /// Whether every address of `other` is one of `self`.
    pub fn contains(self, other: Cidr) -> bool {
        self.family() == other.family()
            && self.prefix <= other.prefix
            && masked(other.address, self.prefix) == self.address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let (address_text, prefix_text) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr =
            address_text.parse().map_err(|_| CidrError::Address { text: text.to_owned() })?;
        // The kernel sends such packets through the IPv4 tables, where this range would not be.
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            return Err(CidrError::Mapped { text: text.to_owned(), ipv4: v4 });
        }
        let family = family_of(address);
        let prefix = match prefix_text {
            None => family.bits(),
            Some(prefix) => parse_prefix(prefix, family.bits())
                .ok_or_else(|| CidrError::Prefix { text: text.to_owned(), family })?,
        };
        let cidr = Cidr { address: masked(address, prefix), prefix };
        if cidr.address != address {
            return Err(CidrError::HostBits { text: text.to_owned(), range: cidr });
        }
        Ok(cidr)
    }
}

/// Why a text is not an address range.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CidrError {
    #[error("`{text}` is not an address range: write it like 10.96.0.0/12 or fd00:10:96::/112")]
    Address { text: String },
    #[error("`{text}`: the prefix of an {family} range is a number from 0 to {}", family.bits())]
    Prefix { text: String, family: Family },
    #[error(
        "`{text}` has bits set behind its prefix: write {range} for the range, or {}/{} for the \
         one address",
        text.split('/').next().unwrap_or_default(), range.family().bits()
    )]
    HostBits { text: String, range: Cidr },
    #[error("`{text}` is an IPv4 range in IPv6's clothes: write it with the address {ipv4}")]
    Mapped { text: String, ipv4: Ipv4Addr },
    #[error("`*` stands for every address and is allowed among the included ranges only")]
    Everything,
}

/// Ranges separated by commas; none for an empty text, so that an empty environment variable is
/// the same as none. Sorted, and without those that another one contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrList(Vec<Cidr>);

impl CidrList {
    pub fn new(cidrs: impl IntoIterator<Item = Cidr>) -> CidrList {
        let mut sorted: Vec<Cidr> = cidrs.into_iter().collect();
        sorted.sort_unstable();
        let mut kept: Vec<Cidr> = Vec::new();
        for cidr in sorted {
            // A wider range sorts ahead of those in it: their addresses are not smaller, and with
            // the same address the shorter prefix comes first.
            if !kept.iter().any(|wider| wider.contains(cidr)) {
                kept.push(cidr);
            }
        }
        CidrList(kept)
    }

    pub fn of(&self, family: Family) -> impl Iterator<Item = Cidr> + '_ {
        self.0.iter().copied().filter(move |cidr| cidr.family() == family)
    }

    pub fn iter(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one range of this list contains the whole of `cidr`.
    pub fn contains(&self, cidr: Cidr) -> bool {
        self.0.iter().any(|range| range.contains(cidr))
    }
}

impl fmt::Display for CidrList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, cidr) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{cidr}")?;
        }
        Ok(())
    }
}

impl FromStr for CidrList {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<CidrList, CidrError> {
        let mut cidrs = Vec::new();
        for entry in entries(text) {
            if entry == "*" {
                return Err(CidrError::Everything);
            }
            cidrs.push(entry.parse()?);
        }
        Ok(CidrList::new(cidrs))
    }
}

/// The ranges to include beside the Service ranges: like [`CidrList`], and `*` for every address.
///
/// `*` is kept apart from `0.0.0.0/0,::/0`: those who write `::/0` ask for IPv6 and are told when
/// it cannot be had, while `*` on a kernel without IPv6 has nothing to ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Includes {
    pub everything: bool,
    pub cidrs: CidrList,
}

impl FromStr for Includes {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Includes, CidrError> {
        let mut everything = false;
        let mut cidrs = Vec::new();
        for entry in entries(text) {
            if entry == "*" {
                everything = true;
            } else {
                cidrs.push(entry.parse()?);
            }
        }
        Ok(Includes { everything, cidrs: CidrList::new(cidrs) })
    }
}

/// The entries of a comma-separated list, without blanks around them and without empty ones.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}

/// Digits only: `u8::from_str` would also take `+8`.
fn parse_prefix(text: &str, most: u8) -> Option<u8> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|prefix| *prefix <= most)
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests;
