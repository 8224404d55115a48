//! show: single packets, explained bit by bit.

mod candidates;
mod json;
mod layout;
mod text;

use std::ops::Range;

pub(crate) use candidates::Candidate;
pub(crate) use json::write_line;
pub(crate) use text::Writer;

use crate::capture::{Frame, Reader, Window};
use crate::cipher::Cipher;
use crate::codec::explain::{Explanation, OpenedPacket, Unexplained};
use crate::decoder::Decoder;
use crate::decoder::arena::Arena;
use crate::decoder::candidates::Limits;
use crate::decoder::esp_packet::body;
use crate::decoder::likely_numbers::expected;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::Status;
use crate::error::Error;
use crate::link;
use crate::records::record::Record;
use crate::records::totals::Totals;
use crate::sa::stream::Progress;
use crate::sa::table::{PreparedSa, SaTable};

/// A capture, and which of its frames to show.
pub(crate) struct Input<'i> {
    /// The capture.
    pub reader: &'i mut Reader,
    /// The SAs.
    pub table: &'i SaTable,
    /// How far to search.
    pub limits: Limits,
    /// Settings of the link layer.
    pub link: &'i link::Settings,
    /// First and last numbers of the frames to show.
    pub frames: &'i [(u64, u64)],
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The packets that were shown.
    pub totals: Totals,
    /// The number of the last frame that was read.
    pub last_frame: u64,
    /// How many of the frames of each range were shown.
    pub found: Vec<u64>,
}

/// A packet of a frame that was asked for.
pub(crate) struct ShownPacket<'a> {
    pub frame: &'a Frame<'a>,
    pub record: Record<'a>,
    /// The SA that decrypted it, or its only candidate.
    pub entry: Option<&'a PreparedSa>,
    /// The ESP packet, if there is one.
    pub esp: Option<EspBytes<'a>>,
    /// What was decrypted.
    pub opened: Option<Opened>,
    /// Every SA, if no ICV verified.
    pub candidates: Option<Vec<Candidate>>,
    /// The sequence number that was expected.
    pub expected: Option<u64>,
}

/// The ESP payload of a packet, as captured.
pub(crate) struct EspBytes<'a> {
    pub payload: &'a [u8],
    /// Where it begins in the frame; `None` if the frame does not hold it in one piece.
    pub offset: Option<usize>,
    /// The ports of the UDP datagram that carries it.
    pub udp_ports: Option<[u16; 2]>,
    /// Ranges of `payload`; `None` if no SA is known.
    pub parts: Option<EspParts>,
}

/// The parts of an ESP payload, in bytes.
pub(crate) struct EspParts {
    pub header: Range<usize>,
    pub iv: Range<usize>,
    pub encrypted: Range<usize>,
    pub icv: Range<usize>,
}

/// A packet that was decrypted.
pub(crate) struct Opened {
    /// Of AEADs.
    pub nonce: Option<Vec<u8>>,
    /// How many bytes of the nonce are the salt.
    pub salt_len: usize,
    /// Of AEADs, not of AES-GMAC.
    pub aad: Option<Vec<u8>>,
    pub clear_text: Vec<u8>,
    pub explanation: Result<Explanation, Unexplained>,
}

/// Reads a capture up to the last frame that was asked for, and gives every packet of these frames to `show`.
///
/// # Errors
/// The capture cannot be read, or `show` fails.
pub(crate) fn run(
    input: Input<'_>,
    mut show: impl FnMut(&ShownPacket<'_>) -> Result<(), Error>,
) -> Result<Shown, Error> {
    let Input { reader, table, limits, link, frames } = input;
    let last = frames.iter().map(|(_, last)| *last).max().unwrap_or(0);
    let mut decoder = Decoder::new(table, limits, link);
    let (mut window, mut arena) = (Window::default(), Arena::default());
    let mut shown = Shown { totals: Totals::default(), last_frame: 0, found: vec![0; frames.len()] };
    let mut before = Progresses(vec![Progress::default(); table.entries().len()]);
    while shown.last_frame < last && reader.fill(&mut window)? {
        decoder.survey(window.frames());
        for frame in window.frames().take_while(|frame| frame.number <= last) {
            shown.last_frame = frame.number;
            arena.clear();
            let outcome = decoder.decode(&frame, &mut arena);
            if shown.count(frame.number, frames) {
                for (index, part) in outcome.parts().enumerate() {
                    shown.totals.count(part);
                    show(&ShownPacket::new(&frame, (index, part), table, &arena, &before))?;
                }
            }
            before.update(&decoder, &outcome);
        }
    }
    Ok(shown)
}

impl Shown {
    /// Counts a frame in the ranges that have its number; false if there are none.
    fn count(&mut self, number: u64, ranges: &[(u64, u64)]) -> bool {
        let of_frame =
            self.found.iter_mut().zip(ranges).filter(|(_, (first, last))| (*first..=*last).contains(&number));
        of_frame.map(|(found, _)| *found += 1).count() > 0
    }
}

/// The progress of every stream before a frame.
struct Progresses(Vec<Progress>);

impl Progresses {
    /// Notes the progress of the streams that a frame belongs to.
    fn update(&mut self, decoder: &Decoder, outcome: &Outcome<'_>) {
        for sa in outcome.parts().filter_map(|part| part.sa) {
            if let Some(progress) = self.0.get_mut(sa as usize) {
                *progress = decoder.streams().progress(sa, None);
            }
        }
    }

    /// The sequence number expected of the next packet; `None` for multicast packets, whose numbers depend on the source.
    fn expected(&self, entry: &PreparedSa, outcome: &Outcome<'_>, time_ns: i64) -> Option<u64> {
        let progress = self.0.get(outcome.sa? as usize)?;
        let is_multicast = outcome.outer().is_some_and(|outer| outer.dst.is_multicast());
        (!is_multicast).then(|| expected(entry, progress, time_ns))
    }
}

impl<'a> ShownPacket<'a> {
    fn new(
        frame: &'a Frame<'a>,
        (index, outcome): (usize, &'a Outcome<'a>),
        table: &'a SaTable,
        arena: &'a Arena,
        before: &Progresses,
    ) -> ShownPacket<'a> {
        let record = Record::new(frame, outcome, table, arena);
        let entry = outcome.sa.and_then(|sa| table.entry(sa));
        let esp = EspBytes::of(frame, outcome, table, entry);
        let opened = entry.zip(esp.as_ref()).and_then(|(entry, esp)| Opened::of(entry, outcome, esp, arena));
        let verified = outcome.esp.is_some_and(|esp| esp.verified);
        let has_candidates = !verified && !matches!(outcome.status, Status::Ok | Status::NotEsp);
        let candidates = has_candidates.then(|| candidates::of(table, outcome, (frame.number, index), arena));
        let expected = entry.and_then(|entry| before.expected(entry, outcome, frame.time_ns()));
        ShownPacket { frame, record, entry, esp, opened, candidates: candidates.flatten(), expected }
    }
}

