//! The steps of [`EspDecoder::decode`] up to the ICV check: finds ESP, tries the candidates, and explains why none
//! verified.

use super::Decoder;
use super::arena::{Arena, Tries};
use super::candidates::{Candidates, Failure, Limits, Opened};
use super::esp_packet::EspPacket;
use super::hints::{self, Hint};
use super::not_esp;
use super::outcome::Outcome;
use super::outcomes::Outcomes;
use super::repeats::RecentFrames;
use super::sas::IkeFollower;
use super::status::{Reason, Status};
use super::streams::Streams;
use crate::capture::Frame;
use crate::error::{Fault, Stage};
use crate::ike;
use crate::link::{self, InnerReceiver, Receiver};
use crate::net::{Datagram, OuterHeader, esp};
use crate::sa::table::{Hints, PreparedSa, SaTable};

/// Number of candidates of a failed packet that are examined for the likely cause.
const MOST_HINTED: usize = 4;

/// Decodes IP packets in capture order.
#[derive(Debug)]
pub(crate) struct EspDecoder {
    pub(super) sas: SaTable,
    /// Adds SAs, if there are secrets of IKE SAs.
    pub(super) ike: Option<Box<IkeFollower>>,
    pub(super) candidates: Candidates,
    pub(super) streams: Streams,
    pub(super) inner_receiver: InnerReceiver,
    /// Buffer for the packet that is searched for ESP.
    pub(super) inner_packet: Vec<u8>,
    /// See [`link::Settings::outermost`]. If set, ESP is not decoded.
    outermost: bool,
    /// Buffer for candidates.
    pub(super) found: Vec<u32>,
    /// The SA that each flow had last. Used only for the number of tries in records.
    pub(super) flows: Hints,
}

impl Decoder {
    /// A decoder without streams.
    pub fn new(sas: &SaTable, limits: Limits, link: &link::Settings) -> Decoder {
        let esp = EspDecoder {
            sas: sas.clone(),
            ike: None,
            candidates: Candidates::new(limits),
            streams: Streams::new(sas),
            inner_receiver: InnerReceiver::new(link),
            inner_packet: vec![],
            outermost: link.outermost,
            found: vec![],
            flows: Hints::default(),
        };
        Decoder { link: Receiver::new(link), esp, recent: RecentFrames::default() }
    }

    /// From now on adds the SAs that IKE exchanges make.
    pub(crate) fn follow_ike(&mut self, follower: IkeFollower) {
        self.esp.ike = Some(Box::new(follower));
    }

    /// What [`Decoder::follow_ike`] was given.
    pub(crate) fn ike(&self) -> Option<&IkeFollower> {
        self.esp.ike.as_deref()
    }

    /// Reads the IKE exchanges of frames that will be decoded later, and adds their SAs.
    pub(crate) fn survey_ike<'p>(&mut self, frames: impl Iterator<Item = Frame<'p>>) {
        if let Some(follower) = &mut self.esp.ike {
            frames.for_each(|frame| follower.survey(&frame));
            follower.add_completed(&mut self.esp.sas);
        }
    }

    /// The SAs known so far. An SA keeps its position.
    pub(crate) fn sas(&self) -> &SaTable {
        &self.esp.sas
    }

    /// Examines frames that will be decoded later, to find out which trailer follows IEEE 802.15.4 frames.
    pub fn survey<'p>(&mut self, frames: impl Iterator<Item = Frame<'p>>) {
        self.link.survey(frames);
    }

    /// The streams of all SAs.
    pub fn streams(&self) -> &Streams {
        &self.esp.streams
    }

    /// The streams of all SAs, at the end of the capture.
    pub fn into_streams(self) -> Streams {
        self.esp.streams
    }

    /// Decodes the packet of `frame` that `outcome` describes, but that was not opened yet.
    pub(crate) fn decode_in_frame<'f>(&mut self, frame: &Frame<'f>, outcome: &mut Outcome<'f>, arena: &mut Arena) {
        let Some((place, bytes)) = outcome.in_frame() else { return };
        let Ok(esp) = EspPacket::in_frame(&self.esp.sas, bytes, place) else { return };
        let mut outcomes = Outcomes::with_first(frame, outcome, arena);
        self.esp.decode_esp(&esp, &mut outcomes);
        self.esp.decode_nested(&mut outcomes);
    }

    /// Decodes the ESP packets nested in the restored packet of `outcome`.
    #[cold]
    pub(crate) fn decode_nested_in<'f>(&mut self, frame: &Frame<'f>, outcome: &mut Outcome<'f>, arena: &mut Arena) {
        self.esp.decode_nested(&mut Outcomes::with_first(frame, outcome, arena));
    }

    /// The part of the decoder that decodes packets.
    pub(crate) fn esp_mut(&mut self) -> &mut EspDecoder {
        &mut self.esp
    }
}

