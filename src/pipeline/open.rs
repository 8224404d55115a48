//! From a datagram to what was inside: SA lookup, Sequence Number, opening, restoring.

use std::collections::HashMap;
use std::net::IpAddr;

use super::outcome::{Bytes, Esp, Method, Reason, Status};
use super::warnings::Warnings;
use crate::codec::{Carrier, Restored};
use crate::error::{Fault, FaultKind, Stage};
use crate::esp;
use crate::link::{self, Datagram, Outer};
use crate::sa::sequence::Candidates;
use crate::sa::stream::{Novelty, Stream};
use crate::sa::table::{Entry, SaTable};
use crate::suite::OpenError;

/// How far the search for a Sequence Number goes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Candidates tried per SA and packet.
    pub sn_tries: u32,
    /// Candidates tried instead for an SA that has not verified yet or whose last 16 packets all failed.
    pub resync_tries: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { sn_tries: 1024, resync_tries: None }
    }
}

/// Candidates of `--resync` (wire format §6 step 4).
pub const RESYNC_TRIES: u64 = 1 << 24;
/// Sources of multicast packets whose numbers are kept apart.
const MULTICAST_SOURCES: usize = 1 << 14;
/// Packets that fail in a row before an SA counts as lost.
const LOST_AFTER: u32 = 16;

/// What became of one datagram. The packet itself is [`Opener::packet`], until the next call.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// The verdict; `None` until one is reached.
    pub status: Option<Status>,
    /// Why it is not `ok`.
    pub reason: Option<Reason>,
    /// The SA that verified, or the only candidate.
    pub sa: Option<u32>,
    /// Whether some SA was a candidate: such a packet failed, it is not somebody else's.
    pub of_known_sa: bool,
    /// The restored ESP header.
    pub esp: Option<Esp>,
    /// Where fields of the packet came from.
    pub restored: Option<Restored>,
    /// Bytes on the wire and as standard ESP.
    pub bytes: Option<Bytes>,
    /// Warnings.
    pub warnings: Warnings,
    /// The frame that this one repeats.
    pub repeat_of: Option<u64>,
}

impl Opened {
    /// The verdict.
    pub fn status(&self) -> Status {
        self.status.unwrap_or(Status::NotEsp)
    }

    /// Not `ok`.
    pub fn failed(status: Status, reason: Reason) -> Opened {
        Opened { status: Some(status), reason: Some(reason), ..Opened::default() }
    }

    /// No ESP packet.
    pub fn not_esp(reason: Reason) -> Opened {
        Opened::failed(Status::NotEsp, reason)
    }
}

/// Opens the packets of one capture, in the order in which they were captured.
#[derive(Debug)]
pub struct Opener<'t> {
    table: &'t SaTable,
    limits: Limits,
    streams: Vec<Stream>,
    /// Streams of SAs whose destination is a multicast address, by SA and source.
    multicast: HashMap<(u32, IpAddr), Stream>,
    /// A stream of which nothing is known.
    unknown: Stream,
    scratch: Scratch,
}

/// Buffers reused from packet to packet.
#[derive(Debug, Default)]
struct Scratch {
    found: Vec<u32>,
    searches: Vec<Search>,
    clear: Vec<u8>,
    packet: Vec<u8>,
}

/// The search for the Sequence Number under one candidate SA.
#[derive(Debug)]
struct Search {
    sa: u32,
    order: Candidates,
    left: u64,
    tried: u64,
}

/// Where the ESP payload of a datagram is, and how it is carried.
#[derive(Debug, Clone, Copy)]
pub struct EspPayload<'a> {
    /// IP protocol number: 50, or one that a context names. 50 for UDP encapsulation too.
    pub protocol: u8,
    /// The UDP header, where ESP is carried in UDP.
    pub udp_header: Option<&'a [u8; 8]>,
    /// From the first byte of SPI or RuleID to the end of the ICV.
    pub bytes: &'a [u8],
    /// Bytes that the lengths promise and the capture does not have (snap length).
    pub missing: usize,
}

