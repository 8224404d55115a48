//! Any context of the dialects `ehc`, `6lo` and `custom`, with any packet that matches it: compressed packets are
//! restored.

use dietesp::internals::bits;
use dietesp::internals::codec::{Codec, State};
use dietesp::internals::context::*;
use dietesp::internals::net::IpVersion;
use dietesp::internals::schc::fields;
use dietesp::internals::schc::{Action, Compute, Direction, FieldDescriptor, Matching, Rule, Target};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::roundtrip::{Packet, packets, ranges, without_lossy_fields};
use crate::support::{context, outer, restore};

/// An outer header with the packet's own values in the copied fields.
fn carrier(packet: &Packet, bytes: &[u8], tunnel: bool, v4: bool) -> Vec<u8> {
    let own_v4 = packet.version == IpVersion::V4;
    if !tunnel {
        // There are no extension headers here.
        let mut header = bytes[..if own_v4 { 20 + packet.options.len() } else { 40 }].to_vec();
        header[if own_v4 { 9 } else { 6 }] = 50;
        return header;
    }
    match (v4, own_v4) {
        (true, true) => [&[0x45], &bytes[1..20]].concat(),
        (false, false) => bytes[..40].to_vec(),
        (true, false) => {
            let mut header = hex::decode("4500001400000000003200000a0000010a000002").unwrap();
            header[8] = packet.hop_limit;
            header
        }
        (false, true) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, 50, packet.hop_limit];
            header.extend([7; 32]);
            header
        }
    }
}

/// Checks both directions. Returns the clear text.
fn both_ways(
    packet: &Packet,
    context: &Context,
    cipher_block: usize,
    outer_v4: bool,
) -> Result<Vec<u8>, TestCaseError> {
    let bytes = packet.bytes();
    let codec = Codec::new(Some(context), cipher_block).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let carrier = carrier(packet, &bytes, context.mode == Mode::Tunnel, outer_v4);
    let (mut state, mut clear) = (State::default(), vec![]);
    if let Err(mismatch) = codec.compress(&bytes, &outer(&carrier).0, &mut state, &mut clear) {
        return Err(TestCaseError::fail(mismatch.to_string()));
    }
    let (restored, back) = restore(&codec, &clear, &carrier).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
    prop_assert_eq!(restored.warnings.names().collect::<Vec<_>>(), Vec::<&str>::new());
    prop_assert_eq!(without_lossy_fields(back, false, packet), without_lossy_fields(bytes, false, packet));
    Ok(clear)
}

fn no_panic(context: &Context, cipher_block: usize, clear: &[u8], carrier: &[u8]) {
    if let Ok(codec) = Codec::new(Some(context), cipher_block) {
        let _ = restore(&codec, clear, carrier);
    }
}

/// A packet without features that only `ANY` matches.
fn of_one_protocol(mut packet: Packet) -> Packet {
    packet.frag &= 0xc000;
    if [44, 0].contains(&packet.protocol) {
        packet.protocol = 17;
    }
    packet
}

