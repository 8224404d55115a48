//! A packet as text, in the order in which a reader thinks.

use super::layout::{Grid, write_dump, write_parts, write_wrapped};
use super::{EspBytes, EspParts, Opened, ShownPacket};
use crate::cipher::{Keys, Suite};
use crate::codec::explain::{Explanation, Origin, ResidueRow, RowStage};
use crate::context::{Dialect, Mode};
use crate::decoder::status::Method;
use crate::decoder::warnings::Warnings;
use crate::link;
use crate::records::fields::Value;
use crate::records::json::write_plain;
use crate::sa::table::PreparedSa;
use crate::schc::{Action, FieldDescriptor, Matching, Target};

/// More bits than this are written in hex, or in groups.
const MOST_DIGITS: usize = 8;

/// Writes packets as text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    /// Columns of the terminal.
    pub width: usize,
}

impl Writer {
    /// Appends all that is known of a packet.
    pub(crate) fn write(&self, packet: &ShownPacket<'_>, out: &mut String) {
        self.frame(packet, out);
        self.verdict(packet, out);
        let Some(esp) = &packet.esp else { return };
        if let Some(opened) = &packet.opened {
            match &opened.explanation {
                Ok(explanation) => self.explained(packet, esp, opened, explanation, out),
                Err(unexplained) => {
                    self.crypto(packet, esp, opened, out);
                    write_wrapped(&format!("Not explained: {unexplained}. Please report this."), 0, self.width, out);
                }
            }
            self.packet(packet, opened, out);
        }
        if let Some(candidates) = &packet.candidates {
            out.push_str("\nCandidates\n");
            let mut grid = Grid::new(&["SA", "tries", "what would have to be different"]);
            for candidate in candidates {
                let tries = if candidate.tried { candidate.tries.to_string() } else { "-".to_owned() };
                grid.add([printable(&candidate.sa), tries, candidate.reason.clone()]);
            }
            grid.write(self.width, out);
        }
        if packet.opened.is_none() {
            let at = esp.offset.map_or(String::new(), |offset| format!(" from byte {offset} of the frame"));
            out.push_str(&format!("\nESP payload, {}{at}\n", bytes(esp.payload.len())));
            write_dump(esp.payload, self.width, |_| true, out);
        }
    }

    /// The frame and what carries the packet.
    fn frame(&self, packet: &ShownPacket<'_>, out: &mut String) {
        let (frame, record) = (packet.frame, &packet.record);
        let mut parts = vec![format!("Frame {}", frame.number)];
        if let Some(time) = frame.time {
            let time = plain(Value::Time(time));
            parts.push(time.replacen('T', " ", 1).replacen('Z', " UTC", 1));
        }
        parts.push(match frame.orig_len as usize > frame.data.len() {
            true => format!("{} of {} bytes captured", frame.data.len(), frame.orig_len),
            false => bytes(frame.data.len()),
        });
        let mut layers = vec![match link::common_name(frame.link_type()) {
            Some(name) => name.to_owned(),
            None => format!("link type {}", frame.link_type()),
        }];
        if let Some(outer) = record.outer() {
            let [src, dst] = [outer.src, outer.dst].map(|address| plain(Value::Address(address)));
            layers.push(format!("IPv{} {src} → {dst}", outer.version.number()));
        }
        if let Some([src, dst]) = packet.esp.as_ref().and_then(|esp| esp.udp_ports) {
            layers.push(format!("UDP {src} → {dst}"));
        }
        parts.push(layers.join(", "));
        match (record.part(), record.inside()) {
            (Some(part), Some(outer)) => parts.push(format!("part {part}, inside part {outer}")),
            (Some(part), None) => parts.push(format!("part {part}")),
            _ => {}
        }
        write_parts(&parts, self.width, out);
        if !record.fragments().is_empty() {
            let frames: Vec<String> = record.fragments().iter().map(u64::to_string).collect();
            write_wrapped(&format!("Reassembled from frames {}", frames.join(", ")), 0, self.width, out);
        }
    }

