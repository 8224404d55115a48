//! Bluetooth LE and LoRaTAP frames made by hand. `tests/lowpan/bluetooth.rs` compares many more frames with tshark.

use super::radio::{Taker, hexes};
use super::*;

const CENTRAL: &str = "554433221100";
const PERIPHERAL: &str = "eeddccbbaac0";
/// From the central to the peripheral.
const PACKET: &str = "60000000 0004 32ff fe80000000000000 001122fffe334455 fe80000000000000 c0aabbfffeccddee 01020304";
const REQUEST: &str = "0e00 0500 14 01 0a00 2300 4000 0005 f700 0a00";
const RESPONSE: &str = "0e00 0500 15 01 0a00 4100 0005 f700 0a00 0000";
/// The SDU in one K-frame, from the side that requested the channel to the one that accepted it.
const K_FRAME: &str = "0900 4100 0700 7b33 32 01020304";

/// With the direction (2: from the central, 3: from the peripheral; 0: advertising) and a CRC marked as good.
fn phdr(kind: u16, access_address: &str, first: u8, payload: &str) -> Vec<u8> {
    let flags = hex::encode((0x0c01 | kind << 7).to_le_bytes());
    let payload = hexes(&[payload]);
    let header = hexes(&["0ac48000 00000000", &flags, access_address]);
    [header, vec![first, payload.len() as u8], payload, vec![0; 3]].concat()
}

fn connect_ind() -> Vec<u8> {
    let rest = "125f6550 563412 03 0700 1800 0000 4800 ffffffff1f 05";
    phdr(0, "d6be898e", 0x05, &[CENTRAL, PERIPHERAL, rest].concat())
}

/// A frame of the connection. `first` is the first byte of the header: LLID 2 starts a frame, bit 3 is the sequence
/// number.
fn data(kind: u16, first: u8, payload: &str) -> Vec<u8> {
    phdr(kind, "125f6550", first, payload)
}

fn connected() -> Taker {
    let mut taker = Taker::new(256, &Settings::default());
    assert_eq!(taker.packet(&connect_ind()), "Bluetooth LE advertising");
    assert_eq!(taker.packet(&data(2, 0x02, REQUEST)), "L2CAP signalling");
    assert_eq!(taker.packet(&data(3, 0x02, RESPONSE)), "L2CAP signalling");
    taker
}

fn packet() -> String {
    PACKET.replace(' ', "")
}

#[test]
fn retransmitted_frames() {
    let mut taker = connected();
    assert_eq!(taker.packet(&data(2, 0x0a, K_FRAME)), packet());
    // The same frame with other acknowledgments and More Data; then the next frame with the same bytes.
    assert_eq!(taker.packet(&data(2, 0x1e, K_FRAME)), "repeat of 4");
    assert_eq!(taker.packet(&data(2, 0x02, K_FRAME)), packet());
    // The peripheral has its own sequence numbers.
    assert_eq!(taker.packet(&data(3, 0x0a, &K_FRAME.replacen("4100", "4000", 1)))[32..48], packet()[64..80]);
    // An empty frame changes the sequence number, so this is not a repeat.
    assert_eq!(taker.packet(&data(2, 0x09, "")), "a Bluetooth LE frame without data");
    assert_eq!(taker.packet(&data(2, 0x02, K_FRAME)), packet());
}

