//! 6LoWPAN: restores the IPv6 packet from the payload of a link-layer frame (RFC 4944, RFC 6282, RFC 8025, RFC
//! 8138).
//!
//! ```text
//! | mesh header | BC0 | FRAG1 or FRAGN | page switch | 6LoRH ... | IPHC, NHC ... or 41 | payload
//! ```

mod contexts;
mod fragments;
mod iphc;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use self::contexts::{Contexts, Network};
use self::fragments::{Fragments, Key, Piece};
use self::iphc::ElidedFields;
use super::LinkAddresses;
use crate::bytes::Reader;
use crate::error::{Fault, Stage};
use crate::net::ipv6::Ipv6;
use crate::net::protocol::ICMPV6;
use crate::net::{LinkAddress, checksum};

/// The reason given for an IEEE 802.15.4 payload in another format.
pub(super) const NOT_LOWPAN: &str = "not a 6LoWPAN frame";

/// Turns 6LoWPAN frames into IPv6 packets.
#[derive(Debug, Default)]
pub(super) struct Lowpan {
    contexts: Contexts,
    fragments: Fragments,
    packet: Vec<u8>,
    frames: Vec<u64>,
    elided: ElidedFields,
    /// The decompressed headers of a first fragment.
    first: Vec<u8>,
}

/// The result of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LowpanContent {
    /// [`Lowpan::packet`] is complete. `unknown_context`: an address in it uses an unknown context.
    Packet { link: LinkAddresses, unknown_context: bool },
    /// A fragment whose packet is not complete yet.
    Incomplete,
    /// Not an IPv6 packet; the text names the content.
    Other(&'static str),
}

/// The frame that contained a payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameInfo {
    pub frame: u64,
    pub time_ns: i64,
    pub link: LinkAddresses,
    /// The network in which contexts learned from this frame are valid.
    pub network: Network,
    /// Bytes of the payload that were not captured.
    pub missing: usize,
}

impl Lowpan {
    pub(super) fn new(contexts: &BTreeMap<u8, (Ipv6Addr, u8)>) -> Lowpan {
        Lowpan { contexts: Contexts::new(contexts), ..Lowpan::default() }
    }

    /// The last complete packet.
    pub(super) fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// The frames with its fragments; empty if it was not fragmented.
    pub(super) fn frames(&self) -> &[u64] {
        &self.frames
    }

    /// The packet was in one 6LoWPAN frame that was itself reassembled from several link-layer frames.
    pub(super) fn brought_by(&mut self, frames: &[u64]) {
        if self.frames.is_empty() && frames.len() > 1 {
            self.frames.extend_from_slice(frames);
        }
    }

    /// Adds the payload of a frame. Offsets of faults count from its start.
    pub(super) fn take(&mut self, payload: &[u8], info: FrameInfo) -> Result<LowpanContent, Fault> {
        let mut reader = Reader::new(Stage::Link, "6LoWPAN header", payload);
        let mut link = info.link;
        let mut page = 0;
        let mut first = None;
        loop {
            let at = reader.position();
            let Some(&dispatch) = reader.rest().first() else {
                return Ok(LowpanContent::Other("a frame without payload"));
            };
            let unsupported = |what| Err(Fault::unsupported(Stage::Link, at, what));
            match dispatch {
                0x00..=0x3f => return Ok(LowpanContent::Other(NOT_LOWPAN)),
                0xf0..=0xff => {
                    reader.u8()?;
                    page = dispatch & 0xf;
                }
                _ if page > 1 => return unsupported("an unknown page of 6LoWPAN dispatches"),
                0x80..=0xbf if page == 1 => routing_header(&mut reader)?,
                0x80..=0xbf => link = mesh_header(&mut reader)?,
                // LOWPAN_BC0 and its sequence number.
                0x50 => {
                    reader.take(2)?;
                }
                0xc0..=0xc7 | 0xe0..=0xe7 => {
                    if info.missing > 0 {
                        let (has, needs) = (payload.len(), payload.len().saturating_add(info.missing));
                        return Err(Fault::short(Stage::Link, 0, "6LoWPAN fragment", needs, has));
                    }
                    let key = Key { size: reader.u16()? & 0x7ff, tag: reader.u16()?, link };
                    if first.is_some() {
                        return unsupported("a fragment of fragments");
                    }
                    if dispatch >= 0xe0 {
                        let offset = usize::from(reader.u8()?) * 8;
                        let (frame, time_ns) = (info.frame, info.time_ns);
                        let piece = Piece { frame, time_ns, offset, bytes: reader.rest(), elided: None };
                        return self.fragment(key, piece);
                    }
                    first = Some(key);
                }
                0x41 => {
                    reader.u8()?;
                    self.elided.clear();
                    self.first.clear();
                    self.first.extend_from_slice(reader.rest());
                    return self.headers_restored(link, first, info);
                }
                0x60..=0x7f => {
                    let ids = [link.src, link.dst].map(|address| address.map(iphc::interface_id));
                    self.first.clear();
                    let Lowpan { contexts, elided, first: out, .. } = self;
                    let known = |id| contexts.get(info.network, id);
                    iphc::decompress(reader.rest(), ids, &known, out, elided).map_err(|mut fault| {
                        fault.offset = fault.offset.saturating_add(at);
                        fault
                    })?;
                    return self.headers_restored(link, first, info);
                }
                0x42 => return unsupported("6LoWPAN HC1, which RFC 6282 replaced"),
                0xe8..=0xef => return unsupported("6LoWPAN recoverable fragments (RFC 8931)"),
                // Unassigned; Zigbee frames start with 48 or 49.
                _ if at == 0 => return Ok(LowpanContent::Other(NOT_LOWPAN)),
                _ => return unsupported("an unknown 6LoWPAN dispatch"),
            }
        }
    }

