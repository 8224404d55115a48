//! Frames in: link layer, reassembly, opening. What decode, convert and compress have in common.

use super::inner::Inner;
use super::open::{EspPayload, Limits, Opened, Opener, esp_payload};
use super::outcome::{Reason, Status};
use crate::capture::Packet;
use crate::esp;
use crate::link::{self, Datagram, Frame, Outer, Reassembled, Reassembler};
use crate::report::record::Record;
use crate::sa::table::SaTable;

/// Takes the frames of one capture in their order.
#[derive(Debug)]
pub struct Intake<'t> {
    opener: Opener<'t>,
    reassembler: Reassembler,
    reassembled: Reassembled,
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
    /// The bytes in front of the IP header of this frame.
    pub link_header: &'a [u8],
    /// All frames of a packet that was reassembled.
    pub fragments: &'a [u64],
    /// A fragment whose packet is not whole yet.
    pub waits: bool,
    /// What became of it.
    pub opened: Opened,
    /// The restored packet, if `opened` is `ok`: the inner one in tunnel mode, the whole one in transport mode.
    pub packet: &'a [u8],
    /// The clear text, if `opened` is `ok`.
    pub clear: &'a [u8],
}

impl<'t> Intake<'t> {
    /// Nothing taken yet.
    pub fn new(table: &'t SaTable, limits: Limits) -> Intake<'t> {
        Intake {
            opener: Opener::new(table, limits),
            reassembler: Reassembler::new(),
            reassembled: Reassembled::default(),
        }
    }

    /// The SAs.
    pub fn table(&self) -> &'t SaTable {
        self.opener.table()
    }

    /// Fragments that wait for the rest of their packet, and those given up.
    pub fn reassembler(&mut self) -> &mut Reassembler {
        &mut self.reassembler
    }

    /// Takes one frame.
    pub fn take<'s>(&'s mut self, packet: &Packet<'s>) -> Seen<'s> {
        let frame = packet.number;
        match link::parse(packet.link_type(), packet.data) {
            Frame::Datagram(datagram) => {
                let link_header = packet.data.get(..datagram.frame_offset).unwrap_or_default();
                open(&mut self.opener, frame, datagram, link_header, &[])
            }
            Frame::Fragment(fragment) => {
                let outer = Some(fragment.outer);
                if fragment.protocol != esp::UDP && !self.table().uses_protocol(fragment.protocol) {
                    return not_open(outer, Status::NotEsp, Reason::Text("fragment"));
                }
                let time = i64::try_from(packet.time.nanos()).unwrap_or(i64::MAX);
                match self.reassembler.push(frame, time, &fragment, &mut self.reassembled) {
                    Err(fault) => not_open(outer, Status::Malformed, Reason::Fault(fault)),
                    Ok(false) => Seen { waits: true, ..not_open(outer, Status::NotEsp, Reason::Text("fragment")) },
                    Ok(true) => match self.reassembled.datagram() {
                        Err(fault) => not_open(outer, Status::Malformed, Reason::Fault(fault)),
                        Ok(datagram) => {
                            let link_header = packet.data.get(..fragment.frame_offset).unwrap_or_default();
                            open(&mut self.opener, frame, datagram, link_header, self.reassembled.fragments())
                        }
                    },
                }
            }
            Frame::NotIp(what) => not_open(None, Status::NotEsp, Reason::Text(what)),
            Frame::Malformed { outer, fault } => not_open(outer, Status::Malformed, Reason::Fault(fault)),
        }
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
        fragments,
        waits: false,
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
        fragments: &[],
        waits: false,
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