fn ehc_contexts(packet: Packet) -> impl Strategy<Value = (Packet, Context, usize)> {
    let bits = packet.version.address_bits();
    let selectors = (
        ranges(packet.src, bits),
        ranges(packet.dst, bits),
        ranges(packet.ports[0].into(), 16),
        ranges(packet.ports[1].into(), 16),
        any::<[bool; 6]>(),
    );
    let attributes = (
        0u8..=4,
        1u8..=4,
        any::<[bool; 2]>(),
        any::<(i32, i32)>(),
        select(vec![1usize, 16]),
        prop_oneof![
            Just(UdpLiteCoverage::Sent),
            Just(UdpLiteCoverage::Length),
            (88u16..).prop_map(UdpLiteCoverage::AtMost)
        ],
    );
    (selectors, attributes).prop_map(move |(selected, attributes)| {
        let mut packet = packet.clone();
        let (src, dst, src_port, dst_port, [tunnel, single, one_src, one_dst, one_src_port, one_dst_port]) = selected;
        let (tcp_lsb, align, [tcp_options, tcp_urgent], jumps, cipher_block, coverage) = attributes;
        if single || !tunnel {
            packet = of_one_protocol(packet);
        }
        if packet.version == IpVersion::V4 && tunnel {
            packet.frag = 0x4000;
            packet.options = vec![];
        }
        if !tcp_options {
            packet.fields[8] = 0x50;
        }
        if !tcp_urgent {
            packet.fields[..2].fill(0);
        }
        if matches!(coverage, UdpLiteCoverage::AtMost(_)) && packet.protocol == 136 {
            packet.zero = false;
        }
        // A jump of less than half the range of the bits that are sent.
        let jump = |jump: i32| match tcp_lsb {
            0 => 0,
            1..=3 => i64::from(jump) % (1 << (8 * tcp_lsb - 1)),
            _ => jump.into(),
        };
        let number = |at: usize| u32::from_be_bytes(packet.fields[at..at + 4].try_into().unwrap());
        let before = |at: usize, by: i32| number(at).wrapping_sub(jump(by) as u32);
        let mode = if tunnel { Mode::Tunnel } else { Mode::Transport };
        let mut context = context(mode, Some(packet.version), |selectors, _| {
            let pick = |one: bool, value: u128, range| if one { Range::single(value) } else { range };
            selectors.src = pick(one_src, packet.src, src);
            selectors.dst = pick(one_dst, packet.dst, dst);
            selectors.src_port = pick(one_src_port, packet.ports[0].into(), src_port);
            selectors.dst_port = pick(one_dst_port, packet.ports[1].into(), dst_port);
            selectors.protocol = Some(packet.protocol).filter(|protocol| single && *protocol != 0);
        });
        context.dialect = Dialect::Ehc(Ehc {
            spi_bytes: 1,
            sn_bytes: 1,
            sn_period: None,
            align,
            tcp_lsb,
            tcp_sn: before(0, jumps.0),
            tcp_ack: before(4, jumps.1),
            tcp_options,
            tcp_urgent,
            udplite_coverage: coverage,
        });
        (packet, context, cipher_block)
    })
}

/// The fields of a header under all names that rules may use, in order.
fn header_fields(packet: &Packet, split: [bool; 3]) -> (Vec<fields::FieldId>, Vec<fields::FieldId>) {
    use fields::*;
    let mut ip = vec![];
    match packet.version {
        IpVersion::V4 => ip.extend([
            IPV4_VER, IPV4_IHL, IPV4_DSCP, IPV4_ECN, IPV4_LEN, IPV4_ID, IPV4_FLAGS, IPV4_FRAG, IPV4_TTL, IPV4_PROTO,
            IPV4_CKSUM, IPV4_SRC, IPV4_DST,
        ]),
        IpVersion::V6 => {
            ip.push(IPV6_VER);
            ip.extend(if split[0] { vec![IPV6_DSCP, IPV6_ECN] } else { vec![IPV6_TC] });
            ip.extend([IPV6_FL, IPV6_LEN, IPV6_NXT, IPV6_HOP_LMT]);
            ip.extend(if split[1] { vec![IPV6_SRC_PREFIX, IPV6_SRC_IID] } else { vec![IPV6_SRC] });
            ip.extend(if split[2] { vec![IPV6_DST_PREFIX, IPV6_DST_IID] } else { vec![IPV6_DST] });
        }
    }
    let transport = match packet.protocol {
        17 => vec![UDP_SRC_PORT, UDP_DST_PORT, UDP_LEN, UDP_CKSUM],
        136 => vec![UDPLITE_SRC_PORT, UDPLITE_DST_PORT, UDPLITE_COVERAGE, UDPLITE_CKSUM],
        6 => vec![TCP_SRC_PORT, TCP_DST_PORT, TCP_SEQ, TCP_ACK, TCP_DOFF_FLAGS, TCP_WINDOW, TCP_CKSUM, TCP_URG],
        132 => vec![SCTP_SRC_PORT, SCTP_DST_PORT, SCTP_VTAG, SCTP_CKSUM],
        _ => vec![],
    };
    (ip, transport)
}

