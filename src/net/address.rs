//! Addresses of IP packets and of radio frames, and the ranges of them that a Security Association accepts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version of an IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// 4 or 6.
    pub fn number(self) -> u8 {
        match self {
            IpVersion::V4 => 4,
            IpVersion::V6 => 6,
        }
    }

    /// Bits of an address: 32 or 128.
    pub fn address_bits(self) -> u32 {
        match self {
            IpVersion::V4 => 32,
            IpVersion::V6 => 128,
        }
    }

    /// The Next Header value of a packet of this version (RFC 4303 §2.6): 4 or 41.
    pub fn next_header(self) -> u8 {
        match self {
            IpVersion::V4 => 4,
            IpVersion::V6 => 41,
        }
    }

    /// The version of an address.
    pub fn of(address: IpAddr) -> IpVersion {
        match address {
            IpAddr::V4(_) => IpVersion::V4,
            IpAddr::V6(_) => IpVersion::V6,
        }
    }
}

/// An address as an integer of [`IpVersion::address_bits`] bits.
pub fn address_value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// An address of IEEE 802.15.4 or of Bluetooth LE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkAddress {
    /// The 16-bit short address.
    Short(u16),
    /// The EUI-64, first byte first as it is written.
    Extended([u8; 8]),
    /// The device address of Bluetooth LE, first byte first as it is written.
    Bluetooth([u8; 6]),
}

/// Prints the form used in key files.
impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            LinkAddress::Short(short) => return write!(f, "0x{short:04x}"),
            LinkAddress::Extended(bytes) => bytes,
            LinkAddress::Bluetooth(bytes) => bytes,
        };
        for (index, byte) in bytes.iter().enumerate() {
            let colon = if index > 0 { ":" } else { "" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The outer addresses that an SA matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Every address of either version.
    Any,
    /// The addresses that share the first `len` bits with `address` (32 or 128: this address only).
    Prefix {
        /// The address. The bits after the prefix are 0.
        address: IpAddr,
        /// Prefix length in bits.
        len: u8,
    },
}

impl Selector {
    /// One address.
    pub fn address(address: IpAddr) -> Selector {
        Selector::Prefix { address, len: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The addresses that share the first `len` bits with this one.
    pub fn prefix(address: IpAddr, len: u8) -> Selector {
        let address = match address {
            IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & !u32::MAX.checked_shr(len.into()).unwrap_or(0)).into(),
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::MAX.checked_shr(len.into()).unwrap_or(0)).into(),
        };
        Selector::Prefix { address, len }
    }

    /// Whether every address of a version matches.
    pub fn accepts_every(self, version: IpVersion) -> bool {
        match self {
            Selector::Any => true,
            Selector::Prefix { address, len } => len == 0 && IpVersion::of(address) == version,
        }
    }

    /// Whether `address` matches.
    pub fn accepts(self, address: IpAddr) -> bool {
        self.accepts_value(IpVersion::of(address), address_value(address))
    }

    /// Whether the address of a version with this [value](address_value) matches.
    // By reference, because copying a selector takes longer than the comparison.
    #[inline]
    pub fn accepts_value(&self, version: IpVersion, value: u128) -> bool {
        match (self, version) {
            (Selector::Any, _) => true,
            (Selector::Prefix { address: IpAddr::V4(own), len }, IpVersion::V4) => {
                (u32::from(*own) ^ value as u32).leading_zeros() >= u32::from(*len)
            }
            (Selector::Prefix { address: IpAddr::V6(own), len }, IpVersion::V6) => {
                (u128::from(*own) ^ value).leading_zeros() >= u32::from(*len)
            }
            _ => false,
        }
    }

    /// Whether both may be addresses of the same IP header: they have the same version.
    pub fn is_same_version_as(self, other: Selector) -> bool {
        match (self, other) {
            (Selector::Prefix { address: a, .. }, Selector::Prefix { address: b, .. }) => a.is_ipv4() == b.is_ipv4(),
            _ => true,
        }
    }

    /// The only address that matches, if there is only one.
    pub fn single(self) -> Option<IpAddr> {
        match self {
            Selector::Prefix { address, len } if Selector::address(address) == self && len > 0 => Some(address),
            _ => None,
        }
    }

    /// Whether any address matches both.
    pub fn overlaps(self, other: Selector) -> bool {
        match (self, other) {
            (Selector::Any, _) | (_, Selector::Any) => true,
            (Selector::Prefix { address: a, len: a_len }, Selector::Prefix { address: b, len: b_len }) => {
                if a_len <= b_len { self.accepts(b) } else { other.accepts(a) }
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Any => f.write_str("any"),
            Selector::Prefix { address, len } => match self.single() {
                Some(address) => address.fmt(f),
                None => write!(f, "{address}/{len}"),
            },
        }
    }
}

/// Link-layer source and destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LinkAddresses {
    /// The sender.
    pub src: Option<LinkAddress>,
    /// The receiver.
    pub dst: Option<LinkAddress>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_accepts_its_addresses_and_overlaps_longer_prefixes() {
        let net = Selector::Prefix { address: "2001:db8::".parse().unwrap(), len: 32 };
        let host = Selector::address("2001:db8::1".parse().unwrap());
        let other = Selector::address("2001:db9::1".parse().unwrap());
        let v4 = Selector::Prefix { address: "0.0.0.0".parse().unwrap(), len: 0 };
        assert!(net.accepts("2001:db8:ffff::1".parse().unwrap()));
        assert!(!net.accepts("2001:db9::".parse().unwrap()));
        assert!(!v4.accepts("::1".parse().unwrap()));
        assert!(v4.accepts("255.1.2.3".parse().unwrap()));
        assert!(net.overlaps(host) && host.overlaps(net) && !net.overlaps(other));
        let address = "2001:db8::1".parse().unwrap();
        assert_eq!([32, 128].map(|len| Selector::prefix(address, len)), [net, host]);
        assert_eq!(Selector::prefix("255.1.2.3".parse().unwrap(), 0), v4);
        assert!(!net.overlaps(v4) && Selector::Any.overlaps(v4));
    }
}
