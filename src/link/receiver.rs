//! Turns captured frames into IP packets. This module contains all state that is kept from frame to frame.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::bluetooth::{Bluetooth, BluetoothContent};
use super::encap::tunnel;
use super::ieee802154::carrier::{self, Radio};
use super::ieee802154::fcs::{self, Survey, Trailer};
use super::ieee802154::security::Security;
use super::ieee802154::{self, Kind, zigbee};
use super::lowpan::{self, FrameInfo, Lowpan, LowpanContent};
use super::repeats::Repeats;
use super::unwrap::Unwrap;
use super::{EspPorts, Fcs, LinkContent, Reassembled, Reassembler, link_type, parse_ip};
use crate::capture::Frame;
use crate::error::{Fault, Stage};
use crate::link::LinkKey;
use crate::net::protocol::UDP;
use crate::net::udp::{self, Udp};
use crate::net::{Datagram, IpVersion, LinkAddress, LinkAddresses, OuterHeader, ports};

/// Settings of a [`Receiver`].
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// 6LoWPAN contexts: Context Identifier (0 to 15) to prefix and its length in bits.
    pub contexts: BTreeMap<u8, (Ipv6Addr, u8)>,
    /// Keys of IEEE 802.15.4 frames.
    pub link_keys: Vec<LinkKey>,
    /// Trailer after each IEEE 802.15.4 frame, if the capture does not specify it.
    pub fcs: Fcs,
    /// Return the outermost IP packet of a frame as [`Content::Datagram`], even if it is a fragment or contains
    /// another packet. A gateway that encrypts packets works on the same packet.
    pub outermost: bool,
    /// UDP ports that carry ESP.
    pub esp_ports: EspPorts,
}

/// Reads the frames of one capture in order and returns their IP packets: reassembled (IP, 6LoWPAN), decompressed,
/// decrypted on the link layer, and unwrapped from tunnels.
#[derive(Debug, Default)]
pub struct Receiver {
    fcs: Fcs,
    survey: Survey,
    repeats: Repeats,
    security: Security,
    lowpan: Lowpan,
    pub(super) bluetooth: Bluetooth,
    outermost: bool,
    /// [`Received::decrypted`] of the current frame.
    decrypted: bool,
    esp_ports: EspPorts,
    reassembler: Reassembler,
    /// One buffer for each tunnel whose packets are fragmented.
    reassembled: Buffers,
    /// Offset of the next packet of the last frame, if it contains several.
    next: Option<usize>,
}

/// Reads decrypted IP packets that were nested in the packet of a frame. Like a [`Receiver`], it reassembles them
/// and unwraps tunnels. Their fragments are kept apart from those of the frames.
#[derive(Debug, Default)]
pub(crate) struct InnerReceiver {
    esp_ports: EspPorts,
    reassembler: Reassembler,
    reassembled: Buffers,
}

impl InnerReceiver {
    /// A receiver that has not read any packet.
    pub(crate) fn new(settings: &Settings) -> InnerReceiver {
        InnerReceiver { esp_ports: settings.esp_ports.clone(), ..InnerReceiver::default() }
    }

    /// Takes one packet out of `frame`; `stops_at` as in [`Receiver::receive`].
    pub(crate) fn receive<'s>(
        &'s mut self,
        frame: &Frame<'_>,
        bytes: &'s [u8],
        stops_at: impl Fn(u8) -> bool,
    ) -> Received<'s> {
        let InnerReceiver { esp_ports, reassembler, reassembled } = self;
        reassembler.begin();
        Unwrap::new(frame, reassembler, esp_ports, stops_at).ip_packet(parse_ip(bytes, 0, None), reassembled, bytes)
    }
}

/// Buffers for fragments of tunnel packets that are themselves fragments.
type Buffers = [Reassembled; 4];