impl<'a> EspBytes<'a> {
    fn of(
        frame: &Frame<'a>,
        outcome: &'a Outcome<'a>,
        table: &SaTable,
        entry: Option<&PreparedSa>,
    ) -> Option<EspBytes<'a>> {
        // A repeat has the outcome of the first frame, but not its packet.
        if outcome.status == Status::NotEsp || outcome.repeat {
            return None;
        }
        let esp = outcome.payload(table)?;
        let payload = esp.bytes;
        let ports = |header: &[u8; 8]| {
            let [a, b, c, d, ..] = *header;
            [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
        };
        let header_len = outcome.datagram().map_or(0, |datagram| datagram.header.len());
        let udp_len = if esp.udp_header.is_some() { 8 } else { 0 };
        let likely = outcome.link_header().len() + header_len + udp_len;
        Some(EspBytes {
            payload,
            offset: find(frame.data, payload, likely),
            udp_ports: esp.udp_header.map(ports),
            parts: entry.and_then(|entry| EspParts::of(entry, payload.len())),
        })
    }
}

/// Where `part` is in `whole`: at `likely`, or at the only place where it is. Radio frames and tunnels were unpacked, but most
/// of them still hold the payload in one piece.
fn find(whole: &[u8], part: &[u8], likely: usize) -> Option<usize> {
    if whole.get(likely..).is_some_and(|rest| rest.starts_with(part)) && !part.is_empty() {
        return Some(likely);
    }
    let mut places = whole.windows(part.len().max(1)).enumerate().filter(|(_, bytes)| *bytes == part);
    match (places.next(), places.next()) {
        (Some((at, _)), None) => Some(at),
        _ => None,
    }
}

impl EspParts {
    fn of(entry: &PreparedSa, len: usize) -> Option<EspParts> {
        let iv_at = entry.header_len();
        let encrypted_at = iv_at + entry.iv_len();
        let icv_at = len.checked_sub(entry.icv_len()).filter(|at| *at >= encrypted_at)?;
        Some(EspParts { header: 0..iv_at, iv: iv_at..encrypted_at, encrypted: encrypted_at..icv_at, icv: icv_at..len })
    }
}

impl Opened {
    /// Decrypts a packet again with the SA and the number that the decoder found, because the decoder keeps no clear texts of
    /// malformed packets.
    fn of(entry: &PreparedSa, outcome: &Outcome<'_>, esp: &EspBytes<'_>, arena: &Arena) -> Option<Opened> {
        let header = outcome.esp.as_ref()?;
        let (cipher, esn, sn) = (entry.cipher(), entry.esn(), header.sequence);
        let mut clear_text = vec![];
        cipher.open(header.spi, sn, esn, body(entry, esp.payload)?, &mut clear_text).ok()?;
        let iv = esp.payload.get(esp.parts.as_ref()?.iv.clone())?;
        let suite = cipher.suite();
        let has_aad = suite.is_aead() && suite.cipher != Cipher::AesGmac;
        let outer = outcome.outer()?;
        let packet = OpenedPacket {
            payload: esp.payload,
            spi: header.spi,
            sequence: sn,
            clear: &clear_text,
            outer: &outer,
            restored: outcome.restored.as_ref().map(|restored| (restored, outcome.packet(arena))),
        };
        let explanation = entry.codec.explain(entry.context.as_deref(), entry.block(), &packet);
        Some(Opened {
            nonce: suite.is_aead().then(|| cipher.nonce(sn, esn, iv)),
            salt_len: suite.salt_len,
            aad: has_aad.then(|| cipher.aad(header.spi, sn, esn, iv, &[])),
            explanation,
            clear_text,
        })
    }
}
