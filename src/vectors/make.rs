//! Makes a kit from rules, keys and packets.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::failure::{Case, damaged, flips};
use super::kit;
use super::packet::{Inputs, Problem, States, Vector, datagram};
use crate::batch::workers;
use crate::capture::{LINKTYPE_RAW, Reader, Window};
use crate::cipher::Random;
use crate::cipher::nonces::{IvIssuer, KeyIds, UsedNumbers};
use crate::decoder::candidates::Limits;
use crate::decoder::status::Status;
use crate::encoder;
use crate::error::Error;
use crate::files::Json;
use crate::link::{self, LinkContent};
use crate::net::{Datagram, OuterHeader, ip};
use crate::sa::table::{PreparedSa, SaTable};

/// Settings of [`make`].
#[derive(Debug, Clone, Default)]
pub struct Settings<'a> {
    /// The SAs that decrypt the packets; `None` for plain IP packets.
    pub esp: Option<&'a SaTable>,
    /// Settings of the link layer of the packets.
    pub link: link::Settings,
    /// A seed for reproducible IVs.
    pub seed: Option<u64>,
}

/// The result of [`make`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The text of the kit.
    pub text: String,
    /// SAs in it.
    pub sas: usize,
    /// Packet vectors in it.
    pub packets: usize,
    /// Failure vectors in it.
    pub failures: usize,
    /// Packets of the input without a packet vector: they belong to no SA with a context, or no context matches.
    pub left_out: usize,
}

/// An IP packet of the input, and how an SA would send it.
struct Source {
    frame: usize,
    packet: Vec<u8>,
    outer_header: Vec<u8>,
    /// The sequence number of the input, if that is ESP.
    sn: Option<u64>,
}

/// Makes a kit of the packets in a capture. Plain packets become a vector under every SA whose context they match and
/// whose selectors take the outer header, counted from `esp_sn` on; ESP packets keep SPI and Sequence Number and become a
/// vector under the SA of this SPI and these outer addresses. For every SA follow packets that must fail.
///
/// The kit has the keys of its SAs: they must be test keys.
///
/// # Errors
/// The capture cannot be read, two SAs have one key and would use a nonce twice, or there is no vector at all.
pub fn make(reader: &mut Reader, table: &SaTable, settings: Settings<'_>) -> Result<Made, Error> {
    let (sources, frames) = match settings.esp {
        Some(esp) => esp_sources(reader, esp, table, &settings.link)?,
        None => plain_sources(reader, table)?,
    };
    let mut maker = Maker {
        table,
        states: States::default(),
        ids: KeyIds::default(),
        issuer: IvIssuer::new(Random::new(settings.seed, "iv")),
        blocks: Random::new(settings.seed, "blocks"),
        used: UsedNumbers::default(),
        lists: Default::default(),
        taken: HashSet::new(),
    };
    for (sa, sources) in sources.iter().enumerate() {
        maker.sa(sa, sources)?;
    }
    let [sas, contexts, tables, packets, failures] = &maker.lists;
    if packets.is_empty() {
        return Err(Error::usage(
            "no packet matches any context",
            "for a capture of ESP, `dietesp rules check` shows which field stops its packets",
        ));
    }
    Ok(Made {
        text: kit::write([sas, contexts, tables, packets, failures])?,
        sas: sas.len(),
        packets: packets.len(),
        failures: failures.len(),
        left_out: frames.saturating_sub(maker.taken.len()),
    })
}

/// By SA: the packets that it may send. Also returns the number of IP packets.
fn plain_sources(reader: &mut Reader, table: &SaTable) -> Result<(Vec<Vec<Source>>, usize), Error> {
    let mut sources: Vec<Vec<Source>> = table.entries().iter().map(|_| vec![]).collect();
    let (mut window, mut frame) = (Window::default(), 0);
    while reader.fill(&mut window)? {
        for captured in window.frames() {
            let Some((outer, packet)) = ip_packet(captured.link_type(), captured.data) else { continue };
            frame += 1;
            for (entry, sources) in table.entries().iter().zip(&mut sources) {
                if let Some(outer_header) = outer_header(entry, &outer, packet) {
                    sources.push(Source { frame, packet: packet.to_vec(), outer_header, sn: None });
                }
            }
        }
    }
    Ok((sources, frame))
}

