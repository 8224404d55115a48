//! How a dialect leaves headers out: the ESP header (EEC), the ESP trailer (CTEC) and the inner packet (IIPC).
//!
//! ```text
//! clear text --trailer--> payload data --inner--> packet        (compress: the same upwards)
//! ```
//!
//! A [`Codec`] is compiled once per Security Association from its [`Context`]; then every packet costs a few copies.

mod compute;
pub mod fields;
mod headers;
mod ietf;
mod inner;
mod restored;
pub mod schc;
mod trailer;

pub use headers::Upper;
pub use restored::{Form, Mismatch, Reason, Restorable, Restored, Source, Sources, Warnings};

use crate::context::{Context, Dialect, Mode};
use crate::error::{Error, Fault};
use crate::link::Outer;
use inner::Inner;
use trailer::Trailer;

/// What one Security Association leaves out, ready for packets.
#[derive(Debug, Clone, PartialEq)]
pub struct Codec {
    header: EspHeader,
    trailer: Trailer,
    inner: Inner,
}

/// The compressed ESP header (draft-ietf-ipsecme-diet-esp-07 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EspHeader {
    spi_bits: u8,
    sn_bits: u8,
    rule_id: Option<u8>,
}

/// What carried a packet: transport mode takes its header for the restored packet, `lower` its fields.
#[derive(Debug, Clone, Copy)]
pub struct Carrier<'a> {
    /// What the outer IP header says.
    pub outer: &'a Outer,
    /// The outer IP header with options and extension headers.
    pub header: &'a [u8],
    /// Offset inside `header` of the byte that names the protocol of what follows it.
    pub protocol_offset: usize,
}

/// What [`Codec::compress`] left in front of ESP, and what standard ESP would say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compressed {
    /// Offset in the packet of what is protected: 0 in tunnel mode, the segment in transport mode.
    pub payload_offset: usize,
    /// Offset in the packet of the byte that names the segment's protocol; of no meaning in tunnel mode.
    pub protocol_offset: usize,
    /// The Next Header of RFC 4303 §2.6.
    pub next_header: u8,
}

/// A rule as data, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The compressor, and for the inner packet the header: `iipc ipv6`, `iipc udp`, `ctec`, `eec`.
    pub name: &'static str,
    /// The rule.
    pub rule: schc::Rule,
}

impl Codec {
    /// Compiles a context, `None` being standard ESP (RFC 4303), for a cipher whose clear texts are a multiple of
    /// `cipher_block` bytes. An [`Error`] means that the context makes no rule.
    pub fn new(context: Option<&Context>, cipher_block: usize) -> Result<Codec, Error> {
        let Some(context) = context else { return Ok(Codec::standard(cipher_block)) };
        let compiled = match &context.dialect {
            Dialect::Ietf(attributes) => ietf::compile(context, attributes, cipher_block),
        };
        compiled.map_err(|problem| Error::line(&context.origin.path, context.origin.line, problem.to_string(), ""))
    }

    fn standard(cipher_block: usize) -> Codec {
        Codec {
            header: EspHeader { spi_bits: 32, sn_bits: 32, rule_id: None },
            trailer: Trailer::standard(cipher_block),
            inner: Inner {
                mode: None,
                version: None,
                protocol: None,
                rule_id: None,
                ip: None,
                transports: [].into(),
                addresses: [].into(),
                ports: [].into(),
            },
        }
    }

    /// The rules of a context as data, in the order in which a sender uses them.
    pub fn tables(context: &Context, cipher_block: usize) -> Vec<Table> {
        match &context.dialect {
            Dialect::Ietf(attributes) => ietf::tables(context, attributes, cipher_block),
        }
    }

    /// Bits of the SPI on the wire, 0 to 32.
    pub fn spi_bits(&self) -> u8 {
        self.header.spi_bits
    }

    /// Bits of the Sequence Number on the wire, 0 to 32.
    pub fn sn_bits(&self) -> u8 {
        self.header.sn_bits
    }

    /// The RuleID in front of the ESP header.
    pub fn header_rule_id(&self) -> Option<u8> {
        self.header.rule_id
    }

    /// Bytes in front of IV and ciphertext: RuleID, SPI and Sequence Number.
    pub fn header_len(&self) -> usize {
        let EspHeader { spi_bits, sn_bits, rule_id } = self.header;
        usize::from(rule_id.is_some()) + (usize::from(spi_bits) + usize::from(sn_bits)).div_ceil(8)
    }

    /// The mode agreed on; `None` for standard ESP, where each packet tells.
    pub fn mode(&self) -> Option<Mode> {
        self.inner.mode
    }

    /// Appends the compressed ESP header: RuleID, low bits of SPI, low bits of Sequence Number.
    pub fn encode_header(&self, spi: u32, sn: u64, out: &mut Vec<u8>) {
        let EspHeader { spi_bits, sn_bits, rule_id } = self.header;
        out.extend(rule_id);
        let low = |value: u64, bits: u8| value & ((1 << bits) - 1);
        let residue = (low(spi.into(), spi_bits) << sn_bits) | low(sn, sn_bits);
        // A multiple of 8 bits, at most 64.
        let len = (usize::from(spi_bits) + usize::from(sn_bits)) / 8;
        out.extend(residue.to_be_bytes().iter().skip(8 - len.min(8)));
    }

    /// Whether every clear text is that of RFC 4303 and a multiple of 4 bytes: then standard ESP can be put together
    /// without sealing again.
    pub fn clear_text_is_standard(&self) -> bool {
        self.inner.is_identity() && self.trailer.is_standard()
    }

    /// Rebuilds the packet of a verified clear text into `packet`, whatever that held before.
    ///
    /// Tunnel mode: the inner packet. Transport mode: `carrier`'s header with the protocol of the segment, new length
    /// and IPv4 checksum, then the segment. A dummy leaves `packet` empty. A [`Fault`] counts its offset from the start
    /// of the clear text.
    pub fn restore(&self, clear: &[u8], carrier: &Carrier<'_>, packet: &mut Vec<u8>) -> Result<Restored, Fault> {
        packet.clear();
        let opened = self.trailer.open(clear)?;
        self.inner.restore(&opened, carrier, packet)
    }

    /// Compresses a whole IP packet (tunnel mode: the inner one) into `clear`, whatever that held before: payload data
    /// and trailer. `outer` is the header that will carry it. Standard ESP takes the packet in tunnel mode.
    ///
    /// After a [`Mismatch`] `clear` is of no meaning.
    pub fn compress(&self, packet: &[u8], _outer: &Outer, clear: &mut Vec<u8>) -> Result<Compressed, Mismatch> {
        clear.clear();
        self.trailer.begin(clear);
        let compressed = self.inner.compress(packet, clear)?;
        self.trailer.close(clear, compressed.next_header);
        Ok(compressed)
    }
}

/// Appends the trailer of RFC 4303 to payload data: Padding to a multiple of 4 bytes and of `cipher_block`, Pad Length,
/// Next Header. `payload` holds the payload data and nothing else.
pub fn close_standard(payload: &mut Vec<u8>, cipher_block: usize, next_header: u8) {
    Trailer::standard(cipher_block).close(payload, next_header);
}
