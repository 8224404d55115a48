//! Dialect `ehc`: the rules of draft-mglt-ipsecme-diet-esp-07, ESP Header Compression of 2019 (wire format §3). Only
//! single values of the traffic selectors compress.

use super::inner::{HeaderRule, InnerRules, IpRule, SelectorField, TransportRule, addresses, limits, ports};
use super::state::TcpLsb;
use super::trailer::{NextHeader, Trailer};
use super::{Codec, EspHeader, NamedRule};
use crate::context::{Context, Ehc, Mode, Range, UdpLiteCoverage};
use crate::net::protocol::{TCP, UDP, UDP_LITE};
use crate::net::{IpVersion, transport_header_len};
use crate::schc::fields::*;
use crate::schc::{Action, Compute, FieldDescriptor, Matching, Rule, RuleError, Target};

/// Compiles a context for a cipher of `cipher_block` bytes.
pub(super) fn compile(context: &Context, ehc: &Ehc, cipher_block: usize) -> Result<Codec, RuleError> {
    let rules = Rules { context, ehc };
    Ok(Codec {
        header: EspHeader::low_bits(ehc.spi_bytes * 8, ehc.sn_bytes * 8),
        trailer: rules.trailer(cipher_block),
        inner: rules.inner()?,
    })
}

/// The rules of a context as data, in the order in which they are applied to a packet.
pub(super) fn tables(context: &Context, ehc: &Ehc, cipher_block: usize) -> Vec<NamedRule> {
    let rules = Rules { context, ehc };
    let mut tables = vec![];
    match (context.mode, context.selectors.version) {
        (Mode::Tunnel, Some(IpVersion::V6)) => {
            tables.push(NamedRule { name: "iipc ipv6", rule: rules.ipv6(IpVersion::V6) });
            tables.push(NamedRule { name: "iipc ipv6, outer ipv4", rule: rules.ipv6(IpVersion::V4) });
        }
        (Mode::Tunnel, Some(IpVersion::V4)) => tables.push(NamedRule { name: "iipc ipv4", rule: rules.ipv4() }),
        _ => {}
    }
    if let Some((protocol, rule)) = rules.transport() {
        let name = match protocol {
            UDP => "iipc udp",
            UDP_LITE => "iipc udp-lite",
            _ => "iipc tcp",
        };
        tables.push(NamedRule { name, rule });
    }
    let trailer = rules.trailer(cipher_block);
    tables.push(NamedRule { name: "ctec", rule: trailer.table(context) });
    tables.push(NamedRule { name: "eec", rule: EspHeader::low_bits(ehc.spi_bytes * 8, ehc.sn_bytes * 8).table() });
    tables
}

/// The rules that the attributes of a context generate.
struct Rules<'a> {
    context: &'a Context,
    ehc: &'a Ehc,
}