/// The IP packet or fragment of a frame, and the fields of its header.
fn ip_packet(link_type: u16, data: &[u8]) -> Option<(OuterHeader, &[u8])> {
    let (outer, offset) = match link::parse(link_type, data) {
        LinkContent::Datagram(datagram) => (datagram.outer, datagram.frame_offset),
        LinkContent::Fragment(fragment) => (fragment.outer, fragment.frame_offset),
        _ => return None,
    };
    let packet = data.get(offset..)?;
    let len = ip::packet_len(packet)?;
    Some((outer, packet.get(..len)?))
}

/// The outer header with which `entry` would send a plain packet, without length. Returns `None` if the SA would
/// not send it.
fn outer_header(entry: &PreparedSa, inner: &OuterHeader, packet: &[u8]) -> Option<Vec<u8>> {
    let outer = encoder::outer_header(entry, inner)?;
    let mut header = vec![];
    if entry.is_tunnel() {
        link::encapsulate(LINKTYPE_RAW, &[], &outer, entry.protocol, &[], &mut header).ok()?;
    } else {
        link::rebuild(&[], &datagram(packet).ok()?, entry.protocol, None, &[], &mut header).ok()?;
    }
    (entry.sa.src.accepts(outer.src) && entry.sa.dst.accepts(outer.dst)).then_some(header)
}

/// By SA of `table`: the packets that `esp` decrypts. Also returns the number of packets.
fn esp_sources(
    reader: &mut Reader,
    esp: &SaTable,
    table: &SaTable,
    link: &link::Settings,
) -> Result<(Vec<Vec<Source>>, usize), Error> {
    let mut sources: Vec<Vec<Source>> = table.entries().iter().map(|_| vec![]).collect();
    let mut frame = 0;
    let input = workers::Input { reader, table: esp, limits: Limits::default(), link, threads: 1 };
    workers::visit(input, |_, item, arena| {
        let (Status::Ok, Some(found), Some(carrier)) = (item.status, item.esp, item.datagram()) else {
            return ControlFlow::Continue(());
        };
        frame += 1;
        let Datagram { outer, .. } = carrier;
        let is_its = |entry: &PreparedSa| {
            let sa = &entry.sa;
            let takes = sa.src.accepts(outer.src) && sa.dst.accepts(outer.dst);
            entry.context.is_some() && sa.spi == Some(found.spi) && takes
        };
        let place = table.entries().iter().zip(&mut sources).find(|(entry, _)| is_its(entry));
        let mut outer_header = vec![];
        if let Some((entry, sources)) = place
            && link::rebuild(&[], &carrier, entry.protocol, None, &[], &mut outer_header).is_ok()
        {
            let packet = item.packet(arena).to_vec();
            sources.push(Source { frame, packet, outer_header, sn: Some(found.sequence) });
        }
        ControlFlow::Continue(())
    })?;
    Ok((sources, frame))
}

struct Maker<'t> {
    table: &'t SaTable,
    states: States,
    ids: KeyIds,
    issuer: IvIssuer,
    blocks: Random,
    used: UsedNumbers,
    /// The lists of the kit.
    lists: [Vec<Json>; 5],
    /// Frames with at least one vector.
    taken: HashSet<usize>,
}

