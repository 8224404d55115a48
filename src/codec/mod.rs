//! Header compression of each dialect: the ESP header (EEC), the ESP trailer (CTEC) and the inner packet (IIPC).
//!
//! ```text
//! clear text --trailer--> payload data --inner--> packet        (compress: the same upwards)
//! ```
//!
//! A [`Codec`] is compiled once per Security Association from its [`Context`]. After that, each packet needs only a
//! few copies.

pub(crate) mod apply;
mod compute;
mod custom;
mod ehc;
pub(crate) mod explain;
mod ietf;
mod inner;
pub(crate) mod overhead;
mod restored;
mod sixlo;
mod state;
mod trailer;

pub(crate) use custom::check as check_custom;
pub use restored::Form;
pub use restored::Mismatch;
pub use restored::Restorable;
pub use restored::Restored;
pub(crate) use restored::{Provenance, Source, Warnings};
pub use state::State;

use crate::context::{Context, Dialect, Mode};
use crate::error::{Error, Fault};
use crate::net::{IpHeaders, OuterHeader};
use crate::schc::{self, fields};
use inner::InnerRules;
use trailer::Trailer;

/// The compiled header compression of one Security Association.
#[derive(Debug, Clone, PartialEq)]
pub struct Codec {
    header: EspHeader,
    trailer: Trailer,
    inner: InnerRules,
}

/// The compressed ESP header (draft-ietf-ipsecme-diet-esp-07 §5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
struct EspHeader {
    spi_bits: u8,
    sn_bits: u8,
    rule_id: Option<u8>,
    /// The rule of the SPI; `None` if it matches every SPI and sends only the low bits.
    spi_rule: Option<schc::Compiled>,
}

impl EspHeader {
    fn low_bits(spi_bits: u8, sn_bits: u8) -> EspHeader {
        EspHeader { spi_bits, sn_bits, rule_id: None, spi_rule: None }
    }

    /// The rule as data. The target values are those of the SA and of each packet.
    fn table(&self) -> schc::Rule {
        use schc::{Action, FieldDescriptor, Matching, Target};
        let low_bits = |field, lsb: u8| match lsb {
            32 => FieldDescriptor::sent(field),
            _ => FieldDescriptor::new(field, Target::Empty, Matching::Msb(32 - u16::from(lsb)), Action::Lsb),
        };
        schc::Rule { fields: vec![low_bits(fields::ESP_SPI, self.spi_bits), low_bits(fields::ESP_SEQ, self.sn_bits)] }
    }
}

/// What [`Codec::compress`] did not compress, and what standard ESP would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compressed {
    /// Offset of the protected data in the packet: 0 in tunnel mode, the segment in transport mode.
    pub payload_offset: usize,
    /// Offset in the packet of the byte that names the protocol of the segment. It has no meaning in tunnel mode.
    pub protocol_offset: usize,
    /// The Next Header of RFC 4303 §2.6.
    pub next_header: u8,
    /// Bits in the residue of the inner headers. It starts the payload data, after an optional RuleID. 0 bits fill
    /// its last byte.
    pub residue_bits: usize,
}

/// A rule as data, for human-readable output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRule {
    /// The compressor and, for the inner packet, the header: `iipc ipv6`, `iipc udp`, `ctec`, `eec`.
    pub name: &'static str,
    /// The rule.
    pub rule: schc::Rule,
}

impl Codec {
    /// Compiles a context for a cipher whose clear texts are a multiple of `cipher_block` bytes. `None` is standard
    /// ESP (RFC 4303). Returns an [`Error`] if the context does not result in valid rules.
    ///
    /// # Errors
    /// The codec cannot do what the context says.
    pub fn new(context: Option<&Context>, cipher_block: usize) -> Result<Codec, Error> {
        let Some(context) = context else { return Ok(Codec::standard(cipher_block)) };
        let origin = (&context.origin.path, context.origin.line);
        let compiled = match &context.dialect {
            Dialect::Ietf(attributes) => ietf::compile(context, attributes, cipher_block),
            Dialect::Ehc(attributes) => ehc::compile(context, attributes, cipher_block),
            Dialect::SixLo(attributes) => sixlo::compile(context, attributes, cipher_block),
            Dialect::Custom(rules) => {
                let compiled = custom::compile(context, rules, cipher_block);
                return compiled.map_err(|wrong| Error::line(origin.0, origin.1, wrong.to_string(), ""));
            }
        };
        compiled.map_err(|problem| Error::line(origin.0, origin.1, problem.to_string(), ""))
    }

