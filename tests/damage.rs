//! Damaged packets never decode, whichever bit between the ESP header and the end of the ICV is flipped.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use common::{count, decode, file, pcap};

/// Flips every bit of one packet of a sample in turn. `esp` is the offset of the ESP header in the frame.
fn flip_every_bit(sample: &str, esp: usize, spi_bits: usize, frame: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (plain, damaged) = (folder.path().join("plain.pcap"), folder.path().join("damaged.pcap"));
    let source = file(&format!("samples/{sample}/diet-esp.pcapng"));
    let args = ["-F".as_ref(), "nsecpcap".as_ref(), source.as_ref(), plain.as_os_str()];
    let status = std::process::Command::new("editcap").args(args).status();
    assert!(status.unwrap_or_else(|_| common::not_installed("editcap")).success());
    let (link_type, mut frames) = pcap::read(&plain);
    let whole = frames.len();
    let (time, target) = frames[frame - 1].clone();
    let bits = 8 * (target.len() - esp);
    for bit in 0..bits {
        let mut bytes = target.clone();
        bytes[esp + bit / 8] ^= 0x80 >> (bit % 8);
        frames.push((time, bytes));
    }
    pcap::write(&damaged, link_type, &frames);
    let (rules, keys) = (file(&format!("samples/{sample}/rules.yaml")), file(&format!("keys/{sample}.yaml")));
    let (records, status) = decode([damaged.to_str().unwrap(), "--rules", &rules, "--keys", &keys]);
    assert_eq!((records.len(), status), (whole + bits, 1), "{sample}");
    let (intact, flipped) = records.split_at(whole);
    assert_eq!(count(intact, "ok") + count(intact, "not-esp"), whole, "{sample}");
    for (bit, record) in flipped.iter().enumerate() {
        let status = record["status"].as_str().unwrap();
        let allowed: &[&str] = if bit < spi_bits { &["auth-failed", "no-sa"] } else { &["auth-failed"] };
        assert!(allowed.contains(&status), "{sample}: bit {bit} of {bits} gives {record}");
        for absent in ["packet", "inner", "esp", "restored", "bytes"] {
            assert!(record.get(absent).is_none(), "{sample}: bit {bit}: {record}");
        }
    }
}

#[test]
fn one_bit_of_a_packet_with_explicit_iv() {
    flip_every_bit("ipv4", 14 + 20, 8, 7);
}

#[test]
fn one_bit_of_a_tcp_packet() {
    flip_every_bit("tcp", 14 + 40, 8, 6);
}

#[test]
fn one_bit_of_a_packet_in_transport_mode() {
    flip_every_bit("transport", 14 + 40, 8, 9);
}

#[test]
fn one_bit_of_a_packet_with_four_bits_of_sequence_number() {
    flip_every_bit("gateway", 14 + 40, 4, 30);
}

#[test]
fn one_bit_of_a_packet_on_udp_4500() {
    flip_every_bit("probe", 14 + 40 + 8, 8, 61);
}