/// A row that matches `value`.
fn row(field: fields::FieldId, value: u128, kind: u8, random: u128, lsb: u16) -> FieldDescriptor {
    let bits = field.bits.unwrap();
    let all = u128::MAX >> (128 - bits);
    let computed = Compute::of(field).filter(|_| !field.name.starts_with("ESP"));
    match kind {
        0 => FieldDescriptor::equal(field, value),
        1 => FieldDescriptor::sent(field),
        2 => {
            let lsb = lsb % (bits + 1);
            let low = if lsb == 0 { 0 } else { u128::MAX >> (128 - lsb) };
            let target = Target::Value(value & !low | random & low);
            FieldDescriptor::new(field, target, Matching::Msb(bits - lsb), Action::Lsb)
        }
        3 => {
            let others = (1..=u128::from(lsb % 9)).map(|step| value.wrapping_add(step.wrapping_mul(random | 1)) & all);
            let mut list = vec![value];
            for other in others {
                if !list.contains(&other) {
                    list.insert((other % (list.len() as u128 + 1)) as usize, other);
                }
            }
            FieldDescriptor::new(field, Target::List(list), Matching::MatchMapping, Action::MappingSent)
        }
        _ => match computed {
            Some(compute) => FieldDescriptor::computed(field, compute),
            None => FieldDescriptor { action: Action::ValueSent, ..FieldDescriptor::equal(field, value) },
        },
    }
}

type Kinds = Vec<(u8, u128, u16)>;

fn custom_context(packet: &Packet, flags: [bool; 6], kinds: &Kinds, align: u8) -> (Packet, Context, usize) {
    let [tunnel, with_transport, split_tc, split_src, split_dst, pad] = flags;
    let mut packet = packet.clone();
    let (ip, transport) = header_fields(&packet, [split_tc, split_src, split_dst]);
    let with_transport = (with_transport || !tunnel) && !transport.is_empty();
    if with_transport || !tunnel {
        packet = of_one_protocol(packet);
    }
    let (_, transport) = if with_transport { header_fields(&packet, [false; 3]) } else { (vec![], vec![]) };
    let bytes = packet.bytes();
    let ip_len = if packet.version == IpVersion::V4 { 20 + packet.options.len() } else { 40 };
    let mut rows = vec![];
    let mut kinds = kinds.iter().cycle();
    let mut add = |names: &[fields::FieldId], mut at: usize| {
        for field in names {
            let bits = usize::from(field.bits.unwrap());
            let value = bits::read(&bytes, at, bits).unwrap();
            let (kind, random, lsb) = *kinds.next().unwrap();
            rows.push(row(*field, value, kind, random, lsb));
            at += bits;
        }
    };
    if tunnel {
        add(&ip, 0);
    }
    add(&transport, ip_len * 8);
    let next_header = match (tunnel, packet.version) {
        (true, IpVersion::V4) => 4,
        (true, IpVersion::V6) => 41,
        (false, _) => packet.protocol,
    };
    let (kind, random, lsb) = *kinds.next().unwrap();
    let pad_row =
        |field| if pad { FieldDescriptor::sent(field) } else { FieldDescriptor::computed(field, Compute::Length) };
    let ctec = vec![
        pad_row(fields::ESP_PAD),
        pad_row(fields::ESP_PAD_LEN),
        row(fields::ESP_NXT, next_header.into(), kind, random, lsb),
    ];
    let mode = if tunnel { Mode::Tunnel } else { Mode::Transport };
    let mut context = context(mode, None, |_, _| {});
    context.dialect = Dialect::Custom(Custom {
        iipc: Rule { fields: rows },
        ctec: Rule { fields: ctec },
        eec: Rule { fields: vec![] },
        direction: Direction::Both,
        alignment: if pad { align } else { 1 },
    });
    (packet, context, if pad && lsb % 2 == 0 { 16 } else { 1 })
}