    fn standard(cipher_block: usize) -> Codec {
        Codec {
            header: EspHeader::low_bits(32, 32),
            trailer: Trailer::standard(cipher_block),
            inner: InnerRules::uncompressed(None, None, None),
        }
    }

    /// The rules of a context as data, in the order in which a sender applies them.
    pub fn tables(context: &Context, cipher_block: usize) -> Vec<NamedRule> {
        match &context.dialect {
            Dialect::Ietf(attributes) => ietf::tables(context, attributes, cipher_block),
            Dialect::Ehc(attributes) => ehc::tables(context, attributes, cipher_block),
            Dialect::SixLo(attributes) => sixlo::tables(context, attributes, cipher_block),
            Dialect::Custom(rules) => custom::tables(context, rules),
        }
    }

    /// Number of SPI bits on the wire, 0 to 32.
    pub fn spi_bits(&self) -> u8 {
        self.header.spi_bits
    }

    /// Number of sequence number bits on the wire, 0 to 32.
    pub fn sn_bits(&self) -> u8 {
        self.header.sn_bits
    }

    /// The bits of `spi` that are sent, right-aligned: its low [`Codec::spi_bits`] bits, or the residue of a
    /// user-defined rule. Returns a [`Mismatch`] if this rule does not match the SPI.
    ///
    /// # Errors
    /// The rule of ESP.SPI does not match `spi`.
    pub fn spi_residue(&self, spi: u32) -> Result<u32, Mismatch> {
        let EspHeader { spi_bits, spi_rule, .. } = &self.header;
        match spi_rule {
            None => Ok(low_bits(spi.into(), *spi_bits) as u32),
            Some(rule) => {
                let mut residue = [0; 4];
                rule.compress(&spi.to_be_bytes(), &mut residue, 0)?;
                Ok((u64::from(u32::from_be_bytes(residue)) >> (32 - u32::from(*spi_bits))) as u32)
            }
        }
    }

    /// The RuleID before the ESP header.
    pub fn header_rule_id(&self) -> Option<u8> {
        self.header.rule_id
    }

    /// Number of bytes before the IV and ciphertext: RuleID, SPI and sequence number.
    pub fn header_len(&self) -> usize {
        let EspHeader { spi_bits, sn_bits, rule_id, .. } = self.header;
        usize::from(rule_id.is_some()) + (usize::from(spi_bits) + usize::from(sn_bits)).div_ceil(8)
    }

    /// The negotiated mode; `None` for standard ESP, where the Next Header of each packet shows the mode.
    pub fn mode(&self) -> Option<Mode> {
        self.inner.mode
    }

    /// Whether restoring a packet depends on the packet before it ([`State`]). If so, the packets of an SA must be
    /// restored in the order of the capture.
    pub fn is_stateful(&self) -> bool {
        self.inner.is_stateful()
    }

    /// Appends the compressed ESP header: RuleID, low bits of the SPI, low bits of the sequence number.
    pub fn encode_header(&self, spi: u32, sn: u64, out: &mut Vec<u8>) {
        let EspHeader { spi_bits, sn_bits, rule_id, .. } = self.header;
        out.extend(rule_id);
        // An SPI without a residue was rejected when the SA was loaded.
        let spi = self.spi_residue(spi).unwrap_or(0);
        let residue = (u64::from(spi) << sn_bits) | low_bits(sn, sn_bits);
        // The number of bits is a multiple of 8, at most 64. The unused bytes at the end are removed again.
        let bits = u32::from(spi_bits) + u32::from(sn_bits);
        let end = out.len() + bits as usize / 8;
        out.extend_from_slice(&residue.checked_shl(64 - bits).unwrap_or(0).to_be_bytes());
        out.truncate(end);
    }

    /// The position of the payload data in a clear text, after an optional RuleID and before the trailer. Returns a
    /// [`Fault`] if the clear text is too short for its trailer, or has another RuleID.
    ///
    /// # Errors
    /// The clear text is malformed, or has something that the context does not know.
    pub fn payload_range(&self, clear: &[u8]) -> Result<std::ops::Range<usize>, Fault> {
        let opened = self.trailer.open(clear)?;
        Ok(opened.offset..opened.offset + opened.payload.len())
    }

