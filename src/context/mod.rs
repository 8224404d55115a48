//! A Context: the attributes on which both ends of a Security Association agreed, and from which the compression
//! follows.
//!
//! The attributes have the names of draft-ietf-ipsecme-diet-esp-07 §4 (Attributes for Rule Generation). A context
//! is checked once, when its file is loaded, and is valid from then on.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::net::{IpVersion, Selector};
use crate::schc::{Direction, Rule};

/// The agreed attributes of one Security Association.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The SA it belongs to.
    pub sa: SaReference,
    /// `ipsec_mode`.
    pub mode: Mode,
    /// `tunnel_ip`: outer source and destination, used when a packet is encrypted.
    pub tunnel_ip: Option<(IpAddr, IpAddr)>,
    /// `ts_*`.
    pub selectors: TrafficSelectors,
    /// `esp_sn`: the first Sequence Number expected or sent.
    pub esp_sn: Option<u64>,
    /// `protocol`: the outer IP protocol number that carries this SA's packets (50 is ESP).
    pub protocol: u8,
    /// Attributes of the dialect.
    pub dialect: Dialect,
    /// The file and line that it was read from.
    pub origin: Origin,
}

impl Context {
    /// Whether packets of both contexts are compressed in the same way.
    pub fn same_compression(&self, other: &Context) -> bool {
        let Context { sa: _, mode, tunnel_ip, selectors, esp_sn: _, protocol: _, dialect, origin: _ } = self;
        (mode, tunnel_ip, selectors, dialect) == (&other.mode, &other.tunnel_ip, &other.selectors, &other.dialect)
    }

    /// The time from one sequence number to the next, if sequence numbers follow a clock (`esp_sn_gen: time`).
    pub fn sn_period(&self) -> Option<Duration> {
        match &self.dialect {
            Dialect::Ehc(ehc) => ehc.sn_period,
            Dialect::Ietf(_) | Dialect::SixLo(_) | Dialect::Custom(_) => None,
        }
    }
}

/// The way in which a context names its SA.
#[derive(Debug, Clone, PartialEq)]
pub enum SaReference {
    /// `sa`: the name in the key file.
    Name(String),
    /// `spi`, and optionally `src` and `dst`: equal to those of the key file, or an address that they match.
    Spi {
        /// The SPI.
        spi: u32,
        /// The outer source.
        src: Option<Selector>,
        /// The outer destination.
        dst: Option<Selector>,
    },
}

/// The file and line (from 1) that something was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file. All items that were read from it share its name.
    pub path: Arc<Path>,
    /// The line, from 1.
    pub line: u64,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// `ipsec_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A whole IP packet is protected (tunnel mode).
    Tunnel,
    /// The upper-layer segment is protected (transport mode).
    Transport,
}

/// An inclusive range of values, `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First value.
    pub start: u128,
    /// Last value.
    pub end: u128,
}

impl Range {
    /// All values of `bits` bits.
    pub fn whole(bits: u32) -> Range {
        Range { start: 0, end: u128::MAX >> (128 - bits) }
    }

    /// A single value.
    pub fn single(value: u128) -> Range {
        Range { start: value, end: value }
    }

    /// Whether it contains only one value.
    pub fn is_single(self) -> bool {
        self.start == self.end
    }

    /// Whether `value` is in the range.
    pub fn contains(self, value: u128) -> bool {
        (self.start..=self.end).contains(&value)
    }

    /// Length of the common prefix of start and end, for values of `bits` bits.
    pub fn common_prefix(self, bits: u32) -> u32 {
        (self.start ^ self.end).leading_zeros() - (128 - bits)
    }
}

/// `ts_*`: the traffic that the SA protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficSelectors {
    /// `ts_ip_version`. It may only be absent in transport mode, or if the inner packet is not compressed.
    pub version: Option<IpVersion>,
    /// `ts_ip_src_start` to `ts_ip_src_end`.
    pub src: Range,
    /// `ts_ip_dst_start` to `ts_ip_dst_end`.
    pub dst: Range,
    /// `ts_proto`; `None` is `ANY`.
    pub protocol: Option<u8>,
    /// `ts_port_src_start` to `ts_port_src_end`.
    pub src_port: Range,
    /// `ts_port_dst_start` to `ts_port_dst_end`.
    pub dst_port: Range,
}

