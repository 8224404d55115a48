//! IKEv2 messages, limited to the parts that are needed to derive the keys of child SAs.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |                   IKE SA Initiator's SPI (8)                  |    header, RFC 7296 §3.1
//! |                   IKE SA Responder's SPI (8)                  |
//! | Next Payload  | MjVer | MnVer | Exchange Type |     Flags     |
//! |                          Message ID                           |
//! |                            Length                             |
//!
//! | Next Payload  |C|  Reserved   |         Payload Length        |    of every payload, §3.2
//! | 0 (last) or 2 |   Reserved    |        Proposal Length        |    in an SA payload, §3.3.1
//! | Proposal Num  |  Protocol ID  |    SPI Size   |Num  Transforms|    then the SPI
//! | 0 (last) or 3 |   Reserved    |        Transform Length       |    then transforms, §3.3.2
//! |Transform Type |   Reserved    |          Transform ID         |    and their attributes, §3.3.5
//! ```

use super::Spis;

/// Exchange type IKE_SA_INIT.
pub(super) const IKE_SA_INIT: u8 = 34;
/// Exchange type IKE_AUTH.
pub(super) const IKE_AUTH: u8 = 35;
/// Exchange type CREATE_CHILD_SA.
pub(super) const CREATE_CHILD_SA: u8 = 36;

/// Whether a UDP 4500 payload is the non-ESP marker and one whole IKE message, according to its header. The header
/// of IKE version 1 (RFC 2408 §3.1) is the same as that of version 2 (RFC 7296 §3.1).
pub(crate) fn is_after_marker(payload: &[u8]) -> bool {
    let Some(message) = payload.strip_prefix(&[0; 4]) else { return false };
    let Some(header) = message.first_chunk::<HEADER_LEN>() else { return false };
    let [initiator @ .., _, _, _, _, _, _, _, _, _, version, _, _, _, _, _, _, a, b, c, d] = header;
    let is_known = matches!(version >> 4, 1 | 2) && *initiator != [0; 8];
    is_known && u32::from_be_bytes([*a, *b, *c, *d]) as usize == message.len()
}

const HEADER_LEN: usize = 28;
const SA: u8 = 33;
const KEY_EXCHANGE: u8 = 34;
const NONCE: u8 = 40;
const ENCRYPTED: u8 = 46;
const ENCRYPTED_FRAGMENT: u8 = 53;

/// One message with its parsed header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    /// If the SPI of the responder is 0, this is the first message of an IKE SA.
    pub(super) spis: Spis,
    pub(super) exchange: u8,
    /// Whether the sender is the initiator of the IKE SA.
    pub(super) from_initiator: bool,
    pub(super) is_response: bool,
    pub(super) id: u32,
    first_payload: u8,
    /// The message, including its header.
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Parses a message. Returns `None` if it is not a whole message of IKE version 2. Bytes after it are ignored.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Message<'a>> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let (spi_i, rest) = header.split_first_chunk()?;
        let (spi_r, rest) = rest.split_first_chunk()?;
        let &[first_payload, version, exchange, flags, ref rest @ ..] = rest else { return None };
        let (id, rest) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
        (version >> 4 == 2 && len >= HEADER_LEN).then_some(())?;
        Some(Message {
            spis: Spis { initiator: u64::from_be_bytes(*spi_i), responder: u64::from_be_bytes(*spi_r) },
            exchange,
            from_initiator: flags & 0x08 != 0,
            is_response: flags & 0x20 != 0,
            id: u32::from_be_bytes(*id),
            first_payload,
            bytes: bytes.get(..len)?,
        })
    }

    /// The payloads that are not encrypted.
    pub(super) fn payloads(&self) -> Payloads<'a> {
        Payloads { next: self.first_payload, rest: self.bytes.get(HEADER_LEN..).unwrap_or_default() }
    }

    /// The encrypted payload, or a fragment of it.
    pub(super) fn encrypted(&self) -> Option<Encrypted<'a>> {
        // It is the last payload. The chain of payloads continues inside it.
        let payload = self.payloads().find(|payload| matches!(payload.kind, ENCRYPTED | ENCRYPTED_FRAGMENT))?;
        let (fragment, body) = match payload.kind {
            ENCRYPTED => (None, payload.body),
            _ => {
                let (&[a, b, c, d], body) = payload.body.split_first_chunk()?;
                let (number, total) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                (1..=total).contains(&number).then_some(())?;
                (Some(FragmentNumber { number, total }), body)
            }
        };
        // The ICV covers all bytes from the start of the message up to the ICV.
        let head_len = self.bytes.len().checked_sub(body.len())?;
        let (head, end) = self.bytes.split_at_checked(head_len)?;
        std::ptr::eq(end, body).then_some(Encrypted { first_inner: payload.next, fragment, head, body })
    }
}