    /// Status, SA and sizes.
    fn verdict(&self, packet: &ShownPacket<'_>, out: &mut String) {
        let record = &packet.record;
        let status = record.status().name();
        let mut parts = vec![match record.reason() {
            Some(reason) => format!("{status}: {reason}"),
            None => status.to_owned(),
        }];
        if let Some(entry) = packet.entry {
            parts.push(format!("SA {}", printable(&entry.sa.name)));
            if let Some(esp) = record.esp() {
                parts.push(format!("SPI 0x{:08x}", esp.spi));
                parts.push(format!("SN {}", esp.sequence));
            }
            parts.push(cipher_name(&entry.sa.keys));
            parts.push(document(entry));
        }
        write_parts(&parts, self.width, out);
        let mut warnings: Vec<String> = record.warnings().names().map(str::to_owned).collect();
        if let Some(frame) = record.repeat_of() {
            warnings
                .iter_mut()
                .filter(|name| *name == "duplicate")
                .for_each(|name| *name += &format!(" of frame {frame}"));
        }
        if !warnings.is_empty() {
            write_wrapped(&format!("Warnings: {}", warnings.join(", ")), 0, self.width, out);
        }
        if let Some(sizes) = record.bytes() {
            out.push_str(&format!("{} on the wire instead of {}\n", bytes(sizes.diet as usize), sizes.esp));
        }
    }

    fn explained(
        &self,
        packet: &ShownPacket<'_>,
        esp: &EspBytes<'_>,
        opened: &Opened,
        explanation: &Explanation,
        out: &mut String,
    ) {
        self.esp_header(packet, esp, explanation, out);
        self.crypto(packet, esp, opened, out);
        self.inner_headers(explanation, out);
        self.trailer(packet, explanation, out);
    }

    fn esp_header(&self, packet: &ShownPacket<'_>, esp: &EspBytes<'_>, explanation: &Explanation, out: &mut String) {
        let len = esp.parts.as_ref().map_or(0, |parts| parts.header.len());
        let from = if esp.offset.is_some() { "" } else { ", counted from the start of the ESP payload" };
        out.push_str(&format!("\nESP header (EEC), {}{from}\n", bytes(len)));
        let mut grid = Grid::new(&["offset", "bits", "field", "sent", "value", "how it was restored"]);
        for row in explanation.rows.iter().filter(|row| row.stage == RowStage::Eec) {
            let name = match row.field {
                "ESP.SPI" => "SPI",
                "ESP.SEQ" => "Sequence Number",
                other => other,
            };
            let sent = format!("{} of {}", row.sent_bits(), row.field_bits);
            let at = if row.bits.is_empty() { String::new() } else { offset(esp.offset.unwrap_or(0), row.bit_offset) };
            grid.add([at, digits(&row.bits), name.to_owned(), sent, row.value.to_string(), how(packet, row)]);
        }
        grid.write(self.width, out);
    }

    /// IV, encrypted part, ICV, nonce and AAD.
    fn crypto(&self, packet: &ShownPacket<'_>, esp: &EspBytes<'_>, opened: &Opened, out: &mut String) {
        let Some(EspParts { iv, encrypted, icv, .. }) = &esp.parts else { return };
        let mut parts = vec![];
        if !iv.is_empty() {
            parts.push(format!("IV, {}", bytes(iv.len())));
        }
        parts.push(format!("Encrypted, {}", bytes(encrypted.len())));
        parts.push(match packet.record.esp() {
            Some(esp) if esp.verified => format!("ICV, {}: verified", bytes(icv.len())),
            _ if icv.is_empty() => "no ICV".to_owned(),
            _ => format!("ICV, {}: not checked", bytes(icv.len())),
        });
        out.push('\n');
        write_wrapped(&parts.join("; "), 0, self.width, out);
        let mut values = vec![];
        if !iv.is_empty() {
            values.push(("IV", hex::encode(esp.payload.get(iv.clone()).unwrap_or_default())));
        }
        if let Some((salt, rest)) = opened.nonce.as_deref().and_then(|nonce| nonce.split_at_checked(opened.salt_len)) {
            values.push(("nonce", format!("{} {}", hex::encode(salt), hex::encode(rest))));
        }
        if let Some((spi, number)) = opened.aad.as_deref().and_then(|aad| aad.split_at_checked(4)) {
            values.push(("AAD", format!("{} {}", hex::encode(spi), hex::encode(number))));
        }
        for (name, value) in values {
            write_wrapped(&format!("{name:7} {value}"), 2, self.width, out);
        }
    }

