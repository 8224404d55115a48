//! Security Associations with their files, and a sender that encrypts any clear text with their keys.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dietesp::internals::cipher::EspCipher;
use dietesp::internals::files;
use dietesp::internals::link;
use dietesp::internals::net::esp;
use dietesp::internals::net::{IpVersion, OuterHeader};
use dietesp::internals::sa::Sa;
use serde_json::Value;

use super::common::pcap::{self, RAW};
use super::common::{decode, dietesp};

/// SPI and the repeated byte of the key.
pub const SAS: [(u32, &str); 4] = [(0xa0a0_0001, "11"), (0xa0a0_0002, "22"), (0xa0a0_0003, "33"), (0xa0a0_0004, "44")];

/// A folder with `keys.yaml` and, if there are contexts, `rules.yaml`; and the senders.
pub struct Lab {
    folder: tempfile::TempDir,
    sas: Vec<Arc<Sa>>,
}

impl Lab {
    /// SAs of AES-GCM without context, named s11 to s44.
    pub fn new() -> Lab {
        Lab::of(&SAS.map(|_| "encr: ENCR_AES_GCM_16, salt: \"01020304\""), "")
    }

    /// SAs named s11 to s44, with the same additional settings for each entry, and contexts.
    pub fn of(entries: &[&str], contexts: &str) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "sas:\n".to_owned();
        for (entry, (spi, byte)) in entries.iter().zip(SAS) {
            let key = byte.repeat(16);
            writeln!(text, "  - {{ name: s{byte}, spi: 0x{spi:08x}, key: \"{key}\", {entry} }}").unwrap();
        }
        let keys = folder.path().join("keys.yaml");
        std::fs::write(&keys, text).unwrap();
        if !contexts.is_empty() {
            std::fs::write(folder.path().join("rules.yaml"), format!("contexts:\n{contexts}")).unwrap();
        }
        let sas = files::load(&[keys], &[]).unwrap().sas;
        Lab { folder, sas }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn keys(&self) -> PathBuf {
        self.path("keys.yaml")
    }

    /// `header`, then the ESP payload of SA number `sa` for a clear text with this sequence number.
    pub fn sealed(&self, sa: usize, sn: u64, iv: &[u8], header: &[u8], clear: &[u8]) -> Vec<u8> {
        let sa = &self.sas[sa];
        let mut out = header.to_vec();
        EspCipher::new(&sa.keys).seal(sa.spi.unwrap(), sn, sa.esn, iv, clear, &mut out).unwrap();
        out
    }

    /// Standard ESP of SA number `sa` that contains `payload`.
    pub fn esp(&self, sa: usize, sn: u64, next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut clear = payload.to_vec();
        esp::write_trailer(0, next_header, 1, &mut clear);
        let mut header = vec![];
        esp::write_header(SAS[sa].0, sn, &mut header);
        self.sealed(sa, sn, &sn.to_be_bytes(), &header, &clear)
    }

    /// A tunnel of SA number `sa` between gateways, with an IP packet inside.
    pub fn tunnel(&self, sa: usize, sn: u64, packet: &[u8]) -> Vec<u8> {
        let next_header = if packet[0] >> 4 == 4 { 4 } else { 41 };
        let gateways = [format!("10.{sa}.0.1"), format!("10.{sa}.0.2")];
        ip([&gateways[0], &gateways[1]], 50, &self.esp(sa, sn, next_header, packet))
    }

    /// Writes raw IP packets a second apart.
    pub fn capture(&self, name: &str, packets: &[Vec<u8>]) -> PathBuf {
        let path = self.path(name);
        let frames: Vec<_> = (1..).map(|second| second * 1_000_000_000).zip(packets.iter().cloned()).collect();
        pcap::write(&path, RAW, &frames);
        path
    }

    /// The records of a capture, and the exit status.
    pub fn decode(&self, capture: &Path) -> (Vec<Value>, i32) {
        let (keys, rules) = (self.keys(), self.path("rules.yaml"));
        let mut args = vec![capture.as_os_str(), "-k".as_ref(), keys.as_os_str()];
        if rules.exists() {
            args.extend(["-r".as_ref(), rules.as_os_str()]);
        }
        decode(args)
    }

    /// The records of raw IP packets.
    pub fn records(&self, packets: &[Vec<u8>]) -> Vec<Value> {
        self.decode(&self.capture("records.pcap", packets)).0
    }

    /// The compressed form of one plain packet, or the message for a packet that does not match.
    pub fn compress(&self, packet: &[u8]) -> Result<Vec<u8>, String> {
        let capture = self.capture("plain.pcap", &[packet.to_vec()]);
        let out = self.path("compressed.pcap");
        let paths = [&capture, &self.keys(), &self.path("rules.yaml"), &out];
        let [capture, keys, rules, out_name] = paths.map(|path| path.to_str().unwrap().to_owned());
        let ended = dietesp(["compress", &capture, "-k", &keys, "-r", &rules, "-o", &out_name]);
        match ended.status.code() {
            Some(0) => Ok(pcap::read(&out).1.remove(0).1),
            _ => Err(String::from_utf8(ended.stderr).unwrap()),
        }
    }
}

/// An IP packet.
pub fn ip(addresses: [&str; 2], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [src, dst] = addresses.map(|address| address.parse::<IpAddr>().unwrap());
    let version = IpVersion::of(src);
    let outer = OuterHeader { version, src, dst, dscp: 0, ecn: 0, hop_limit: 64, flow_label: 7 };
    let mut packet = vec![];
    link::encapsulate(101, &[], &outer, protocol, &[payload], &mut packet).unwrap();
    packet
}

/// A UDP header without checksum, which only IPv4 allows, and `data`.
pub fn udp(ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let fields = [ports[0], ports[1], 8 + data.len() as u16, 0];
    [&fields.map(u16::to_be_bytes).concat(), data].concat()
}