impl EspDecoder {
    /// Whether an IP protocol number may be that of ESP. `link` does not unwrap such packets further.
    pub(super) fn protocols(&self) -> impl Fn(u8) -> bool {
        |protocol| self.sas.uses_protocol(protocol)
    }

    /// Finds ESP in `packet`, or the reason why there is none.
    pub(super) fn find_esp<'a>(&self, packet: &Datagram<'a>) -> Result<EspPacket<'a>, Reason> {
        let table = &self.sas;
        if self.outermost {
            return Err(Reason::Protocol(packet.protocol));
        }
        EspPacket::of(table, packet).map_err(|reason| not_esp::reason(reason, table, packet.payload))
    }

    /// Tries the candidates of a packet, the most likely first. The clear text stays in [`Candidates::clear`].
    pub(super) fn open(&mut self, esp: &EspPacket<'_>, frame: &Frame<'_>) -> Result<Opened, Failure> {
        let EspPacket { payload, multicast, .. } = esp;
        let outer = OuterHeader::of(esp.header).ok_or(Failure::NotEsp)?;
        let EspDecoder { sas, candidates, streams, .. } = self;
        let lookup = esp.lookup(&outer);
        let progress = |sa| Some(streams.progress(sa, *multicast));
        let opened = match payload.missing {
            0 => candidates.open(sas, &lookup, frame.time_ns(), true, progress),
            _ => Err(candidates.truncated(sas, &lookup, progress)),
        };
        let in_udp = payload.udp_header.is_some();
        match opened {
            // Without an ICV every packet verifies, even an IKE message.
            Ok(opened) if in_udp && ike::is_after_marker(payload.bytes) && !self.authenticates(opened.sa) => {
                Err(Failure::NotEsp)
            }
            Err(_) if in_udp && (esp::is_marker_or_keepalive(payload.bytes) || payload.bytes.is_empty()) => {
                Err(Failure::NotEsp)
            }
            opened => opened,
        }
    }

    fn authenticates(&self, sa: u32) -> bool {
        self.sas.entry(sa).is_some_and(PreparedSa::authenticates)
    }

    /// Explains why a packet could not be opened, and counts it in the streams of its candidates.
    pub(super) fn fail(&mut self, esp: &EspPacket<'_>, failure: Failure, outcomes: &mut Outcomes<'_, '_>) {
        let (bytes, multicast) = (esp.payload.bytes, esp.multicast);
        let outcome = outcomes.last();
        outcome.restored = None;
        outcome.of_known_sa = !matches!(failure, Failure::NotEsp | Failure::NoSa);
        match failure {
            Failure::NotEsp => {
                return outcome.set(Status::NotEsp, Reason::Text("IKE or NAT keepalive on UDP 4500"));
            }
            Failure::NoSa => {
                let mut head = [0; 4];
                head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                let hint = hints::without_sa(&self.sas, esp.payload.protocol, bytes);
                return outcome.set(Status::NoSa, Reason::NoSa { head: u32::from_be_bytes(head), hint });
            }
            Failure::Short { least } => {
                let fault = Fault::short(Stage::EspHeader, 0, "ESP header, IV and ICV", least, bytes.len());
                outcome.set(Status::Malformed, Reason::Fault(fault));
            }
            Failure::Truncated => {
                let (needs, has) = (bytes.len() + esp.payload.missing, bytes.len());
                let fault = Fault::short(Stage::EspHeader, 0, "ESP packet (cut by the snap length)", needs, has);
                outcome.set(Status::Malformed, Reason::Fault(fault));
            }
            Failure::NotAuthentic { tries } => {
                let sas = self.candidates.candidates().len() as u32;
                let hint = self.hint(bytes, multicast);
                outcome.set(Status::AuthFailed, Reason::NotAuthentic { sas, tries, hint });
            }
        }
        if let [only] = *self.candidates.candidates() {
            outcome.sa = Some(only);
            let tries = if let Failure::NotAuthentic { tries } = failure { tries } else { 0 };
            self.streams.failed(only, multicast, tries);
        }
        if let Failure::NotAuthentic { .. } = failure {
            let (frame, part) = (outcomes.frame().number, outcomes.first.others().len());
            let tries = self.candidates.tries_of_candidates(&self.sas, bytes);
            outcomes.arena.tries.extend(tries.map(|(sa, tries)| Tries { frame, part, sa, tries }));
            for sa in self.candidates.candidates() {
                self.streams.not_authentic(*sa, multicast);
            }
        }
    }

    /// The likely cause why a packet's candidates do not verify.
    fn hint(&mut self, payload: &[u8], source: Option<&[u8]>) -> Option<Hint> {
        let EspDecoder { sas, candidates, streams, .. } = self;
        let (candidates, clear) = candidates.candidates_and_clear();
        let lost = candidates.iter().filter(|sa| streams.progress(**sa, source).highest.is_none());
        let entries = lost.take(MOST_HINTED).filter_map(|sa| sas.entry(*sa));
        entries.filter_map(|entry| hints::not_authentic(entry, payload, clear)).next()
    }
}
