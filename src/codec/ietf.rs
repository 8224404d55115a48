//! Dialect `ietf`: turns the attributes of draft-ietf-ipsecme-diet-esp-07 §4 into rules (§5), and the rules into a
//! [`Codec`].

use super::compute::ComputedField;
use super::inner::{HeaderRule, InnerRules, IpRule, TransportRule, addresses, limits, ports};
use super::trailer::{NextHeader, Trailer};
use super::{Codec, EspHeader, NamedRule};
use crate::context::{Context, DscpCda, FlowLabelCda, HeaderCda, Ietf, Mode, Range, TcpHeader};
use crate::net::protocol::{SCTP, TCP, UDP, UDP_LITE};
use crate::net::{IpVersion, transport_header_len};
use crate::schc::fields::*;
use crate::schc::{Action, Compute, FieldDescriptor, Matching, Rule, RuleError, Target};

/// Compiles a context for a cipher of `cipher_block` bytes.
pub(super) fn compile(context: &Context, ietf: &Ietf, cipher_block: usize) -> Result<Codec, RuleError> {
    let rules = Rules { context, ietf };
    Ok(Codec {
        header: EspHeader {
            rule_id: ietf.rule_id.filter(|_| ietf.spi_bits + ietf.sn_bits < 64),
            ..EspHeader::low_bits(ietf.spi_bits, ietf.sn_bits)
        },
        trailer: rules.trailer(cipher_block),
        inner: rules.inner()?,
    })
}

/// The rules of a context as data, in the order in which they are applied to a packet.
pub(super) fn tables(context: &Context, ietf: &Ietf, cipher_block: usize) -> Vec<NamedRule> {
    let rules = Rules { context, ietf };
    let mut tables = vec![];
    if ietf.compress_inner {
        if let (Mode::Tunnel, Some(version)) = (context.mode, context.selectors.version) {
            let name = if version == IpVersion::V4 { "iipc ipv4" } else { "iipc ipv6" };
            tables.push(NamedRule { name, rule: rules.ip(version) });
        }
        for protocol in rules.protocols() {
            let name = match protocol {
                UDP => "iipc udp",
                UDP_LITE => "iipc udp-lite",
                TCP => "iipc tcp",
                _ => "iipc sctp",
            };
            let mut rule = rules.transport(protocol);
            if rules.is_ports_only(protocol) {
                // The checksum is not next to the ports, because payload is sent between them.
                rule.fields.push(FieldDescriptor::computed(TCP_CKSUM, Compute::Checksum));
            }
            tables.push(NamedRule { name, rule });
        }
    }
    tables.push(NamedRule { name: "ctec", rule: rules.trailer(cipher_block).table(context) });
    tables.push(NamedRule { name: "eec", rule: EspHeader::low_bits(ietf.spi_bits, ietf.sn_bits).table() });
    tables
}

/// The rules that the attributes of a context generate.
struct Rules<'a> {
    context: &'a Context,
    ietf: &'a Ietf,
}

