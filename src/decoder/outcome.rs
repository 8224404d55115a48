//! The result of decoding one packet.

use super::arena::{Arena, Span};
use super::esp_packet::EspPayload;
use super::esp_packet::spi;
use super::status::{Bytes, Esp, Method, Reason, Status};
use super::warnings::Warnings;
use crate::capture::LINKTYPE_RAW;
use crate::codec::{self, Restored, State};
use crate::error::FaultKind;
use crate::link::{self, EspPorts, LinkContent};
use crate::net::{Datagram, IpHeaders, IpLocation, LinkAddresses, OuterHeader, UpperLayer, esp, protocol};
use crate::sa::table::{PreparedSa, SaTable};

/// The result of decoding one packet of a captured frame.
#[derive(Debug)]
pub struct Outcome<'w> {
    /// The captured frame.
    pub(crate) frame: &'w [u8],
    pub(crate) source: Source,
    /// The status.
    pub status: Status,
    /// At least one SA was a candidate. If the packet is not `ok`, it counts as failed.
    pub of_known_sa: bool,
    /// The frame is a radio frame. Outputs keep it unchanged and add its packet.
    pub radio: bool,
    /// The frame was encrypted on the link layer, and is decrypted.
    pub decrypted: bool,
    /// The same link-layer frame as `repeat_of`. The outcome is a copy of that frame's outcome.
    pub repeat: bool,
    /// A fragment whose packet is not complete yet.
    pub waits: bool,
    /// Warnings.
    pub warnings: Warnings,
    /// The link type of a frame that starts with [`Outcome::link_header`]: that of the capture, or raw IP.
    pub link_type: u16,
    /// The SA that verified the packet, or its only candidate.
    pub sa: Option<u32>,
    pub(crate) packet: Span,
    pub(crate) clear: Span,
    /// The restored ESP header.
    pub esp: Option<Esp>,
    /// Sources of restored fields; only if `ok`.
    pub restored: Option<Restored>,
    /// Bytes on the wire and as standard ESP; only if `ok`.
    pub bytes: Option<Bytes>,
    /// The frame that this one repeats.
    pub repeat_of: Option<u64>,
    /// Why the packet is not `ok`.
    pub reason: Option<Reason>,
    /// The number of this packet within its frame, from 1; 0 if the frame has only one.
    pub part: u16,
    /// The part that contained this packet; 0 if there is none.
    pub inside: u16,
    /// The restored packet may contain ESP, whichever UDP ports carry ESP.
    pub(crate) may_nest: bool,
    /// The other packets of the frame. Only the first packet has them.
    others: Option<Box<Others<'w>>>,
}

/// The packets of a frame after the first one, in the order of their numbers.
#[derive(Debug, Default)]
struct Others<'w>(Vec<Outcome<'w>>);

/// Where the IP packet of a frame is stored.
#[derive(Debug)]
pub(crate) enum Source {
    /// The frame has no IP packet.
    None,
    /// The packet is not complete, but its header is known.
    Header(Box<OuterHeader>),
    /// In the frame itself.
    Frame(IpLocation),
    /// In a separate buffer: it was reassembled, decompressed or unwrapped from a tunnel.
    Owned(Box<OwnedDatagram>),
}

impl Source {
    /// The headers of a frame without a complete packet.
    pub(crate) fn header(outer: Option<OuterHeader>) -> Source {
        outer.map_or(Source::None, |outer| Source::Header(Box::new(outer)))
    }

    /// The headers of a packet that `link` unwrapped. `fragments` are the frames of a reassembled packet.
    pub(crate) fn owned(datagram: &Datagram<'_>, link_header_len: usize, fragments: &[u64]) -> Source {
        Source::Owned(Box::new(OwnedDatagram {
            packet: [datagram.header, datagram.payload].concat(),
            outer: Some(datagram.outer),
            link_header_len,
            fragments: fragments.to_vec(),
            rebuilt: datagram.rebuilt,
            link: datagram.link,
        }))
    }
}

#[derive(Debug)]
pub(crate) struct OwnedDatagram {
    pub packet: Vec<u8>,
    pub outer: Option<OuterHeader>,
    pub link_header_len: usize,
    pub fragments: Vec<u64>,
    pub rebuilt: bool,
    pub link: Option<LinkAddresses>,
}

/// Without an ICV, wrong padding suggests a wrong key.
const WRONG_PADDING: Reason =
    Reason::Text("esp trailer: the padding is not 1, 2, 3, ... and no ICV was checked: check the key");

