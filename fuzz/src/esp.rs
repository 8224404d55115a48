//! ESP: lookup, decryption, and the codecs for clear texts.

use dietesp::internals::codec::explain::OpenedPacket;
use dietesp::internals::codec::{Codec, Compressed, Form, Restorable, Restored, State};
use dietesp::internals::context::{Mode, TrafficSelectors};
use dietesp::internals::decoder::candidates::{Candidates, Failure, Limits, Opened};
use dietesp::internals::net::protocol::ESP;
use dietesp::internals::net::{IpHeaders, OuterHeader};
use dietesp::internals::records::inner::Inner;
use dietesp::internals::sa::stream::Progress;
use dietesp::internals::sa::table::{Lookup, PreparedSa, SaTable};

use super::input::Input;
use super::packets::{self, SCTP, TCP, UDP, UDP_LITE};
use super::sas;

const LIMITS: Limits = Limits { sn_tries: 3, resync_tries: None, notify: None };
/// More than the headers that any codec puts before a clear text.
const MAX_HEADERS: usize = 40 + 60 + 60;

/// A payload as it is, or one that was encrypted from a clear text: it is looked up, decrypted, restored and explained.
pub fn esp(data: &[u8]) {
    let mut input = Input::new(data);
    let table = &sas::tables()[usize::from(input.u8()) % sas::tables().len()];
    let sa = u32::from(input.u8()) % table.entries().len() as u32;
    let entry = table.entry(sa).expect("below their number");
    let flags = input.u8();
    let sn = sequence_number(entry, &mut input);
    let carrier = carrier(&mut input, flags & 1 == 1);
    let outer = packets::outer(&carrier);
    if flags & 2 == 0 {
        let payload = input.rest();
        if let Ok(Opened { sa, sn, .. }) = find(table, &outer, payload, sn).0 {
            // Only without an integrity check.
            let entry = table.entry(sa).expect("it was found");
            assert!(!entry.authenticates(), "{} took noise for {sn}", entry.cipher().suite().name);
        }
        return;
    }
    let mut clear = input.rest().to_vec();
    clear.resize(clear.len().next_multiple_of(entry.cipher().block()), 7);
    let payload = seal(entry, sn, &clear);
    let (found, opened) = find(table, &outer, &payload, sn);
    if !entry.authenticates() {
        return;
    }
    assert!(matches!(found, Ok(Opened { sa: of, sn: number, .. }) if (of, number) == (sa, sn)), "{found:?}");
    assert_eq!(opened, clear);
    let mut packet = vec![];
    let restored = restore(&entry.codec, &opened, &carrier, &mut State::default(), &mut packet);
    let explained = entry.codec.explain(
        entry.context.as_deref(),
        entry.cipher().block(),
        &OpenedPacket {
            payload: &payload,
            spi: entry.sa.spi.expect("all have one"),
            sequence: sn,
            clear: &opened,
            outer: &outer,
            restored: restored.as_ref().map(|restored| (restored, packet.as_slice())),
        },
    );
    assert!(explained.is_ok(), "{explained:?} of {opened:02x?}");
}

fn sequence_number(entry: &PreparedSa, input: &mut Input<'_>) -> u64 {
    let low = input.u32();
    let high = if entry.sa.esn { u64::from(input.u32()) << 32 } else { 0 };
    // 0 is never sent.
    (high | u64::from(low)).max(1)
}

/// The header of a packet that contains ESP.
fn carrier(input: &mut Input<'_>, v4: bool) -> Vec<u8> {
    let mut header = vec![0; if v4 { 20 } else { 40 }];
    let random = input.take(8);
    header[..random.len()].copy_from_slice(random);
    if v4 {
        header[0] = 0x45;
        header[9] = ESP;
        header[12..].copy_from_slice(&[192, 0, 2, 2, 192, 0, 2, 1]);
    } else {
        header[0] = 0x60 | header[0] & 15;
        header[6] = ESP;
        header[8] = 0xfd;
        header[24] = 0xfd;
    }
    header
}