#[test]
fn pieces_and_losses() {
    let mut taker = connected();
    let (start, rest) = ("0900 4100 0700", "7b33 32 01020304");
    taker.take(&data(2, 0x0a, start), |received| assert!(matches!(received.content, Content::Fragment { .. })));
    taker.take(&data(2, 0x01, rest), |received| assert_eq!(received.fragments, [4, 5]));
    // The rest of another frame: it has the sequence number of the start, so a frame in between is missing.
    assert_eq!(taker.packet(&data(2, 0x0a, start)), "fragment");
    assert!(taker.packet(&data(2, 0x09, rest)).contains("whose start was not captured"));
    // Two K-frames make an SDU; the second has no length.
    assert_eq!(taker.packet(&data(2, 0x02, "0500 4100 0700 7b33 32")), "fragment");
    assert_eq!(taker.packet(&data(2, 0x0a, "0400 4100 01020304")), packet());
    // Too long for the MTU of 1280, and longer than its length field.
    assert!(taker.packet(&data(2, 0x02, "0500 4100 0105 7b33 32")).contains("not the start"));
    assert!(taker.packet(&data(2, 0x0a, "0900 4100 0600 7b33 32 01020304")).contains("end of the L2CAP SDU"));
    assert!(taker.packet(&data(2, 0x02, &[K_FRAME, "00"].concat())).contains("end of the L2CAP frame"));
    // Pieces expire.
    assert_eq!(taker.packet(&data(2, 0x0a, "0500 4100 0700 7b33 32")), "fragment");
    taker.seconds += 61;
    assert!(taker.packet(&data(2, 0x02, "0400 4100 01020304")).contains("not the start"));
}

#[test]
fn only_channels_of_the_profile() {
    // SPSM 0025, of Object Transfer.
    let mut taker = Taker::new(256, &Settings::default());
    taker.packet(&connect_ind());
    taker.packet(&data(2, 0x02, &REQUEST.replace("2300", "2500")));
    taker.packet(&data(3, 0x02, RESPONSE));
    assert_eq!(taker.packet(&data(2, 0x0a, K_FRAME)), "an L2CAP channel of another profile than IPSP");
    // The channel was closed, and its number is used again for an unknown purpose.
    taker.packet(&data(2, 0x02, "0800 0500 06 03 0400 4100 4000"));
    taker.packet(&data(3, 0x0a, "0800 0500 07 03 0400 4100 4000"));
    assert_eq!(taker.packet(&data(2, 0x0a, K_FRAME)), packet());

    // Enhanced: two channels at once, the first one refused.
    let mut taker = Taker::new(256, &Settings::default());
    taker.packet(&connect_ind());
    taker.packet(&data(2, 0x02, "1000 0500 17 01 0c00 2300 0005 f700 0a00 4000 4400"));
    taker.packet(&data(3, 0x02, "1000 0500 18 01 0c00 0005 f700 0a00 0500 0000 4100"));
    assert_eq!(taker.packet(&data(2, 0x0a, "0500 4100 0700 7b33 32")), "fragment");
    assert_eq!(taker.packet(&data(2, 0x02, "0400 4100 01020304")), packet());
    assert_eq!(taker.packet(&data(3, 0x0a, "0500 4400 0700 7b33 32")), "fragment");
}

/// If the set-up was not captured, SDUs in a single K-frame are read if they may be 6LoWPAN.
#[test]
fn a_connection_from_before_the_capture() {
    let mut taker = Taker::new(256, &Settings::default());
    // The addresses are in line, because they are not known otherwise.
    let addresses = "20010db8000000000000000000000001 20010db8000000000000000000000002";
    let frame = ["2900 4100 2700 7b00 32", addresses, "01020304"].concat();
    let expected = ["60000000 0004 32ff", addresses, "01020304"].concat().replace(' ', "");
    assert_eq!(taker.packet(&data(2, 0x02, &frame)), expected);
    taker.take(&data(2, 0x0a, &frame), |received| match received.content {
        Content::Datagram(datagram) => assert_eq!(datagram.link, Some(LinkAddresses::default())),
        other => panic!("{other:?}"),
    });
    // With both addresses elided, it may or may not be 6LoWPAN.
    assert!(taker.packet(&data(2, 0x02, K_FRAME)).contains("whose set-up was not captured"));
    assert!(taker.packet(&data(2, 0x0a, "0500 4200 0700 7b33 32")).contains("whose set-up was not captured"));
    assert!(taker.packet(&data(2, 0x02, "0500 4200 0300 000102")).contains("not the start of a 6LoWPAN frame"));
}

