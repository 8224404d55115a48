//! One packet from the inner headers to the wire and back, with all intermediate values.

use std::collections::HashMap;
use std::net::IpAddr;

use super::kit::hex_of;
use crate::capture::LINKTYPE_RAW;
use crate::cipher::OpenError;
use crate::codec::{Mismatch, Restored, State};
use crate::decoder::status::Status;
use crate::encoder::outer_header;
use crate::error::{Fault, FaultKind, Stage};
use crate::files::Json;
use crate::link::{self, LinkContent};
use crate::net::{Datagram, IpHeaders, OuterHeader};
use crate::sa::table::{Lookup, PreparedSa, SaTable};

/// The inputs of a packet vector. All other values are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// The outer IP header. Its length and checksum are ignored.
    pub outer_header: &'a [u8],
    /// The packet to compress: the inner packet, or in transport mode the whole packet.
    pub inner_packet: &'a [u8],
    /// The sequence number; 64 bits with ESN.
    pub sn: u64,
    /// The explicit IV.
    pub iv: &'a [u8],
}

/// A packet that was compressed and sealed.
#[derive(Debug, Default)]
pub(super) struct Vector {
    pub outer_header: Vec<u8>,
    pub spi: u32,
    pub sn: u64,
    pub esn: bool,
    pub inner_packet: Vec<u8>,
    pub residue_bits: usize,
    pub payload_data: Vec<u8>,
    /// The RuleID before the payload data, if there is one.
    pub clear_rule_id: Vec<u8>,
    pub trailer: Vec<u8>,
    pub clear_text: Vec<u8>,
    pub nonce: Vec<u8>,
    pub aad: Vec<u8>,
    pub iv: Vec<u8>,
    pub cipher_text: Vec<u8>,
    pub icv: Vec<u8>,
    /// The RuleID before the ESP header, if there is one.
    pub header_rule_id: Vec<u8>,
    pub eec_residue: Vec<u8>,
    /// From the first byte of the ESP header to the end of the ICV.
    pub wire: Vec<u8>,
    pub restored_packet: Vec<u8>,
    /// Names and sources of fields that were not sent, and warnings.
    pub restored: Vec<(&'static str, &'static str)>,
    pub warnings: Vec<&'static str>,
}

/// Why there is no vector.
#[derive(Debug)]
pub(super) enum Problem {
    /// The packet does not match the context.
    Mismatch(Mismatch),
    /// Any other reason: the invalid value, and what is wrong with it.
    Wrong(&'static str, String),
}

/// The state after the last packet of each SA and, for multicast, of each source: that of the sender and that of
/// the receiver.
#[derive(Debug, Default)]
pub(super) struct States(HashMap<(usize, Option<IpAddr>), [State; 2]>);

impl States {
    fn of(&mut self, sa: usize, outer: &OuterHeader) -> &mut [State; 2] {
        self.0.entry((sa, Some(outer.src).filter(|_| outer.dst.is_multicast()))).or_default()
    }
}

/// The step at which opening failed, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub stage: Stage,
    pub status: Status,
    /// The invalid field or structure, if there is one.
    pub field: &'static str,
    pub reason: String,
}

/// Parses the IP packet in `bytes`, which may end after its header.
pub(super) fn datagram(bytes: &[u8]) -> Result<Datagram<'_>, Problem> {
    match link::parse(LINKTYPE_RAW, bytes) {
        LinkContent::Datagram(datagram) => Ok(datagram),
        LinkContent::Malformed { fault, .. } => Err(Problem::Wrong("outer_header", fault.to_string())),
        _ => Err(Problem::Wrong("outer_header", "not that of a whole IP packet".to_owned())),
    }
}