fn seal(entry: &PreparedSa, sn: u64, clear: &[u8]) -> Vec<u8> {
    let spi = entry.sa.spi.expect("all have one");
    let mut payload = vec![];
    entry.codec.encode_header(spi, sn, &mut payload);
    assert_eq!(payload.len(), entry.header_len());
    let iv = vec![0x44; entry.cipher().iv_len()];
    entry.cipher().seal(spi, sn, entry.sa.esn, &iv, clear, &mut payload).expect("lengths are right");
    payload
}

/// Searches for the SA of a payload, with `sn` as the expected number. Also returns the clear text.
fn find(table: &SaTable, outer: &OuterHeader, payload: &[u8], sn: u64) -> (Result<Opened, Failure>, Vec<u8>) {
    let mut candidates = Candidates::new(LIMITS);
    let progress = Progress { highest: Some(sn - 1), ..Progress::default() };
    let protocol = table.entries().first().map_or(ESP, |entry| entry.protocol);
    let lookup = Lookup { protocol, outer, link: None, payload };
    let found = candidates.open(table, &lookup, 0, false, |_| Some(progress));
    (found, candidates.clear)
}

/// Restores a clear text, and checks the properties of any result.
fn restore(codec: &Codec, clear: &[u8], carrier: &[u8], state: &mut State, packet: &mut Vec<u8>) -> Option<Restored> {
    let outer = packets::outer(carrier);
    let (header_len, protocol_offset) = packets::header(carrier);
    let before = *state;
    let carrier = IpHeaders { outer: &outer, header: &carrier[..header_len], protocol_offset };
    match codec.restore(clear, &carrier, state, packet) {
        Err(fault) => {
            assert_eq!(*state, before, "{fault}");
            None
        }
        Ok(restored) => {
            assert!(packet.len() <= clear.len() + MAX_HEADERS);
            assert!(restored.payload_offset <= packet.len());
            assert_eq!(packet.is_empty(), restored.form == Form::Dummy);
            Inner::of(packet, &restored);
            Some(restored)
        }
    }
}

/// Any clear text in dialect `ietf`.
pub fn restore_ietf(data: &[u8]) {
    restore_dialect("ietf", data);
}

/// Any clear text in dialect `ehc`.
pub fn restore_ehc(data: &[u8]) {
    restore_dialect("ehc", data);
}

/// Any clear text in dialect `6lo`.
pub fn restore_6lo(data: &[u8]) {
    restore_dialect("6lo", data);
}

/// Any clear text in dialect `custom`.
pub fn restore_custom(data: &[u8]) {
    restore_dialect("custom", data);
}

/// Restores two clear texts of one stream. If a restored packet is compressed again, it restores to the same
/// packet.
fn restore_dialect(dialect: &str, data: &[u8]) {
    let mut input = Input::new(data);
    let codecs = sas::codecs(dialect);
    let (codec, with_blocks) = &codecs[usize::from(input.u8()) % codecs.len()];
    let flags = input.u8();
    let codec = if flags & 2 == 2 { with_blocks.as_ref().unwrap_or(codec) } else { codec };
    let carrier = carrier(&mut input, flags & 1 == 1);
    let mut state = State::default();
    let mut packet = vec![];
    if flags & 4 == 4 {
        restore(codec, input.piece(), &carrier, &mut state, &mut packet);
    }
    let (before, mut sender) = (state, state);
    let Some(restored) = restore(codec, input.rest(), &carrier, &mut state, &mut packet) else { return };
    if restored.form == Form::Dummy {
        return;
    }
    let mut clear = vec![];
    let Ok(compressed) = codec.compress(&packet, &packets::outer(&carrier), &mut sender, &mut clear) else { return };
    let mut receiver = before;
    let again = comes_back(codec, &packet, &carrier, &compressed, &clear, &mut receiver);
    // Extension headers that were inside ESP precede it.
    if restored.form != Form::Transport || restored.payload_offset == compressed.payload_offset {
        assert_eq!(packet, again, "by way of {clear:02x?}");
    }
    assert_eq!(receiver, sender);
}