/// The dialect of a context and the attributes that only this dialect has.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialect {
    /// draft-ietf-ipsecme-diet-esp.
    Ietf(Ietf),
    /// draft-mglt-ipsecme-diet-esp-07, ESP Header Compression.
    Ehc(Ehc),
    /// draft-mglt-6lo-diet-esp.
    SixLo(SixLo),
    /// User-defined rules.
    Custom(Custom),
}

/// Attributes of dialect `ehc`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ehc {
    /// `esp_spi_lsb`, 0 to 4 bytes.
    pub spi_bytes: u8,
    /// `esp_sn_lsb`, 0 to 4 bytes.
    pub sn_bytes: u8,
    /// `esp_sn_gen`, with `esp_sn_period`: the time from one number to the next, for `time`; `None` for `incremental`.
    pub sn_period: Option<Duration>,
    /// `esp_align` in bytes: 1 to 4.
    pub align: u8,
    /// `tcp_lsb`, 0 to 4 bytes.
    pub tcp_lsb: u8,
    /// `tcp_sn`: the TCP Sequence Number before the first packet.
    pub tcp_sn: u32,
    /// `tcp_ack`: the TCP Acknowledgment Number before the first packet.
    pub tcp_ack: u32,
    /// `tcp_options`: true if Data Offset is sent; false if headers have no options.
    pub tcp_options: bool,
    /// `tcp_urgent`: true if the Urgent Pointer is sent.
    pub tcp_urgent: bool,
    /// `udplite_coverage`.
    pub udplite_coverage: UdpLiteCoverage,
}

/// `udplite_coverage` of dialect `ehc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpLiteCoverage {
    /// `uncompressed`.
    Sent,
    /// `Length`: the whole datagram is covered.
    Length,
    /// This many bytes, at least 8. A shorter datagram is covered as a whole.
    AtMost(u16),
}

impl Default for Ehc {
    /// The defaults of the attributes.
    fn default() -> Self {
        Ehc {
            spi_bytes: 4,
            sn_bytes: 4,
            sn_period: None,
            align: 4,
            tcp_lsb: 4,
            tcp_sn: 0,
            tcp_ack: 0,
            tcp_options: true,
            tcp_urgent: true,
            udplite_coverage: UdpLiteCoverage::Sent,
        }
    }
}

/// Attributes of dialect `6lo`.
#[derive(Debug, Clone, PartialEq)]
pub struct SixLo {
    /// `SPI_SIZE`, 0 to 4 bytes.
    pub spi_bytes: u8,
    /// `SN_SIZE`, 0 to 4 bytes.
    pub sn_bytes: u8,
    /// `NH`: true for `present`.
    pub next_header: bool,
    /// `PAD`: true for `present`.
    pub pad: bool,
    /// `ALIGN` in bytes: 1, 2, 4, 8.
    pub align: u8,
}

impl Default for SixLo {
    /// The defaults of the attributes.
    fn default() -> Self {
        SixLo { spi_bytes: 4, sn_bytes: 4, next_header: true, pad: true, align: 4 }
    }
}

/// The rules of dialect `custom`.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    /// The rule of the inner headers, in packet order. Without rows, they are not compressed.
    pub iipc: Rule,
    /// The rule of Padding, Pad Length and Next Header. Without rows, they are sent.
    pub ctec: Rule,
    /// The rule of SPI and Sequence Number. Without rows, they are sent.
    pub eec: Rule,
    /// The direction of the packets of this SA, for rows that apply only to one direction.
    pub direction: Direction,
    /// `alignment` in bytes: 1, 2, 4, 8.
    pub alignment: u8,
}

