//! What an IP packet brings: itself, put together from fragments, or the packet with ESP in the tunnels that it carries,
//! which may come in fragments too.

use super::encap::Nesting;
use super::encap::tunnel::{self, TunnelContent};
use super::receiver::{Content, Received};
use super::{EspPorts, LinkContent, Reassembled, Reassembler, UDP, UDP_LITE, udp_encapsulation};
use crate::capture::Frame;
use crate::net::{Datagram, Fragment};

/// What is said of a packet with more fragments in fragments than there are buffers.
const TOO_MANY_FRAGMENTED: &str = "fragments of fragments, in too many tunnels inside each other";

/// Unwraps the packet of one frame.
pub(super) struct Unwrap<'u, W> {
    frame: &'u Frame<'u>,
    reassembler: &'u mut Reassembler,
    esp_ports: &'u EspPorts,
    is_esp: W,
    nesting: Nesting,
}

/// A packet, and the frames that brought it.
#[derive(Clone, Copy)]
struct WholePacket<'a> {
    datagram: Datagram<'a>,
    link_header: &'a [u8],
    /// None if it is all in this frame.
    fragments: &'a [u64],
}

/// What a fragment makes of those before.
enum Reassembly<'a> {
    /// A packet, and all frames that brought it.
    Packet(Datagram<'a>, &'a [u64]),
    /// None; what is to be said of this frame.
    NoPacket(Content<'static>),
}

impl<'a> WholePacket<'a> {
    /// It is what the frame brings.
    fn received(self) -> Received<'a> {
        let WholePacket { datagram, link_header, fragments } = self;
        Received { link_header, fragments, ..Received::of(Content::Datagram(datagram)) }
    }
}

impl<'u, W: Fn(u8) -> bool> Unwrap<'u, W> {
    /// `is_esp` as in [`Receiver::receive`](super::Receiver::receive).
    pub(super) fn new(
        frame: &'u Frame<'u>,
        reassembler: &'u mut Reassembler,
        esp_ports: &'u EspPorts,
        is_esp: W,
    ) -> Self {
        Unwrap { frame, reassembler, esp_ports, is_esp, nesting: Nesting::new() }
    }

    /// What `parsed`, read from `bytes`, brings. `buffers` take reassembled packets, one each.
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

    /// Whether fragments with this protocol are put together.
    fn collects(&self, protocol: u8) -> bool {
        matches!(protocol, UDP | UDP_LITE) || (self.is_esp)(protocol) || tunnel::is_tunnel(protocol)
    }

    /// Whether ESP may be right inside a packet.
    fn has_esp(&self, datagram: &Datagram<'_>) -> bool {
        (self.is_esp)(datagram.protocol) || matches!(udp_encapsulation(datagram, self.esp_ports), Ok(Some(_)))
    }

    /// Adds a fragment that came in `frames`.
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

    /// What a whole packet brings: the outermost packet with ESP in it, or itself.
    fn whole<'a>(&mut self, whole: WholePacket<'a>, buffers: &'a mut [Reassembled]) -> Received<'a> {
        if self.has_esp(&whole.datagram) {
            // A header of UDP-Lite cannot be written back.
            let rebuilt = whole.datagram.protocol == UDP_LITE && !(self.is_esp)(UDP_LITE);
            return match rebuilt {
                true => WholePacket { datagram: Datagram { rebuilt, ..whole.datagram }, link_header: &[], ..whole }
                    .received(),
                false => whole.received(),
            };
        }
        self.inside(whole, whole.datagram, buffers)
    }

    /// The outermost packet with ESP inside `tunnel`, which `outermost` carries; `outermost`, if there is none.
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