/// Compresses, encrypts, finds, decrypts and restores a packet. The result must equal the packet, except for the
/// fields that it lists as restored from other sources.
pub fn round_trip(data: &[u8]) {
    let mut input = Input::new(data);
    let table = &sas::tables()[usize::from(input.u8()) % (sas::tables().len() - 1)];
    let sa = u32::from(input.u8()) % table.entries().len() as u32;
    let entry = table.entry(sa).expect("below their number");
    let flags = input.u8();
    let sn = sequence_number(entry, &mut input);
    let mut sender = State::default();
    let mut receiver = State::default();
    for last in [false, true] {
        if !last && flags & 1 == 0 {
            continue;
        }
        let mut piece = Input::new(if last { input.rest() } else { input.piece() });
        let own_outer = flags & 2 == 0;
        let other = carrier(&mut piece, flags & 4 == 4);
        let packet = packets::packet(&mut piece, entry.context.as_ref().map(|context| &context.selectors));
        if !packets::has_header(&packet) {
            let mut clear = vec![];
            let _ = entry.codec.compress(&packet, &packets::outer(&other), &mut sender, &mut clear);
            continue;
        }
        // In transport mode, the outer header is the packet's own. In tunnel mode, it has the same fields, or any
        // others.
        let outer_of = if own_outer || !entry.is_tunnel() { &packet } else { &other };
        let outer = packets::outer(outer_of);
        let mut clear = vec![];
        let before = sender;
        let Ok(compressed) = entry.codec.compress(&packet, &outer, &mut sender, &mut clear) else {
            assert_eq!(sender, before);
            continue;
        };
        let payload = seal(entry, sn, &clear);
        let (found, opened) = find(table, &outer, &payload, sn);
        if entry.authenticates() {
            assert!(matches!(found, Ok(Opened { sa: of, sn: number, .. }) if (of, number) == (sa, sn)), "{found:?}");
            assert_eq!(opened, clear);
        }
        comes_back(&entry.codec, &packet, outer_of, &compressed, &clear, &mut receiver);
        assert_eq!(sender, receiver);
    }
}

/// Compresses and restores packets, both those that `selectors` match and others.
pub fn packets_come_back(codec: &Codec, selectors: &TrafficSelectors) {
    for packet in packets::usual(selectors) {
        let (mut sender, mut receiver) = (State::default(), State::default());
        let mut clear = vec![];
        if let Ok(compressed) = codec.compress(&packet, &packets::outer(&packet), &mut sender, &mut clear) {
            comes_back(codec, &packet, &packet, &compressed, &clear, &mut receiver);
            assert_eq!(sender, receiver);
        }
    }
}

/// Restores the compressed `packet`, whose outer header is `outer_of`. The result must equal the packet, except for
/// the fields that it lists as restored from other sources.
fn comes_back(
    codec: &Codec,
    packet: &[u8],
    outer_of: &[u8],
    compressed: &Compressed,
    clear: &[u8],
    receiver: &mut State,
) -> Vec<u8> {
    let is_tunnel = codec.mode() == Some(Mode::Tunnel);
    let outer = packets::outer(outer_of);
    let (header, protocol_offset) = match is_tunnel {
        true => {
            let (len, at) = packets::header(outer_of);
            (outer_of[..len].to_vec(), at)
        }
        false => {
            let (header_len, protocol_offset) = packets::header(packet);
            assert!(compressed.payload_offset >= header_len && compressed.protocol_offset >= protocol_offset);
            let mut header = packet[..compressed.payload_offset].to_vec();
            header[compressed.protocol_offset] = ESP;
            (header, compressed.protocol_offset)
        }
    };
    let carrier = IpHeaders { outer: &outer, header: &header, protocol_offset };
    let mut back = vec![];
    let restored = codec.restore(clear, &carrier, receiver, &mut back);
    let restored = restored.unwrap_or_else(|fault| panic!("{fault}: {packet:02x?} -> {clear:02x?}"));
    assert_eq!(restored.next_header, compressed.next_header);
    let (sent, got) = (without_lossy_fields(packet, &restored), without_lossy_fields(&back, &restored));
    assert_eq!(sent, got, "{restored:?}, by way of {clear:02x?}");
    if is_tunnel && packet.starts_with(&outer_of[..header.len()]) {
        // `lower` copied the packet's own fields.
        if restored.sources.iter().all(|(_, source)| source.name() == "outer") {
            assert_eq!(packet, back, "{restored:?}");
        }
    }
    back
}

