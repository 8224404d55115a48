//! Frames in: link layer, reassembly, opening. What decode, convert and compress have in common.

use std::collections::VecDeque;

use super::inner::Inner;
use super::open::{EspPayload, Limits, Opened, Opener, esp_payload};
use super::outcome::{Reason, Status};
use super::warnings::Warnings;
use crate::capture::{LINKTYPE_RAW, Packet, Window};
use crate::link::{self, Content, Datagram, Outer, Received, Receiver};
use crate::report::record::Record;
use crate::sa::table::SaTable;

/// Takes the frames of one capture in their order.
#[derive(Debug)]
pub struct Intake<'t> {
    opener: Opener<'t>,
    receiver: Receiver,
    kept: KeptFrames,
}

/// One frame, and what became of it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The outer IP header, if there was one.
    pub outer: Option<Outer>,
    /// The IP packet that the frame holds or completes.
    pub datagram: Option<Datagram<'a>>,
    /// The ESP payload of `datagram`, if it carries one.
    pub payload: Option<EspPayload<'a>>,
    /// The bytes in front of the IP header of this frame; none for a rebuilt packet.
    pub link_header: &'a [u8],
    /// The link type of a frame that starts with `link_header`: that of the capture, or raw IP.
    pub link_type: u16,
    /// All frames of a packet that was reassembled.
    pub fragments: &'a [u64],
    /// A fragment whose packet is not whole yet.
    pub waits: bool,
    /// A frame of IEEE 802.15.4 or 6LoWPAN: it stays as it is in what is written, and its packet goes beside it.
    pub radio: bool,
    /// The same link-layer frame as that of `opened.repeat_of`: all else is what that frame had.
    pub repeat: bool,
    /// What became of it.
    pub opened: Opened,
    /// The restored packet, if `opened` is `ok`: the inner one in tunnel mode, the whole one in transport mode.
    pub packet: &'a [u8],
    /// The clear text, if `opened` is `ok`.
    pub clear: &'a [u8],
}

impl<'t> Intake<'t> {
    /// Nothing taken yet.
    pub fn new(table: &'t SaTable, limits: Limits, link: &link::Settings) -> Intake<'t> {
        Intake { opener: Opener::new(table, limits), receiver: Receiver::new(link), kept: KeptFrames::default() }
    }

    /// The SAs.
    pub fn table(&self) -> &'t SaTable {
        self.opener.table()
    }

    /// Looks at the next frames, all of a window, before they are taken; see [`Receiver::survey`].
    pub fn survey(&mut self, window: &Window) {
        self.receiver.survey(window.packets());
    }

    /// The frames of fragments that the last call gave up.
    pub fn given_up(&self) -> &[u64] {
        self.receiver.given_up()
    }

    /// Takes one frame.
    pub fn take<'s>(&'s mut self, packet: &Packet<'s>) -> Seen<'s> {
        let Intake { opener, receiver, kept } = self;
        let table = opener.table();
        let received = receiver.receive(packet, |protocol| table.uses_protocol(protocol));
        let Received { content, link_header, fragments, unknown_context, radio, may_repeat } = received;
        let mut seen = match content {
            Content::Datagram(datagram) => {
                let seen = open(opener, packet.number, datagram, link_header, fragments);
                Seen { link_type: if datagram.rebuilt { LINKTYPE_RAW } else { packet.link_type() }, ..seen }
            }
            Content::Fragment { outer, waits } => {
                Seen { waits, ..not_open(outer, Status::NotEsp, Reason::Text("fragment")) }
            }
            Content::NotIp(what) => not_open(None, Status::NotEsp, Reason::Text(what)),
            Content::Malformed { outer, fault } => not_open(outer, Status::Malformed, Reason::Fault(fault)),
            Content::Repeat { of } => return kept.repeated(of),
        };
        seen.radio = radio;
        if unknown_context {
            seen.opened.warnings.add(Warnings::UNKNOWN_CONTEXT);
        }
        if may_repeat {
            kept.keep(packet.number, &seen);
        }
        seen
    }
}

/// What became of the last frames that may be repeated.
#[derive(Debug, Default)]
struct KeptFrames(VecDeque<Kept>);

