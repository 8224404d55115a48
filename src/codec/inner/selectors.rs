//! Address and port fields that the traffic selectors limit to a range.

use crate::bits;
use crate::codec::restored::{Mismatch, MismatchReason};
use crate::context::{Range, TrafficSelectors};
use crate::net::{IpVersion, ipv4, ipv6};

/// A field that the traffic selectors restrict to a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SelectorField {
    /// Its name in messages.
    pub field: &'static str,
    /// Offset in its header, in bits.
    pub at: usize,
    /// Its length in bits.
    pub bits: usize,
    /// The selected values.
    pub range: Range,
    /// A rule already checks the whole range, because the range is a prefix.
    pub is_prefix: bool,
}

/// Source and destination address in an IP header of `version`, if the rules check only the common prefix of a
/// range.
pub(crate) fn addresses(selectors: &TrafficSelectors, version: IpVersion) -> [SelectorField; 2] {
    let [src, dst] = match version {
        IpVersion::V4 => [ipv4::SRC_OFFSET, ipv4::DST_OFFSET],
        IpVersion::V6 => [ipv6::SRC_OFFSET, ipv6::DST_OFFSET],
    };
    let bits = version.address_bits();
    [SelectorField::new("src", src * 8, bits, selectors.src), SelectorField::new("dst", dst * 8, bits, selectors.dst)]
}

/// Source and destination port in a transport header, if the rules check only the common prefix of a range.
pub(crate) fn ports(selectors: &TrafficSelectors) -> [SelectorField; 2] {
    [
        SelectorField::new("src_port", 0, 16, selectors.src_port),
        SelectorField::new("dst_port", 16, 16, selectors.dst_port),
    ]
}

/// The fields that the selectors restrict and that no rule checks completely.
pub(crate) fn limits(selected: [SelectorField; 2]) -> Box<[SelectorField]> {
    let limiting = selected.into_iter().filter(|field| field.range != Range::whole(field.bits as u32));
    limiting.map(|field| SelectorField { is_prefix: false, ..field }).collect()
}

impl SelectorField {
    fn new(field: &'static str, at: usize, bits: u32, range: Range) -> SelectorField {
        let behind_prefix = bits - range.common_prefix(bits);
        let host = u128::MAX.checked_shr(128 - behind_prefix).unwrap_or(0);
        let is_prefix = range.start & host == 0 && range.end & host == host;
        SelectorField { field, at, bits: bits as usize, range, is_prefix }
    }

    /// The value in `header`, if it is outside the range.
    pub(super) fn outside(&self, header: &[u8]) -> Option<u128> {
        bits::read(header, self.at, self.bits).filter(|value| !self.range.contains(*value))
    }

    pub(super) fn mismatch(&self, got: u128) -> Mismatch {
        let Range { start, end } = self.range;
        Mismatch { field: self.field, reason: MismatchReason::Outside { got, start, end, bits: self.bits as u8 } }
    }

    pub(super) fn check(all: &[SelectorField], header: &[u8]) -> Result<(), Mismatch> {
        match all.iter().find_map(|selected| Some(selected.mismatch(selected.outside(header)?))) {
            Some(mismatch) => Err(mismatch),
            None => Ok(()),
        }
    }
}
