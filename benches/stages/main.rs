//! Measures the time of each stage within one process. `cargo bench --bench stages` runs all stages, and `cargo
//! bench --bench stages -- open` those with `open` in their name. The items per second are packets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a bench fails")]

mod traffic;

use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use dietesp::internals::batch::workers::Input;
use dietesp::internals::capture::{Reader, Window};
use dietesp::internals::cipher::SUITES;
use dietesp::internals::codec::State;
use dietesp::internals::command::decode::{self, Render};
use dietesp::internals::decoder::Decoder;
use dietesp::internals::decoder::arena::Arena;
use dietesp::internals::decoder::candidates::Limits;
use dietesp::internals::decoder::status::Status;
use dietesp::internals::error::Error;
use dietesp::internals::link::{self, LinkContent};
use dietesp::internals::net::{IpHeaders, OuterHeader, protocol};
use dietesp::internals::records::fields::Field;
use dietesp::internals::records::json;
use dietesp::internals::records::record::Record;
use dietesp::internals::records::table::Table;
use dietesp::internals::sa::table::{Lookup, SaTable};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box_drop};

/// Packets of a capture in memory.
const PACKETS: usize = 10_000;
/// Number of packets for a single stage: every length of CoAP once.
const LENGTHS: usize = 61;
const DIALECTS: [&str; 5] = ["none", "ietf", "ehc", "6lo", "custom"];

fn main() {
    divan::main();
}

fn reader(capture: &Arc<[u8]>) -> Reader {
    Reader::from_read(Path::new("bench"), Box::new(Cursor::new(Arc::clone(capture)))).unwrap()
}

/// From the capture to packets.
#[divan::bench(args = ["pcap", "pcapng"])]
fn read(bencher: Bencher<'_, '_>, format: &str) {
    let capture = traffic::capture(format, &traffic::frames(&traffic::table("ENCR_AES_GCM_16", "none", 1), PACKETS));
    let mut window = Window::default();
    let bencher = bencher.counter(ItemsCount::new(PACKETS)).counter(BytesCount::new(capture.len()));
    bencher.bench_local(|| {
        let mut reader = reader(&capture);
        let mut packets = 0;
        while reader.fill(&mut window).unwrap() {
            packets += window.frames().filter(|packet| !packet.data.is_empty()).count();
        }
        assert_eq!(packets, PACKETS);
    });
}

/// From the frame to the IP packet.
#[divan::bench(args = ["ethernet-ipv6", "ethernet-vlan-ipv4-udp", "raw-ipv6"])]
fn parse_link(bencher: Bencher<'_, '_>, kind: &str) {
    let frame = traffic::frames(&traffic::table("ENCR_AES_GCM_16", "none", 1), 1).remove(0);
    let (link_type, frame) = match kind {
        "ethernet-ipv6" => (traffic::ETHERNET, frame),
        "raw-ipv6" => (dietesp::internals::capture::LINKTYPE_RAW, frame[traffic::ETHERNET_LEN..].to_vec()),
        _ => {
            let vlan = etherparse::SingleVlanHeader { vlan_id: 5.try_into().unwrap(), ..Default::default() };
            let builder =
                etherparse::PacketBuilder::ethernet2([2; 6], [3; 6]).vlan(etherparse::VlanHeader::Single(vlan));
            let mut packet = vec![];
            let builder = builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(4500, 4500);
            builder.write(&mut packet, &frame[54..]).unwrap();
            (traffic::ETHERNET, packet)
        }
    };
    let esp_ports = link::EspPorts::default();
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        match link::parse(black_box(link_type), black_box(&frame)) {
            LinkContent::Datagram(datagram) => {
                if datagram.protocol == protocol::UDP {
                    black_box_drop(link::udp_encapsulation(&datagram, &esp_ports));
                }
                black_box(datagram.payload.len())
            }
            other => panic!("{other:?}"),
        }
    });
}

