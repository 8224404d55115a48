//! The compute actions (draft-ietf-ipsecme-diet-esp-07 §5.1, RFC 8724 §7.4). A receiver computes fields of the rebuilt
//! packet. A sender checks that the receiver will compute the original bytes.

use crc::Crc;
use sha2::{Digest, Sha256};

use super::headers::{self, fill_u16};
use super::restored::{Mismatch, Provenance, Restorable, Source};
use crate::net::{OuterHeader, checksum, protocol};
use crate::schc::Compute;
use crate::schc::fields::{self, FieldId};

/// One action on a rebuilt packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ComputedField {
    Ipv6TrafficClass,
    Ipv6Dscp,
    Ipv6Ecn,
    FlowLabel,
    GeneratedFlowLabel,
    ZeroFlowLabel,
    PayloadLength,
    HopLimit,
    Ipv4Dscp,
    Ipv4Ecn,
    TotalLength,
    Identification,
    GeneratedIdentification,
    ZeroIdentification,
    Ttl,
    HeaderChecksum,
    UdpLength,
    UdpChecksum,
    UdpLiteCoverage,
    /// The agreed coverage, or the length of the segment if it is shorter.
    UdpLiteCoverageAtMost(u16),
    UdpLiteChecksum,
    TcpChecksum,
    SctpChecksum,
}

impl ComputedField {
    /// The action of a `compute` row; `None` if this field cannot be computed.
    pub(super) fn of(field: FieldId, compute: Compute) -> Option<ComputedField> {
        use Compute::{Checksum, Generated, GeneratedZero, Length, Lower};
        if let (fields::UDPLITE_COVERAGE, Compute::LengthAtMost(agreed)) = (field, compute) {
            return Some(ComputedField::UdpLiteCoverageAtMost(agreed));
        }
        let known = [
            (fields::IPV6_TC, Lower, ComputedField::Ipv6TrafficClass),
            (fields::IPV6_DSCP, Lower, ComputedField::Ipv6Dscp),
            (fields::IPV6_ECN, Lower, ComputedField::Ipv6Ecn),
            (fields::IPV6_FL, Lower, ComputedField::FlowLabel),
            (fields::IPV6_FL, Generated, ComputedField::GeneratedFlowLabel),
            (fields::IPV6_FL, GeneratedZero, ComputedField::ZeroFlowLabel),
            (fields::IPV6_LEN, Length, ComputedField::PayloadLength),
            (fields::IPV6_HOP_LMT, Lower, ComputedField::HopLimit),
            (fields::IPV4_DSCP, Lower, ComputedField::Ipv4Dscp),
            (fields::IPV4_ECN, Lower, ComputedField::Ipv4Ecn),
            (fields::IPV4_LEN, Length, ComputedField::TotalLength),
            (fields::IPV4_ID, Lower, ComputedField::Identification),
            (fields::IPV4_ID, Generated, ComputedField::GeneratedIdentification),
            (fields::IPV4_ID, GeneratedZero, ComputedField::ZeroIdentification),
            (fields::IPV4_TTL, Lower, ComputedField::Ttl),
            (fields::IPV4_CKSUM, Checksum, ComputedField::HeaderChecksum),
            (fields::UDP_LEN, Length, ComputedField::UdpLength),
            (fields::UDP_CKSUM, Checksum, ComputedField::UdpChecksum),
            (fields::UDPLITE_COVERAGE, Length, ComputedField::UdpLiteCoverage),
            (fields::UDPLITE_CKSUM, Checksum, ComputedField::UdpLiteChecksum),
            (fields::TCP_CKSUM, Checksum, ComputedField::TcpChecksum),
            (fields::SCTP_CKSUM, Checksum, ComputedField::SctpChecksum),
        ];
        known.into_iter().find(|row| (row.0, row.1) == (field, compute)).map(|row| row.2)
    }

