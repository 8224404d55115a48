//! The compute actions (draft-ietf-ipsecme-diet-esp-07 §5.1, RFC 8724 §7.4). A receiver computes fields of the rebuilt
//! packet. A sender checks that the receiver will compute the original bytes.

use sha2::{Digest, Sha256};

use super::restored::{Mismatch, Provenance, Restorable, Source};
use crate::net::ipv4::{self, Ipv4};
use crate::net::ipv6::{self, Ipv6};
use crate::net::sctp::{self, Sctp};
use crate::net::tcp::Tcp;
use crate::net::udp::{self, Udp};
use crate::net::udp_lite::{self, UdpLite};
use crate::net::{IpVersion, OuterHeader, ip, ports_of, protocol};
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
    /// (in IPv6: after the header), and its segment starts at `segment`. `None` if the header is truncated.
    ///
    /// Apply actions in the order of the header, because a checksum depends on the fields before it.
    pub(super) fn apply(self, packet: &mut [u8], segment: usize, outer: &OuterHeader) -> Option<()> {
        match self {
            ComputedField::Ipv6TrafficClass
            | ComputedField::Ipv6Dscp
            | ComputedField::Ipv6Ecn
            | ComputedField::FlowLabel
            | ComputedField::GeneratedFlowLabel
            | ComputedField::ZeroFlowLabel
            | ComputedField::PayloadLength
            | ComputedField::HopLimit => self.apply_ipv6(packet, segment, outer),
            ComputedField::Ipv4Dscp
            | ComputedField::Ipv4Ecn
            | ComputedField::TotalLength
            | ComputedField::Identification
            | ComputedField::GeneratedIdentification
            | ComputedField::ZeroIdentification
            | ComputedField::Ttl
            | ComputedField::HeaderChecksum => self.apply_ipv4(packet, segment, outer),
            ComputedField::UdpLength
            | ComputedField::UdpChecksum
            | ComputedField::UdpLiteCoverage
            | ComputedField::UdpLiteCoverageAtMost(_)
            | ComputedField::UdpLiteChecksum
            | ComputedField::TcpChecksum
            | ComputedField::SctpChecksum => self.apply_transport(packet, segment),
        }
    }

    fn apply_ipv6(self, packet: &mut [u8], segment: usize, outer: &OuterHeader) -> Option<()> {
        let len = packet.len().saturating_sub(ipv6::HEADER_LEN) as u16;
        let generated = match self {
            ComputedField::GeneratedFlowLabel => generated(packet, segment, 20),
            _ => 0,
        };
        let mut header = Ipv6::at_mut(packet, 0)?;
        match self {
            ComputedField::Ipv6TrafficClass => {
                header.set_dscp(outer.dscp);
                header.set_ecn(outer.ecn);
            }
            ComputedField::Ipv6Dscp => header.set_dscp(outer.dscp),
            ComputedField::Ipv6Ecn => header.set_ecn(outer.ecn),
            // The Identification of an IPv4 outer header has only 16 bits. In these 4 bytes, 16 zero bits precede
            // it.
            ComputedField::FlowLabel => header.set_flow_label(outer.flow_label),
            ComputedField::GeneratedFlowLabel => header.set_flow_label(generated),
            ComputedField::PayloadLength => header.set_payload_len(len),
            ComputedField::HopLimit => header.set_hop_limit(outer.hop_limit),
            _ => {}
        }
        Some(())
    }

    fn apply_ipv4(self, packet: &mut [u8], segment: usize, outer: &OuterHeader) -> Option<()> {
        let len = packet.len() as u16;
        let generated = match self {
            ComputedField::GeneratedIdentification => generated(packet, segment, 16) as u16,
            _ => 0,
        };
        let mut header = Ipv4::at_mut(packet, 0)?;
        match self {
            ComputedField::Ipv4Dscp => header.set_dscp(outer.dscp),
            ComputedField::Ipv4Ecn => header.set_ecn(outer.ecn),
            ComputedField::TotalLength => header.set_total_len(len),
            // The low 16 bits of a Flow Label.
            ComputedField::Identification => header.set_identification(outer.flow_label as u16),
            ComputedField::GeneratedIdentification => header.set_identification(generated),
            ComputedField::Ttl => header.set_ttl(outer.hop_limit),
            ComputedField::HeaderChecksum => ipv4::write_checksum(packet),
            _ => {}
        }
        Some(())
    }

    fn apply_transport(self, packet: &mut [u8], segment: usize) -> Option<()> {
        let len = packet.len().saturating_sub(segment) as u16;
        match self {
            ComputedField::UdpLength => Udp::at_mut(packet, segment)?.set_length(len),
            ComputedField::UdpChecksum => udp::write_checksum(packet, segment),
            ComputedField::UdpLiteCoverage => UdpLite::at_mut(packet, segment)?.set_coverage(len),
            ComputedField::UdpLiteCoverageAtMost(agreed) => {
                UdpLite::at_mut(packet, segment)?.set_coverage(agreed.min(len));
            }
            ComputedField::UdpLiteChecksum => {
                let sum = udp_lite::checksum_of(packet, segment).unwrap_or(0);
                UdpLite::at_mut(packet, segment)?.set_checksum(sum);
            }
            ComputedField::TcpChecksum => {
                let sum = ip::upper_layer_checksum(packet, segment, protocol::TCP).unwrap_or(0);
                Tcp::at_mut(packet, segment)?.set_checksum(sum);
            }
            ComputedField::SctpChecksum => {
                let crc = sctp::checksum_of(packet.get(segment..).unwrap_or_default());
                Sctp::at_mut(packet, segment)?.set_checksum(crc);
            }
            _ => {}
        }
        Some(())
    }

    /// Checks that [`ComputedField::apply`] would write the value that `packet` has. Only for fields that must
    /// match exactly. The transport header must be complete.
    pub(super) fn check(self, packet: &[u8], segment: usize) -> Result<(), Mismatch> {
        let wrong = |field| Err(Mismatch::says(field, "is not correct"));
        let bytes = packet.get(segment..).unwrap_or_default();
        let internet = |protocol| ip::upper_layer_checksum(packet, segment, protocol).unwrap_or(0);
        match self {
            ComputedField::HeaderChecksum => {
                let stored = Ipv4::of(packet).map_or(0, |header| header.checksum());
                if !is_right(ipv4::checksum_of(packet), stored) {
                    return wrong("header_checksum");
                }
            }
            ComputedField::UdpLength => {
                let len = Udp::of(bytes).map_or(0, |udp| udp.length());
                if usize::from(len) != bytes.len() {
                    return Err(Mismatch::differs("udp.length", len, bytes.len() as u128));
                }
            }
            ComputedField::UdpChecksum if !udp::is_checksum_right(packet, segment) => return wrong("udp.checksum"),
            ComputedField::UdpLiteCoverage => {
                let coverage = UdpLite::of(bytes).map_or(0, |udp_lite| udp_lite.coverage());
                if coverage != 0 && usize::from(coverage) != bytes.len() {
                    return Err(Mismatch::differs("udplite.coverage", coverage, bytes.len() as u128));
                }
            }
            ComputedField::UdpLiteCoverageAtMost(agreed) => {
                let coverage = UdpLite::of(bytes).map_or(0, |udp_lite| udp_lite.coverage());
                let expected = usize::from(agreed).min(bytes.len());
                if usize::from(coverage) != expected {
                    return Err(Mismatch::differs("udplite.coverage", coverage, expected as u128));
                }
            }
            ComputedField::UdpLiteChecksum => {
                let stored = UdpLite::of(bytes).map_or(0, |udp_lite| udp_lite.checksum());
                match udp_lite::checksum_of(packet, segment) {
                    None => return Err(Mismatch::says("udplite.coverage", "is neither 0 nor 8 to the length")),
                    Some(sum) if sum != 0 || stored == 0 => return wrong("udplite.checksum"),
                    Some(_) => {}
                }
            }
            ComputedField::TcpChecksum => {
                let stored = Tcp::of(bytes).map_or(0, |tcp| tcp.checksum());
                if !is_right(internet(protocol::TCP), stored) {
                    return wrong("tcp.checksum");
                }
            }
            ComputedField::SctpChecksum => {
                let stored = Sctp::of(bytes).map_or(0, |sctp| sctp.checksum());
                if sctp::checksum_of(bytes) != stored {
                    return wrong("sctp.checksum");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a stored Internet checksum equals the one that a receiver computes. The sum over all bytes must be 0.
/// The stored value must not be `ffff`, the second form of 0, because the receiver would write `0000`.
fn is_right(sum: u16, stored: u16) -> bool {
    sum == 0 && stored != 0xffff
}

/// D-10: the first `bits` bits of SHA-256 over addresses, protocol and ports of the packet. If they are 0, the
/// result is 1.
fn generated(packet: &[u8], segment: usize, bits: u32) -> u32 {
    let (protocol, is_fragment) = match ip::version(packet) {
        Some(IpVersion::V4) => Ipv4::of(packet).map(|header| (header.protocol(), header.is_fragment())),
        _ => Ipv6::of(packet).map(|header| (header.next_header(), false)),
    }
    .unwrap_or_default();
    let addresses = ip::address_bytes(packet);
    let segment = packet.get(segment..).filter(|_| !is_fragment);
    let ports = segment.and_then(|segment| ports_of(protocol, segment));
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