    /// Whether every clear text is that of RFC 4303 and a multiple of 4 bytes. If so, a packet can be converted to
    /// standard ESP without encrypting it again.
    pub fn clear_text_is_standard(&self) -> bool {
        self.inner.is_identity() && self.trailer.is_standard()
    }

    /// Rebuilds the packet of a verified clear text into `packet`, replacing its content.
    ///
    /// In tunnel mode, this is the inner packet. In transport mode, it is the header of `outer_ip` with the
    /// protocol of the segment and a new length and checksum, then the segment. A dummy packet leaves `packet`
    /// empty. The offset of a [`Fault`] counts from the start of the clear text. `state` belongs to the stream. It
    /// is only updated if the packet could be rebuilt.
    ///
    /// # Errors
    /// The clear text is malformed, or has something that the context does not know.
    pub fn restore(
        &self,
        clear: &[u8],
        outer_ip: &IpHeaders<'_>,
        state: &mut State,
        packet: &mut Vec<u8>,
    ) -> Result<Restored, Fault> {
        packet.clear();
        let opened = self.trailer.open(clear)?;
        self.inner.restore(&opened, outer_ip, state, packet)
    }

    /// Whether the padding in the trailer of a clear text is 1, 2, 3, ...
    pub fn padding_is_right(&self, clear: &[u8]) -> bool {
        self.trailer.open(clear).is_ok_and(|opened| !opened.warnings.contains(Warnings::PADDING))
    }

    /// A fast version of [`Codec::restore`] for a packet that is not compressed in its clear text, as in standard
    /// ESP in tunnel mode. Returns its position in the clear text. For every other clear text, returns `None` and
    /// leaves `restored` unchanged.
    // Not returned by value: copying a struct right after its fields were written stalls the CPU.
    #[inline]
    pub fn restore_in_place(&self, clear: &[u8], restored: &mut Option<Restored>) -> Option<std::ops::Range<usize>> {
        if !self.inner.is_identity() {
            return None;
        }
        self.inner.restore_in_place(&self.trailer.open(clear).ok()?, restored)
    }

    /// Compresses a whole IP packet (in tunnel mode, the inner one) and stores payload data and trailer in `clear`,
    /// replacing its content. `outer` is the header of the ESP packet. `state` is that of the packets sent before;
    /// restore it if the packet is not sent. Standard ESP uses tunnel mode.
    ///
    /// After a [`Mismatch`], the content of `clear` is undefined and `state` is unchanged.
    ///
    /// # Errors
    /// The first field that the context does not match.
    pub fn compress(
        &self,
        packet: &[u8],
        outer: &OuterHeader,
        state: &mut State,
        clear: &mut Vec<u8>,
    ) -> Result<Compressed, Mismatch> {
        clear.clear();
        self.append_compressed(packet, outer, state, clear)
    }

    /// Like [`Codec::compress`], but appends to `out`. After a [`Mismatch`], the appended bytes are undefined.
    ///
    /// # Errors
    /// The first field that the context does not match.
    pub fn append_compressed(
        &self,
        packet: &[u8],
        outer: &OuterHeader,
        state: &mut State,
        out: &mut Vec<u8>,
    ) -> Result<Compressed, Mismatch> {
        let start = out.len();
        self.trailer.begin(out);
        let compressed = self.inner.compress(packet, outer, state, out)?;
        // Only user-defined rules can cause a mismatch here, and they do not use the state.
        self.trailer.close(out, start, compressed.next_header)?;
        Ok(compressed)
    }
}

/// The low `bits` bits, at most 32.
fn low_bits(value: u64, bits: u8) -> u64 {
    value & ((1 << bits) - 1)
}

/// Appends the trailer of RFC 4303 to payload data: Padding to a multiple of 4 bytes and of `cipher_block`, Pad
/// Length, Next Header. `payload` contains only the payload data.
pub fn close_standard(payload: &mut Vec<u8>, cipher_block: usize, next_header: u8) {
    let closed = Trailer::standard(cipher_block).close(payload, 0, next_header);
    debug_assert!(closed.is_ok(), "no rule can mismatch");
}
