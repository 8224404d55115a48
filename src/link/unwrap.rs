//! Unwraps an IP packet: reassembles fragments, and finds the packet with ESP inside tunnels, whose packets may be
//! fragmented, too.

use super::encap::Nesting;
use super::encap::tunnel::{self, TunnelContent};
use super::receiver::{Content, Received};
use super::{EspPorts, LinkContent, Reassembled, Reassembler, udp_encapsulation};
use crate::capture::Frame;
use crate::net::protocol::{UDP, UDP_LITE};
use crate::net::{Datagram, Fragment};

/// The reason given for a packet with more nested fragmentation than there are buffers.
const TOO_MANY_FRAGMENTED: &str = "fragments of fragments, in too many tunnels inside each other";

/// Unwraps the packet of one frame.
pub(super) struct Unwrap<'u, W> {
    frame: &'u Frame<'u>,
    reassembler: &'u mut Reassembler,
    esp_ports: &'u EspPorts,
    stops_at: W,
    nesting: Nesting,
}

/// A packet, and the frames that contained it.
#[derive(Clone, Copy)]
struct WholePacket<'a> {
    datagram: Datagram<'a>,
    link_header: &'a [u8],
    /// Empty if the whole packet is in this frame.
    fragments: &'a [u64],
}

/// The result of adding a fragment.
enum Reassembly<'a> {
    /// A complete packet, and the frames of its fragments.
    Packet(Datagram<'a>, &'a [u64]),
    /// No packet yet, and the content to report for this frame.
    NoPacket(Content<'static>),
}

impl<'a> WholePacket<'a> {
    /// The packet as the result of the frame.
    fn received(self) -> Received<'a> {
        let WholePacket { datagram, link_header, fragments } = self;
        Received { link_header, fragments, ..Received::of(Content::Datagram(datagram)) }
    }
}

impl<'u, W: Fn(u8) -> bool> Unwrap<'u, W> {
    /// `stops_at` as in [`Receiver::receive`](super::Receiver::receive).
    pub(super) fn new(
        frame: &'u Frame<'u>,
        reassembler: &'u mut Reassembler,
        esp_ports: &'u EspPorts,
        stops_at: W,
    ) -> Self {
        Unwrap { frame, reassembler, esp_ports, stops_at, nesting: Nesting::new() }
    }

