//! The traffic of the benchmarks: CoAP over UDP over IPv6 in an IPv6 tunnel, with 40 to 100 bytes of CoAP, each
//! length equally often.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use dietesp::internals::cipher::{Integ, IntegKey, Keys, SUITES, Suite};
use dietesp::internals::codec::State;
use dietesp::internals::context::{Context, Origin};
use dietesp::internals::files;
use dietesp::internals::link::{LinkContent, parse};
use dietesp::internals::net::{OuterHeader, Selector};
use dietesp::internals::sa::Sa;
use dietesp::internals::sa::table::{PreparedSa, SaTable};
use dietesp::internals::secret::Secret;
use etherparse::PacketBuilder;

pub const ETHERNET: u16 = 1;
/// Length of the bytes before the outer IPv6 header.
pub const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;
const FIRST_SPI: u32 = 0x0001_0000;

const INNER_SRC: [u8; 16] = address(0xa);
const INNER_DST: [u8; 16] = address(0xb);
const OUTER_SRC: [u8; 16] = address(1);
const OUTER_DST: [u8; 16] = address(2);

/// 2001:db8:`net`::1
const fn address(net: u8) -> [u8; 16] {
    [0x20, 1, 0x0d, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
}

/// The attributes of every tunnel, in the terms of each dialect.
pub fn context(dialect: &str) -> Option<Context> {
    let selectors = "
    ts_ip_version: IPv6-only
    ts_ip_src: 2001:db8:a::1
    ts_ip_dst: 2001:db8:b::1
    ts_proto: UDP
    ts_port_src: 40001
    ts_port_dst: 5683";
    let rest = match dialect {
        "none" => return None,
        "ietf" => format!(
            "{selectors}
    dscp_cda: lower
    ecn_cda: lower
    flow_label_cda: lower
    alignment: 8 bit
    esp_spi_lsb: 8
    esp_sn_lsb: 8"
        ),
        "ehc" => format!("{selectors}\n    esp_align: 8\n    esp_spi_lsb: 1\n    esp_sn_lsb: 1"),
        "6lo" => "\n    SPI_SIZE: 1\n    SN_SIZE: 1\n    PAD: removed\n    ALIGN: 8".to_owned(),
        _ => "
    rules:
      iipc:
        - { FID: IPV6.VER, TV: 6, MO: equal, CDA: not-sent }
        - { FID: IPV6.TC, TV: 0, MO: equal, CDA: not-sent }
        - { FID: IPV6.FL, TV: 0, MO: equal, CDA: not-sent }
        - { FID: IPV6.LEN, MO: ignore, CDA: compute-length }
        - { FID: IPV6.NXT, TV: 17, MO: equal, CDA: not-sent }
        - { FID: IPV6.HOP_LMT, MO: ignore, CDA: value-sent }
        - { FID: IPV6.SRC, TV: \"2001:db8:a::1\", MO: equal, CDA: not-sent }
        - { FID: IPV6.DST, TV: \"2001:db8:b::1\", MO: equal, CDA: not-sent }
        - { FID: UDP.SRC_PORT, TV: 40000, MO: MSB, MO.VAL: 14, CDA: LSB }
        - { FID: UDP.DST_PORT, TV: [5683, 5684], MO: match-mapping, CDA: mapping-sent }
        - { FID: UDP.LEN, MO: ignore, CDA: compute-length }
        - { FID: UDP.CKSUM, MO: ignore, CDA: compute-checksum }"
            .to_owned(),
    };
    let text = format!(
        "contexts:
  - sa: bench
    dialect: {dialect}
    ipsec_mode: Tunnel
    tunnel_ip: {{ src: 2001:db8:1::1, dst: 2001:db8:2::1 }}{rest}\n"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let loaded = files::load(&[], &[file.path().to_owned()]).unwrap_or_else(|error| panic!("{error}"));
    loaded.contexts.into_iter().next()
}

/// The SA with number `index`, from 0; any addresses.
fn sa(suite: &'static Suite, index: usize) -> Sa {
    let secret = |len: usize, what: u8| {
        Secret::new(index.to_be_bytes().into_iter().chain(0u8..).map(|byte| byte ^ what).take(len).collect())
    };
    let integ = match Integ::by_name("AUTH_HMAC_SHA2_256_128") {
        Some(integ) if !suite.is_aead() => IntegKey::Algorithm(integ, secret(integ.key_len, 3)),
        _ => IntegKey::Missing,
    };
    let key_len = suite.key_lens.first().copied().unwrap_or(0);
    Sa {
        name: format!("sa-{index}"),
        spi: Some(FIRST_SPI + index as u32),
        src: Selector::Any,
        dst: Selector::Any,
        link_src: None,
        link_dst: None,
        keys: Keys::new(suite, secret(key_len, 1), secret(suite.salt_len, 2), integ).unwrap(),
        esn: false,
        sn_hint: None,
        read_as_ccm: false,
        origin: Origin { path: Path::new("bench").into(), line: 1 },
    }
}

pub fn suite(name: &str) -> &'static Suite {
    SUITES.iter().find(|suite| suite.name == name).unwrap()
}

/// SAs with the same cipher and the same compression.
pub fn table(cipher: &str, dialect: &str, sas: usize) -> SaTable {
    let context = context(dialect);
    let entries = (0..sas).map(|index| PreparedSa::new(sa(suite(cipher), index), context.clone()).unwrap());
    SaTable::new(entries.collect())
}

/// The same in dialect `ietf`. Each SA has a separate source address, like the sensors behind a gateway.
pub fn sensors(cipher: &str, sas: usize) -> SaTable {
    let context = context("ietf");
    let own = |index| Sa { src: Selector::address(sensor(index)), ..sa(suite(cipher), index) };
    SaTable::new((0..sas).map(|index| PreparedSa::new(own(index), context.clone()).unwrap()).collect())
}

/// The source address with number `index`.
pub fn sensor(index: usize) -> IpAddr {
    let mut address = OUTER_SRC;
    address[12..].copy_from_slice(&(index as u32).to_be_bytes());
    address.into()
}

/// The inner packet with number `index`.
pub fn inner(index: usize) -> Vec<u8> {
    let coap: Vec<u8> = (0..40 + index * 37 % 61).map(|at| (at * 31 + index) as u8).collect();
    let builder = PacketBuilder::ipv6(INNER_SRC, INNER_DST, 64).udp(40_001, 5683);
    let mut packet = vec![];
    builder.write(&mut packet, &coap).unwrap();
    packet
}

/// The outer IPv6 header for a payload of `payload_len` bytes.
pub fn outer_header(payload_len: usize) -> [u8; IPV6_LEN] {
    let mut header = [0; IPV6_LEN];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(payload_len as u16).to_be_bytes());
    header[6..8].copy_from_slice(&[50, 64]);
    header[8..24].copy_from_slice(&OUTER_SRC);
    header[24..].copy_from_slice(&OUTER_DST);
    header
}

/// The fields of the outer headers.
pub fn outer() -> OuterHeader {
    match parse(dietesp::internals::capture::LINKTYPE_RAW, &outer_header(0)) {
        LinkContent::Datagram(datagram) => datagram.outer,
        other => panic!("{other:?}"),
    }
}

/// The clear text of the inner packet with number `index`.
pub fn clear_text(entry: &PreparedSa, index: usize) -> Vec<u8> {
    let mut clear = vec![];
    entry.codec.compress(&inner(index), &outer(), &mut State::default(), &mut clear).unwrap();
    clear
}

/// The bytes after SPI and sequence number `sn`.
pub fn body(entry: &PreparedSa, sn: u64, clear: &[u8]) -> Vec<u8> {
    let iv: Vec<u8> = [0; 8].into_iter().chain(sn.to_be_bytes()).skip(16 - entry.cipher().iv_len()).collect();
    let mut body = vec![];
    entry.cipher().seal(entry.sa.spi.unwrap(), sn, false, &iv, clear, &mut body).unwrap();
    body
}

/// Frames of all SAs of `table`, in turn.
pub fn frames(table: &SaTable, count: usize) -> Vec<Vec<u8>> {
    let frame = |index: usize| {
        let entry = &table.entries()[index % table.entries().len()];
        let sn = 1 + (index / table.entries().len()) as u64;
        let mut esp = vec![];
        entry.codec.encode_header(entry.sa.spi.unwrap(), sn, &mut esp);
        esp.extend(body(entry, sn, &clear_text(entry, index)));
        let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
        [&ethernet[..], &outer_header(esp.len()), &esp].concat()
    };
    (0..count).map(frame).collect()
}

/// A capture of these frames in the form of `format`.
pub fn capture(format: &str, frames: &[Vec<u8>]) -> Arc<[u8]> {
    let mut bytes = vec![];
    let words = |bytes: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    match format {
        "pcap" => {
            words(&mut bytes, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, ETHERNET.into()]);
            for (index, frame) in (0..).zip(frames) {
                let len = frame.len() as u32;
                words(&mut bytes, &[1_700_000_000 + index / 1000, index % 1000 * 1000, len, len]);
                bytes.extend(frame);
            }
        }
        _ => {
            words(&mut bytes, &[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
            words(&mut bytes, &[1, 20, ETHERNET.into(), 0xffff, 20]);
            for (index, frame) in (0u64..).zip(frames) {
                let len = frame.len() as u32;
                let block_len = 32 + len.next_multiple_of(4);
                let micros = 1_700_000_000_000_000 + index * 1000;
                words(&mut bytes, &[6, block_len, 0, (micros >> 32) as u32, micros as u32, len, len]);
                bytes.extend(frame);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                words(&mut bytes, &[block_len]);
            }
        }
    }
    bytes.into()
}
