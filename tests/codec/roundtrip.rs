//! Any valid context with any packet that matches it: compressed packets are restored. Any clear text: no panic.

use dietesp::internals::codec::{Codec, State};
use dietesp::internals::context::*;
use dietesp::internals::net::{IpVersion, checksum};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::{context, outer, restore};

/// An IP packet in parts. Lengths and checksums are derived from them.
#[derive(Debug, Clone)]
pub struct Packet {
    pub version: IpVersion,
    pub traffic_class: u8,
    /// Flow Label, or Identification.
    pub label: u32,
    pub hop_limit: u8,
    pub protocol: u8,
    /// IPv4 Flags and Fragment Offset.
    pub frag: u16,
    pub src: u128,
    pub dst: u128,
    pub options: Vec<u8>,
    pub ports: [u16; 2],
    pub fields: [u8; 12],
    /// Use 0 instead of a UDP checksum or a UDP-Lite coverage.
    pub zero: bool,
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn bytes(&self) -> Vec<u8> {
        let mut packet = self.ip_header();
        let segment = packet.len();
        let [src_port, dst_port] = self.ports.map(u16::to_be_bytes);
        let len = (8 + self.payload.len() as u16).to_be_bytes();
        let header = match self.protocol {
            _ if self.frag & 0x3fff != 0 => vec![],
            17 => [src_port, dst_port, len, [0; 2]].concat(),
            136 => [src_port, dst_port, if self.zero { [0; 2] } else { len }, [0; 2]].concat(),
            6 => {
                let mut fields = self.fields;
                fields[8] |= 0x50;
                [&src_port[..], &dst_port, &fields, &[0; 2], &self.fields[..2]].concat()
            }
            132 => [&src_port[..], &dst_port, &self.fields[..4], &[0; 4]].concat(),
            _ => vec![],
        };
        packet.extend(&header);
        packet.extend(&self.payload);
        let [src, dst] = [self.src, self.dst].map(|value| match self.version {
            IpVersion::V4 => std::net::IpAddr::from((value as u32).to_be_bytes()),
            IpVersion::V6 => std::net::IpAddr::from(value.to_be_bytes()),
        });
        if !header.is_empty() {
            let sum = checksum::upper_layer(src, dst, self.protocol, &packet[segment..]);
            match self.protocol {
                17 if self.zero => {}
                17 | 136 => {
                    let sum = if sum == 0 { 0xffff } else { sum };
                    packet[segment + 6..segment + 8].copy_from_slice(&sum.to_be_bytes());
                }
                6 => packet[segment + 16..segment + 18].copy_from_slice(&sum.to_be_bytes()),
                _ => {
                    let crc = crc32c(&packet[segment..]).to_le_bytes();
                    packet[segment + 8..segment + 12].copy_from_slice(&crc);
                }
            }
        }
        let len = packet.len() as u16;
        match self.version {
            IpVersion::V4 => {
                packet[2..4].copy_from_slice(&len.to_be_bytes());
                let sum = checksum::internet(&packet[..segment]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            IpVersion::V6 => packet[4..6].copy_from_slice(&(len - 40).to_be_bytes()),
        }
        packet
    }

    fn ip_header(&self) -> Vec<u8> {
        match self.version {
            IpVersion::V4 => {
                let ihl = 5 + self.options.len() as u8 / 4;
                let mut header = vec![0x40 | ihl, self.traffic_class, 0, 0];
                header.extend((self.label as u16).to_be_bytes());
                header.extend(self.frag.to_be_bytes());
                header.extend([self.hop_limit, self.protocol, 0, 0]);
                header.extend((self.src as u32).to_be_bytes());
                header.extend((self.dst as u32).to_be_bytes());
                header.extend(&self.options);
                header
            }
            IpVersion::V6 => {
                let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.label;
                let mut header = first.to_be_bytes().to_vec();
                header.extend([0, 0, self.protocol, self.hop_limit]);
                header.extend(self.src.to_be_bytes());
                header.extend(self.dst.to_be_bytes());
                header
            }
        }
    }
}

/// CRC-32c bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

prop_compose! {
    pub fn packets()(
        version in select(vec![IpVersion::V4, IpVersion::V6]),
        (traffic_class, label, hop_limit) in any::<(u8, u32, u8)>(),
        protocol in select(vec![17u8, 17, 6, 132, 136, 58, 1, 44, 0]),
        frag in select(vec![0u16, 0x4000, 0x8000, 0x2000, 0x2007]),
        (src, dst) in any::<(u128, u128)>(),
        options in (0usize..=10, any::<[u8; 40]>()),
        (ports, fields, zero) in any::<([u16; 2], [u8; 12], bool)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..80),
    ) -> Packet {
        let v4 = version == IpVersion::V4;
        let mask = if v4 { u128::from(u32::MAX) } else { u128::MAX };
        Packet {
            version,
            traffic_class,
            label: label & if v4 { 0xffff } else { 0xf_ffff },
            hop_limit,
            protocol,
            frag: if v4 { frag } else { 0 },
            src: src & mask,
            dst: dst & mask,
            options: if v4 { options.1[..options.0 * 4].to_vec() } else { vec![] },
            ports,
            fields,
            zero,
            payload,
        }
    }
}

/// A range of `bits`-bit values around `value`.
pub fn ranges(value: u128, bits: u32) -> impl Strategy<Value = Range> {
    let all = Range::whole(bits).end;
    (0..=bits, 0..=bits, any::<(u128, u128)>()).prop_map(move |(below, above, (down, up))| {
        let within = |random: u128, bits: u32| random & ((1u128 << (bits % 128)) - 1);
        Range {
            start: value.saturating_sub(within(down, below)),
            end: value.saturating_add(within(up, above)).min(all),
        }
    })
}

/// A context that matches `packet`, after `packet` was changed to meet its requirements.
fn contexts(packet: Packet) -> impl Strategy<Value = (Packet, Context, usize)> {
    let bits = packet.version.address_bits();
    let selectors = (
        ranges(packet.src, bits),
        ranges(packet.dst, bits),
        ranges(packet.ports[0].into(), 16),
        ranges(packet.ports[1].into(), 16),
        any::<(bool, bool)>(),
    );
    let header = (
        select(vec![0u8, 1, 2]),
        proptest::sample::subsequence((0..64).collect::<Vec<u8>>(), 1..=20).prop_shuffle(),
        select(vec![HeaderCda::Sent, HeaderCda::Lower]),
        select(vec![FlowLabelCda::Sent, FlowLabelCda::Lower, FlowLabelCda::Generated, FlowLabelCda::Zero]),
        select(vec![None, Some(0u16), Some(0x4000)]),
        any::<Index>(),
    );
    let options = (
        select(vec![1u8, 2, 4, 8]),
        select(vec![TcpHeader::HeaderOrder, TcpHeader::PortsOnly, TcpHeader::None]),
        any::<Option<u8>>(),
        any::<[bool; 10]>(),
        select(vec![1usize, 16]),
    );
    (selectors, header, options).prop_map(move |(selected, header, options)| {
        let mut packet = packet.clone();
        let (src, dst, src_port, dst_port, (single, tunnel)) = selected;
        let (dscp_cda, list, ecn_cda, flow_label_cda, ipv4_flags_frag, index) = header;
        let (alignment, tcp_header, rule_id, flags, cipher_block) = options;
        let [
            compress_inner,
            mandatory,
            any_transport,
            sctp_sent,
            coverage_sent,
            ttl_sent,
            length_sent,
            counts,
            hash,
            both,
        ] = flags;
        if dscp_cda == 2 {
            packet.traffic_class = packet.traffic_class & 3 | list[index.index(list.len())] << 2;
        }
        if flow_label_cda == FlowLabelCda::Zero {
            packet.label = 0;
        }
        if let Some(value) = ipv4_flags_frag.filter(|_| packet.version == IpVersion::V4) {
            packet.frag = value;
        }
        if single || !tunnel {
            packet.frag &= 0xc000;
        }
        if !tunnel && [44, 0].contains(&packet.protocol) {
            packet.protocol = 17;
        }
        let mode = if tunnel { Mode::Tunnel } else { Mode::Transport };
        let version = Some(packet.version).filter(|_| compress_inner || both);
        let context = context(mode, version, |selectors, ietf| {
            if version.is_some() {
                (selectors.src, selectors.dst) = (src, dst);
            }
            (selectors.src_port, selectors.dst_port) = (src_port, dst_port);
            selectors.protocol = Some(packet.protocol).filter(|protocol| single && *protocol != 0);
            *ietf = Ietf {
                compress_inner,
                dscp_cda: match dscp_cda {
                    0 => DscpCda::Sent,
                    1 => DscpCda::Lower,
                    _ => DscpCda::List(list),
                },
                ecn_cda,
                flow_label_cda,
                alignment,
                trailer_mandatory: mandatory,
                spi_bits: 8,
                sn_bits: 8,
                rule_id,
                any_transport,
                tcp_header,
                sctp_checksum_sent: sctp_sent,
                udplite_coverage_sent: coverage_sent,
                hop_limit_sent: ttl_sent,
                payload_length_sent: length_sent,
                ipv4_flags_frag,
                trailer_counts_elided_next_header: counts,
                flow_label_hash: hash,
                revision: 7,
            };
        });
        (packet, context, cipher_block)
    })
}

/// Clears fields that may differ, on both sides.
pub fn without_lossy_fields(mut bytes: Vec<u8>, generated: bool, packet: &Packet) -> String {
    let v4 = packet.version == IpVersion::V4;
    if generated {
        if v4 {
            bytes[4..6].fill(0);
            bytes[10..12].fill(0);
        } else {
            bytes[1] &= 0xf0;
            bytes[2..4].fill(0);
        }
    }
    if packet.zero && [17, 136].contains(&packet.protocol) && packet.frag & 0x3fff == 0 {
        let segment = bytes.len() - packet.payload.len() - 8;
        bytes[segment + if packet.protocol == 136 { 4 } else { 6 }..segment + 8].fill(0);
    }
    hex::encode(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn compressed_packets_are_restored(
        (packet, context, cipher_block) in packets().prop_flat_map(contexts),
    ) {
        let bytes = packet.bytes();
        let codec = Codec::new(Some(&context), cipher_block).unwrap();
        let mut clear = vec![];
        let compressed = match codec.compress(&bytes, &outer(&bytes).0, &mut State::default(), &mut clear) {
            Ok(compressed) => compressed,
            Err(mismatch) => return Err(TestCaseError::fail(mismatch.to_string())),
        };
        // With this outer header, `lower` restores the packet's own values.
        let least = if packet.version == IpVersion::V4 { 20 } else { 40 };
        let mut carrier = bytes[..compressed.payload_offset.max(least)].to_vec();
        if context.mode == Mode::Transport {
            carrier[compressed.protocol_offset] = 50;
        } else {
            carrier[0] = carrier[0] & 0xf0 | 5;
            if packet.version == IpVersion::V6 {
                carrier[0] = bytes[0];
            }
        }
        let (restored, back) = restore(&codec, &clear, &carrier).unwrap();
        prop_assert_eq!(restored.warnings.names().count(), 0);
        prop_assert_eq!(restored.next_header, compressed.next_header);
        prop_assert_eq!(restored.payload_offset, compressed.payload_offset);
        let Dialect::Ietf(ietf) = &context.dialect else { unreachable!() };
        let generated = ietf.flow_label_cda == FlowLabelCda::Generated && context.mode == Mode::Tunnel;
        prop_assert_eq!(
            without_lossy_fields(back, generated, &packet),
            without_lossy_fields(bytes, generated, &packet)
        );
        let trailer_len = clear.len();
        let mandatory_align = cipher_block.max(usize::from(ietf.alignment));
        if ietf.trailer_mandatory {
            prop_assert_eq!(trailer_len % mandatory_align, 0);
        }
    }

    #[test]
    fn no_clear_text_panics(
        (packet, context, cipher_block) in packets().prop_flat_map(contexts),
        flips in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut in any::<Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..60),
        cut_packet in any::<Index>(),
    ) {
        let codec = Codec::new(Some(&context), cipher_block).unwrap();
        let standard = Codec::new(None, cipher_block).unwrap();
        let bytes = packet.bytes();
        let mut clear = vec![];
        codec.compress(&bytes, &outer(&bytes).0, &mut State::default(), &mut clear).unwrap();
        for (at, value) in flips {
            if !clear.is_empty() {
                let at = at.index(clear.len());
                clear[at] ^= value;
            }
        }
        let carrier = [&[0x45; 20][..], &[0x60; 40][..]][cut.index(2)];
        for clear in [&clear[..], &clear[..cut.index(clear.len() + 1)], &noise] {
            let _ = restore(&codec, clear, carrier);
            let _ = restore(&standard, clear, carrier);
        }
        // Compressing any packet does not panic either.
        let outer = outer(&bytes).0;
        for packet in [&bytes[..cut_packet.index(bytes.len() + 1)], &noise] {
            let _ = codec.compress(packet, &outer, &mut State::default(), &mut clear);
            let _ = standard.compress(packet, &outer, &mut State::default(), &mut clear);
        }
    }
}