impl Vector {
    /// Compresses, seals, opens and restores a packet of the SA at position `sa` of `table`.
    pub(super) fn compute(
        table: &SaTable,
        sa: usize,
        inputs: &Inputs<'_>,
        states: &mut States,
    ) -> Result<Vector, Problem> {
        let wrong = |name, what: &str| Problem::Wrong(name, what.to_owned());
        let entry = table.entries().get(sa).ok_or_else(|| wrong("sa", "there is no such SA"))?;
        let Inputs { outer_header, inner_packet, sn, iv } = *inputs;
        let (cipher, codec, esn) = (entry.cipher(), &entry.codec, entry.sa.esn);
        let carrier = datagram(outer_header)?;
        let spi = check_inputs(entry, sn, &carrier)?;
        let [sender, receiver] = states.of(sa, &carrier.outer);
        let mut clear_text = vec![];
        let compressed = codec.compress(inner_packet, &carrier.outer, sender, &mut clear_text);
        let residue_bits = compressed.map_err(Problem::Mismatch)?.residue_bits;
        let payload =
            codec.payload_range(&clear_text).map_err(|fault| Problem::Wrong("clear_text", fault.to_string()))?;
        let part = |bytes: &[u8], range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default().to_vec();

        let body = seal(entry, sn, iv, &clear_text)?;
        let (icv_at, cipher_at) = (body.len().saturating_sub(cipher.icv_len()), cipher.iv_len());
        let cipher_text = part(&body, cipher_at..icv_at);
        let header_rule_id: Vec<u8> = codec.header_rule_id().into_iter().collect();
        let mut wire = vec![];
        codec.encode_header(spi, sn, &mut wire);
        let eec_residue = part(&wire, header_rule_id.len()..wire.len());
        wire.extend_from_slice(&body);
        let mut whole = vec![];
        link::rebuild(&[], &carrier, entry.protocol, None, &[&wire], &mut whole)
            .map_err(|fault| Problem::Wrong("outer_header", fault.to_string()))?;

        let (restored_packet, restored) =
            open(table, sa, sn, &whole, receiver).map_err(|failed| Problem::Wrong("restored_packet", failed.reason))?;
        Ok(Vector {
            outer_header: part(&whole, 0..whole.len().saturating_sub(wire.len())),
            spi,
            sn,
            esn,
            inner_packet: inner_packet.to_vec(),
            residue_bits,
            payload_data: part(&clear_text, payload.clone()),
            clear_rule_id: part(&clear_text, 0..payload.start),
            trailer: part(&clear_text, payload.end..clear_text.len()),
            nonce: cipher.nonce(sn, esn, iv),
            aad: cipher.aad(spi, sn, esn, iv, &cipher_text),
            iv: iv.to_vec(),
            icv: part(&body, icv_at..body.len()),
            header_rule_id,
            eec_residue,
            restored: restored.sources.iter().map(|(name, source)| (name, source.name())).collect(),
            warnings: restored.warnings.names().collect(),
            cipher_text,
            clear_text,
            wire,
            restored_packet,
        })
    }

    /// The vector as written to the kit: packet `number` of the named SA.
    pub(super) fn line(&self, number: usize, sa: &str) -> Json {
        let [sn, sn_high] = sn_values(self.sn, self.esn);
        let restored = self.restored.iter().map(|(name, source)| (*name, (*source).into())).collect();
        Json::Object(vec![
            ("packet", number.into()),
            ("sa", sa.into()),
            ("outer_header", hex_of(&self.outer_header)),
            ("spi", hex_of(&self.spi.to_be_bytes())),
            ("sn", sn),
            ("sn_high", sn_high),
            ("inner_packet", hex_of(&self.inner_packet)),
            ("residue_bits", self.residue_bits.into()),
            ("payload_data", hex_of(&self.payload_data)),
            ("clear_rule_id", hex_of(&self.clear_rule_id)),
            ("trailer", hex_of(&self.trailer)),
            ("clear_text", hex_of(&self.clear_text)),
            ("nonce", hex_of(&self.nonce)),
            ("aad", hex_of(&self.aad)),
            ("iv", hex_of(&self.iv)),
            ("ciphertext", hex_of(&self.cipher_text)),
            ("icv", hex_of(&self.icv)),
            ("header_rule_id", hex_of(&self.header_rule_id)),
            ("eec_residue", hex_of(&self.eec_residue)),
            ("wire", hex_of(&self.wire)),
            ("restored_packet", hex_of(&self.restored_packet)),
            ("lost", hex_of(&self.lost())),
            ("restored", Json::Object(restored)),
            ("warnings", Json::List(self.warnings.iter().map(|name| (*name).into()).collect())),
        ])
    }

    /// The bits in which the restored packet differs from the original; empty if they are equal.
    fn lost(&self) -> Vec<u8> {
        let (sent, restored) = (&self.inner_packet, &self.restored_packet);
        if sent == restored { vec![] } else { sent.iter().zip(restored).map(|(a, b)| a ^ b).collect() }
    }
}