impl Dialect {
    /// Its name in rule files.
    pub fn name(&self) -> &'static str {
        match self {
            Dialect::Ietf(_) => "ietf",
            Dialect::Ehc(_) => "ehc",
            Dialect::SixLo(_) => "6lo",
            Dialect::Custom(_) => "custom",
        }
    }
}

/// Attributes and options of dialect `ietf`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ietf {
    /// `iipc_profile`: true for `iipc_diet-esp`, false for `iipc_not_compressed`.
    pub compress_inner: bool,
    /// `dscp_cda`.
    pub dscp_cda: DscpCda,
    /// `ecn_cda`.
    pub ecn_cda: HeaderCda,
    /// `flow_label_cda`, also for the IPv4 Identification.
    pub flow_label_cda: FlowLabelCda,
    /// `alignment` in bytes: 1, 2, 4, 8.
    pub alignment: u8,
    /// `esp_trailer`: true for `Mandatory`.
    pub trailer_mandatory: bool,
    /// `esp_spi_lsb`, 0 to 32 bits.
    pub spi_bits: u8,
    /// `esp_sn_lsb`, 0 to 32 bits.
    pub sn_bits: u8,
    /// `rule_id`: the value of the `one_byte` RuleID; `None` if it is elided.
    pub rule_id: Option<u8>,
    /// `any_transport`: true for `by_next_header`.
    pub any_transport: bool,
    /// `tcp_header`.
    pub tcp_header: TcpHeader,
    /// `sctp_checksum`: true for `sent`.
    pub sctp_checksum_sent: bool,
    /// `udplite_coverage`: true for `sent`.
    pub udplite_coverage_sent: bool,
    /// `hop_limit_cda`: true for `not_compressed`.
    pub hop_limit_sent: bool,
    /// `payload_length_cda`: true for `not_compressed`.
    pub payload_length_sent: bool,
    /// `ipv4_flags_frag`: the 16 bits of Flags and Fragment Offset if they are elided; `None` if they are sent.
    pub ipv4_flags_frag: Option<u16>,
    /// `trailer_counts_elided_next_header`: true for `yes`.
    pub trailer_counts_elided_next_header: bool,
    /// `flow_label_generated`: true for `hash`, false for `zero`.
    pub flow_label_hash: bool,
    /// `revision`: 6 to 10.
    pub revision: u8,
}

/// `dscp_cda`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DscpCda {
    /// `not_compressed`.
    Sent,
    /// `lower`: from the outer header.
    Lower,
    /// `sa`: the values of `dscp_list`, at least one, no duplicates.
    List(Vec<u8>),
}

/// `ecn_cda`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderCda {
    /// `not_compressed`.
    Sent,
    /// `lower`: from the outer header.
    Lower,
}

/// `flow_label_cda`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowLabelCda {
    /// `not_compressed`.
    Sent,
    /// `lower`: from the outer header.
    Lower,
    /// `generated` by the receiver.
    Generated,
    /// `zero`.
    Zero,
}

/// `tcp_header` (D-9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpHeader {
    /// All fields, in header order. All but ports and checksum are sent.
    HeaderOrder,
    /// Only the ports are compressed; the rest of the header is payload.
    PortsOnly,
    /// The whole header is payload.
    None,
}

impl Default for Ietf {
    /// The defaults of the attributes and options.
    fn default() -> Self {
        Ietf {
            compress_inner: true,
            dscp_cda: DscpCda::Sent,
            ecn_cda: HeaderCda::Sent,
            flow_label_cda: FlowLabelCda::Sent,
            alignment: 8,
            trailer_mandatory: false,
            spi_bits: 32,
            sn_bits: 32,
            rule_id: None,
            any_transport: true,
            tcp_header: TcpHeader::HeaderOrder,
            sctp_checksum_sent: false,
            udplite_coverage_sent: false,
            hop_limit_sent: false,
            payload_length_sent: false,
            ipv4_flags_frag: None,
            trailer_counts_elided_next_header: false,
            flow_label_hash: true,
            revision: 7,
        }
    }
}