#[derive(Debug, Default)]
struct Kept {
    frame: u64,
    outer: Option<Outer>,
    fragments: Vec<u64>,
    opened: Opened,
    packet: Vec<u8>,
}

impl KeptFrames {
    fn keep(&mut self, frame: u64, seen: &Seen<'_>) {
        let oldest = if self.0.len() >= link::REPEATS_KEPT { self.0.pop_front() } else { None };
        let mut kept = oldest.unwrap_or_default();
        (kept.frame, kept.outer, kept.opened) = (frame, seen.outer, seen.opened.clone());
        kept.fragments.clear();
        kept.fragments.extend_from_slice(seen.fragments);
        kept.packet.clear();
        kept.packet.extend_from_slice(seen.packet);
        self.0.push_back(kept);
    }

    fn repeated(&self, frame: u64) -> Seen<'_> {
        let kept = self.0.binary_search_by_key(&frame, |kept| kept.frame).ok().and_then(|at| self.0.get(at));
        let mut seen = match kept {
            Some(kept) => Seen {
                outer: kept.outer,
                fragments: &kept.fragments,
                opened: kept.opened.clone(),
                packet: &kept.packet,
                ..not_open(None, Status::NotEsp, Reason::Text(""))
            },
            // Not to be met: as many are kept as are recognised.
            None => not_open(None, Status::NotEsp, Reason::Text("a repeat of an earlier frame")),
        };
        seen.opened.warnings.add(Warnings::DUPLICATE);
        seen.opened.repeat_of = Some(frame);
        (seen.radio, seen.repeat) = (true, true);
        seen
    }
}

fn open<'s>(
    opener: &'s mut Opener<'_>,
    frame: u64,
    datagram: Datagram<'s>,
    link_header: &'s [u8],
    fragments: &'s [u64],
) -> Seen<'s> {
    let (payload, opened) = match esp_payload(opener.table(), &datagram) {
        Ok(payload) => (Some(payload), opener.open(frame, &datagram, payload)),
        Err(reason) => (None, Opened::not_esp(reason)),
    };
    let ok = opened.status() == Status::Ok;
    Seen {
        outer: Some(datagram.outer),
        datagram: Some(datagram),
        payload,
        link_header,
        link_type: LINKTYPE_RAW,
        fragments,
        waits: false,
        radio: false,
        repeat: false,
        packet: if ok { opener.packet() } else { &[] },
        clear: if ok { opener.clear() } else { &[] },
        opened,
    }
}

fn not_open<'s>(outer: Option<Outer>, status: Status, reason: Reason) -> Seen<'s> {
    Seen {
        outer,
        datagram: None,
        payload: None,
        link_header: &[],
        link_type: LINKTYPE_RAW,
        fragments: &[],
        waits: false,
        radio: false,
        repeat: false,
        opened: Opened::failed(status, reason),
        packet: &[],
        clear: &[],
    }
}

impl Seen<'_> {
    /// The record of this frame.
    pub fn record<'r>(&'r self, packet: &Packet<'_>, table: &'r SaTable) -> Record<'r> {
        let opened = &self.opened;
        let ok = opened.status() == Status::Ok;
        let has_packet = ok && !self.packet.is_empty();
        Record {
            frame: packet.number,
            time: packet.time,
            status: opened.status(),
            reason: opened.reason,
            sa: opened.sa.and_then(|sa| table.entry(sa)).map(|entry| entry.sa.name.as_str()),
            fragments: self.fragments,
            repeat_of: opened.repeat_of,
            outer: self.outer,
            esp: opened.esp,
            inner: opened.restored.filter(|_| has_packet).and_then(|restored| Inner::of(self.packet, &restored)),
            packet: has_packet.then_some(self.packet),
            restored: opened.restored.filter(|_| ok).map(|restored| restored.sources),
            bytes: opened.bytes,
            warnings: opened.warnings,
        }
    }
}

/// Appends what ESP protects (tunnel mode: the restored packet; transport mode: its segment) and tells its Next Header.
pub fn protected(seen: &Seen<'_>, clear: &mut Vec<u8>) -> u8 {
    const NO_NEXT_HEADER: u8 = 59;
    let Some(restored) = &seen.opened.restored else { return NO_NEXT_HEADER };
    clear.extend_from_slice(seen.packet.get(restored.payload_offset..).unwrap_or_default());
    restored.next_header
}