/// Returns the SPI of an SA that can send a packet with this sequence number and outer header.
fn check_inputs(entry: &PreparedSa, sn: u64, carrier: &Datagram<'_>) -> Result<u32, Problem> {
    let wrong = |name, what: &str| Problem::Wrong(name, what.to_owned());
    let spi = entry.sa.spi.ok_or_else(|| wrong("spi", "the SA has none"))?;
    if !entry.sa.esn && u32::try_from(sn).is_err() {
        return Err(wrong("sn", "beyond 32 bits, without `esn`"));
    }
    match outer_header(entry, &carrier.outer) {
        Some(outer) if (outer.src, outer.dst) != (carrier.outer.src, carrier.outer.dst) => {
            Err(wrong("outer_header", "other addresses than those of `tunnel_ip`"))
        }
        _ => Ok(spi),
    }
}

/// The low half of a sequence number and, with ESN, its high half.
pub(super) fn sn_values(sn: u64, esn: bool) -> [Json; 2] {
    let high = ((sn >> 32) as u32).to_be_bytes();
    [hex_of(&(sn as u32).to_be_bytes()), hex_of(if esn { &high } else { &[] })]
}

/// IV, cipher text and ICV.
pub(super) fn seal(entry: &PreparedSa, sn: u64, iv: &[u8], clear: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut body = vec![];
    match entry.cipher().seal(entry.sa.spi.unwrap_or(0), sn, entry.sa.esn, iv, clear, &mut body) {
        Ok(()) => Ok(body),
        Err(error) => Err(Problem::Wrong("clear_text", format!("cannot be sealed: {error:?}"))),
    }
}

/// Opens and restores a whole IP packet of the SA at position `sa` of `table` that has this sequence number.
pub(super) fn open(
    table: &SaTable,
    sa: usize,
    sn: u64,
    whole: &[u8],
    state: &mut State,
) -> Result<(Vec<u8>, Restored), Failed> {
    let failed = |stage, status, field, reason: &str| Failed { stage, status, field, reason: reason.to_owned() };
    let fault_of = |fault: Fault| {
        let (status, field) = match fault.kind {
            FaultKind::Unsupported(_) => (Status::Unsupported, ""),
            FaultKind::Short { what, .. } | FaultKind::Value { what, .. } => (Status::Malformed, what),
        };
        Failed { stage: fault.stage, status, field, reason: fault.to_string() }
    };
    let carrier = datagram(whole).map_err(|problem| match problem {
        Problem::Wrong(field, reason) => Failed { stage: Stage::Link, status: Status::Malformed, field, reason },
        Problem::Mismatch(mismatch) => failed(Stage::Link, Status::Malformed, mismatch.field, ""),
    })?;
    let Datagram { outer, header, protocol_offset, protocol, payload, .. } = carrier;
    let mut candidates = vec![];
    table.candidates(&Lookup { protocol, outer: &outer, link: carrier.link, payload }, &mut candidates);
    let entry = table.entries().get(sa).filter(|_| candidates.iter().any(|candidate| *candidate as usize == sa));
    let Some(entry) = entry else {
        let reason = "the SA does not match these outer addresses, RuleID and SPI bits";
        return Err(failed(Stage::EspHeader, Status::NoSa, "ESP.SPI", reason));
    };
    let least = entry.least_len();
    let Some(body) = payload.get(entry.header_len()..).filter(|_| payload.len() >= least) else {
        return Err(fault_of(Fault::short(Stage::EspHeader, 0, "ESP header, IV and ICV", least, payload.len())));
    };
    let sn_bits = u32::from(entry.codec.sn_bits());
    if u64::from(entry.sn_on_wire(payload)) != sn & ((1 << sn_bits) - 1) {
        let reason = "not the low bits of the Sequence Number";
        return Err(failed(Stage::EspHeader, Status::AuthFailed, "ESP.SEQ", reason));
    }
    let mut clear = vec![];
    entry.cipher().open(entry.sa.spi.unwrap_or(0), sn, entry.sa.esn, body, &mut clear).map_err(|error| {
        let reason = match error {
            OpenError::Block => "the length of the cipher text is not a multiple of the cipher block",
            _ => "the ICV does not verify",
        };
        failed(Stage::Open, Status::AuthFailed, "ICV", reason)
    })?;
    let mut packet = vec![];
    let carrier = IpHeaders { outer: &outer, header, protocol_offset };
    let restored = entry.codec.restore(&clear, &carrier, state, &mut packet).map_err(fault_of)?;
    Ok((packet, restored))
}