/// A packet with zeros in the fields that `restored` lists, and in the checksums over them.
fn without_lossy_fields(packet: &[u8], restored: &Restored) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    let lossy = |field| restored.sources.of(field).is_some();
    let (header_len, protocol_offset) = packets::header(packet);
    let v4 = packet[0] >> 4 == 4;
    let class = (u8::from(lossy(Restorable::Dscp)) * 0xfc) | (u8::from(lossy(Restorable::Ecn)) * 3);
    if v4 {
        bytes[1] &= !class;
        let fields = [
            Restorable::Dscp,
            Restorable::Ecn,
            Restorable::Identification,
            Restorable::Ttl,
            Restorable::HeaderChecksum,
        ];
        if fields.into_iter().any(lossy) {
            bytes[10..12].fill(0);
        }
        if lossy(Restorable::Identification) {
            bytes[4..6].fill(0);
        }
        if lossy(Restorable::Ttl) {
            bytes[8] = 0;
        }
    } else {
        bytes[0] &= !(class >> 4);
        bytes[1] &= !(class << 4);
        if lossy(Restorable::FlowLabel) {
            bytes[1] &= 0xf0;
            bytes[2..4].fill(0);
        }
        if lossy(Restorable::HopLimit) {
            bytes[7] = 0;
        }
    }
    let segment = restored.upper.filter(|_| restored.form == Form::Transport).map_or(header_len, |upper| upper.offset);
    let protocol = if restored.form == Form::Transport { restored.next_header } else { packet[protocol_offset] };
    let mut clear = |field, at: usize, len: usize| {
        if lossy(field) {
            bytes[at..at + len].fill(0);
        }
    };
    let (src, dst, len) = if v4 { (12, 16, 4) } else { (8, 24, 16) };
    clear(Restorable::Src, src, len);
    clear(Restorable::Dst, dst, len);
    clear(Restorable::SrcPort, segment, 2);
    clear(Restorable::DstPort, segment + 2, 2);
    match protocol {
        UDP => {
            clear(Restorable::UdpLength, segment + 4, 2);
            clear(Restorable::UdpChecksum, segment + 6, 2);
        }
        UDP_LITE => {
            clear(Restorable::UdpLiteCoverage, segment + 4, 4);
            clear(Restorable::UdpLiteChecksum, segment + 6, 2);
        }
        TCP => {
            clear(Restorable::TcpSequence, segment + 4, 4);
            clear(Restorable::TcpAcknowledgment, segment + 8, 4);
            clear(Restorable::TcpFlags, segment + 12, 2);
            clear(Restorable::TcpWindow, segment + 14, 2);
            clear(Restorable::TcpChecksum, segment + 16, 2);
            clear(Restorable::TcpUrgentPointer, segment + 18, 2);
        }
        SCTP => {
            clear(Restorable::SctpVerificationTag, segment + 4, 4);
            clear(Restorable::SctpChecksum, segment + 8, 4);
        }
        _ => {}
    }
    bytes
}