fn kinds() -> impl Strategy<Value = Kinds> {
    proptest::collection::vec((0u8..=4, any::<u128>(), any::<u16>()), 30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn ehc(
        (packet, context, cipher_block) in packets().prop_flat_map(ehc_contexts),
        outer_v4: bool,
        cut in any::<Index>(),
    ) {
        let clear = both_ways(&packet, &context, cipher_block, outer_v4)?;
        let Dialect::Ehc(ehc) = &context.dialect else { unreachable!() };
        // A multiple of both, so that an alignment by only one of them is detected.
        prop_assert!(ehc.align == 1 || clear.len() % usize::from(ehc.align) == 0);
        prop_assert_eq!(clear.len() % cipher_block, 0);
        no_panic(&context, cipher_block, &clear[..cut.index(clear.len() + 1)], &[0x45; 20]);
        no_panic(&context, cipher_block, &clear[..cut.index(clear.len() + 1)], &[0x60; 40]);
    }

    #[test]
    fn sixlo(
        packet in packets(),
        [tunnel, next_header, pad] in any::<[bool; 3]>(),
        align in select(vec![1u8, 2, 4, 8]),
        block in select(vec![1usize, 16]),
        outer_v4: bool,
    ) {
        let packet = if tunnel { packet } else { of_one_protocol(packet) };
        let mode = if tunnel { Mode::Tunnel } else { Mode::Transport };
        let mut context = context(mode, None, |selectors, _| {
            selectors.protocol = Some(packet.protocol).filter(|_| !tunnel);
        });
        let (align, block) = if pad { (align, block) } else { (1, 1) };
        context.dialect = Dialect::SixLo(SixLo { spi_bytes: 1, sn_bytes: 1, next_header, pad, align });
        let clear = both_ways(&packet, &context, block, outer_v4)?;
        // The packet (in transport mode, the segment) unchanged, and the rest of the trailer.
        let bytes = packet.bytes();
        let from = match (tunnel, packet.version) {
            (true, _) => 0,
            (false, IpVersion::V4) => 20 + packet.options.len(),
            (false, IpVersion::V6) => 40,
        };
        prop_assert_eq!(&clear[..bytes.len() - from], &bytes[from..]);
        if !pad {
            prop_assert_eq!(clear.len(), bytes.len() - from + usize::from(next_header));
        }
    }

    #[test]
    fn custom(
        packet in packets(),
        flags in any::<[bool; 6]>(),
        kinds in kinds(),
        align in select(vec![1u8, 2, 4, 8]),
        cut in any::<Index>(),
    ) {
        let (packet, context, block) = custom_context(&packet, flags, &kinds, align);
        let clear = both_ways(&packet, &context, block, packet.version == IpVersion::V4)?;
        no_panic(&context, block, &clear[..cut.index(clear.len() + 1)], &[0x45; 20]);
        no_panic(&context, block, &clear[..cut.index(clear.len() + 1)], &[0x60; 40]);
    }

    /// One row gets another target value: the packet is rejected, and the error names the field.
    #[test]
    fn custom_names_the_field_that_does_not_match(
        packet in packets(),
        flags in any::<[bool; 6]>(),
        kinds in kinds(),
        row in any::<Index>(),
        flip in any::<Index>(),
    ) {
        let (packet, mut context, block) = custom_context(&packet, flags, &kinds, 1);
        let Dialect::Custom(custom) = &mut context.dialect else { unreachable!() };
        let checked: Vec<_> = custom.iipc.fields.iter_mut().filter(|row| match row.matching {
            Matching::Equal => true,
            Matching::Msb(bits) => bits > 0,
            Matching::MatchMapping => row.target.list().len() == 1,
            Matching::Ignore => false,
        }).collect();
        prop_assume!(!checked.is_empty());
        let at = row.index(checked.len());
        let row = checked.into_iter().nth(at).unwrap();
        let bits = row.fid.bits.unwrap();
        let bit = match row.matching {
            // Changes one of the first bits, which are compared.
            Matching::Msb(msb) => bits as usize - 1 - flip.index(msb.into()),
            _ => flip.index(bits.into()),
        };
        row.target = match &row.target {
            Target::Value(value) => Target::Value(value ^ 1 << bit),
            Target::List(values) => Target::List(values.iter().map(|value| value ^ 1 << bit).collect()),
            Target::Empty => unreachable!(),
        };
        let key = row.fid.key;
        // A rule that can never match is rejected when it is loaded.
        let Ok(codec) = Codec::new(Some(&context), block) else { return Ok(()) };
        let bytes = packet.bytes();
        let carrier = carrier(&packet, &bytes, context.mode == Mode::Tunnel, packet.version == IpVersion::V4);
        let mismatch = codec.compress(&bytes, &outer(&carrier).0, &mut State::default(), &mut vec![]).unwrap_err();
        prop_assert_eq!(mismatch.field, key);
    }
}