/// Finds the ESP payload of a datagram, or says why there is none.
pub fn esp_payload<'a>(table: &SaTable, datagram: &Datagram<'a>) -> Result<EspPayload<'a>, Reason> {
    match datagram.protocol {
        esp::UDP if !table.uses_protocol(esp::UDP) => match link::udp_encapsulation(datagram) {
            Ok(Some(udp)) => Ok(EspPayload {
                protocol: esp::PROTOCOL,
                udp_header: Some(udp.udp_header),
                bytes: udp.payload,
                missing: udp.missing,
            }),
            Ok(None) => Err(Reason::Protocol(esp::UDP)),
            Err(fault) => Err(Reason::Fault(fault)),
        },
        protocol if table.uses_protocol(protocol) => {
            Ok(EspPayload { protocol, udp_header: None, bytes: datagram.payload, missing: datagram.missing })
        }
        protocol => Err(Reason::Protocol(protocol)),
    }
}

impl<'t> Opener<'t> {
    /// An opener that has seen no packet yet.
    pub fn new(table: &'t SaTable, limits: Limits) -> Opener<'t> {
        let streams = table.entries().iter().map(|_| Stream::default()).collect();
        Opener {
            table,
            limits,
            streams,
            multicast: HashMap::new(),
            unknown: Stream::default(),
            scratch: Scratch::default(),
        }
    }

    /// The table it looks SAs up in.
    pub fn table(&self) -> &'t SaTable {
        self.table
    }

    /// The packet that the last `ok` restored: the inner one in tunnel mode, the whole one in transport mode.
    pub fn packet(&self) -> &[u8] {
        &self.scratch.packet
    }

    /// The clear text that was opened last.
    pub fn clear(&self) -> &[u8] {
        &self.scratch.clear
    }

    /// Opens the ESP payload that the datagram of frame `frame` carries.
    pub fn open(&mut self, frame: u64, datagram: &Datagram<'_>, payload: EspPayload<'_>) -> Opened {
        let bytes = payload.bytes;
        self.table.candidates(payload.protocol, &datagram.outer, datagram.link, bytes, &mut self.scratch.found);
        self.drop_void_readings();
        let udp = payload.udp_header.is_some();
        if self.scratch.found.is_empty() {
            if udp && (esp::is_marker_or_keepalive(bytes) || bytes.is_empty()) {
                return Opened::not_esp(Reason::Text("IKE or NAT keepalive on UDP 4500"));
            }
            let mut head = [0; 4];
            head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            return Opened::failed(Status::NoSa, Reason::NoSa { head: u32::from_be_bytes(head) });
        }
        let only = if let [one] = self.scratch.found[..] { Some(one) } else { None };
        if payload.missing > 0 {
            let (needs, has) = (bytes.len() + payload.missing, bytes.len());
            let fault = Fault::short(Stage::EspHeader, 0, "ESP packet (cut by the snap length)", needs, has);
            return self.failed_known(Status::Malformed, Reason::Fault(fault), only, datagram);
        }
        let table = self.table;
        let least = self.scratch.found.iter().filter_map(|sa| Some(table.entry(*sa)?.least_len())).min().unwrap_or(0);
        if bytes.len() < least {
            if udp && esp::is_marker_or_keepalive(bytes) {
                return Opened::not_esp(Reason::Text("IKE or NAT keepalive on UDP 4500"));
            }
            let fault = Fault::short(Stage::EspHeader, 0, "ESP header, IV and ICV", least, bytes.len());
            return self.failed_known(Status::Malformed, Reason::Fault(fault), only, datagram);
        }
        match self.find(datagram, bytes) {
            Ok((sa, sn, method, tries)) => self.restore(frame, datagram, bytes, sa, sn, method, tries),
            Err(_) if udp && esp::is_marker_or_keepalive(bytes) => {
                Opened::not_esp(Reason::Text("IKE or NAT keepalive on UDP 4500"))
            }
            Err(tries) => {
                let sas = self.scratch.found.len() as u32;
                self.failed_known(Status::AuthFailed, Reason::NotAuthentic { sas, tries }, only, datagram)
            }
        }
    }