impl Rules<'_> {
    fn inner(&self) -> Result<InnerRules, RuleError> {
        let Context { mode, selectors, .. } = self.context;
        let compressed = self.ietf.compress_inner;
        let version = selectors.version;
        let ip = match (mode, version) {
            (Mode::Tunnel, Some(version)) if compressed => {
                let header =
                    HeaderRule::new(&self.ip(version), &[], addresses(&self.context.selectors, version).into())?;
                Some(IpRule::new(version, self.ietf.payload_length_sent, header))
            }
            _ => None,
        };
        let mut transports = vec![];
        for protocol in self.protocols() {
            let ports_only = self.is_ports_only(protocol);
            let extra: &[ComputedField] = if ports_only { &[ComputedField::TcpChecksum] } else { &[] };
            transports.push(TransportRule {
                protocol,
                min_len: transport_header_len(protocol),
                ports_only,
                tcp_lsb: None,
                header: HeaderRule::new(&self.transport(protocol), extra, ports(selectors).into())?,
            });
        }
        // Fields that a rule compares are checked by the rule.
        let addresses = match version {
            Some(version) if ip.is_none() => limits(addresses(selectors, version)),
            _ => [].into(),
        };
        Ok(InnerRules {
            mode: Some(*mode),
            version,
            protocol: selectors.protocol,
            rule_id: self.ietf.rule_id.filter(|_| compressed),
            ip,
            ip_over_v4: None,
            transports: transports.into(),
            addresses,
            ports: limits(ports(selectors)),
        })
    }

    /// The protocols whose transport header is compressed.
    fn protocols(&self) -> Vec<u8> {
        let selected = |protocol: &u8| match self.context.selectors.protocol {
            Some(single) => single == *protocol,
            None => self.ietf.any_transport,
        };
        let has_rule = |protocol: &u8| *protocol != TCP || self.ietf.tcp_header != TcpHeader::None;
        let compressed = [UDP, TCP, UDP_LITE, SCTP].into_iter().filter(|_| self.ietf.compress_inner);
        compressed.filter(selected).filter(has_rule).collect()
    }

    fn is_ports_only(&self, protocol: u8) -> bool {
        protocol == TCP && self.ietf.tcp_header == TcpHeader::PortsOnly
    }

    /// The rule of the inner IP header, §5.1.1 and §5.1.2.
    fn ip(&self, version: IpVersion) -> Rule {
        let selectors = &self.context.selectors;
        let is_v4 = version == IpVersion::V4;
        let of = |v4, v6| if is_v4 { v4 } else { v6 };
        let sent_or = |sent, field, compute| match sent {
            true => FieldDescriptor::sent(field),
            false => FieldDescriptor::computed(field, compute),
        };
        let protocol = |field| match selectors.protocol {
            Some(protocol) => FieldDescriptor::equal(field, protocol.into()),
            None => FieldDescriptor::sent(field),
        };
        let length_sent = self.ietf.payload_length_sent;
        let ttl_sent = self.ietf.hop_limit_sent;

        let mut fields = vec![FieldDescriptor::equal(of(IPV4_VER, IPV6_VER), version.number().into())];
        if is_v4 {
            fields.push(FieldDescriptor::sent(IPV4_IHL));
        }
        fields.push(self.dscp(of(IPV4_DSCP, IPV6_DSCP)));
        fields.push(sent_or(self.ietf.ecn_cda == HeaderCda::Sent, of(IPV4_ECN, IPV6_ECN), Compute::Lower));
        if is_v4 {
            fields.push(sent_or(length_sent, IPV4_LEN, Compute::Length));
            fields.push(self.flow_label(IPV4_ID));
            fields.extend(self.flags_frag());
            fields.push(sent_or(ttl_sent, IPV4_TTL, Compute::Lower));
            fields.push(protocol(IPV4_PROTO));
            fields.push(FieldDescriptor::computed(IPV4_CKSUM, Compute::Checksum));
            fields.push(prefix(IPV4_SRC, selectors.src));
            fields.push(prefix(IPV4_DST, selectors.dst));
        } else {
            fields.push(self.flow_label(IPV6_FL));
            fields.push(sent_or(length_sent, IPV6_LEN, Compute::Length));
            fields.push(protocol(IPV6_NXT));
            fields.push(sent_or(ttl_sent, IPV6_HOP_LMT, Compute::Lower));
            fields.push(prefix(IPV6_SRC, selectors.src));
            fields.push(prefix(IPV6_DST, selectors.dst));
        }
        // IPv4 options follow the addresses (D-7). Their length comes from the IHL, not from the rule.
        Rule { fields }
    }

    fn dscp(&self, field: FieldId) -> FieldDescriptor {
        match &self.ietf.dscp_cda {
            DscpCda::Sent => FieldDescriptor::sent(field),
            DscpCda::Lower => FieldDescriptor::computed(field, Compute::Lower),
            DscpCda::List(values) => match values.as_slice() {
                [value] => FieldDescriptor::equal(field, (*value).into()),
                values => FieldDescriptor::new(
                    field,
                    Target::List(values.iter().map(|value| (*value).into()).collect()),
                    Matching::MatchMapping,
                    Action::MappingSent,
                ),
            },
        }
    }

    fn flow_label(&self, field: FieldId) -> FieldDescriptor {
        match self.ietf.flow_label_cda {
            FlowLabelCda::Sent => FieldDescriptor::sent(field),
            FlowLabelCda::Lower => FieldDescriptor::computed(field, Compute::Lower),
            FlowLabelCda::Generated if self.ietf.flow_label_hash => {
                FieldDescriptor::computed(field, Compute::Generated)
            }
            FlowLabelCda::Generated => FieldDescriptor::computed(field, Compute::GeneratedZero),
            FlowLabelCda::Zero => FieldDescriptor::equal(field, 0),
        }
    }

    /// D-6.
    fn flags_frag(&self) -> [FieldDescriptor; 2] {
        match self.ietf.ipv4_flags_frag {
            None => [FieldDescriptor::sent(IPV4_FLAGS), FieldDescriptor::sent(IPV4_FRAG)],
            Some(value) => [
                FieldDescriptor::equal(IPV4_FLAGS, (value >> 13).into()),
                FieldDescriptor::equal(IPV4_FRAG, (value & 0x1fff).into()),
            ],
        }
    }

    /// The rule of a transport header, §5.1.3 to §5.1.6. With `ports_only`, it only contains the ports.
    fn transport(&self, protocol: u8) -> Rule {
        let selectors = &self.context.selectors;
        let checksum = |field| FieldDescriptor::computed(field, Compute::Checksum);
        let ports = |src, dst| [prefix(src, selectors.src_port), prefix(dst, selectors.dst_port)];
        let mut fields = vec![];
        match protocol {
            UDP => {
                fields.extend(ports(UDP_SRC_PORT, UDP_DST_PORT));
                fields.push(FieldDescriptor::computed(UDP_LEN, Compute::Length));
                fields.push(checksum(UDP_CKSUM));
            }
            UDP_LITE => {
                fields.extend(ports(UDPLITE_SRC_PORT, UDPLITE_DST_PORT));
                fields.push(match self.ietf.udplite_coverage_sent {
                    true => FieldDescriptor::sent(UDPLITE_COVERAGE),
                    false => FieldDescriptor::computed(UDPLITE_COVERAGE, Compute::Length),
                });
                fields.push(checksum(UDPLITE_CKSUM));
            }
            TCP => {
                fields.extend(ports(TCP_SRC_PORT, TCP_DST_PORT));
                if !self.is_ports_only(protocol) {
                    fields.extend([TCP_SEQ, TCP_ACK, TCP_DOFF_FLAGS, TCP_WINDOW].map(FieldDescriptor::sent));
                    fields.push(checksum(TCP_CKSUM));
                    fields.push(FieldDescriptor::sent(TCP_URG));
                }
            }
            _ => {
                fields.extend(ports(SCTP_SRC_PORT, SCTP_DST_PORT));
                fields.push(FieldDescriptor::sent(SCTP_VTAG));
                fields.push(match self.ietf.sctp_checksum_sent {
                    true => FieldDescriptor::sent(SCTP_CKSUM),
                    false => checksum(SCTP_CKSUM),
                });
            }
        }
        Rule { fields }
    }

    /// Which trailer fields are sent (§5.2).
    fn trailer(&self, cipher_block: usize) -> Trailer {
        let align = cipher_block.max(self.ietf.alignment.into());
        let known_next_header = self.context.mode == Mode::Tunnel || self.context.selectors.protocol.is_some();
        let next_header = self.ietf.trailer_mandatory || !known_next_header;
        let pad = self.ietf.trailer_mandatory || align > 1;
        let counts_elided = self.ietf.trailer_counts_elided_next_header && cipher_block == 1 && !next_header;
        Trailer {
            rule_id: self.ietf.rule_id.filter(|_| !(pad && next_header)),
            pad,
            next_header: if next_header { NextHeader::Sent } else { NextHeader::Elided },
            align,
            uncounted: counts_elided.into(),
        }
    }
}

/// MSB(p) and LSB, where p is the length of the common prefix of the range. A single value is `equal` and
/// `not-sent`. If all values are selected, the field is sent.
fn prefix(field: FieldId, range: Range) -> FieldDescriptor {
    let bits = field.bits.unwrap_or(0);
    match range.common_prefix(bits.into()) as u16 {
        0 => FieldDescriptor::sent(field),
        msb if msb == bits => FieldDescriptor::equal(field, range.start),
        msb => FieldDescriptor::new(field, Target::Value(range.start), Matching::Msb(msb), Action::Lsb),
    }
}