    /// The result for `parsed`, which was read from `bytes`. Each reassembled packet uses one of `buffers`.
    pub(super) fn ip_packet<'a>(
        &mut self,
        parsed: LinkContent<'a>,
        buffers: &'a mut [Reassembled],
        bytes: &'a [u8],
    ) -> Received<'a> {
        let link_header = |offset| bytes.get(..offset).unwrap_or_default();
        match parsed {
            LinkContent::Datagram(datagram) => {
                let link_header = link_header(datagram.frame_offset);
                self.whole(WholePacket { datagram, link_header, fragments: &[] }, buffers)
            }
            LinkContent::Fragment(fragment) => {
                let outer = Some(fragment.outer);
                if !self.collects(fragment.protocol) {
                    return Received::of(Content::Fragment { outer, waits: false });
                }
                let [buffer, buffers @ ..] = buffers else { return Received::of(Content::NotIp(TOO_MANY_FRAGMENTED)) };
                match self.reassemble(&[self.frame.number], &fragment, buffer) {
                    Reassembly::NoPacket(content) => Received::of(content),
                    Reassembly::Packet(datagram, fragments) => {
                        let link_header = link_header(fragment.frame_offset);
                        self.whole(WholePacket { datagram, link_header, fragments }, buffers)
                    }
                }
            }
            LinkContent::NotIp(what) => Received::of(Content::NotIp(what)),
            LinkContent::Malformed { outer, fault } => Received::of(Content::Malformed { outer, fault }),
        }
    }

    /// Whether fragments with this protocol are reassembled.
    fn collects(&self, protocol: u8) -> bool {
        matches!(protocol, UDP | UDP_LITE) || (self.stops_at)(protocol) || tunnel::is_tunnel(protocol)
    }

    /// Whether the packet may directly contain ESP.
    fn has_esp(&self, datagram: &Datagram<'_>) -> bool {
        (self.stops_at)(datagram.protocol) || matches!(udp_encapsulation(datagram, self.esp_ports), Ok(Some(_)))
    }

    /// Adds a fragment that was itself in `frames`.
    fn reassemble<'a>(
        &mut self,
        frames: &[u64],
        fragment: &Fragment<'_>,
        buffer: &'a mut Reassembled,
    ) -> Reassembly<'a> {
        let pushed = self.reassembler.push_inner(frames, self.frame.time_ns(), fragment, buffer);
        let buffer = &*buffer;
        let (frames, fault) = match pushed {
            Ok(false) => return Reassembly::NoPacket(Content::Fragment { outer: Some(fragment.outer), waits: true }),
            Ok(true) => match buffer.datagram() {
                Ok(datagram) => return Reassembly::Packet(datagram, buffer.fragments()),
                Err(fault) => (buffer.fragments(), fault),
            },
            Err(fault) => (frames, fault),
        };
        self.reassembler.give_up(frames);
        Reassembly::NoPacket(Content::Malformed { outer: Some(fragment.outer), fault })
    }

    /// The result for a complete packet: the outermost packet that contains ESP, or the packet itself.
    fn whole<'a>(&mut self, whole: WholePacket<'a>, buffers: &'a mut [Reassembled]) -> Received<'a> {
        if self.has_esp(&whole.datagram) {
            // A UDP-Lite header cannot be written back.
            let rebuilt = whole.datagram.protocol == UDP_LITE && !(self.stops_at)(UDP_LITE);
            return match rebuilt {
                true => WholePacket { datagram: Datagram { rebuilt, ..whole.datagram }, link_header: &[], ..whole }
                    .received(),
                false => whole.received(),
            };
        }
        self.inside(whole, whole.datagram, buffers)
    }

    /// The outermost packet with ESP inside `tunnel`, which is in `outermost`. Returns `outermost` if there is
    /// none.
    fn inside<'a>(
        &mut self,
        outermost: WholePacket<'a>,
        mut tunnel: Datagram<'a>,
        buffers: &'a mut [Reassembled],
    ) -> Received<'a> {
        let fragment = loop {
            match tunnel::inner_packet(&tunnel, &mut self.nesting) {
                TunnelContent::Packet(inner) if self.has_esp(&inner) => {
                    return WholePacket { datagram: inner, link_header: &[], ..outermost }.received();
                }
                TunnelContent::Packet(inner) => tunnel = inner,
                TunnelContent::Fragment(fragment) if self.collects(fragment.protocol) => {
                    break fragment;
                }
                TunnelContent::Fragment(_) | TunnelContent::Nothing => return outermost.received(),
                TunnelContent::TooDeep => {
                    return Received { unread: Some(Nesting::TOO_DEEP), ..outermost.received() };
                }
            }
        };
        let [buffer, buffers @ ..] = buffers else {
            return Received { unread: Some(TOO_MANY_FRAGMENTED), ..outermost.received() };
        };
        let this_frame = [self.frame.number];
        let frames = if outermost.fragments.is_empty() { &this_frame } else { outermost.fragments };
        let link = tunnel.link;
        match self.reassemble(frames, &fragment, buffer) {
            Reassembly::NoPacket(content) => Received::of(content),
            Reassembly::Packet(datagram, fragments) => {
                let datagram = Datagram { rebuilt: true, link, ..datagram };
                match self.has_esp(&datagram) {
                    true => WholePacket { datagram, link_header: &[], fragments }.received(),
                    false => self.inside(WholePacket { fragments, ..outermost }, datagram, buffers),
                }
            }
        }
    }
}