    /// The source that records name for the field; `None` for fields that are always restored exactly.
    pub(super) fn source(self) -> Provenance {
        let mut sources = Provenance::default();
        match self {
            ComputedField::Ipv6TrafficClass => {
                sources.set(Restorable::Dscp, Source::OuterHeader);
                sources.set(Restorable::Ecn, Source::OuterHeader);
            }
            ComputedField::Ipv6Dscp | ComputedField::Ipv4Dscp => sources.set(Restorable::Dscp, Source::OuterHeader),
            ComputedField::Ipv6Ecn | ComputedField::Ipv4Ecn => sources.set(Restorable::Ecn, Source::OuterHeader),
            ComputedField::FlowLabel => sources.set(Restorable::FlowLabel, Source::OuterHeader),
            ComputedField::GeneratedFlowLabel | ComputedField::ZeroFlowLabel => {
                sources.set(Restorable::FlowLabel, Source::Generated)
            }
            ComputedField::Identification => sources.set(Restorable::Identification, Source::OuterHeader),
            ComputedField::GeneratedIdentification | ComputedField::ZeroIdentification => {
                sources.set(Restorable::Identification, Source::Generated);
            }
            ComputedField::HopLimit => sources.set(Restorable::HopLimit, Source::OuterHeader),
            ComputedField::Ttl => sources.set(Restorable::Ttl, Source::OuterHeader),
            ComputedField::UdpChecksum => sources.set(Restorable::UdpChecksum, Source::Computed),
            ComputedField::UdpLiteCoverage => sources.set(Restorable::UdpLiteCoverage, Source::Length),
            ComputedField::PayloadLength
            | ComputedField::TotalLength
            | ComputedField::HeaderChecksum
            | ComputedField::UdpLength
            | ComputedField::UdpLiteCoverageAtMost(_)
            | ComputedField::UdpLiteChecksum
            | ComputedField::TcpChecksum
            | ComputedField::SctpChecksum => {}
        }
        sources
    }

    /// The field, if it is a checksum.
    pub(super) fn checksum(self) -> Option<Restorable> {
        Some(match self {
            ComputedField::HeaderChecksum => Restorable::HeaderChecksum,
            ComputedField::UdpChecksum => Restorable::UdpChecksum,
            ComputedField::UdpLiteChecksum => Restorable::UdpLiteChecksum,
            ComputedField::TcpChecksum => Restorable::TcpChecksum,
            ComputedField::SctpChecksum => Restorable::SctpChecksum,
            _ => return None,
        })
    }

    /// Computes the field and writes it into `packet`, where it must be 0. The IP packet has at most 65535 bytes
    /// (in IPv6: after the header), and its segment starts at `segment`.
    ///
    /// Apply actions in the order of the header, because a checksum depends on the fields before it.
    pub(super) fn apply(self, packet: &mut [u8], segment: usize, outer: &OuterHeader) {
        let segment_len = packet.len().saturating_sub(segment) as u16;
        match self {
            ComputedField::Ipv6TrafficClass => {
                fill_first_word(packet, u32::from(outer.dscp & 0x3f) << 22 | u32::from(outer.ecn & 3) << 20);
            }
            ComputedField::Ipv6Dscp => fill_first_word(packet, u32::from(outer.dscp & 0x3f) << 22),
            ComputedField::Ipv6Ecn => fill_first_word(packet, u32::from(outer.ecn & 3) << 20),
            // The Identification of an IPv4 outer header has only 16 bits. In these 4 bytes, 16 zero bits precede
            // it.
            ComputedField::FlowLabel => fill_first_word(packet, outer.flow_label & 0xf_ffff),
            ComputedField::GeneratedFlowLabel => fill_first_word(packet, generated(packet, segment, 20)),
            ComputedField::ZeroFlowLabel | ComputedField::ZeroIdentification => {}
            ComputedField::PayloadLength => {
                let len = packet.len().saturating_sub(headers::IPV6_LEN) as u16;
                fill_u16(packet, 4, len);
            }
            ComputedField::HopLimit => fill_u8(packet, 7, outer.hop_limit),
            ComputedField::Ipv4Dscp => fill_first_word(packet, u32::from(outer.dscp & 0x3f) << 18),
            ComputedField::Ipv4Ecn => fill_first_word(packet, u32::from(outer.ecn & 3) << 16),
            ComputedField::TotalLength => fill_u16(packet, 2, packet.len() as u16),
            // The low 16 bits of a Flow Label.
            ComputedField::Identification => fill_u16(packet, 4, outer.flow_label as u16),
            ComputedField::GeneratedIdentification => fill_u16(packet, 4, generated(packet, segment, 16) as u16),
            ComputedField::Ttl => fill_u8(packet, 8, outer.hop_limit),
            ComputedField::HeaderChecksum => {
                let header_len = packet.first().map_or(0, |byte| usize::from(byte & 0x0f) * 4);
                let checksum = checksum::internet(packet.get(..header_len).unwrap_or_default());
                fill_u16(packet, 10, checksum);
            }
            ComputedField::UdpLength | ComputedField::UdpLiteCoverage => fill_u16(packet, segment + 4, segment_len),
            ComputedField::UdpLiteCoverageAtMost(agreed) => fill_u16(packet, segment + 4, agreed.min(segment_len)),
            ComputedField::UdpChecksum => {
                let checksum = upper_layer(packet, segment, protocol::UDP);
                // 0 means that there is no checksum (RFC 768).
                fill_u16(packet, segment + 6, if checksum == 0 { 0xffff } else { checksum });
            }
            ComputedField::UdpLiteChecksum => {
                let checksum = udplite(packet, segment).unwrap_or(0);
                fill_u16(packet, segment + 6, if checksum == 0 { 0xffff } else { checksum });
            }
            ComputedField::TcpChecksum => fill_u16(packet, segment + 16, upper_layer(packet, segment, protocol::TCP)),
            ComputedField::SctpChecksum => {
                let crc = CRC32C.checksum(packet.get(segment..).unwrap_or_default());
                let place = packet.get_mut(segment + 8..).and_then(|rest| rest.first_chunk_mut());
                if let Some(place) = place {
                    *place = crc.to_le_bytes();
                }
            }
        }
    }