/// "Encrypted and Authenticated" (RFC 7296 §3.14), or "Encrypted and Authenticated Fragment" (RFC 7383 §2.5).
#[derive(Debug, Clone, Copy)]
pub(super) struct Encrypted<'a> {
    /// The type of the first payload inside; 0 in all fragments but the first.
    pub(super) first_inner: u8,
    pub(super) fragment: Option<FragmentNumber>,
    /// The message up to `body`.
    pub(super) head: &'a [u8],
    /// IV, cipher text, ICV.
    pub(super) body: &'a [u8],
}

/// Which fragment of how many, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FragmentNumber {
    pub(super) number: u16,
    pub(super) total: u16,
}

/// Removes the padding from a clear text. Its last byte is the length of the padding, without this byte (RFC 7296
/// §3.14).
pub(super) fn without_padding(clear: &[u8]) -> Option<&[u8]> {
    let (pad_len, rest) = clear.split_last()?;
    rest.get(..rest.len().checked_sub(usize::from(*pad_len))?)
}

/// Iterates over payloads. Ends at the first truncated one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payloads<'a> {
    pub(super) next: u8,
    pub(super) rest: &'a [u8],
}

/// One payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload<'a> {
    kind: u8,
    next: u8,
    body: &'a [u8],
}

impl<'a> Iterator for Payloads<'a> {
    type Item = Payload<'a>;

    fn next(&mut self) -> Option<Payload<'a>> {
        let kind = std::mem::take(&mut self.next);
        if kind == 0 {
            return None;
        }
        let &[next, _, a, b] = self.rest.first_chunk()?;
        let (payload, rest) = self.rest.split_at_checked(usize::from(u16::from_be_bytes([a, b])))?;
        let body = payload.get(4..)?;
        self.rest = rest;
        if !matches!(kind, ENCRYPTED | ENCRYPTED_FRAGMENT) {
            self.next = next;
        }
        Some(Payload { kind, next, body })
    }
}

/// The contents of one message that concern the SA which its exchange creates.
#[derive(Debug, Default, Clone)]
pub(super) struct Offer {
    pub(super) nonce: Vec<u8>,
    pub(super) proposals: Vec<Proposal>,
    /// A new key exchange (PFS).
    pub(super) key_exchange: bool,
}

impl Offer {
    /// Reads the SA, Nonce and Key Exchange payloads that are present.
    pub(super) fn read(payloads: Payloads<'_>) -> Offer {
        let mut offer = Offer::default();
        for payload in payloads {
            match payload.kind {
                SA => offer.proposals = proposals(payload.body),
                NONCE => offer.nonce = payload.body.to_vec(),
                KEY_EXCHANGE => offer.key_exchange = true,
                _ => {}
            }
        }
        offer
    }
}

/// One proposal of an SA payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) number: u8,
    /// 1 is IKE, 2 is AH, 3 is ESP.
    pub(super) protocol: u8,
    pub(super) spi: Vec<u8>,
    pub(super) transforms: Vec<Transform>,
}

/// One transform of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transform {
    /// 1 is encryption, 2 prf, 3 integrity, 4 key exchange, 5 extended sequence numbers.
    pub(super) kind: u8,
    pub(super) id: u16,
    pub(super) key_bits: Option<u16>,
}

impl Proposal {
    /// The only transform of a type, in a chosen proposal.
    pub(super) fn transform(&self, kind: u8) -> Option<Transform> {
        self.transforms.iter().find(|transform| transform.kind == kind).copied()
    }
}

/// Reads proposals. Ends at the first truncated one.
fn proposals(body: &[u8]) -> Vec<Proposal> {
    Substructures(body).filter_map(proposal).collect()
}

fn proposal(body: &[u8]) -> Option<Proposal> {
    let (&[number, protocol, spi_len, _count], rest) = body.split_first_chunk()?;
    let (spi, rest) = rest.split_at_checked(usize::from(spi_len))?;
    let transforms = Substructures(rest).filter_map(transform).collect();
    Some(Proposal { number, protocol, spi: spi.to_vec(), transforms })
}

fn transform(body: &[u8]) -> Option<Transform> {
    const KEY_LENGTH: u16 = 14;
    let (&[kind, _, a, b], mut rest) = body.split_first_chunk()?;
    let mut key_bits = None;
    while let Some((&[a, b, c, d], after)) = rest.split_first_chunk() {
        let (format_and_type, value) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        // Without the top bit, this is the length of the value, which follows.
        let short = format_and_type & 0x8000 != 0;
        if short && format_and_type & 0x7fff == KEY_LENGTH {
            key_bits = Some(value);
        }
        rest = if short { after } else { after.get(usize::from(value)..).unwrap_or_default() };
    }
    Some(Transform { kind, id: u16::from_be_bytes([a, b]), key_bits })
}

/// Iterates over proposals or transforms: a flag for the last one, a reserved byte, the total length in 2 bytes,
/// then the content.
struct Substructures<'a>(&'a [u8]);

impl<'a> Iterator for Substructures<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let &[_, _, a, b] = self.0.first_chunk()?;
        let (one, rest) = self.0.split_at_checked(usize::from(u16::from_be_bytes([a, b])))?;
        self.0 = rest;
        one.get(4..)
    }
}