    fn inner_headers(&self, explanation: &Explanation, out: &mut String) {
        let Some(after) = &explanation.inner else { return };
        let rows: Vec<&ResidueRow> = explanation.rows.iter().filter(|row| row.stage == RowStage::Iipc).collect();
        let payload = format!("{} from byte {} of the clear text", bytes(after.payload.len()), after.payload.start);
        if rows.is_empty() {
            let what = if explanation.compresses_inner { "no header is compressed" } else { "sent as it is" };
            out.push('\n');
            return write_wrapped(&format!("Inner packet (IIPC): {what}, {payload}"), 0, self.width, out);
        }
        let sent: usize = rows.iter().map(|row| row.sent_bits()).sum();
        let padding = match after.pad_bits {
            0 => String::new(),
            count => format!(" and {} of padding", bits(count)),
        };
        out.push_str(&format!("\nInner headers (IIPC), {}{padding}\n", bits(sent)));
        self.rows(&rows, out);
        write_wrapped(&format!("Payload, {payload}"), 0, self.width, out);
    }

    fn trailer(&self, packet: &ShownPacket<'_>, explanation: &Explanation, out: &mut String) {
        let rows: Vec<&ResidueRow> = explanation.rows.iter().filter(|row| row.stage == RowStage::Ctec).collect();
        let sent: usize = rows.iter().map(|row| row.sent_bits()).sum();
        if rows.is_empty() {
            return;
        }
        if sent > 0 {
            out.push_str(&format!("\nTrailer (CTEC), {}\n", bits(sent)));
            return self.rows(&rows, out);
        }
        let next_header = rows.iter().find(|row| row.field == "ESP.NXT").map_or(String::new(), |row| {
            let mode = packet.entry.and_then(|entry| entry.codec.mode());
            let from = if mode == Some(Mode::Tunnel) { "the mode" } else { "the selectors" };
            format!("Next Header {} from {from}, ", row.value)
        });
        write_wrapped(&format!("Trailer (CTEC): omitted ({next_header}no padding)"), 0, self.width, out);
    }

    /// A line for each field.
    fn rows(&self, rows: &[&ResidueRow], out: &mut String) {
        let mut grid = Grid::new(&["field", "len", "rule", "bit", "sent", "value", "origin"]);
        for row in rows {
            let at = if row.bits.is_empty() { String::new() } else { row.bit_offset.to_string() };
            let sent = if row.bits.is_empty() { "-".to_owned() } else { digits(&row.bits) };
            grid.add([
                row.field.to_owned(),
                row.field_bits.to_string(),
                rule(row),
                at,
                sent,
                row.value.to_string(),
                row.origin.name().to_owned(),
            ]);
        }
        grid.write(self.width, out);
    }

    /// The restored packet, or the clear text if there is none.
    fn packet(&self, packet: &ShownPacket<'_>, opened: &Opened, out: &mut String) {
        let Some(restored) = packet.record.packet() else {
            out.push_str(&format!("\nClear text, {}\n", bytes(opened.clear_text.len())));
            return write_dump(&opened.clear_text, self.width, |_| true, out);
        };
        out.push_str(&format!("\nRestored packet, {}\n", bytes(restored.len())));
        let rows = opened.explanation.as_ref().map(|explanation| explanation.rows.as_slice()).unwrap_or_default();
        let after_gap = packet.record.warnings().has(Warnings::TCP_NEAREST);
        let doubtful = rows.iter().filter(|row| !row.is_certain || after_gap && row.origin == Origin::Previous);
        let doubtful: Vec<&ResidueRow> = doubtful.collect();
        let is_certain = |byte: usize| {
            !doubtful.iter().any(|row| {
                let start = row.packet_offset.unwrap_or(usize::MAX);
                start < (byte + 1) * 8 && byte * 8 < start.saturating_add(row.field_bits)
            })
        };
        write_dump(restored, self.width, is_certain, out);
        if !doubtful.is_empty() {
            let fields: Vec<&str> = doubtful.iter().map(|row| row.field).collect();
            let text = format!("? may differ from the original packet: {}", fields.join(", "));
            write_wrapped(&text, 2, self.width, out);
        }
    }
}