impl<'w> Outcome<'w> {
    /// The outcome of a frame that was not examined yet.
    // Always inlined: otherwise it would be built on the stack and copied to the list of a batch.
    #[inline(always)]
    pub(crate) fn new(frame: &'w [u8]) -> Outcome<'w> {
        Outcome {
            frame,
            source: Source::None,
            status: Status::NotEsp,
            of_known_sa: false,
            radio: false,
            decrypted: false,
            repeat: false,
            waits: false,
            warnings: Warnings::NONE,
            link_type: LINKTYPE_RAW,
            sa: None,
            packet: Span::default(),
            clear: Span::default(),
            esp: None,
            restored: None,
            bytes: None,
            repeat_of: None,
            reason: None,
            part: 0,
            inside: 0,
            may_nest: false,
            others: None,
        }
    }

    /// All packets of the frame. `self` must be the first one.
    pub fn parts(&self) -> impl Iterator<Item = &Outcome<'w>> {
        std::iter::once(self).chain(self.others())
    }

    /// The packets of the frame without the first one, which must be `self`.
    #[inline]
    pub fn others(&self) -> &[Outcome<'w>] {
        self.others.as_ref().map_or(&[], |others| &others.0)
    }

    /// The packets of the frame that are not nested in another one.
    pub fn packets(&self) -> impl Iterator<Item = &Outcome<'w>> {
        self.parts().filter(|part| part.inside == 0)
    }

    /// The packets nested in `outer`, which is a part of this frame. Each packet contains the next one.
    pub fn inside_of(&self, outer: &Outcome<'w>) -> impl Iterator<Item = &Outcome<'w>> {
        self.parts().skip(usize::from(outer.part)).take_while(|part| part.inside != 0)
    }

    /// The innermost decrypted packet inside `outer`, a part of this frame. Returns `outer` itself if there is
    /// none.
    pub fn innermost_of<'i>(&'i self, outer: &'i Outcome<'w>) -> &'i Outcome<'w> {
        if outer.part == 0 {
            return outer;
        }
        self.inside_of(outer).take_while(|part| part.status == Status::Ok).last().unwrap_or(outer)
    }

    /// Whether the restored packet may contain ESP.
    #[inline]
    pub(crate) fn nests(&self, table: &SaTable) -> bool {
        self.may_nest || table.esp_ports().has_others() && self.goes_to(table.esp_ports())
    }

    #[cold]
    fn goes_to(&self, esp_ports: &EspPorts) -> bool {
        let upper = self.restored.filter(|_| self.status == Status::Ok).and_then(|restored| restored.upper);
        let ports = upper.filter(|upper| upper.protocol == protocol::UDP).and_then(|upper| upper.ports);
        ports.is_some_and(|(src, dst)| esp_ports.contains(src) || esp_ports.contains(dst))
    }

    /// The last packet that was found in the frame.
    pub(crate) fn last_mut(&mut self) -> &mut Outcome<'w> {
        match self.others.as_ref().is_some_and(|others| !others.0.is_empty()) {
            true => self.others.as_mut().and_then(|others| others.0.last_mut()).expect("there is one"),
            false => self,
        }
    }

    /// Removes the last packet that was found in the frame. It must not be the first one.
    pub(crate) fn remove_last(&mut self) {
        let Some(others) = &mut self.others else { return };
        others.0.pop();
        if others.0.is_empty() {
            (self.part, self.others) = (0, None);
        }
    }

    /// Adds a packet of the same frame. If `is_inside`, it was nested in the packet added before it.
    pub(crate) fn add(&mut self, mut part: Outcome<'w>, is_inside: bool) {
        let others = &mut self.others.get_or_insert_default().0;
        // A frame is too short for this many packets.
        let before = u16::try_from(others.len() + 1).unwrap_or(u16::MAX - 1);
        self.part = 1;
        part.part = before + 1;
        part.inside = if is_inside { before } else { 0 };
        others.push(part);
    }

    pub(crate) fn set(&mut self, status: Status, reason: Reason) {
        (self.status, self.reason) = (status, Some(reason));
    }

    /// Resets the result of decryption and keeps the position of the packet in its frame.
    pub(crate) fn forget(&mut self) {
        self.status = Status::NotEsp;
        (self.reason, self.restored, self.bytes, self.warnings) = (None, None, None, Warnings::NONE);
        (self.packet, self.clear, self.may_nest) = (Span::default(), Span::default(), false);
    }

    /// Whether the packet looks like ESP and was not decoded.
    pub fn is_still_encrypted(&self) -> bool {
        self.status == Status::NoSa || self.status != Status::Ok && self.of_known_sa
    }

    /// The outer IP header, if there is one.
    pub fn outer(&self) -> Option<OuterHeader> {
        match &self.source {
            Source::None => None,
            Source::Header(outer) => Some(**outer),
            Source::Frame(place) => OuterHeader::of(place.header(self.frame)),
            Source::Owned(whole) => whole.outer,
        }
    }

    /// The bytes before the IP header of this frame; empty for a rebuilt packet.
    pub fn link_header(&self) -> &'w [u8] {
        match &self.source {
            Source::None | Source::Header(_) => &[],
            Source::Frame(place) => place.link_header(self.frame),
            Source::Owned(whole) => self.frame.get(..whole.link_header_len).unwrap_or_default(),
        }
    }

    /// The IP packet that the frame contains or completes.
    pub fn datagram(&self) -> Option<Datagram<'_>> {
        match &self.source {
            Source::None | Source::Header(_) => None,
            Source::Frame(place) => place.datagram(self.frame),
            Source::Owned(whole) => match link::parse(LINKTYPE_RAW, &whole.packet).fragment_as_packet(&whole.packet) {
                LinkContent::Datagram(datagram) => {
                    Some(Datagram { rebuilt: whole.rebuilt, link: whole.link, ..datagram })
                }
                _ => None,
            },
        }
    }

    /// [`Datagram::header`] and [`Datagram::protocol_offset`] of the IP packet that the frame contains or
    /// completes.
    #[inline]
    pub fn headers(&self) -> Option<(&[u8], usize)> {
        match &self.source {
            Source::Frame(place) => Some((place.header(self.frame), place.protocol_offset())),
            _ => self.datagram().map(|datagram| (datagram.header, datagram.protocol_offset)),
        }
    }

    /// [`Datagram::rebuilt`], if there is an IP packet.
    #[inline]
    pub fn is_rebuilt(&self) -> bool {
        match &self.source {
            Source::Frame(_) => false,
            _ => self.datagram().is_some_and(|datagram| datagram.rebuilt),
        }
    }

    /// [`Datagram::link`] of the IP packet.
    pub(crate) fn link_addresses(&self) -> Option<LinkAddresses> {
        match &self.source {
            Source::Owned(whole) => whole.link,
            _ => None,
        }
    }

    /// A copy for repeats of the frame, without the location of the packet.
    pub(crate) fn without_frame(&self) -> Outcome<'static> {
        let Outcome { status, reason, sa, of_known_sa, esp, restored, bytes, warnings, inside, .. } = *self;
        Outcome { status, reason, sa, of_known_sa, esp, restored, bytes, warnings, inside, ..Outcome::new(&[]) }
    }

    /// A copy of this outcome and those of the other packets that needs neither the frame nor `from`. The restored packets
    /// are added to `to`.
    pub(crate) fn detached(&self, from: &Arena, to: &mut Arena) -> Outcome<'static> {
        let one = |part: &Outcome<'_>, to: &mut Arena| {
            let source = match part.fragments() {
                [] => Source::header(part.outer()),
                fragments => Source::Owned(Box::new(OwnedDatagram {
                    packet: vec![],
                    outer: part.outer(),
                    link_header_len: 0,
                    fragments: fragments.to_vec(),
                    rebuilt: true,
                    link: None,
                })),
            };
            let Outcome { repeat_of, part: number, .. } = *part;
            Outcome { source, packet: to.put(part.packet(from)), repeat_of, part: number, ..part.without_frame() }
        };
        let others: Vec<Outcome<'static>> = self.others().iter().map(|part| one(part, to)).collect();
        let others = (!others.is_empty()).then(|| Box::new(Others(others)));
        Outcome { others, ..one(self, to) }
    }

    /// The location of the IP packet in the frame, and the frame.
    pub(crate) fn in_frame(&self) -> Option<(IpLocation, &'w [u8])> {
        match &self.source {
            Source::Frame(place) => Some((*place, self.frame)),
            _ => None,
        }
    }

    /// The ESP payload of the packet, if it has one.
    pub fn payload(&self, table: &SaTable) -> Option<EspPayload<'_>> {
        match &self.source {
            Source::Frame(place) => EspPayload::in_frame(table, self.frame, *place).ok(),
            _ => EspPayload::of(table, &self.datagram()?).ok(),
        }
    }

    /// The UDP header, if ESP is encapsulated in UDP.
    #[inline]
    pub fn udp_header(&self, table: &SaTable) -> Option<&[u8; 8]> {
        match &self.source {
            Source::Frame(place) if place.protocol != protocol::UDP => None,
            _ => self.payload(table)?.udp_header,
        }
    }

    /// The frame numbers of all fragments of a reassembled packet.
    pub fn fragments(&self) -> &[u64] {
        match &self.source {
            Source::Owned(whole) => &whole.fragments,
            _ => &[],
        }
    }

    /// The restored packet, if the status is `ok`: the inner packet in tunnel mode, the whole packet in transport
    /// mode. Empty for a dummy packet.
    pub fn packet<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        arena.get(self.packet)
    }

    /// The clear text, if the status is `ok`.
    pub fn clear<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        arena.get(self.clear)
    }

    /// Appends what ESP protects (in tunnel mode the restored packet, in transport mode its segment) and returns
    /// its Next Header.
    pub fn protected(&self, arena: &Arena, out: &mut Vec<u8>) -> u8 {
        let Some(restored) = &self.restored else { return protocol::NO_NEXT_HEADER };
        out.extend_from_slice(self.packet(arena).get(restored.payload_offset..).unwrap_or_default());
        restored.next_header
    }

    /// Restores the packet of a clear text that verified under `entry`. `header` and `protocol_offset` are those of
    /// the [`IpHeaders`].
    #[allow(clippy::too_many_arguments)] // a tuple of them would go through memory
    #[inline(always)]
    pub(crate) fn restore(
        &mut self,
        entry: &PreparedSa,
        header: &[u8],
        protocol_offset: usize,
        clear: Span,
        wire_len: usize,
        state: &mut State,
        arena: &mut Arena,
    ) {
        // Standard ESP: the packet is part of the clear text.
        if let Some(range) = entry.codec.restore_in_place(arena.get(clear), &mut self.restored) {
            self.packet = Span { start: clear.start + range.start as u32, len: range.len() as u32 };
        } else {
            let Some(outer) = OuterHeader::of(header) else { return };
            let carrier = IpHeaders { outer: &outer, header, protocol_offset };
            let mut packet = std::mem::take(&mut arena.packet);
            let restored = entry.codec.restore(arena.get(clear), &carrier, state, &mut packet);
            if restored.is_ok() {
                self.packet = arena.put(&packet);
            }
            arena.packet = packet;
            match restored {
                Ok(restored) => self.restored = Some(restored),
                Err(fault) => {
                    let unsupported = matches!(fault.kind, FaultKind::Unsupported(_));
                    let status = if unsupported { Status::Unsupported } else { Status::Malformed };
                    return self.set(status, Reason::Fault(fault));
                }
            }
        }
        let Some(restored) = &self.restored else { return };
        if !entry.authenticates() && restored.warnings.contains(codec::Warnings::PADDING) {
            self.warnings.add(Warnings::PADDING);
            (self.packet, self.restored) = (Span::default(), None);
            return self.set(Status::Malformed, WRONG_PADDING);
        }
        self.may_nest = restored.upper.as_ref().is_some_and(may_carry_esp);
        self.status = Status::Ok;
        self.reason = None;
        self.clear = clear;
        self.warnings.add_codec(restored.warnings);
        let standard = match entry.context {
            None => wire_len,
            Some(_) => {
                let protected_len = (self.packet.len as usize).saturating_sub(restored.payload_offset);
                let len = protected_len + restored.length_hiding as usize;
                esp::standard_len(len, entry.iv_len(), entry.block(), entry.icv_len())
            }
        };
        self.bytes = Some(Bytes { diet: wire_len as u64, esp: standard as u64 });
    }

    /// Stores the ESP header of a verified packet. Its sequence number was found by `method`. `tries` is the number
    /// of decryption attempts for all candidates together.
    pub(crate) fn identified(
        &mut self,
        entry: &PreparedSa,
        bytes: &[u8],
        (sa, sn): (u32, u64),
        (method, tries): (Method, u64),
    ) {
        self.sa = Some(sa);
        self.of_known_sa = true;
        let verified = entry.authenticates();
        if !verified {
            self.warnings.add(Warnings::UNAUTHENTICATED);
        }
        self.esp = Some(Esp {
            spi: spi(entry, bytes),
            sequence: sn,
            method,
            spi_bits: entry.codec.spi_bits(),
            sn_bits: entry.codec.sn_bits(),
            wire_bytes: bytes.len(),
            verified,
            tries,
            revision: entry.revision(),
        });
    }
}

/// Whether a restored packet may be ESP, or a tunnel that contains ESP. Common protocols are checked first, because
/// this runs for every packet.
#[inline]
fn may_carry_esp(upper: &UpperLayer) -> bool {
    match upper.protocol {
        protocol::ICMP | protocol::TCP | protocol::ICMPV6 => false,
        protocol::UDP => upper
            .ports
            .is_some_and(|(src, dst)| src == esp::UDP_PORT || dst == esp::UDP_PORT || link::may_be_tunnel([src, dst])),
        _ => true,
    }
}
