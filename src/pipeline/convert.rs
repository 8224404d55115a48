//! convert: Diet-ESP to standard ESP, or to the inner packets (wire format §7).

use super::intake::{Intake, Seen, protected};
use super::open::{Limits, explicit_iv};
use super::outcome::Status;
use super::outlet::Outlet;
use super::seal::{IvIssuer, UsedKeys};
use super::select::Selection;
use crate::capture::{Packet, Reader, Window, Writer};
use crate::error::{Error, Fault};
use crate::esp;
use crate::link::{self, Datagram};
use crate::report::totals::Totals;
use crate::sa::table::{Entry, SaTable};
use crate::suite::{Cryptor, Keys, Random, Suite};

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Standard ESP.
    Esp,
    /// The inner packets, in the clear.
    Plain,
}

/// The keys under which packets are sealed whose plaintext changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reseal {
    /// New random keys, of this cipher.
    Fresh(&'static Suite),
    /// The keys of the SA, with IVs of our own.
    Keep,
}

/// Settings of [`run`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// What comes out.
    pub target: Target,
    /// The keys to seal with.
    pub reseal: Reseal,
    /// Makes keys and IVs repeatable, for tests.
    pub seed: Option<u64>,
    /// How far to search.
    pub limits: Limits,
    /// What the link layer has to be told.
    pub link: link::Settings,
    /// Frames that repeat another one on the link layer are written, too.
    pub keep_repeats: bool,
    /// Which frames are written.
    pub selection: Selection,
}

/// What [`run`] did.
#[derive(Debug)]
pub struct Converted {
    /// Counts of the input.
    pub totals: Totals,
    /// Frames written.
    pub written: u64,
    /// Packets rewritten, by tier: headers put back, IV made explicit, sealed again.
    pub rewritten: [u64; 3],
    /// The SAs of the output with the keys that open them.
    pub keys: Vec<UsedKeys>,
}

/// How the packets of one SA become standard ESP; the same for all of them, because Wireshark takes the first key that
/// fits an SPI.
#[derive(Debug)]
enum Plan {
    /// They are.
    Standard,
    /// SPI and Sequence Number are put back.
    HeaderOnly,
    /// The implicit IV is inserted as well.
    ExplicitIv,
    /// The restored packet is sealed again.
    Sealed(Box<Sealer>),
}

#[derive(Debug)]
struct Sealer {
    keys: Keys,
    cryptor: Cryptor,
    iv: Iv,
}

#[derive(Debug)]
enum Iv {
    /// New key: counts from 1.
    Count(u64),
    /// Key of the capture: from the issuer.
    Issued,
    /// Cipher block chaining: random.
    Random,
    /// None.
    None,
}

/// Reads a capture to its end and writes it converted. `tell` is called after each window with the bytes read so far.
pub fn run(
    reader: &mut Reader,
    writer: Writer,
    table: &SaTable,
    settings: &Settings,
    mut tell: impl FnMut(u64),
) -> Result<Converted, Error> {
    let mut intake = Intake::new(table, settings.limits, &settings.link);
    let mut window = Window::default();
    let mut converter = Converter {
        settings,
        plans: table.entries().iter().map(|_| None).collect(),
        random: Random::new(settings.seed, "keys"),
        issuer: IvIssuer::new(Random::new(settings.seed, "iv")),
        clear: vec![],
        esp: vec![],
        frame: vec![],
        rewritten: [0; 3],
    };
    let mut outlet = Outlet::new(writer);
    let mut totals = Totals::default();
    while reader.fill(&mut window)? {
        intake.survey(&window);
        for packet in window.packets() {
            let seen = intake.take(&packet);
            totals.count(&seen.record(&packet, table), seen.opened.of_known_sa);
            converter.pass_on(&packet, &seen, table, &mut outlet)?;
            outlet.release(intake.given_up())?;
        }
        tell(reader.bytes_read());
    }
    let written = outlet.finish()?;
    Ok(Converted { totals, written, rewritten: converter.rewritten, keys: converter.used_keys(table) })
}

struct Converter<'s> {
    settings: &'s Settings,
    /// By SA, made when its first packet comes.
    plans: Vec<Option<Plan>>,
    random: Random,
    issuer: IvIssuer,
    clear: Vec<u8>,
    esp: Vec<u8>,
    frame: Vec<u8>,
    rewritten: [u64; 3],
}