impl Rules<'_> {
    fn inner(&self) -> Result<InnerRules, RuleError> {
        let Context { mode, selectors, .. } = self.context;
        let version = selectors.version;
        let ip_rule = |version, rule: &Rule| {
            let selected = addresses(selectors, version).map(whole_or_single);
            Ok(IpRule::new(version, false, HeaderRule::new(rule, &[], selected.into())?))
        };
        let (ip, ip_over_v4) = match (mode, version) {
            (Mode::Tunnel, Some(version @ IpVersion::V6)) => {
                (Some(ip_rule(version, &self.ipv6(IpVersion::V6))?), Some(ip_rule(version, &self.ipv6(IpVersion::V4))?))
            }
            (Mode::Tunnel, Some(version @ IpVersion::V4)) => (Some(ip_rule(version, &self.ipv4())?), None),
            _ => (None, None),
        };
        let transport = match self.transport() {
            Some((protocol, rule)) => Some(TransportRule {
                protocol,
                min_len: transport_header_len(protocol),
                ports_only: false,
                tcp_lsb: (protocol == TCP && self.ehc.tcp_lsb < 4).then(|| TcpLsb {
                    bits: u32::from(self.ehc.tcp_lsb) * 8,
                    first: [self.ehc.tcp_sn, self.ehc.tcp_ack],
                }),
                header: HeaderRule::new(&rule, &[], ports(selectors).map(whole_or_single).into())?,
            }),
            None => None,
        };
        Ok(InnerRules {
            // Fields that a rule compares are checked by the rule.
            addresses: match version {
                Some(version) if ip.is_none() => limits(addresses(selectors, version)),
                _ => [].into(),
            },
            ports: limits(ports(selectors)),
            ip,
            ip_over_v4,
            transports: transport.into_iter().collect(),
            ..InnerRules::uncompressed(Some(*mode), version, selectors.protocol)
        })
    }

    /// The rule of an inner IPv6 header inside an outer header of version `outer`.
    fn ipv6(&self, outer: IpVersion) -> Rule {
        let selectors = &self.context.selectors;
        let mut fields = match outer {
            IpVersion::V6 => vec![FieldDescriptor::equal(IPV6_VER, 6)],
            // An IPv4 header has no such 4 bytes to copy from, so they are sent, including the version.
            IpVersion::V4 => {
                vec![FieldDescriptor { action: Action::ValueSent, ..FieldDescriptor::equal(IPV6_VER, 6) }]
            }
        };
        fields.extend([IPV6_DSCP, IPV6_ECN, IPV6_FL].map(|field| match outer {
            IpVersion::V6 => FieldDescriptor::computed(field, Compute::Lower),
            IpVersion::V4 => FieldDescriptor::sent(field),
        }));
        fields.push(FieldDescriptor::computed(IPV6_LEN, Compute::Length));
        fields.push(self.protocol(IPV6_NXT));
        fields.push(FieldDescriptor::computed(IPV6_HOP_LMT, Compute::Lower));
        fields.push(single(IPV6_SRC, selectors.src));
        fields.push(single(IPV6_DST, selectors.dst));
        Rule { fields }
    }

    fn ipv4(&self) -> Rule {
        let selectors = &self.context.selectors;
        let fields = vec![
            FieldDescriptor::equal(IPV4_VER, 4),
            FieldDescriptor::equal(IPV4_IHL, 5),
            FieldDescriptor::sent(IPV4_DSCP),
            FieldDescriptor::sent(IPV4_ECN),
            FieldDescriptor::computed(IPV4_LEN, Compute::Length),
            FieldDescriptor::sent(IPV4_ID),
            // 0x4000 is Don't Fragment.
            FieldDescriptor::equal(IPV4_FLAGS, 2),
            FieldDescriptor::equal(IPV4_FRAG, 0),
            FieldDescriptor::computed(IPV4_TTL, Compute::Lower),
            self.protocol(IPV4_PROTO),
            FieldDescriptor::computed(IPV4_CKSUM, Compute::Checksum),
            single(IPV4_SRC, selectors.src),
            single(IPV4_DST, selectors.dst),
        ];
        Rule { fields }
    }

    fn protocol(&self, field: FieldId) -> FieldDescriptor {
        match self.context.selectors.protocol {
            Some(protocol) => FieldDescriptor::equal(field, protocol.into()),
            None => FieldDescriptor::sent(field),
        }
    }

    /// The protocol whose header is compressed, and its rule.
    fn transport(&self) -> Option<(u8, Rule)> {
        let selectors = &self.context.selectors;
        let protocol = selectors.protocol?;
        let ports = |src, dst| vec![single(src, selectors.src_port), single(dst, selectors.dst_port)];
        let checksum = |field| FieldDescriptor::computed(field, Compute::Checksum);
        let mut fields;
        match protocol {
            UDP => {
                fields = ports(UDP_SRC_PORT, UDP_DST_PORT);
                fields.push(FieldDescriptor::computed(UDP_LEN, Compute::Length));
                fields.push(checksum(UDP_CKSUM));
            }
            UDP_LITE => {
                fields = ports(UDPLITE_SRC_PORT, UDPLITE_DST_PORT);
                fields.push(match self.ehc.udplite_coverage {
                    UdpLiteCoverage::Sent => FieldDescriptor::sent(UDPLITE_COVERAGE),
                    UdpLiteCoverage::Length => FieldDescriptor::computed(UDPLITE_COVERAGE, Compute::Length),
                    UdpLiteCoverage::AtMost(agreed) => {
                        FieldDescriptor::computed(UDPLITE_COVERAGE, Compute::LengthAtMost(agreed))
                    }
                });
                fields.push(checksum(UDPLITE_CKSUM));
            }
            TCP => {
                fields = ports(TCP_SRC_PORT, TCP_DST_PORT);
                fields.push(self.near(TCP_SEQ, self.ehc.tcp_sn));
                fields.push(self.near(TCP_ACK, self.ehc.tcp_ack));
                fields.push(match self.ehc.tcp_options {
                    true => FieldDescriptor::sent(TCP_DOFF_FLAGS),
                    // Byte 12: a Data Offset of 5 words, and reserved bits that are 0.
                    false => FieldDescriptor::new(TCP_DOFF_FLAGS, Target::Value(0x5000), Matching::Msb(8), Action::Lsb),
                });
                fields.push(FieldDescriptor::sent(TCP_WINDOW));
                fields.push(checksum(TCP_CKSUM));
                fields.push(match self.ehc.tcp_urgent {
                    true => FieldDescriptor::sent(TCP_URG),
                    false => FieldDescriptor::equal(TCP_URG, 0),
                });
            }
            _ => return None,
        }
        Some((protocol, Rule { fields }))
    }

    fn near(&self, field: FieldId, first: u32) -> FieldDescriptor {
        match self.ehc.tcp_lsb {
            4 => FieldDescriptor::sent(field),
            bytes => FieldDescriptor::new(
                field,
                Target::Value(first.into()),
                Matching::Ignore,
                Action::Nearest(u16::from(bytes) * 8),
            ),
        }
    }

    /// The attributes ESP_NH and ESP_PAD.
    fn trailer(&self, cipher_block: usize) -> Trailer {
        let known_next_header = self.context.mode == Mode::Tunnel || self.context.selectors.protocol.is_some();
        let align = least_common_multiple(self.ehc.align.into(), cipher_block);
        Trailer {
            rule_id: None,
            pad: align > 1,
            next_header: if known_next_header { NextHeader::Elided } else { NextHeader::Sent },
            align,
            uncounted: 0,
        }
    }
}

/// A single value is not sent. Any other range is sent in full, and the selectors check its limits.
fn single(field: FieldId, range: Range) -> FieldDescriptor {
    if range.is_single() { FieldDescriptor::equal(field, range.start) } else { FieldDescriptor::sent(field) }
}

fn whole_or_single(selected: SelectorField) -> SelectorField {
    let is_prefix = selected.range.is_single() || selected.range == Range::whole(selected.bits as u32);
    SelectorField { is_prefix, ..selected }
}

/// The least common multiple of alignment and block. Both are at least 1, and too small to overflow.
fn least_common_multiple(align: usize, block: usize) -> usize {
    let (mut a, mut b) = (align, block);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    align / a.max(1) * block
}