    /// Handles the decompressed `self.first`: a complete packet, or a first fragment.
    fn headers_restored(
        &mut self,
        link: LinkAddresses,
        first: Option<Key>,
        FrameInfo { frame, time_ns, missing, .. }: FrameInfo,
    ) -> Result<LowpanContent, Fault> {
        let Some(key) = first else {
            std::mem::swap(&mut self.packet, &mut self.first);
            self.frames.clear();
            self.elided.fill(&mut self.packet, missing)?;
            return Ok(LowpanContent::Packet { link, unknown_context: self.elided.unknown_context });
        };
        let bytes = std::mem::take(&mut self.first);
        let elided = std::mem::take(&mut self.elided);
        let piece = Piece { frame, time_ns, offset: 0, bytes: &bytes, elided: Some(&elided) };
        let taken = self.fragment(key, piece);
        self.first = bytes;
        self.elided = elided;
        taken
    }

    fn fragment(&mut self, key: Key, piece: Piece<'_>) -> Result<LowpanContent, Fault> {
        let Some(elided) = self.fragments.push(key, piece, &mut self.packet, &mut self.frames)? else {
            return Ok(LowpanContent::Incomplete);
        };
        elided.fill(&mut self.packet, 0)?;
        Ok(LowpanContent::Packet { link: key.link, unknown_context: elided.unknown_context })
    }

    /// If the last packet was Neighbor Discovery, learns contexts from it and returns the EUI-64 of its sender.
    pub(super) fn learn(&mut self, network: Network) -> Option<[u8; 8]> {
        const ROUTER_SOLICITATION: u8 = 133;
        const ROUTER_ADVERTISEMENT: u8 = 134;
        const NEIGHBOR_SOLICITATION: u8 = 135;
        let (header, message) = Ipv6::split(&self.packet)?;
        if header.next_header() != ICMPV6 {
            return None;
        }
        let kind = *message.first()?;
        let known = [ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOR_SOLICITATION].contains(&kind);
        if !known || checksum::upper_layer(header.src().into(), header.dst().into(), ICMPV6, message) != 0 {
            return None;
        }
        if kind == ROUTER_ADVERTISEMENT {
            // The options after a malformed one cannot be read.
            let _ = self.contexts.learn(network, message);
            return None;
        }
        sender_eui64(message.get(if kind == NEIGHBOR_SOLICITATION { 24 } else { 8 }..)?).ok().flatten()
    }
}

/// The EUI-64 in the options of a solicitation: Address Registration (RFC 6775 §4.1) or Source Link-Layer Address.
fn sender_eui64(options: &[u8]) -> Result<Option<[u8; 8]>, Fault> {
    const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
    const ADDRESS_REGISTRATION: u8 = 33;
    let mut reader = Reader::new(Stage::Link, "solicitation", options);
    while reader.left() > 0 {
        match contexts::option(&mut reader)? {
            // The address and 6 bytes of padding. With a short address, the option has 8 bytes in all.
            (SOURCE_LINK_LAYER_ADDRESS, value) if value.len() == 14 => return Ok(value.first_chunk().copied()),
            (ADDRESS_REGISTRATION, value) if value.len() == 14 => return Ok(value.last_chunk().copied()),
            _ => {}
        }
    }
    Ok(None)
}

/// Reads originator and final destination of a mesh header (RFC 4944 §5.2). They replace the addresses of the MAC
/// header.
fn mesh_header(reader: &mut Reader<'_>) -> Result<LinkAddresses, Fault> {
    let header = reader.u8()?;
    if header & 0xf == 0xf {
        // The Deep Hops Left byte.
        reader.u8()?;
    }
    let mut address = |is_short: bool| {
        Ok::<_, Fault>(Some(match is_short {
            true => LinkAddress::Short(reader.u16()?),
            false => LinkAddress::Extended(reader.array()?),
        }))
    };
    Ok(LinkAddresses { src: address(header & 0x20 != 0)?, dst: address(header & 0x10 != 0)? })
}

/// Skips one 6LoWPAN Routing Header (RFC 8138 §4).
fn routing_header(reader: &mut Reader<'_>) -> Result<(), Fault> {
    let at = reader.position();
    let (first, kind) = (reader.u8()?, reader.u8()?);
    let low = usize::from(first & 0x1f);
    let len = match (first & 0x20, kind) {
        // In an elective header, the length is in bytes.
        (0x20, _) => low,
        // In source routing headers, Size is the number of addresses minus 1.
        (_, 0..=4) => (low + 1) << kind,
        // RPL Packet Information: InstanceID unless I is set, then SenderRank of 2 bytes, or of 1 byte if K is set.
        (_, 5) => 3 - usize::from(first >> 1 & 1) - usize::from(first & 1),
        _ => return Err(Fault::unsupported(Stage::Link, at, "an unknown critical 6LoWPAN Routing Header")),
    };
    reader.take(len)?;
    Ok(())
}