#[test]
fn encrypted_frames() {
    let encrypted = "encrypted on the link layer (Bluetooth LE)";
    let mut taker = connected();
    // LL_ENC_REQ, LL_ENC_RSP, and a rejection; data goes on.
    let request = ["03", &"11".repeat(22)].concat();
    let response = ["04", &"22".repeat(12)].concat();
    taker.packet(&data(2, 0x0b, &request));
    taker.packet(&data(3, 0x0b, &response));
    assert_eq!(taker.packet(&data(3, 0x03, "0d06")), "Bluetooth LE link control");
    assert_eq!(taker.packet(&data(2, 0x02, K_FRAME)), packet());
    // LL_START_ENC_REQ.
    taker.packet(&data(2, 0x0b, &request));
    taker.packet(&data(3, 0x0b, &response));
    taker.packet(&data(3, 0x03, "05"));
    assert_eq!(taker.packet(&data(2, 0x02, K_FRAME)), encrypted);
    // A sniffer that has the key sets flag 8, and may keep the MIC.
    for (first, mic) in [(0x0a, ""), (0x02, "deadbeef")] {
        let mut frame = data(2, first, &[K_FRAME, mic].concat());
        frame[8] |= 8;
        assert_eq!(taker.packet(&frame), packet());
    }
    let mut whitened = data(2, 0x0a, K_FRAME);
    whitened[8] &= !1;
    assert_eq!(taker.packet(&whitened), "a Bluetooth LE frame that is whitened");
    // The nRF Sniffer: encrypted, with a MIC that is wrong.
    let header = "01 1e00 03 0700 06 0a 07 0a 32 0000 00000000 125f6550 02 0d";
    let nordic = hexes(&[header, K_FRAME, "000000"]);
    assert_eq!(Taker::new(272, &Settings::default()).packet(&nordic), encrypted);
    // A wrong CRC according to the sniffer, and the CRC of another frame.
    let mut damaged = data(2, 0x0a, K_FRAME);
    damaged[9] &= !8;
    assert!(taker.packet(&damaged).contains("the CRC of the Bluetooth LE frame is wrong"));
    let advertising = |crc: &str| {
        let frame = hexes(&["d6be898e 40 08 60f9b5c19b3c 0201", crc]);
        Taker::new(251, &Settings::default()).packet(&frame)
    };
    assert!(advertising("000000").contains("CRC"));
    // The CRC computed by tshark.
    assert_eq!(advertising(ADVERTISING_CRC), "Bluetooth LE advertising");
}

const ADVERTISING_CRC: &str = "a25d26";

/// Constant Tone Extension: a byte between header and payload that the length does not include.
#[test]
fn a_frame_with_cte_information() {
    let mut taker = connected();
    let with_cte = |first: u8| {
        let mut frame = data(2, first, K_FRAME);
        // After 10 bytes of header, the access address and two bytes.
        frame.insert(16, 0x14);
        frame
    };
    assert_eq!(taker.packet(&with_cte(0x2a)), packet());
    assert_eq!(taker.packet(&connect_ind()), "Bluetooth LE advertising", "there the bit is another");
}

/// Empty pieces need no memory.
#[test]
fn empty_pieces() {
    let mut taker = connected();
    taker.packet(&data(2, 0x0a, "0500 4100 0700 7b33 32"));
    for number in 0..1000u16 {
        taker.packet(&data(2, 2 | (number as u8 & 1) << 3, "0000 4100"));
    }
    taker.take(&data(2, 0x02, "0400 4100 01020304"), |received| assert_eq!(received.fragments, [4, 1005]));
    let mut taker = Taker::new(187, &Settings::default());
    taker.packet(&hexes(&["02 4000 0900 0900 4100 0700 7b 3332"]));
    for _ in 0..1000 {
        taker.packet(&hexes(&["02 4010 0000"]));
    }
    let (_, _, frames) = taker.receiver.bluetooth.sizes();
    assert_eq!(frames, 1);
}

