//! Decrypts every packet of a capture with the crates `ccm` 0.5 and `aes` 0.8, and does nothing else. compare.py
//! compares its CPU time with that of `dietesp decode`.
//!
//! usage: cargo bench --bench ccm_peer -- FOLDER
//!
//! FOLDER was made by `gen_esp.py --cipher ccm8`. Prints nanoseconds of CPU time per packet. Before the clock
//! starts, keys are prepared and packets are in memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aes_peer::Aes128;
use ccm_peer::aead::generic_array::GenericArray;
use ccm_peer::consts::{U8, U11};
use ccm_peer::{AeadInPlace, Ccm, KeyInit};

type Peer = Ccm<Aes128, U8, U11>;

/// Ethernet and IPv6.
const IN_FRONT_OF_ESP: usize = 54;
/// SPI and Sequence Number, which are the AAD.
const HEADER_LEN: usize = 8;
const IV_LEN: usize = 8;
const ICV_LEN: usize = 8;

/// A packet, and the index of its SA.
struct Sealed {
    sa: usize,
    nonce: [u8; 11],
    /// The bytes from the SPI to the end of the ICV.
    start: usize,
    end: usize,
}

fn main() {
    // `cargo bench` without a name runs every target, with `--bench`.
    let Some(folder) = std::env::args().skip(1).find(|word| !word.starts_with('-')) else {
        println!("usage: cargo bench --bench ccm_peer -- FOLDER");
        return;
    };
    let mut capture = std::fs::read(Path::new(&folder).join("esp.pcap")).expect("esp.pcap of gen_esp.py");
    let keys: Vec<PathBuf> = vec![Path::new(&folder).join("esp_keys.yaml")];
    let sas = dietesp::internals::files::load(&keys, &[]).expect("esp_keys.yaml of gen_esp.py").sas;
    let peers: Vec<Peer> =
        sas.iter().map(|sa| Peer::new_from_slice(sa.keys.key().expose()).expect("keys of 16 bytes")).collect();
    let salts: Vec<&[u8]> = sas.iter().map(|sa| sa.keys.salt().expose()).collect();
    let by_spi: HashMap<u32, usize> = sas.iter().enumerate().filter_map(|(at, sa)| Some((sa.spi?, at))).collect();
    let packets = packets(&capture, &by_spi, &salts);

    let started = (cpu_nanos(), Instant::now());
    let mut verified = 0;
    for Sealed { sa, nonce, start, end } in &packets {
        let (Some(peer), Some(esp)) = (peers.get(*sa), capture.get_mut(*start..*end)) else { continue };
        let (header, rest) = esp.split_at_mut(HEADER_LEN);
        let (cipher_text, icv) = rest.split_at_mut(rest.len() - ICV_LEN);
        let (_, cipher_text) = cipher_text.split_at_mut(IV_LEN);
        let icv = GenericArray::from_slice(icv);
        let nonce = GenericArray::from_slice(nonce);
        verified += usize::from(peer.decrypt_in_place_detached(nonce, header, cipher_text, icv).is_ok());
    }
    let nanos = match (started.0, cpu_nanos()) {
        (Some(before), Some(after)) => (after - before) as f64,
        _ => started.1.elapsed().as_nanos() as f64,
    };
    assert_eq!(verified, packets.len(), "packets that verified");
    println!("{:.1}", nanos / verified as f64);
}

/// The position of each packet in the capture.
fn packets(capture: &[u8], by_spi: &HashMap<u32, usize>, salts: &[&[u8]]) -> Vec<Sealed> {
    const FILE_HEADER_LEN: usize = 24;
    const RECORD_HEADER_LEN: usize = 16;
    let word = |at: usize| capture.get(at..)?.first_chunk::<4>().copied();
    let mut packets = vec![];
    let mut at = FILE_HEADER_LEN;
    while let Some(len) = word(at + 8) {
        let start = at + RECORD_HEADER_LEN + IN_FRONT_OF_ESP;
        at += RECORD_HEADER_LEN + u32::from_le_bytes(len) as usize;
        let sa = word(start).and_then(|spi| by_spi.get(&u32::from_be_bytes(spi))).expect("an SPI of esp_keys.yaml");
        let mut nonce = [0; 11];
        let iv = capture.get(start + HEADER_LEN..start + HEADER_LEN + IV_LEN).expect("an IV of 8 bytes");
        let salt = salts.get(*sa).copied().unwrap_or_default();
        nonce.iter_mut().zip(salt.iter().chain(iv)).for_each(|(to, from)| *to = *from);
        packets.push(Sealed { sa: *sa, nonce, start, end: at });
    }
    packets
}

/// CPU time of this thread, if Linux provides it.
fn cpu_nanos() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}
