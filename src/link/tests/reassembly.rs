use std::collections::BTreeSet;

use super::*;

/// 40 bytes after 4 bytes of options, in fragments of 16, as scapy's `fragment` makes them.
const V4: [&str; 3] = [
    "46b90028123420003f325979c0000201c633640701010101000102030405060708090a0b0c0d0e0f",
    "46b90028123420023f325977c0000201c633640701010101101112131415161718191a1b1c1d1e1f",
    "46b90020123400043f32797dc0000201c6336407010101012021222324252627",
];
const V4_WHOLE: &str = concat!(
    "46b90040123400003f327961c0000201c633640701010101",
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627"
);
/// Destination options and a routing header before the Fragment header, destination options after it, then 40
/// bytes, as scapy's `fragment6` splits them.
const V6: [&str; 3] = [
    concat!(
        "6b9abcde00383c3d20010db800000000000000000000000120010db80000000000000000000000022b000104000000002c020000",
        "0000000020010db80000000000000000000000093c0000010102030432000104000000000001020304050607"
    ),
    concat!(
        "6b9abcde00383c3d20010db800000000000000000000000120010db80000000000000000000000022b000104000000002c020000",
        "0000000020010db80000000000000000000000093c0000110102030408090a0b0c0d0e0f1011121314151617"
    ),
    concat!(
        "6b9abcde00383c3d20010db800000000000000000000000120010db80000000000000000000000022b000104000000002c020000",
        "0000000020010db80000000000000000000000093c0000200102030418191a1b1c1d1e1f2021222324252627"
    ),
];
const V6_WHOLE: &str = concat!(
    "6b9abcde00503c3d20010db800000000000000000000000120010db80000000000000000000000022b000104000000003c020000",
    "0000000020010db80000000000000000000000093200010400000000",
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627"
);

/// A [`Reassembler`] and its last result.
#[derive(Default)]
struct Bench {
    reassembler: Reassembler,
    out: Reassembled,
    frames: u64,
    time_s: i64,
}

impl Bench {
    /// Pushes the next frame. Returns the payload of the packet that it completes.
    #[track_caller]
    fn push(&mut self, packet: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let LinkContent::Fragment(fragment) = parse(101, packet) else { panic!("no fragment") };
        self.frames += 1;
        let time_ns = self.time_s * 1_000_000_000;
        if !self.reassembler.push(self.frames, time_ns, &fragment, &mut self.out)? {
            return Ok(None);
        }
        Ok(Some(self.out.datagram().unwrap().payload.to_vec()))
    }

    /// [`Bench::push`] for a valid fragment that completes no packet.
    #[track_caller]
    fn wait(&mut self, packet: &[u8]) {
        assert_eq!(self.push(packet), Ok(None));
    }

    #[track_caller]
    fn complete(&mut self, packet: &[u8], payload: &[u8], fragments: &[u64]) {
        assert_eq!(self.push(packet).unwrap().as_deref(), Some(payload));
        assert_eq!(self.out.fragments(), fragments);
    }
}