    /// Checks that [`ComputedField::apply`] would write the value that `packet` has. Only for fields that must
    /// match exactly.
    pub(super) fn check(self, packet: &[u8], segment: usize) -> Result<(), Mismatch> {
        let wrong = |field| Err(Mismatch::says(field, "is not correct"));
        let u16_at = |offset: usize| packet.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, be);
        let segment_len = packet.len().saturating_sub(segment);
        match self {
            ComputedField::HeaderChecksum => {
                let header_len = packet.first().map_or(0, |byte| usize::from(byte & 0x0f) * 4);
                let sum = checksum::internet(packet.get(..header_len).unwrap_or_default());
                if !is_right(sum, u16_at(10)) {
                    return wrong("header_checksum");
                }
            }
            ComputedField::UdpLength => {
                let len = u16_at(segment + 4);
                if usize::from(len) != segment_len {
                    return Err(Mismatch::differs("udp.length", len, segment_len as u128));
                }
            }
            ComputedField::UdpChecksum => {
                let got = u16_at(segment + 6);
                if got != 0 && upper_layer(packet, segment, protocol::UDP) != 0 {
                    return wrong("udp.checksum");
                }
            }
            ComputedField::UdpLiteCoverage => {
                let coverage = u16_at(segment + 4);
                if coverage != 0 && usize::from(coverage) != segment_len {
                    return Err(Mismatch::differs("udplite.coverage", coverage, segment_len as u128));
                }
            }
            ComputedField::UdpLiteCoverageAtMost(agreed) => {
                let (coverage, expected) = (u16_at(segment + 4), usize::from(agreed).min(segment_len));
                if usize::from(coverage) != expected {
                    return Err(Mismatch::differs("udplite.coverage", coverage, expected as u128));
                }
            }
            ComputedField::UdpLiteChecksum => match udplite(packet, segment) {
                None => return Err(Mismatch::says("udplite.coverage", "is neither 0 nor 8 to the length")),
                Some(sum) if sum != 0 || u16_at(segment + 6) == 0 => return wrong("udplite.checksum"),
                Some(_) => {}
            },
            ComputedField::TcpChecksum
                if !is_right(upper_layer(packet, segment, protocol::TCP), u16_at(segment + 16)) =>
            {
                return wrong("tcp.checksum");
            }
            ComputedField::SctpChecksum => {
                let bytes = packet.get(segment..).unwrap_or_default();
                let (front, rest) = bytes.split_at_checked(8).unwrap_or_default();
                let (got, rest) =
                    rest.split_first_chunk().map_or((0, rest), |(got, rest)| (u32::from_le_bytes(*got), rest));
                let mut crc = CRC32C.digest();
                [front, &[0; 4], rest].into_iter().for_each(|bytes| crc.update(bytes));
                if crc.finalize() != got {
                    return wrong("sctp.checksum");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn be(bytes: &[u8; 2]) -> u16 {
    u16::from_be_bytes(*bytes)
}

/// Whether a stored Internet checksum equals the one that a receiver computes. The sum over all bytes must be 0.
/// The stored value must not be `ffff`, the second form of 0, because the receiver would write `0000`.
fn is_right(sum: u16, stored: u16) -> bool {
    sum == 0 && stored != 0xffff
}

/// Sets bits of the first four bytes, where they are 0.
fn fill_first_word(packet: &mut [u8], value: u32) {
    if let Some(word) = packet.first_chunk_mut() {
        *word = (u32::from_be_bytes(*word) | value).to_be_bytes();
    }
}

fn fill_u8(packet: &mut [u8], offset: usize, value: u8) {
    if let Some(byte) = packet.get_mut(offset) {
        *byte = value;
    }
}

fn upper_layer(packet: &[u8], segment: usize, protocol: u8) -> u16 {
    let Some(addresses) = headers::both_addresses(packet) else { return 0 };
    checksum::upper_layer_of(addresses, protocol, packet.get(segment..).unwrap_or_default())
}

/// The checksum of a UDP-Lite segment over its coverage (RFC 3828 §3.1; 0 means all). `None` if the coverage is
/// invalid: 1 to 7, or more than the segment.
pub(crate) fn udplite(packet: &[u8], segment: usize) -> Option<u16> {
    let bytes = packet.get(segment..)?;
    let coverage = match usize::from(be(bytes.get(4..)?.first_chunk()?)) {
        0 => bytes.len(),
        coverage @ 8.. => coverage,
        _ => return None,
    };
    let covered = checksum::internet(bytes.get(..coverage)?);
    // The pseudo-header contains the length of the whole segment, whatever the coverage. So start with the
    // pseudo-header of an empty segment and add the length.
    let (src, dst) = crate::net::addresses(packet)?;
    let pseudo = checksum::upper_layer(src, dst, protocol::UDP_LITE, &[]);
    let len = u16::try_from(bytes.len()).ok()?;
    let sum = u32::from(!covered) + u32::from(!pseudo) + u32::from(len);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    Some(!(sum as u16))
}

/// D-10: the first `bits` bits of SHA-256 over addresses, protocol and ports of the packet. If they are 0, the
/// result is 1.
fn generated(packet: &[u8], segment: usize, bits: u32) -> u32 {
    let (protocol, addresses, fragment) = match packet.first().map_or(0, |byte| byte >> 4) {
        4 => {
            let frag = packet.get(6..).and_then(|rest| rest.first_chunk()).map_or(0, be);
            (packet.get(9), packet.get(12..20), frag & 0x3fff != 0)
        }
        _ => (packet.get(6), packet.get(8..40), false),
    };
    let protocol = protocol.copied().unwrap_or(0);
    let ports = if fragment { None } else { headers::ports(protocol, packet.get(segment..).unwrap_or_default()) };
    let (src_port, dst_port) = ports.unwrap_or_default();
    let hash = Sha256::new()
        .chain_update(addresses.unwrap_or_default())
        .chain_update([protocol])
        .chain_update(src_port.to_be_bytes())
        .chain_update(dst_port.to_be_bytes())
        .finalize();
    let first = hash.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    (first >> (32 - bits)).max(1)
}

/// The checksum of SCTP (RFC 9260 Appendix A).
const CRC32C: Crc<u32> = Crc::<u32>::new(&crc::CRC_32_ISCSI);

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 §B.4: 32 bytes of zeros, of ones, and ascending.
    #[test]
    fn crc32c_examples_of_rfc_3720() {
        assert_eq!(CRC32C.checksum(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(CRC32C.checksum(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(CRC32C.checksum(&ascending).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
    }
}