/// From the packet to its candidates, with all 32 bits of the SPI on the wire, or 8.
#[divan::bench(args = [("none", 1), ("none", 1000), ("none", 100_000), ("ietf", 1), ("ietf", 1000), ("ietf", 100_000)])]
fn look_up_sa(bencher: Bencher<'_, '_>, (dialect, sas): (&str, usize)) {
    let table = traffic::table("ENCR_AES_GCM_16", dialect, sas);
    let outer = traffic::outer();
    // A stride that visits the SAs in an order that caches cannot predict.
    let headers: Vec<Vec<u8>> = (0..1000usize)
        .map(|index| {
            let entry = &table.entries()[index * 7919 % sas];
            let mut header = vec![];
            entry.codec.encode_header(entry.sa.spi.unwrap(), 1, &mut header);
            header.resize(40, 0);
            header
        })
        .collect();
    let mut found = vec![];
    bencher.counter(ItemsCount::new(headers.len())).bench_local(|| {
        for header in &headers {
            table.candidates(&Lookup { protocol: 50, outer: &outer, link: None, payload: header }, &mut found);
            assert!(!found.is_empty());
        }
    });
}

/// With 8 bits of the SPI, where the addresses distinguish the SAs.
#[divan::bench(args = [1, 1000, 100_000])]
fn look_up_sensor(bencher: Bencher<'_, '_>, sas: usize) {
    let table = traffic::sensors("ENCR_AES_GCM_16", sas);
    let packets: Vec<(OuterHeader, Vec<u8>)> = (0..1000usize)
        .map(|index| {
            let sensor = index * 7919 % sas;
            let entry = &table.entries()[sensor];
            let mut header = vec![];
            entry.codec.encode_header(entry.sa.spi.unwrap(), 1, &mut header);
            header.resize(40, 0);
            (OuterHeader { src: traffic::sensor(sensor), ..traffic::outer() }, header)
        })
        .collect();
    let mut found = vec![];
    bencher.counter(ItemsCount::new(packets.len())).bench_local(|| {
        for (outer, payload) in &packets {
            table.candidates(&Lookup { protocol: 50, outer, link: None, payload }, &mut found);
            assert!(found.len() == 1);
        }
    });
}

/// From cipher text to clear text.
#[divan::bench(args = SUITES.iter().map(|suite| suite.name))]
fn open(bencher: Bencher<'_, '_>, suite: &str) {
    let table = traffic::table(suite, "none", 1);
    let entry = &table.entries()[0];
    let spi = entry.sa.spi.unwrap();
    let bodies: Vec<_> =
        (0..LENGTHS).map(|index| traffic::body(entry, 1, &traffic::clear_text(entry, index))).collect();
    let mut clear = vec![];
    bencher.counter(ItemsCount::new(LENGTHS)).bench_local(|| {
        for body in &bodies {
            entry.cipher().open(spi, 1, false, body, &mut clear).unwrap();
        }
    });
}

/// From clear text to packet.
#[divan::bench(args = DIALECTS)]
fn restore(bencher: Bencher<'_, '_>, dialect: &str) {
    let table = traffic::table("ENCR_AES_CCM_8", dialect, 1);
    let entry = &table.entries()[0];
    let clear: Vec<_> = (0..LENGTHS).map(|index| traffic::clear_text(entry, index)).collect();
    let (outer, header) = (traffic::outer(), traffic::outer_header(0));
    let carrier = IpHeaders { outer: &outer, header: &header, protocol_offset: 6 };
    let (mut state, mut packet) = (State::default(), vec![]);
    bencher.counter(ItemsCount::new(LENGTHS)).bench_local(|| {
        for clear in &clear {
            black_box_drop(entry.codec.restore(clear, &carrier, &mut state, &mut packet).unwrap());
        }
    });
    assert_eq!(packet, traffic::inner(LENGTHS - 1), "the last one is what was compressed");
}