/// The result of one frame.
#[derive(Debug)]
pub struct Received<'a> {
    /// The packet, or why there is none.
    pub content: Content<'a>,
    /// The bytes before the IP header in this frame; empty for a [`Datagram::rebuilt`] packet.
    pub link_header: &'a [u8],
    /// The frame numbers of all fragments of a reassembled packet.
    pub fragments: &'a [u64],
    /// The packet contains an address of an unknown 6LoWPAN context, whose prefix is set to zeros.
    pub unknown_context: bool,
    /// The frame is an IEEE 802.15.4, 6LoWPAN, Bluetooth or LoRa frame, or contains one.
    pub radio: bool,
    /// The frame was encrypted on the link layer, and is decrypted.
    pub decrypted: bool,
    /// A later frame may be a [`Content::Repeat`] of this one, within the next [`super::REPEATS_KEPT`] such frames.
    pub may_repeat: bool,
    /// Why the content of the packet was not examined further.
    pub unread: Option<&'static str>,
}

/// The packet of a frame, or why there is none.
#[derive(Debug)]
pub enum Content<'a> {
    /// An IP packet that this frame holds or completes.
    Datagram(Datagram<'a>),
    /// A fragment.
    Fragment {
        /// The IP header, if it could be read.
        outer: Option<OuterHeader>,
        /// The [`Reassembler`] keeps the fragment. The frame will appear in [`Received::fragments`] or
        /// [`Receiver::given_up`].
        waits: bool,
    },
    /// Something else, which the text names.
    NotIp(&'static str),
    /// Truncated, damaged, or contradictory.
    Malformed {
        /// The IP header, if it could be read.
        outer: Option<OuterHeader>,
        /// What is wrong; its offset counts from the start of the frame.
        fault: Fault,
    },
    /// The same link-layer frame as an earlier one.
    Repeat {
        /// The number of that frame.
        of: u64,
    },
}

/// The result of a radio frame. Its packet is in the [`Lowpan`].
enum RadioContent {
    Lowpan(LowpanContent),
    Repeat(u64),
}

impl Receiver {
    /// A receiver that has not read any frame.
    pub fn new(settings: &Settings) -> Receiver {
        Receiver {
            fcs: settings.fcs,
            outermost: settings.outermost,
            esp_ports: settings.esp_ports.clone(),
            security: Security::new(&settings.link_keys),
            lowpan: Lowpan::new(&settings.contexts),
            ..Receiver::default()
        }
    }

    /// Examines the first frames to find out which trailer follows IEEE 802.15.4 frames. Call it with the frames of
    /// a batch before they are received. It does nothing once it has seen enough frames.
    pub fn survey<'p>(&mut self, frames: impl Iterator<Item = Frame<'p>>) {
        if self.fcs != Fcs::Auto || self.survey.is_complete() {
            return;
        }
        for frame in frames {
            let radio = match link_type::network(frame.link_type(), frame.data) {
                Ok(link_type::Network::Radio(radio)) => Some(radio),
                Ok(link_type::Network::Ip { offset, version }) => match parse_ip(frame.data, offset, version) {
                    LinkContent::Datagram(datagram) => zep(&datagram).ok().flatten(),
                    _ => None,
                },
                _ => None,
            };
            if let Some(radio) = radio
                && radio.trailer == Trailer::Unknown
                && radio.missing == 0
                && frame.orig_len as usize <= frame.data.len()
            {
                self.survey.count(radio.frame);
            }
            if self.survey.is_complete() {
                break;
            }
        }
    }

    /// Reads one frame. `stops_at` says at which IP protocol numbers it stops to unwrap: those that may be of ESP.
    /// [`Receiver::next`] returns the other packets of the frame.
    pub fn receive<'s>(&'s mut self, frame: &Frame<'s>, stops_at: impl Fn(u8) -> bool) -> Received<'s> {
        let (link_type, data) = (frame.link_type(), frame.data);
        self.next = None;
        self.reassembler.begin();
        match link_type::network(link_type, data) {
            Ok(link_type::Network::Aggregate { offset }) => self.subframe(frame, offset, stops_at),
            network => self.network(frame, network, stops_at),
        }
    }

    /// The next packet of the last frame; `None` if there are no more.
    pub fn next<'s>(&'s mut self, frame: &Frame<'s>, stops_at: impl Fn(u8) -> bool) -> Option<Received<'s>> {
        let offset = self.next.take()?;
        Some(self.subframe(frame, offset, stops_at))
    }

    fn subframe<'s>(&'s mut self, frame: &Frame<'s>, offset: usize, stops_at: impl Fn(u8) -> bool) -> Received<'s> {
        let mut own = *frame;
        let network = link_type::subframe(frame.data, offset).map(|(network, end, next)| {
            self.next = next;
            // The length of an IP packet may not reach into the next one.
            own.data = frame.data.get(..end).unwrap_or(frame.data);
            network
        });
        let mut received = self.network(&own, network, stops_at);
        if let Content::Fragment { waits, .. } = &mut received.content {
            // The frame contains other packets, too, so it is not held back.
            *waits = false;
        }
        received
    }

    fn network<'s>(
        &'s mut self,
        frame: &Frame<'s>,
        network: Result<link_type::Network<'s>, Fault>,
        stops_at: impl Fn(u8) -> bool,
    ) -> Received<'s> {
        let (link_type, data, outermost) = (frame.link_type(), frame.data, self.outermost);
        let stops_at = |protocol| outermost || stops_at(protocol);
        let mut enclosed = false;
        let parsed = match network {
            Ok(link_type::Network::Ip { offset, version }) => parse_ip(data, offset, version),
            Ok(link_type::Network::Enclosed { offset, version }) => {
                enclosed = true;
                parse_ip(data, offset, version)
            }
            Ok(link_type::Network::Radio(radio)) => return self.radio(frame, radio, 0, stops_at),
            Ok(link_type::Network::Lowpan { offset, link }) => {
                let payload = data.get(offset..).unwrap_or_default();
                let missing = (frame.orig_len as usize).saturating_sub(data.len());
                let taken = self.lowpan(frame, payload, link, missing);
                return self.hand_out(frame, taken.map(RadioContent::Lowpan), offset, stops_at);
            }
            Ok(link_type::Network::Bluetooth) => {
                let step = self.bluetooth(frame);
                return self.hand_out(frame, step, 0, stops_at);
            }
            Ok(link_type::Network::Aggregate { .. }) => LinkContent::NotIp("an aggregate inside another one"),
            Ok(link_type::Network::Other(reason)) => LinkContent::NotIp(reason),
            Err(fault) => LinkContent::Malformed { outer: None, fault },
        };
        if let LinkContent::Datagram(datagram) = &parsed {
            match zep(datagram) {
                Ok(None) => {}
                Ok(Some(radio)) => {
                    let offset = datagram.frame_offset.saturating_add(datagram.header.len());
                    return self.radio(frame, radio, offset, stops_at);
                }
                // The datagram itself is the result, so a malformed ZEP header in it does not matter.
                Err(_) if outermost => {}
                Err(mut fault) => {
                    fault.offset =
                        fault.offset.saturating_add(datagram.frame_offset).saturating_add(datagram.header.len());
                    return Received::of(Content::Malformed { outer: Some(datagram.outer), fault });
                }
            }
        }
        let parsed = if outermost { parsed.fragment_as_packet(data) } else { parsed };
        let Receiver { reassembler, reassembled, esp_ports, .. } = self;
        let mut received = Unwrap::new(frame, reassembler, esp_ports, stops_at).ip_packet(parsed, reassembled, data);
        received.radio = link_type::is_radio(link_type);
        if enclosed && let Content::Datagram(datagram) = &mut received.content {
            datagram.rebuilt = true;
            received.link_header = &[];
        }
        received
    }

    /// The frames whose packet the last call gave up; see [`Reassembler::given_up`].
    pub fn given_up(&self) -> &[u64] {
        self.reassembler.given_up()
    }

    /// Reads an IEEE 802.15.4 frame, which starts at `offset` or later.
    fn radio<'s>(
        &'s mut self,
        frame: &Frame<'s>,
        radio: Radio<'s>,
        offset: usize,
        stops_at: impl Fn(u8) -> bool,
    ) -> Received<'s> {
        let step = self.mac(frame, radio);
        self.hand_out(frame, step, offset, stops_at)
    }

    fn mac(&mut self, frame: &Frame<'_>, radio: Radio<'_>) -> Result<RadioContent, Fault> {
        let other = |what| Ok(RadioContent::Lowpan(LowpanContent::Other(what)));
        let cut = (frame.orig_len as usize).saturating_sub(frame.data.len());
        let mode = if self.fcs == Fcs::Auto { self.survey.mode() } else { self.fcs };
        let Some((mac_frame, missing)) = fcs::strip(radio.frame, radio.missing.max(cut), radio.trailer, mode) else {
            let at = radio.frame.len().saturating_sub(2);
            return Err(Fault::unsupported(Stage::Link, at, "the FCS of the IEEE 802.15.4 frame is wrong"));
        };
        let mac = ieee802154::parse(mac_frame)?;
        if let Kind::Other(what) = mac.kind {
            return other(what);
        }
        if let Some(of) = self.repeats.check(frame.number, frame.time_ns(), mac_frame) {
            return Ok(RadioContent::Repeat(of));
        }
        let payload = match mac.security {
            None => mac.payload,
            Some(_) if missing > 0 => {
                let (needs, has) = (mac_frame.len().saturating_add(missing), mac_frame.len());
                return Err(Fault::short(Stage::Link, 0, "secured IEEE 802.15.4 frame", needs, has));
            }
            Some(auxiliary) => match self.security.open(&mac, auxiliary, radio.asn) {
                Ok(payload) => {
                    self.decrypted = auxiliary.is_encrypted();
                    payload
                }
                Err(why) => return other(why),
            },
        };
        let payload = if mac.payload_ies { ieee802154::behind_payload_ies(payload)? } else { payload };
        if mac.kind == Kind::Command {
            const ASSOCIATION_RESPONSE: u8 = 2;
            // The command assigns a short address to a node (IEEE 802.15.4-2015 §7.5.3).
            if let (&[ASSOCIATION_RESPONSE, low, high, 0], Some(LinkAddress::Extended(eui64))) = (payload, mac.dst) {
                let short = u16::from_le_bytes([low, high]);
                self.security.neighbors().learn(mac.pan, short, eui64);
            }
            return other("IEEE 802.15.4 command");
        }
        let link = LinkAddresses { src: mac.src, dst: mac.dst };
        let network = mac.pan.map(u64::from);
        let info = FrameInfo { frame: frame.number, time_ns: frame.time_ns(), link, network, missing };
        let taken = match self.lowpan.take(payload, info) {
            Err(_) if zigbee::starts_like(payload, &mac) => return other(lowpan::NOT_LOWPAN),
            taken => taken.map_err(|mut fault| {
                fault.offset = fault.offset.saturating_add(mac.header.len());
                fault
            })?,
        };
        if let LowpanContent::Packet { link, .. } = taken
            && let Some(eui64) = self.lowpan.learn(network)
            && let Some(LinkAddress::Short(short)) = link.src
        {
            self.security.neighbors().learn(mac.pan, short, eui64);
        }
        Ok(RadioContent::Lowpan(taken))
    }

    fn lowpan(
        &mut self,
        frame: &Frame<'_>,
        payload: &[u8],
        link: LinkAddresses,
        missing: usize,
    ) -> Result<LowpanContent, Fault> {
        let network = None;
        let info = FrameInfo { frame: frame.number, time_ns: frame.time_ns(), link, network, missing };
        let taken = self.lowpan.take(payload, info)?;
        if matches!(taken, LowpanContent::Packet { .. }) {
            self.lowpan.learn(network);
        }
        Ok(taken)
    }

    fn bluetooth(&mut self, frame: &Frame<'_>) -> Result<RadioContent, Fault> {
        let (link, network, guessed) = match self.bluetooth.take(frame, frame.time_ns(), &mut self.repeats)? {
            // No PAN ID has this value.
            BluetoothContent::Sdu { link, connection, guessed } => (link, Some(connection | 1 << 63), guessed),
            BluetoothContent::Incomplete => return Ok(RadioContent::Lowpan(LowpanContent::Incomplete)),
            BluetoothContent::Other(what) => return Ok(RadioContent::Lowpan(LowpanContent::Other(what))),
            BluetoothContent::Repeat(of) => return Ok(RadioContent::Repeat(of)),
        };
        let info = FrameInfo { frame: frame.number, time_ns: frame.time_ns(), link, network, missing: 0 };
        let taken = match self.lowpan.take(self.bluetooth.sdu(), info) {
            Err(_) if guessed => LowpanContent::Other("an L2CAP channel whose set-up was not captured"),
            taken => taken?,
        };
        if matches!(taken, LowpanContent::Packet { .. }) {
            self.lowpan.brought_by(self.bluetooth.frames());
            self.lowpan.learn(network);
        }
        Ok(RadioContent::Lowpan(taken))
    }

    /// `offset` is the start of the bytes, in the frame, that fault offsets in `step` refer to.
    fn hand_out<'s>(
        &'s mut self,
        frame: &Frame<'s>,
        step: Result<RadioContent, Fault>,
        offset: usize,
        stops_at: impl Fn(u8) -> bool,
    ) -> Received<'s> {
        let may_repeat = self.repeats.remembers(frame.number);
        let decrypted = std::mem::take(&mut self.decrypted);
        let radio = |content| Received { radio: true, decrypted, may_repeat, ..Received::of(content) };
        let (link, unknown_context) = match step {
            Err(mut fault) => {
                fault.offset = fault.offset.saturating_add(offset);
                return radio(Content::Malformed { outer: None, fault });
            }
            Ok(RadioContent::Repeat(of)) => return radio(Content::Repeat { of }),
            Ok(RadioContent::Lowpan(LowpanContent::Other(what))) => return radio(Content::NotIp(what)),
            Ok(RadioContent::Lowpan(LowpanContent::Incomplete)) => {
                return radio(Content::Fragment { outer: None, waits: false });
            }
            Ok(RadioContent::Lowpan(LowpanContent::Packet { link, unknown_context })) => (link, unknown_context),
        };
        let Receiver { outermost, reassembler, reassembled, lowpan, esp_ports, .. } = self;
        let parsed = parse_ip(lowpan.packet(), 0, Some(IpVersion::V6));
        let parsed = if *outermost { parsed.fragment_as_packet(lowpan.packet()) } else { parsed };
        let unwrap = &mut Unwrap::new(frame, reassembler, esp_ports, stops_at);
        let mut received = unwrap.ip_packet(parsed, reassembled, lowpan.packet());
        received.radio = true;
        received.decrypted = decrypted;
        received.may_repeat = may_repeat;
        received.unknown_context = unknown_context;
        received.link_header = &[];
        match &mut received.content {
            Content::Datagram(datagram) => {
                datagram.rebuilt = true;
                datagram.link = Some(link);
                datagram.frame_offset = 0;
            }
            // Radio frames are not held back, so this frame does not wait.
            Content::Fragment { waits, .. } => *waits = false,
            _ => {}
        }
        if received.fragments.is_empty() {
            received.fragments = lowpan.frames();
        }
        received
    }
}