impl Converter<'_> {
    fn pass_on(
        &mut self,
        packet: &Packet<'_>,
        seen: &Seen<'_>,
        table: &SaTable,
        outlet: &mut Outlet,
    ) -> Result<(), Error> {
        let opened = &seen.opened;
        if seen.repeat && !self.settings.keep_repeats {
            return Ok(());
        }
        self.note_iv(seen, table)?;
        let spi = opened.esp.map(|esp| esp.spi);
        let taken = self.settings.selection.takes(packet.number, opened.status(), seen.outer, spi);
        if !taken {
            return outlet.drop_frames(seen.fragments);
        }
        if seen.waits {
            return outlet.hold(packet);
        }
        if seen.radio || seen.datagram.is_some_and(|datagram| datagram.rebuilt) {
            return self.write_beside(packet, seen, table, outlet);
        }
        if opened.status() == Status::Ok && self.settings.target == Target::Plain && seen.packet.is_empty() {
            return outlet.drop_frames(seen.fragments);
        }
        match self.rewrite(seen, table)? {
            Ok(true) => {
                outlet.drop_frames(seen.fragments)?;
                outlet.write(&packet.with_data(&self.frame), None)
            }
            Ok(false) => {
                outlet.release(seen.fragments)?;
                let comment = opened.reason.filter(|_| opened.of_known_sa);
                let comment = comment.map(|reason| format!("dietesp: {}: {reason}", opened.status().name()));
                outlet.write(packet, comment.as_deref())
            }
            Err(fault) => {
                outlet.release(seen.fragments)?;
                outlet.write(packet, Some(&format!("dietesp: not converted: {fault}")))
            }
        }
    }

    /// Writes the packet into `self.frame` as the target wants it; false if it stays as it is.
    fn rewrite(&mut self, seen: &Seen<'_>, table: &SaTable) -> Result<Result<bool, Fault>, Error> {
        let opened = &seen.opened;
        match (opened.status(), seen.datagram, opened.sa.and_then(|sa| Some((sa, table.entry(sa)?)))) {
            (Status::Ok, Some(datagram), Some((sa, entry))) => match self.settings.target {
                Target::Esp => self.to_esp(seen, &datagram, sa, entry),
                Target::Plain => {
                    let replaced = link::replace(seen.link_type, seen.link_header, seen.packet, &mut self.frame);
                    Ok(replaced.map(|()| true))
                }
            },
            _ => Ok(Ok(false)),
        }
    }

    /// Writes a radio frame, or one with a tunnel in front of ESP, as it is, and the packet that came out of it beside
    /// it. pcap holds one link type: there the packets of radio frames are alone.
    fn write_beside(
        &mut self,
        packet: &Packet<'_>,
        seen: &Seen<'_>,
        table: &SaTable,
        outlet: &mut Outlet,
    ) -> Result<(), Error> {
        let opened = &seen.opened;
        let fault = opened.reason.filter(|_| opened.of_known_sa);
        let fault = fault.map(|reason| format!("dietesp: {}: {reason}", opened.status().name()));
        outlet.release(seen.fragments)?;
        if !seen.radio || outlet.mixes_link_types() {
            outlet.write(packet, fault.as_deref())?;
        }
        let Some(datagram) = seen.datagram else { return Ok(()) };
        let mut comment = match seen.fragments {
            [] => format!("dietesp: rebuilt from frame {}", packet.number),
            frames => {
                let frames: Vec<String> = frames.iter().map(u64::to_string).collect();
                format!("dietesp: rebuilt from frames {}", frames.join(", "))
            }
        };
        match self.rewrite(seen, table)? {
            Ok(true) if self.frame.is_empty() => Ok(()),
            Ok(true) => outlet.write_raw(packet, &self.frame, 0, &comment),
            // It can be read where it is.
            Ok(false) if !seen.radio => Ok(()),
            unchanged => {
                if let Err(fault) = unchanged {
                    comment += &format!("\ndietesp: not converted: {fault}");
                } else if let Some(fault) = fault {
                    comment += &format!("\n{fault}");
                }
                self.frame.clear();
                self.frame.extend_from_slice(datagram.header);
                self.frame.extend_from_slice(datagram.payload);
                outlet.write_raw(packet, &self.frame, datagram.missing, &comment)
            }
        }
    }

    /// With `keep`, remembers the IVs that the capture shows.
    fn note_iv(&mut self, seen: &Seen<'_>, table: &SaTable) -> Result<(), Error> {
        if self.settings.reseal != Reseal::Keep || self.settings.target != Target::Esp {
            return Ok(());
        }
        let Some(entry) = seen.opened.sa.and_then(|sa| table.entry(sa)) else { return Ok(()) };
        let on_wire = seen.payload.and_then(|payload| explicit_iv(entry, payload.bytes));
        let implicit = seen.opened.esp.filter(|_| entry.cryptor.suite().implicit_iv).map(|esp| esp.sequence);
        match on_wire.or(implicit) {
            Some(iv) => self.issuer.seen(&entry.sa.keys, iv),
            None => Ok(()),
        }
    }

    /// Writes the packet as standard ESP into `self.frame`; false if it is already.
    fn to_esp(
        &mut self,
        seen: &Seen<'_>,
        datagram: &Datagram<'_>,
        sa: u32,
        entry: &Entry,
    ) -> Result<Result<bool, Fault>, Error> {
        let (Some(restored), Some(payload)) = (seen.opened.esp, seen.payload) else { return Ok(Ok(false)) };
        if self.plans.get(sa as usize).is_some_and(Option::is_none) {
            let plan = self.plan(entry)?;
            if let Some(slot) = self.plans.get_mut(sa as usize) {
                *slot = Some(plan);
            }
        }
        let Some(Some(plan)) = self.plans.get_mut(sa as usize) else { return Ok(Ok(false)) };
        self.esp.clear();
        esp::write_header(restored.spi, restored.sequence, &mut self.esp);
        let behind_header = payload.bytes.get(entry.header_len()..).unwrap_or_default();
        let tier = match plan {
            Plan::Standard => return Ok(Ok(false)),
            Plan::HeaderOnly => {
                self.esp.extend_from_slice(behind_header);
                0
            }
            Plan::ExplicitIv => {
                self.esp.extend_from_slice(&restored.sequence.to_be_bytes());
                self.esp.extend_from_slice(behind_header);
                1
            }
            Plan::Sealed(sealer) => {
                self.clear.clear();
                let next_header = protected(seen, &mut self.clear);
                esp::write_trailer(0, next_header, sealer.cryptor.block(), &mut self.clear);
                let mut iv = [0; 16];
                let iv = sealer.iv(&mut iv, &mut self.issuer, &mut self.random)?;
                // 32-bit numbers, whatever the SA has: Wireshark before 4.4 cannot be told of longer ones.
                let sealed =
                    sealer.cryptor.seal(restored.spi, restored.sequence, false, iv, &self.clear, &mut self.esp);
                debug_assert!(sealed.is_ok(), "IV and clear text have the lengths of the suite");
                2
            }
        };
        if let Some(count) = self.rewritten.get_mut(tier) {
            *count += 1;
        }
        let protocol = if payload.udp_header.is_some() { esp::UDP } else { esp::PROTOCOL };
        let rebuilt =
            link::rebuild(seen.link_header, datagram, protocol, payload.udp_header, &[&self.esp], &mut self.frame);
        Ok(rebuilt.map(|()| true))
    }

    fn plan(&mut self, entry: &Entry) -> Result<Plan, Error> {
        let suite = entry.cryptor.suite();
        if entry.codec.clear_text_is_standard() {
            return Ok(match (suite.implicit_iv, entry.context.is_some()) {
                (true, _) => Plan::ExplicitIv,
                (false, true) => Plan::HeaderOnly,
                (false, false) => Plan::Standard,
            });
        }
        let (keys, counted) = match self.settings.reseal {
            Reseal::Fresh(suite) => (Keys::generate(suite, &mut self.random)?, Iv::Count(0)),
            Reseal::Keep => (entry.sa.keys.with_explicit_iv(), Iv::Issued),
        };
        let cryptor = Cryptor::new(&keys);
        let iv = match cryptor.iv_len() {
            0 => Iv::None,
            8 => counted,
            _ => Iv::Random,
        };
        Ok(Plan::Sealed(Box::new(Sealer { keys, cryptor, iv })))
    }

    fn used_keys(self, table: &SaTable) -> Vec<UsedKeys> {
        table
            .entries()
            .iter()
            .zip(self.plans)
            .filter_map(|(entry, plan)| {
                let (keys, esn) = match plan? {
                    Plan::Standard | Plan::HeaderOnly => (entry.sa.keys.clone(), entry.sa.esn),
                    Plan::ExplicitIv => (entry.sa.keys.with_explicit_iv(), entry.sa.esn),
                    Plan::Sealed(sealer) => (sealer.keys, false),
                };
                Some(UsedKeys {
                    name: entry.sa.name.clone(),
                    spi: entry.sa.spi,
                    src: entry.sa.src,
                    dst: entry.sa.dst,
                    keys,
                    esn,
                })
            })
            .collect()
    }
}

impl Sealer {
    fn iv<'b>(
        &mut self,
        buffer: &'b mut [u8; 16],
        issuer: &mut IvIssuer,
        random: &mut Random,
    ) -> Result<&'b [u8], Error> {
        let counted = match &mut self.iv {
            Iv::None => return Ok(&[]),
            Iv::Random => {
                random.fill(buffer)?;
                return Ok(buffer);
            }
            Iv::Count(count) => {
                *count += 1;
                *count
            }
            Iv::Issued => issuer.issue(&self.keys)?,
        };
        let (first, _) = buffer.split_at_mut(8);
        first.copy_from_slice(&counted.to_be_bytes());
        Ok(first)
    }
}