/// An IPv4 fragment between fixed addresses. Its checksum is 0, because the reassembler does not check it.
fn v4(identification: u16, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = bytes("4500000000000000403200000a0000010a000002");
    packet[2..4].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    let flags = u16::try_from(offset / 8).unwrap() | if more { 0x2000 } else { 0 };
    packet[6..8].copy_from_slice(&flags.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn v6(identification: u32, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = bytes(&format!("6000000000002c40{}32000000", "22".repeat(32)));
    packet[4..6].copy_from_slice(&u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    packet[42..44].copy_from_slice(&(u16::try_from(offset).unwrap() | u16::from(more)).to_be_bytes());
    packet.extend_from_slice(&identification.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

type Maker = fn(u16, usize, bool, &[u8]) -> Vec<u8>;
const BOTH: [Maker; 2] = [v4, |identification, offset, more, payload| v6(identification.into(), offset, more, payload)];

#[test]
fn any_order_restores_the_packet_of_scapy() {
    for (pieces, whole) in [(V4, V4_WHOLE), (V6, V6_WHOLE)] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut bench = Bench::default();
            bench.wait(&bytes(pieces[order[0]]));
            bench.wait(&bytes(pieces[order[1]]));
            bench.complete(&bytes(pieces[order[2]]), &(0..40).collect::<Vec<u8>>(), &[1, 2, 3]);
            let whole = bytes(whole);
            let (header, payload) = whole.split_at(whole.len() - 40);
            let read = bench.out.datagram().unwrap();
            assert_eq!((read.header, read.payload, read.protocol), (header, payload, 50));
            assert_eq!((read.missing, read.frame_offset), (0, 0));
            assert!(bench.reassembler.finish().is_empty());
        }
    }
}

#[test]
fn dont_fragment_stays() {
    let mut bench = Bench::default();
    let (mut first, mut last) = (v4(1, 0, true, &[1; 8]), v4(1, 8, false, &[2; 3]));
    first[6] |= 0x40;
    last[6] |= 0x40;
    bench.wait(&first);
    bench.complete(&last, &[1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2], &[1, 2]);
    assert_eq!(bench.out.datagram().unwrap().header[6..8], [0x40, 0]);
}

#[test]
fn repeats_change_nothing() {
    for make in BOTH {
        let (a, b, c) = (make(7, 0, true, &[1; 8]), make(7, 8, true, &[2; 8]), make(7, 16, false, &[3; 2]));
        let whole = [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3];
        let mut bench = Bench::default();
        for packet in [&a, &a, &c, &c, &a] {
            bench.wait(packet);
        }
        bench.complete(&b, &whole, &[1, 2, 3, 4, 5, 6]);
        // A late repeat of one fragment, then of all: the packet is returned again.
        bench.wait(&c);
        bench.wait(&b);
        bench.complete(&a, &whole, &[7, 8, 9]);
        bench.wait(&b);
        assert_eq!(bench.reassembler.finish(), [10]);
    }
}

/// Frames that were captured twice leave a repeat. Then the Identification is used again.
#[test]
fn a_late_repeat_does_not_get_into_the_next_packet() {
    for make in BOTH {
        let packet = |fill: u8, last_len| (make(9, 0, true, &[fill; 8]), make(9, 8, false, &vec![fill; last_len]));
        let mut bench = Bench::default();
        let (a1, a2) = packet(0xa, 3);
        bench.wait(&a1);
        bench.wait(&a1);
        bench.complete(&a2, &[0xa; 11], &[1, 2, 3]);
        bench.wait(&a2);
        let (b1, b2) = packet(0xb, 5);
        bench.wait(&b1);
        assert_eq!(bench.reassembler.given_up(), [4]);
        bench.complete(&b2, &[0xb; 13], &[5, 6]);
    }
}

#[test]
fn an_incomplete_packet_is_replaced_by_the_next_one() {
    let mut bench = Bench::default();
    bench.wait(&v4(9, 0, true, &[0xa; 8]));
    bench.wait(&v4(9, 16, false, &[0xa; 8]));
    // Same range, other bytes.
    bench.wait(&v4(9, 0, true, &[0xb; 8]));
    assert_eq!(bench.reassembler.given_up(), [1, 2]);
    bench.complete(&v4(9, 8, false, &[0xb; 8]), &[0xb; 16], &[3, 4]);
    // Another end.
    bench.wait(&v4(10, 8, false, &[0xa; 8]));
    bench.wait(&v4(10, 8, false, &[0xb; 16]));
    assert_eq!(bench.reassembler.given_up(), [5]);
    bench.wait(&v4(10, 24, true, &[0xc; 8]));
    assert_eq!(bench.reassembler.given_up(), [6]);
}

#[test]
fn ipv4_overlap_keeps_the_first_copy() {
    let mut bench = Bench::default();
    bench.wait(&v4(1, 8, true, &[1; 8]));
    bench.wait(&v4(1, 24, true, &[2; 8]));
    bench.wait(&v4(1, 0, true, &[3; 40]));
    let expected = [[3; 8], [1; 8], [3; 8], [2; 8], [3; 8], [4; 8]].concat();
    bench.complete(&v4(1, 32, false, &[4; 16]), &expected, &[1, 2, 3, 4]);
}

#[test]
fn ipv6_overlap_ends_the_packet() {
    for overlapping in [
        v6(1, 16, true, &[1; 16]),
        v6(1, 0, true, &[1; 16]),
        // Inside the other fragment, and around it.
        v6(1, 8, true, &[1; 8]),
        v6(1, 8, true, &[1; 24]),
        // The same range, other bytes.
        v6(1, 8, true, &[[1; 8], [2; 8]].concat()),
        // The same bytes, another end.
        v6(1, 16, false, &[1; 8]),
        v6(1, 8, false, &[1; 16]),
    ] {
        let mut bench = Bench::default();
        bench.wait(&v6(1, 8, true, &[1; 16]));
        let fault = Fault::unsupported(Stage::Link, 40, "overlapping IPv6 fragments (RFC 5722)");
        assert_eq!(bench.push(&overlapping), Err(fault));
        assert_eq!(bench.reassembler.given_up(), [1]);
        // Later fragments do not complete a packet either, until the deadline.
        bench.time_s = 59;
        assert_eq!(bench.push(&v6(1, 8, true, &[1; 16])), Err(fault));
        bench.time_s = 60;
        bench.wait(&v6(1, 0, true, &[1; 8]));
        bench.complete(&v6(1, 8, false, &[2; 1]), &[1, 1, 1, 1, 1, 1, 1, 1, 2], &[4, 5]);
    }
}

#[test]
fn fragments_of_different_packets_are_kept_apart() {
    let mut bench = Bench::default();
    let (first, last) = (v4(1, 0, true, &[1; 8]), v4(1, 8, false, &[2; 8]));
    bench.wait(&first);
    for at in [5, 9, 12, 16] {
        // Another Identification, protocol, source, destination.
        let mut other = last.clone();
        other[at] ^= 1;
        bench.wait(&other);
    }
    bench.complete(&last, &[[1; 8], [2; 8]].concat(), &[1, 6]);

    // IPv6: the Next Header of the first fragment counts, and that of the others is ignored (RFC 8200 §4.5).
    let (first, mut last) = (v6(1, 0, true, &[1; 8]), v6(1, 8, false, &[2; 8]));
    last[40] = 99;
    bench.wait(&last);
    bench.complete(&first, &[[1; 8], [2; 8]].concat(), &[7, 8]);
    assert_eq!(bench.out.datagram().unwrap().protocol, 50);
    for at in [40 + 7, 8, 24] {
        let mut other = last.clone();
        other[at] ^= 1;
        bench.wait(&other);
    }
}

#[test]
fn fragments_expire() {
    for (make, timeout) in BOTH.into_iter().zip([30, 60]) {
        let mut bench = Bench { time_s: 1000, ..Bench::default() };
        let (a, b) = (make(1, 0, true, &[1; 8]), make(1, 8, false, &[1; 8]));
        bench.wait(&a);
        bench.time_s += timeout - 1;
        assert!(bench.reassembler.expire(bench.time_s * 1_000_000_000).is_empty());
        bench.wait(&a);
        bench.time_s += 1;
        bench.wait(&b);
        assert_eq!(bench.reassembler.given_up(), [1, 2]);
        bench.wait(&make(2, 8, false, &[1; 8]));
        // An earlier time does not expire fragments.
        bench.time_s = 0;
        bench.complete(&a, &[1; 16], &[3, 5]);
        assert_eq!(bench.reassembler.expire(i64::MAX), [4]);
        assert!(bench.reassembler.finish().is_empty());
    }
}

#[test]
fn invalid_fragments_are_rejected() {
    let mut bench = Bench::default();
    let place = |what, got, expected| Err(Fault::value(Stage::Link, 20, what, got, expected));
    let length = |got| place("fragment length", got, "a multiple of 8, or the last bytes");
    assert_eq!(bench.push(&v4(1, 0, true, &[0; 9])), length(9));
    assert_eq!(bench.push(&v4(1, 8, false, &[])), length(0));
    // The ping of death.
    let end = place("end of the fragment", 65536, "65535 or less");
    assert_eq!(bench.push(&v4(1, 65512, false, &[0; 4])), end);
    assert_eq!(bench.push(&v4(1, 65512, false, &[0; 3])), Ok(None));
    let end = Err(Fault::value(Stage::Link, 40, "end of the fragment", 65536, "65535 or less"));
    assert_eq!(bench.push(&v6(1, 65528, false, &[0; 8])), end);
    assert_eq!(bench.push(&v6(1, 65528, false, &[0; 7])), Ok(None));

    let cut = v4(1, 0, true, &[0; 16]);
    let short = Fault::short(Stage::Link, 20, "fragment", 16, 11);
    assert_eq!(bench.push(&cut[..31]), Err(short));
    assert_eq!(bench.reassembler.finish(), [4, 6]);
}

/// The longest possible packets, and one that is too long only because of the options of the first fragment.
#[test]
fn the_limits_of_length() {
    let data: Vec<u8> = (0..65535u32).map(|i| ((i * i) >> 8) as u8).collect();
    for (make, len) in BOTH.into_iter().zip([65515, 65535]) {
        let mut bench = Bench::default();
        let last = len / 8 * 8 - 8;
        for offset in (0..last).step_by(8) {
            bench.wait(&make(1, offset, true, &data[offset..offset + 8]));
        }
        assert_eq!(bench.push(&make(1, last, false, &data[last..len])).unwrap().unwrap(), data[..len]);
        assert_eq!(bench.out.fragments().len(), last / 8 + 1);
    }

    let mut bench = Bench::default();
    bench.wait(&v4(1, 8, true, &data[..65496]));
    bench.wait(&v4(1, 65504, false, &data[..11]));
    let mut first = v4(1, 0, true, &data[..8]);
    first.splice(20..20, [1, 1, 1, 1]);
    first[0] = 0x46;
    first[3] += 4;
    bench.wait(&first);
    assert_eq!(bench.reassembler.given_up(), [1, 2, 3]);
}

#[test]
fn a_fragment_inside_fragments_is_a_fault() {
    let mut bench = Bench::default();
    let mut first = v6(1, 0, true, &bytes("3200000100000007"));
    first[40] = 44;
    bench.wait(&first);
    let last = v6(1, 8, false, &[0; 8]);
    let LinkContent::Fragment(last) = parse(101, &last) else { panic!() };
    assert_eq!(bench.reassembler.push(2, 0, &last, &mut bench.out), Ok(true));
    assert!(bench.out.datagram().is_err());
}

#[test]
fn the_number_of_packets_is_bounded() {
    let mut bench = Bench::default();
    for identification in 0..3000 {
        bench.wait(&v6(identification, 0, true, &[1; 8]));
        let expected = u64::from(identification).checked_sub(1023).filter(|frame| *frame > 0);
        assert_eq!(bench.reassembler.given_up(), expected.as_slice());
    }
    assert_eq!(bench.reassembler.finish().len(), 1024);
    // Repeats of one fragment.
    let mut bench = Bench::default();
    for _ in 0..20_000 {
        bench.wait(&v6(1, 0, true, &[1; 8]));
    }
    assert!(bench.reassembler.finish().len() < 16_385);
}

/// Complete packets do not displace waiting ones.
#[test]
fn waiting_packets_are_kept_longer_than_complete_ones() {
    let mut bench = Bench::default();
    bench.wait(&v6(70_000, 0, true, &[1; 8]));
    for identification in 0..5000 {
        bench.wait(&v6(identification, 0, true, &[2; 8]));
        assert!(bench.push(&v6(identification, 8, false, &[3; 8])).unwrap().is_some());
        assert!(bench.reassembler.given_up().is_empty());
    }
    bench.complete(&v6(70_000, 8, false, &[1; 8]), &[1; 16], &[1, 10_002]);
}

proptest! {
    /// Several packets split at random, in random order, with repeats: all are restored.
    #[test]
    fn random_splits(
        is_v6: bool,
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 17..300), 1..5),
        cuts in prop::collection::vec(1usize..6, 1..40),
        order in any::<u64>(),
    ) {
        let make = BOTH[usize::from(is_v6)];
        let mut fragments = Vec::new();
        let mut cuts = cuts.iter().cycle();
        for (identification, packet) in (0..).zip(&packets) {
            let mut at = 0;
            while at < packet.len() {
                let end = (at + 8 * cuts.next().unwrap()).min(packet.len());
                // The last fragment alone would be a packet.
                let end = if at == 0 { end.min(16) } else { end };
                let fragment = make(identification, at, end < packet.len(), &packet[at..end]);
                if end % 3 == 0 {
                    fragments.push(fragment.clone());
                }
                fragments.push(fragment);
                at = end;
            }
        }
        let mut random = order | 1;
        for i in (1..fragments.len()).rev() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            fragments.swap(i, random as usize % (i + 1));
        }
        let mut bench = Bench::default();
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for fragment in &fragments {
            if let Some(payload) = bench.push(fragment).unwrap() {
                prop_assert!(packets.contains(&payload));
                count += bench.out.fragments().len();
                seen.insert(payload);
            }
            prop_assert!(bench.reassembler.given_up().is_empty());
        }
        prop_assert_eq!(seen, packets.into_iter().collect::<BTreeSet<_>>());
        prop_assert_eq!(count + bench.reassembler.finish().len(), fragments.len());
    }

    /// Fragments that contradict each other: each frame is reported exactly once, and all bytes come from some
    /// fragment.
    #[test]
    fn hostile_fragments(
        is_v6: bool,
        fragments in prop::collection::vec((0u16..2, 0usize..6, any::<bool>(), 1usize..24, 0u8..3, 0i64..20), 1..60),
    ) {
        let make = BOTH[usize::from(is_v6)];
        let mut bench = Bench::default();
        let mut places: Vec<u64> = Vec::new();
        for (identification, offset, more, len, fill, wait) in fragments {
            bench.time_s += wait;
            if offset == 0 && !more {
                continue;
            }
            let len = if more { len.next_multiple_of(8) } else { len };
            match bench.push(&make(identification, offset * 8, more, &vec![fill; len])) {
                Ok(Some(payload)) => {
                    prop_assert!(payload.iter().all(|byte| *byte < 3));
                    places.extend(bench.out.fragments());
                }
                Ok(None) => {}
                Err(_) => places.push(bench.frames),
            }
            places.extend(bench.reassembler.given_up());
        }
        places.extend(bench.reassembler.finish());
        places.sort_unstable();
        prop_assert_eq!(places, (1..=bench.frames).collect::<Vec<_>>());
    }
}