impl Maker<'_> {
    /// Makes the vectors of one SA.
    fn sa(&mut self, sa: usize, sources: &[Source]) -> Result<(), Error> {
        let Some(entry) = self.table.entries().get(sa) else { return Ok(()) };
        let mut next_sn = entry.context.as_ref().and_then(|context| context.esp_sn).unwrap_or(1);
        let mut vectors: Vec<(usize, Vector)> = vec![];
        let mut unmatched = vec![];
        for source in sources {
            let sn = source.sn.unwrap_or(next_sn);
            if source.sn.is_some() && vectors.iter().any(|(_, vector)| vector.sn == sn) {
                continue;
            }
            let iv = self.iv(entry)?;
            let Source { outer_header, packet, .. } = source;
            let inputs = Inputs { outer_header, inner_packet: packet, sn, iv: &iv };
            match Vector::compute(self.table, sa, &inputs, &mut self.states) {
                Ok(vector) => {
                    self.take(entry, sn)?;
                    let number = self.list(3).len() + 1;
                    let line = vector.line(number, &entry.sa.name);
                    self.list(3).push(line);
                    self.taken.insert(source.frame);
                    next_sn = next_sn.max(sn).saturating_add(1);
                    vectors.push((number, vector));
                }
                Err(Problem::Mismatch(_)) => unmatched.push(source),
                Err(Problem::Wrong(name, what)) => {
                    let problem = format!("frame {} on SA {}: {name}: {what}", source.frame, entry.sa.name);
                    return Err(Error::usage(problem, "remove the packet or the SA"));
                }
            }
        }
        let Some((number, first)) = vectors.first() else { return Ok(()) };
        let own = kit::lines_of(entry)?;
        for (list, line) in self.lists.iter_mut().zip(own) {
            list.push(line);
        }
        self.failures(sa, entry, (*number, first), &unmatched, next_sn)
    }

    /// Packets of one SA that fail: one for each kind and result.
    fn failures(
        &mut self,
        sa: usize,
        entry: &PreparedSa,
        (of, vector): (usize, &Vector),
        unmatched: &[&Source],
        mut next_sn: u64,
    ) -> Result<(), Error> {
        let mut outcomes = HashSet::new();
        for (kind, bit) in flips(entry, vector) {
            self.failure(sa, &Case::Flipped { kind, of, bit, vector }, &mut outcomes)?;
        }
        for clear_text in damaged(entry, vector) {
            if !entry.sa.esn && u32::try_from(next_sn).is_err() {
                break;
            }
            let iv = self.iv(entry)?;
            self.take(entry, next_sn)?;
            let case =
                Case::ClearText { outer_header: &vector.outer_header, sn: next_sn, iv: &iv, clear_text: &clear_text };
            self.failure(sa, &case, &mut outcomes)?;
            next_sn = next_sn.saturating_add(1);
        }
        for Source { outer_header, packet, .. } in unmatched {
            self.failure(sa, &Case::NoMatch { outer_header, inner_packet: packet }, &mut outcomes)?;
        }
        Ok(())
    }

    fn failure(&mut self, sa: usize, case: &Case<'_>, outcomes: &mut HashSet<String>) -> Result<(), Error> {
        let number = self.list(4).len() + 1;
        let line = case.line(self.table, sa, number);
        let Ok(Some(Json::Object(members))) = line else { return Ok(()) };
        let telling = members.iter().filter(|(name, _)| ["kind", "stage", "status", "field"].contains(name));
        if outcomes.insert(format!("{:?}", telling.collect::<Vec<_>>())) {
            self.list(4).push(Json::Object(members));
        }
        Ok(())
    }

    fn list(&mut self, index: usize) -> &mut Vec<Json> {
        let [sas, contexts, tables, packets, failures] = &mut self.lists;
        match index {
            0 => sas,
            1 => contexts,
            2 => tables,
            3 => packets,
            _ => failures,
        }
    }

    /// Records the nonce of an SA whose IV is the sequence number.
    fn take(&mut self, entry: &PreparedSa, sn: u64) -> Result<(), Error> {
        if entry.cipher().suite().implicit_iv && !self.used.take(self.ids.of(&entry.sa.keys), sn, None) {
            return Err(Error::usage(
                format!("SA {}: another SA has the same key and would use the same nonces", entry.sa.name),
                "give each SA its own key",
            ));
        }
        Ok(())
    }

    /// An IV that was never used with this key. Empty if the IV is not sent.
    fn iv(&mut self, entry: &PreparedSa) -> Result<Vec<u8>, Error> {
        match entry.cipher().iv_len() {
            0 => Ok(vec![]),
            8 => Ok(self.issuer.issue(self.ids.of(&entry.sa.keys))?.to_be_bytes().to_vec()),
            len => {
                let mut iv = vec![0; len];
                self.blocks.fill(&mut iv)?;
                Ok(iv)
            }
        }
    }
}