/// How SPI and Sequence Number were restored.
fn how(packet: &ShownPacket<'_>, row: &ResidueRow) -> String {
    let esp = packet.record.esp();
    match (row.field, row.origin, esp) {
        ("ESP.SEQ", Origin::Found, Some(esp)) => {
            let tries = if esp.tries == 1 { "first try".to_owned() } else { format!("{} tries", esp.tries) };
            let expected = packet.expected.map_or("number".to_owned(), |number| number.to_string());
            let found = match esp.method {
                Method::Wire => "all bits sent".to_owned(),
                Method::IvMask => "from the IV, as in earlier packets".to_owned(),
                Method::Icv => "computed from the ICV".to_owned(),
                Method::Nearest => format!("nearest to the expected {expected}, {tries}"),
                Method::Time => format!("nearest to {expected}, expected from the time, {tries}"),
                Method::Search => format!("wide search from {expected}, {tries}"),
            };
            found + if esp.verified { ", ICV verified" } else { ", no ICV" }
        }
        (_, Origin::Sa, _) if row.bits.is_empty() => "from the SA".to_owned(),
        (_, Origin::Sa, _) => match row.rule.as_ref().map(|rule| rule.action) {
            Some(Action::MappingSent) => "index of the rule's list sent".to_owned(),
            _ => "low bits sent, the rest from the SA".to_owned(),
        },
        _ => "all bits sent".to_owned(),
    }
}

/// Operator, target value and action of a row.
fn rule(row: &ResidueRow) -> String {
    let Some(rule) = &row.rule else { return "sent".to_owned() };
    let target = match &rule.target {
        Target::Empty => String::new(),
        // The column of the value has it.
        Target::Value(value) if rule.matching == Matching::Equal && target(rule, *value) == row.value.to_string() => {
            String::new()
        }
        Target::Value(value) => format!(" {}", target(rule, *value)),
        Target::List(values) => {
            let values: Vec<String> = values.iter().map(|value| target(rule, *value)).collect();
            format!(" [{}]", values.join(", "))
        }
    };
    let matching = match rule.matching {
        Matching::Msb(count) => format!("MSB({count})"),
        other => other.name().to_owned(),
    };
    format!("{matching}{target}, {}", rule.action.name())
}

fn target(rule: &FieldDescriptor, value: u128) -> String {
    crate::files::target_text(rule, value)
}

/// Bits: as they are in groups of 8, or in hex if there are many.
fn digits(bits: &str) -> String {
    if bits.len() <= MOST_DIGITS || !bits.len().is_multiple_of(4) {
        let groups = bits.as_bytes().chunks(MOST_DIGITS).map(String::from_utf8_lossy);
        return groups.collect::<Vec<_>>().join(" ");
    }
    let nibble = |nibble: &[u8]| nibble.iter().fold(0, |value, bit| value << 1 | u32::from(*bit == b'1'));
    let hex: String = bits.as_bytes().chunks(4).filter_map(|bits| char::from_digit(nibble(bits), 16)).collect();
    format!("0x{hex}")
}

/// A place in bytes, and in bits inside of a byte.
fn offset(start: usize, bit_offset: usize) -> String {
    match bit_offset % 8 {
        0 => (start + bit_offset / 8).to_string(),
        bit => format!("{}.{bit}", start + bit_offset / 8),
    }
}

fn bytes(count: usize) -> String {
    format!("{count} byte{}", if count == 1 { "" } else { "s" })
}

fn bits(count: usize) -> String {
    format!("{count} bit{}", if count == 1 { "" } else { "s" })
}

fn plain(value: Value<'_>) -> String {
    let mut text = vec![];
    write_plain(value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Text of a file, without control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `AES-CCM-8 with implicit IV`, `AES-CBC with HMAC-SHA2-256-128`.
fn cipher_name(keys: &Keys) -> String {
    let Suite { name, implicit_iv, .. } = keys.suite();
    let words = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).replace('_', "-");
    let cipher = words(name.strip_suffix("_IIV").unwrap_or(name), "ENCR_");
    match (implicit_iv, keys.integ()) {
        (true, _) => format!("{cipher} with implicit IV"),
        (false, Some((integ, _))) => format!("{cipher} with {}", words(integ.name, "AUTH_")),
        (false, None) => cipher,
    }
}

/// The document that the context of an SA follows.
fn document(entry: &PreparedSa) -> String {
    match entry.context.as_ref().map(|context| &context.dialect) {
        None => "standard ESP".to_owned(),
        Some(Dialect::Ietf(ietf)) => format!("draft-ietf-ipsecme-diet-esp-{:02}", ietf.revision),
        Some(Dialect::Ehc(_)) => "draft-mglt-ipsecme-diet-esp-07 (ehc)".to_owned(),
        Some(Dialect::SixLo(_)) => "draft-mglt-6lo-diet-esp (6lo)".to_owned(),
        Some(Dialect::Custom(_)) => "custom rules".to_owned(),
    }
}