/// From packet to clear text.
#[divan::bench(args = DIALECTS)]
fn compress(bencher: Bencher<'_, '_>, dialect: &str) {
    let table = traffic::table("ENCR_AES_CCM_8", dialect, 1);
    let entry = &table.entries()[0];
    let packets: Vec<_> = (0..LENGTHS).map(traffic::inner).collect();
    let outer = traffic::outer();
    let (mut state, mut clear) = (State::default(), vec![]);
    bencher.counter(ItemsCount::new(LENGTHS)).bench_local(|| {
        for packet in &packets {
            black_box_drop(entry.codec.compress(packet, &outer, &mut state, &mut clear).unwrap());
        }
    });
}

/// Turns records into text, like the command.
enum Form {
    Jsonl,
    Fields(Vec<Field>),
    Table(Table),
    Nothing,
}

impl Form {
    fn of(name: &str, sas: &SaTable) -> Form {
        match name {
            "jsonl" => Form::Jsonl,
            "fields" => Form::Fields(["frame", "inner.dst_port"].map(|name| Field::by_name(name).unwrap()).into()),
            "table" => Form::Table(Table::new(false, sas, None)),
            _ => Form::Nothing,
        }
    }
}

impl Render for Form {
    fn record(&self, record: &Record<'_>, text: &mut Vec<u8>) {
        match self {
            Form::Jsonl => json::write_line(record, text),
            Form::Fields(fields) => json::write_fields(record, fields, text),
            Form::Table(table) => table.write_row(record, text),
            Form::Nothing => {}
        }
    }
}

/// From record to text.
#[divan::bench(args = ["jsonl", "fields", "table"])]
fn write_record(bencher: Bencher<'_, '_>, form: &str) {
    let table = traffic::table("ENCR_AES_CCM_8", "ietf", 1);
    let mut reader = reader(&traffic::capture("pcap", &traffic::frames(&table, 1)));
    let (form, mut text) = (Form::of(form, &table), vec![]);
    let mut window = Window::default();
    assert!(reader.fill(&mut window).unwrap());
    let (frame, mut arena) = (window.get(0).unwrap(), Arena::default());
    let outcome = Decoder::new(&table, Limits::default(), &link::Settings::default()).decode(&frame, &mut arena);
    let record = Record::new(&frame, &outcome, &table, &arena);
    assert_eq!(record.status(), Status::Ok);
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        text.clear();
        form.record(black_box(&record), &mut text);
    });
}

/// From capture to text, with all stages on one thread. `none` is standard ESP.
#[divan::bench(args = [
    ("ENCR_AES_CCM_8", "none", "nothing"),
    ("ENCR_AES_CCM_8", "none", "fields"),
    ("ENCR_AES_CCM_8", "ietf", "fields"),
    ("ENCR_AES_GCM_16", "none", "fields"),
    ("ENCR_AES_GCM_16", "ietf", "fields"),
    ("ENCR_AES_GCM_16", "ietf", "jsonl"),
    ("ENCR_AES_GCM_16", "ietf", "table"),
])]
fn decode_all(bencher: Bencher<'_, '_>, (cipher, dialect, form): (&str, &str, &str)) {
    let table = traffic::table(cipher, dialect, 1);
    let capture = traffic::capture("pcap", &traffic::frames(&table, PACKETS));
    let form = Form::of(form, &table);
    bencher.counter(ItemsCount::new(PACKETS)).bench_local(|| {
        let mut reader = reader(&capture);
        let mut sink = |text: &[u8], _: u64| -> Result<(), Error> {
            black_box(text);
            Ok(())
        };
        let link = link::Settings::default();
        let input = Input { reader: &mut reader, table: &table, limits: Limits::default(), link: &link, threads: 1 };
        let ended = decode::run(input, decode::Shown::default(), &form, &mut sink);
        assert_eq!(ended.unwrap().totals.failed, 0);
    });
}