    /// Tries the candidate SAs, each first number first, then each second, and so on. On failure the number of tries.
    fn find(&mut self, datagram: &Datagram<'_>, bytes: &[u8]) -> Result<(u32, u64, Method, u64), u64> {
        let table = self.table;
        let found = std::mem::take(&mut self.scratch.found);
        let mut searches = std::mem::take(&mut self.scratch.searches);
        searches.clear();
        for sa in &found {
            let Some(entry) = table.entry(*sa) else { continue };
            let stream = self.stream(*sa, datagram);
            if bytes.len() < entry.least_len() {
                continue;
            }
            let mask = stream.iv_mask.zip(explicit_iv(entry, bytes)).map(|(mask, iv)| mask ^ iv);
            let lost = stream.highest.is_none() || stream.failed_in_row >= LOST_AFTER;
            let tries = u64::from(self.limits.sn_tries);
            let left = self.limits.resync_tries.filter(|_| lost).map_or(tries, |wide| wide.max(tries));
            let order = Candidates::new(
                expected(entry, stream),
                entry.sn_on_wire(bytes),
                entry.codec.sn_bits(),
                entry.sa.esn,
                mask,
            );
            searches.push(Search { sa: *sa, order, left, tried: 0 });
        }
        let mut tries = 0;
        let mut result = None;
        let mut active = !searches.is_empty();
        'rounds: while active {
            active = false;
            for search in &mut searches {
                let Some(entry) = table.entry(search.sa) else { continue };
                if search.left == 0 {
                    continue;
                }
                let from_mask = search.order.next_is_from_mask();
                let Some(sn) = search.order.next() else {
                    search.left = 0;
                    continue;
                };
                active = true;
                search.left -= 1;
                search.tried += 1;
                tries += 1;
                let spi = entry.sa.spi.unwrap_or_else(|| first_word(bytes));
                let body = bytes.get(entry.header_len()..).unwrap_or_default();
                match entry.cryptor.open(spi, sn, entry.sa.esn, body, &mut self.scratch.clear) {
                    Ok(()) => {
                        let method = if search.order.is_whole() {
                            Method::Wire
                        } else if from_mask {
                            Method::IvMask
                        } else if search.tried <= u64::from(self.limits.sn_tries) {
                            Method::Nearest
                        } else {
                            Method::Search
                        };
                        result = Some((search.sa, sn, method, tries));
                        break 'rounds;
                    }
                    // No other number makes the length right.
                    Err(OpenError::Short | OpenError::Block) => search.left = 0,
                    Err(OpenError::NotAuthentic) => {}
                }
            }
        }
        self.scratch.found = found;
        self.scratch.searches = searches;
        result.ok_or(tries)
    }

    /// The last steps, for a packet that opened: note the number, restore the headers.
    #[allow(clippy::too_many_arguments)]
    fn restore(
        &mut self,
        frame: u64,
        datagram: &Datagram<'_>,
        bytes: &[u8],
        sa: u32,
        sequence: u64,
        method: Method,
        tries: u64,
    ) -> Opened {
        let Some(entry) = self.table.entry(sa) else { return Opened::default() };
        let verified = entry.cryptor.authenticates();
        let mut opened = Opened { sa: Some(sa), of_known_sa: true, ..Opened::default() };
        opened.esp = Some(Esp {
            spi: entry.sa.spi.unwrap_or_else(|| first_word(bytes)),
            sequence,
            method,
            spi_bits: entry.codec.spi_bits(),
            sn_bits: entry.codec.sn_bits(),
            wire_bytes: bytes.len(),
            verified,
            tries,
            revision: entry.revision(),
        });
        if !verified {
            opened.warnings.add(Warnings::UNAUTHENTICATED);
        }
        let carrier =
            Carrier { outer: &datagram.outer, header: datagram.header, protocol_offset: datagram.protocol_offset };
        match entry.codec.restore(&self.scratch.clear, &carrier, &mut self.scratch.packet) {
            Ok(restored) => {
                opened.status = Some(Status::Ok);
                opened.warnings.add_codec(restored.warnings);
                let cryptor = &entry.cryptor;
                let protected_len = self.scratch.packet.len() - restored.payload_offset.min(self.scratch.packet.len());
                let esp_len = esp::standard_len(protected_len, cryptor.iv_len(), cryptor.block(), cryptor.icv_len());
                opened.bytes = Some(Bytes { diet: bytes.len() as u64, esp: esp_len as u64 });
                opened.restored = Some(restored);
            }
            Err(_) if entry.sa.alternative_to.is_some() => {
                // A second reading of a key-file line that makes no sense is the wrong one.
                return self.failed_known(
                    Status::AuthFailed,
                    Reason::NotAuthentic { sas: 1, tries },
                    Some(sa),
                    datagram,
                );
            }
            Err(fault) => {
                let unsupported = matches!(fault.kind, FaultKind::Unsupported(_));
                opened.status = Some(if unsupported { Status::Unsupported } else { Status::Malformed });
                opened.reason = Some(Reason::Fault(fault));
            }
        }
        let iv = explicit_iv(entry, bytes);
        match self.stream_mut(sa, datagram).verified(sequence, iv, bytes, frame) {
            Novelty::New => {}
            Novelty::Duplicate(first) => {
                opened.warnings.add(Warnings::DUPLICATE);
                opened.repeat_of = Some(first);
            }
            Novelty::Replayed => opened.warnings.add(Warnings::REPLAYED),
        }
        opened
    }

    fn failed_known(&mut self, status: Status, reason: Reason, only: Option<u32>, datagram: &Datagram<'_>) -> Opened {
        if let Some(stream) = only.and_then(|sa| self.known_stream_mut(sa, datagram)) {
            stream.failed();
        }
        Opened { sa: only, of_known_sa: true, ..Opened::failed(status, reason) }
    }

    /// Drops candidates that are a second reading of a key-file line whose first reading has verified before.
    fn drop_void_readings(&mut self) {
        let Opener { table, streams, scratch, .. } = self;
        scratch.found.retain(|sa| {
            let first = table.entry(*sa).and_then(|entry| entry.sa.alternative_to);
            !first.is_some_and(|first| streams.get(first).is_some_and(|stream| stream.highest.is_some()))
        });
    }

    fn stream(&self, sa: u32, datagram: &Datagram<'_>) -> &Stream {
        let dst = datagram.outer.dst;
        if dst.is_multicast() {
            self.multicast.get(&(sa, datagram.outer.src)).unwrap_or(&self.unknown)
        } else {
            self.streams.get(sa as usize).unwrap_or(&self.unknown)
        }
    }

    fn known_stream_mut(&mut self, sa: u32, datagram: &Datagram<'_>) -> Option<&mut Stream> {
        let Outer { src, dst, .. } = datagram.outer;
        if dst.is_multicast() { self.multicast.get_mut(&(sa, src)) } else { self.streams.get_mut(sa as usize) }
    }

    /// The stream of a packet that opened; a source is taken up only then, so that packets that belong to no SA cannot
    /// fill the memory.
    fn stream_mut(&mut self, sa: u32, datagram: &Datagram<'_>) -> &mut Stream {
        let Outer { src, dst, .. } = datagram.outer;
        match self.streams.get_mut(sa as usize) {
            Some(stream) if !dst.is_multicast() => stream,
            _ => {
                if self.multicast.len() >= MULTICAST_SOURCES {
                    self.multicast.clear();
                }
                self.multicast.entry((sa, src)).or_default()
            }
        }
    }
}

/// The number that the next packet of a stream most likely has (wire format §6 step 4).
fn expected(entry: &Entry, stream: &Stream) -> u64 {
    let start = || entry.context.as_ref().and_then(|context| context.esp_sn).or(entry.sa.sn_hint).unwrap_or(1);
    stream.highest.map_or_else(start, |highest| highest.saturating_add(1))
}

/// The explicit IV of a packet, if it is 8 bytes long.
pub fn explicit_iv(entry: &Entry, bytes: &[u8]) -> Option<u64> {
    if entry.cryptor.iv_len() != 8 {
        return None;
    }
    bytes.get(entry.header_len()..)?.first_chunk().map(|iv| u64::from_be_bytes(*iv))
}

fn first_word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |word| u32::from_be_bytes(*word))
}