/// Without a direction there are no addresses. Packets that need them fail, and the others are read.
#[test]
fn captures_without_a_direction() {
    let bare = |frame: Vec<u8>| {
        // The CRC is not checked, because the frames contain no CONNECT_IND.
        frame[10..].to_vec()
    };
    let mut taker = Taker::new(251, &Settings::default());
    assert_eq!(taker.packet(&bare(data(0, 0x02, REQUEST))), "L2CAP signalling");
    assert_eq!(taker.packet(&bare(data(0, 0x02, RESPONSE))), "L2CAP signalling");
    assert!(taker.packet(&bare(data(0, 0x0a, K_FRAME))).contains("an elided address"));
    let addresses = "20010db8000000000000000000000001 20010db8000000000000000000000002";
    let expected = ["60000000 0004 32ff", addresses, "01020304"].concat().replace(' ', "");
    assert_eq!(taker.packet(&bare(data(0, 0x0a, "0500 4000 2700 7b00 32"))), "fragment");
    assert_eq!(taker.packet(&bare(data(0, 0x02, &["2400 4000", addresses, "01020304"].concat()))), expected);

    // HCI H4: the Packet Boundary Flag is 0 in frames that the host starts, and 2 in those of the controller.
    let mut taker = Taker::new(187, &Settings::default());
    host_is_central(&mut taker, "");
    assert_eq!(taker.packet(&hexes(&["02 4000 1200", REQUEST])), "L2CAP signalling");
    assert_eq!(taker.packet(&hexes(&["02 4020 1200", RESPONSE])), "L2CAP signalling");
    assert_eq!(taker.packet(&hexes(&["02 4000 0700 0900 4100 0700 7b"])), "fragment");
    assert_eq!(taker.packet(&hexes(&["02 4010 0600 33 32 01020304"])), packet());
    // Both sides have started a frame. The sender of the rest is unknown, so both frames are dropped.
    assert_eq!(taker.packet(&hexes(&["02 4000 0700 0900 4100 0700 7b"])), "fragment");
    assert_eq!(taker.packet(&hexes(&["02 4020 0700 0900 4000 0700 7b"])), "fragment");
    for _ in 0..2 {
        assert!(taker.packet(&hexes(&["02 4010 0600 33 32 01020304"])).contains("whose start was not captured"));
    }
}

/// The address of the host is in the answer to Read BD_ADDR. It uses this address (type 0), and the peer's is
/// random.
fn host_is_central(taker: &mut Taker, direction: &str) {
    let rest = "00 1800 2800 0000 2a00 0000 0000";
    let create = ["01 0d20 19 6000 3000 00 01", PERIPHERAL, rest].concat();
    let complete = ["04 3e 13 01 00 4000 00 01", PERIPHERAL, "1800 0000 2a00 00"].concat();
    for packet in [["04 0e 0a 01 0910 00", CENTRAL].concat(), create, complete] {
        taker.packet(&hexes(&[direction, &packet]));
    }
}