/// Whether a UDP datagram may contain ZEP or a tunnel.
#[inline]
pub(super) fn may_carry_packets(segment: &[u8]) -> bool {
    ports(segment).is_some_and(|ports| {
        tunnel::may_be_tunnel(ports) || ports.contains(&carrier::ZEP_PORT) && begins_as_zep(segment)
    })
}

/// Whether UDP data starts like ZEP. Other protocols use the port, too.
fn begins_as_zep(segment: &[u8]) -> bool {
    segment.get(udp::HEADER_LEN..).is_some_and(|data| data.starts_with(carrier::ZEP_PREAMBLE))
}

/// The radio frame in a ZEP datagram.
fn zep<'a>(datagram: &Datagram<'a>) -> Result<Option<Radio<'a>>, Fault> {
    let segment = datagram.payload;
    let is_zep = datagram.protocol == UDP
        && ports(segment).is_some_and(|ports| ports.contains(&carrier::ZEP_PORT))
        && begins_as_zep(segment);
    match Udp::split(segment) {
        Some((_, data)) if is_zep => carrier::zep(data, datagram.missing),
        _ => Ok(None),
    }
}

impl<'a> Received<'a> {
    pub(super) fn of(content: Content<'a>) -> Received<'a> {
        let (link_header, fragments, unread) = (&[], &[], None);
        let (unknown_context, radio, decrypted, may_repeat) = (false, false, false, false);
        Received { content, link_header, fragments, unknown_context, radio, decrypted, may_repeat, unread }
    }
}