#[test]
fn the_addresses_of_a_host() {
    let take = |set_up: &[&str]| {
        let mut taker = Taker::new(201, &Settings::default());
        for packet in set_up {
            taker.packet(&hexes(&["00000000", packet]));
        }
        taker.packet(&hexes(&["00000000 02 4000 1200", REQUEST]));
        taker.packet(&hexes(&["00000001 02 4020 1200", RESPONSE]));
        taker.packet(&hexes(&["00000000 02 4000 0d00", K_FRAME]))
    };
    let bd_addr = ["04 0e 0a 01 0910 00", CENTRAL].concat();
    let random = ["01 0520 06", "060504030201"].concat();
    let as_random = ["01 0620 0f 0000 0000 00 01", "00 000000000000 07 00"].concat();
    let as_public = as_random.replace("00 01", "00 00");
    let as_private = as_random.replace("00 01", "00 02");
    // The host as a peripheral.
    let complete = ["04 3e 13 01 00 4000 01 01", PERIPHERAL, "1800 0000 2a00 00"].concat();
    let enhanced = |peer_type: &str, local: &str| {
        ["04 3e 1f 0a 00 4000 01", peer_type, PERIPHERAL, local, "000000000000 1800 0000 2a00 00"].concat()
    };
    assert_eq!(take(&[&bd_addr, &as_public, &complete]), packet());
    let from = |id: &str| packet().replace("001122fffe334455", id);
    assert_eq!(take(&[&bd_addr, &random, &as_random, &complete]), from("010203fffe040506"));
    assert_eq!(take(&[&bd_addr, &as_private, &enhanced("01", "665544332241")]), from("412233fffe445566"));
    // Unknown addresses: which one the host uses, its resolvable one, and that of a peer that was resolved.
    for unknown in [
        take(&[&bd_addr, &complete]),
        take(&[&bd_addr, &as_private, &complete]),
        take(&[&bd_addr, &as_private, &enhanced("01", "000000000000")]),
        take(&[&bd_addr, &as_public, &enhanced("02", "000000000000")]),
    ] {
        assert!(unknown.contains("an elided address"), "{unknown}");
    }
    // Connection Complete of BR/EDR.
    let classic = ["04 03 0b 00 4000", PERIPHERAL, "01 00"].concat();
    assert_eq!(take(&[&bd_addr, &classic]), "Bluetooth BR/EDR");
}

#[test]
fn memory_of_connections_is_bounded() {
    let mut taker = Taker::new(256, &Settings::default());
    for number in 0..1000u32 {
        let access_address = hex::encode(number.to_le_bytes());
        for channel in 0..20 {
            let frame = format!("0500 {:02x}00 0700 7b33 32", 0x40 + channel);
            taker.packet(&phdr(2, &access_address, 2 | (channel & 1) << 3, &frame));
        }
    }
    let (connections, channels, _) = taker.receiver.bluetooth.sizes();
    assert!(connections <= 64 && channels <= 64 * 8, "{connections} {channels}");
}

#[test]
fn lora() {
    let ip = PACKET;
    let v0 = |sync_word: &str, frame: &str| one_lora(&["00 00 000f 33bca100 01 07 40404040", sync_word, frame]);
    assert_eq!(v0("12", ip), packet());
    assert!(v0("34", ip).contains("LoRaWAN") && v0("34", ip).contains("network server"));
    // A wrong length; IPHC with addresses in line; the 6LoWPAN dispatch of uncompressed IPv6.
    assert!(v0("12", &[ip, "00"].concat()).contains("neither"));
    assert_eq!(v0("12", &["7b00 32", &ip[19..]].concat()), packet());
    assert_eq!(v0("12", &["41", ip].concat()), packet());
    assert!(v0("12", "010203").contains("neither"));
    let v4 = "4500001c 00000000 40320000 c0000201 c0000202 0102030405060708";
    assert_eq!(v0("12", v4), v4.replace(' ', ""));
    // Version 1: with a good CRC, without one, and with a bad one.
    let v1 = |flags: &str| {
        let rest = "0102030405060708 00000000";
        one_lora(&["01 00 0023 33bca100 01 07 40404040 12", rest, flags, "05 0000 01 00 0000", ip])
    };
    assert_eq!((v1("08"), v1("20")), (packet(), packet()));
    assert!(v1("10").contains("CRC"));
    assert!(one_lora(&["02 00 000f 33bca100 01 07 40404040 12", ip]).contains("LoRaTAP version"));
    assert!(one_lora(&["01 00 000f 33bca100 01 07 40404040 12", ip]).contains("LoRaTAP length"));
    assert!(one_lora(&["00 00 000f 33bca100 01 07"]).contains("LoRaTAP header"));
}

fn one_lora(parts: &[&str]) -> String {
    Taker::new(270, &Settings::default()).packet(&hexes(parts))
}
