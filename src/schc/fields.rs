//! The header fields of rules: their SCHC names (FID), their lengths and their names in records.

/// One header field.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// The FID as written in rule tables, e.g. `IPV6.HOP_LMT`.
    pub name: &'static str,
    /// Its length in bits; `None` if it varies.
    pub bits: Option<u16>,
    /// Its name in records and messages, e.g. `hop_limit`.
    pub key: &'static str,
}

impl Field {
    const fn new(name: &'static str, bits: u16, key: &'static str) -> Field {
        Field { name, bits: Some(bits), key }
    }
}

/// A header field: one row of the table of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldId(&'static Field);

impl std::ops::Deref for FieldId {
    type Target = Field;

    fn deref(&self) -> &Field {
        self.0
    }
}

impl FieldId {
    /// The field with this FID. Case is ignored.
    pub fn named(name: &str) -> Option<FieldId> {
        FIELDS.iter().copied().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// For fields that are named after an end of the link, device or application (RFC 8724 §10.7, §10.9): the
    /// corresponding field in a packet of this direction, and its rank among the neighboring fields in the header.
    pub(crate) fn by_direction(self, down: bool) -> Option<(FieldId, u8)> {
        let sources = [IPV6_SRC_PREFIX, IPV6_SRC_IID, UDP_SRC_PORT];
        let destinations = [IPV6_DST_PREFIX, IPV6_DST_IID, UDP_DST_PORT];
        let index = |names: [FieldId; 3]| names.iter().position(|name| *name == self);
        let (index, source) = match index([IPV6_DEV_PREFIX, IPV6_DEV_IID, UDP_DEV_PORT]) {
            Some(index) => (index, !down),
            None => (index([IPV6_APP_PREFIX, IPV6_APP_IID, UDP_APP_PORT])?, down),
        };
        let field = if source { sources } else { destinations }.get(index).copied()?;
        // In a header, prefix and IID of the source precede those of the destination, and so do ports.
        let place = if index == 2 { 4 + u8::from(!source) } else { index as u8 + if source { 0 } else { 2 } };
        Some((field, place))
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $constant:ident = $field:expr;)*) => {
        $($(#[$doc])* pub const $constant: FieldId = FieldId(&$field);)*
        /// All fields.
        pub const FIELDS: &[FieldId] = &[$($constant),*];
    };
}

fields! {
    /// Version, RFC 8200 §3.
    IPV6_VER = Field::new("IPV6.VER", 4, "version");
    /// Traffic Class, 8 bits: DSCP and ECN.
    IPV6_TC = Field::new("IPV6.TC", 8, "traffic_class");
    /// Differentiated Services Code Point, RFC 2474.
    IPV6_DSCP = Field::new("IPV6.DSCP", 6, "dscp");
    /// Explicit Congestion Notification, RFC 3168.
    IPV6_ECN = Field::new("IPV6.ECN", 2, "ecn");
    /// Flow Label.
    IPV6_FL = Field::new("IPV6.FL", 20, "flow_label");
    /// Payload Length.
    IPV6_LEN = Field::new("IPV6.LEN", 16, "payload_length");
    /// Next Header.
    IPV6_NXT = Field::new("IPV6.NXT", 8, "next_header");
    /// Hop Limit.
    IPV6_HOP_LMT = Field::new("IPV6.HOP_LMT", 8, "hop_limit");
    /// Source Address.
    IPV6_SRC = Field::new("IPV6.SRC", 128, "src");
    /// Destination Address.
    IPV6_DST = Field::new("IPV6.DST", 128, "dst");
    /// The first 64 bits of the source address.
    IPV6_SRC_PREFIX = Field::new("IPV6.SRC_PREFIX", 64, "src");
    /// The last 64 bits of the source address.
    IPV6_SRC_IID = Field::new("IPV6.SRC_IID", 64, "src");
    /// The first 64 bits of the destination address.
    IPV6_DST_PREFIX = Field::new("IPV6.DST_PREFIX", 64, "dst");
    /// The last 64 bits of the destination address.
    IPV6_DST_IID = Field::new("IPV6.DST_IID", 64, "dst");
    /// The first 64 bits of the device's address: the source address of an uplink packet (RFC 8724 §10.7).
    IPV6_DEV_PREFIX = Field::new("IPV6.DEV_PREFIX", 64, "device");
    /// The last 64 bits of the device's address.
    IPV6_DEV_IID = Field::new("IPV6.DEV_IID", 64, "device");
    /// The first 64 bits of the application's address: the destination address of an uplink packet.
    IPV6_APP_PREFIX = Field::new("IPV6.APP_PREFIX", 64, "application");
    /// The last 64 bits of the application's address.
    IPV6_APP_IID = Field::new("IPV6.APP_IID", 64, "application");

    /// Version, RFC 791 §3.1.
    IPV4_VER = Field::new("IPV4.VER", 4, "version");
    /// Internet Header Length, in words of 32 bits.
    IPV4_IHL = Field::new("IPV4.IHL", 4, "ihl");
    /// Differentiated Services Code Point, RFC 2474.
    IPV4_DSCP = Field::new("IPV4.DSCP", 6, "dscp");
    /// Explicit Congestion Notification, RFC 3168.
    IPV4_ECN = Field::new("IPV4.ECN", 2, "ecn");
    /// Total Length.
    IPV4_LEN = Field::new("IPV4.LEN", 16, "total_length");
    /// Identification.
    IPV4_ID = Field::new("IPV4.ID", 16, "identification");
    /// Flags: reserved, Don't Fragment, More Fragments.
    IPV4_FLAGS = Field::new("IPV4.FLAGS", 3, "flags");
    /// Fragment Offset, in units of 8 bytes.
    IPV4_FRAG = Field::new("IPV4.FRAG", 13, "fragment_offset");
    /// Time to Live.
    IPV4_TTL = Field::new("IPV4.TTL", 8, "ttl");
    /// Protocol.
    IPV4_PROTO = Field::new("IPV4.PROTO", 8, "next_header");
    /// Header Checksum.
    IPV4_CKSUM = Field::new("IPV4.CKSUM", 16, "header_checksum");
    /// Source Address.
    IPV4_SRC = Field::new("IPV4.SRC", 32, "src");
    /// Destination Address.
    IPV4_DST = Field::new("IPV4.DST", 32, "dst");
    /// Options, (IHL - 5) words of 32 bits.
    IPV4_OPTIONS = Field { name: "IPV4.OPTIONS", bits: None, key: "options" };

    /// Source Port, RFC 768.
    UDP_SRC_PORT = Field::new("UDP.SRC_PORT", 16, "src_port");
    /// Destination Port.
    UDP_DST_PORT = Field::new("UDP.DST_PORT", 16, "dst_port");
    /// The device's port: the source port of an uplink packet (RFC 8724 §10.9).
    UDP_DEV_PORT = Field::new("UDP.DEV_PORT", 16, "device_port");
    /// The application's port.
    UDP_APP_PORT = Field::new("UDP.APP_PORT", 16, "application_port");
    /// Length.
    UDP_LEN = Field::new("UDP.LEN", 16, "udp.length");
    /// Checksum.
    UDP_CKSUM = Field::new("UDP.CKSUM", 16, "udp.checksum");

    /// Source Port, RFC 3828.
    UDPLITE_SRC_PORT = Field::new("UDPLITE.SRC_PORT", 16, "src_port");
    /// Destination Port.
    UDPLITE_DST_PORT = Field::new("UDPLITE.DST_PORT", 16, "dst_port");
    /// Checksum Coverage.
    UDPLITE_COVERAGE = Field::new("UDPLITE.COVERAGE", 16, "udplite.coverage");
    /// Checksum.
    UDPLITE_CKSUM = Field::new("UDPLITE.CKSUM", 16, "udplite.checksum");

    /// Source Port, RFC 9293 §3.1.
    TCP_SRC_PORT = Field::new("TCP.SRC_PORT", 16, "src_port");
    /// Destination Port.
    TCP_DST_PORT = Field::new("TCP.DST_PORT", 16, "dst_port");
    /// Sequence Number.
    TCP_SEQ = Field::new("TCP.SEQ", 32, "tcp.sequence");
    /// Acknowledgment Number.
    TCP_ACK = Field::new("TCP.ACK", 32, "tcp.acknowledgment");
    /// Data Offset, reserved bits and control bits.
    TCP_DOFF_FLAGS = Field::new("TCP.DOFF_FLAGS", 16, "tcp.flags");
    /// Window.
    TCP_WINDOW = Field::new("TCP.WINDOW", 16, "tcp.window");
    /// Checksum.
    TCP_CKSUM = Field::new("TCP.CKSUM", 16, "tcp.checksum");
    /// Urgent Pointer.
    TCP_URG = Field::new("TCP.URG", 16, "tcp.urgent_pointer");

    /// Source Port Number, RFC 9260 §3.1.
    SCTP_SRC_PORT = Field::new("SCTP.SRC_PORT", 16, "src_port");
    /// Destination Port Number.
    SCTP_DST_PORT = Field::new("SCTP.DST_PORT", 16, "dst_port");
    /// Verification Tag.
    SCTP_VTAG = Field::new("SCTP.VTAG", 32, "sctp.verification_tag");
    /// Checksum: CRC-32c, least significant byte first.
    SCTP_CKSUM = Field::new("SCTP.CKSUM", 32, "sctp.checksum");

    /// Security Parameters Index, RFC 4303 §2.1.
    ESP_SPI = Field::new("ESP.SPI", 32, "spi");
    /// The low half of the Sequence Number, RFC 4303 §2.2.
    ESP_SEQ = Field::new("ESP.SEQ", 32, "sequence");
    /// Padding, RFC 4303 §2.4.
    ESP_PAD = Field { name: "ESP.PAD", bits: None, key: "padding" };
    /// Pad Length, RFC 4303 §2.5.
    ESP_PAD_LEN = Field::new("ESP.PAD_LEN", 8, "pad_length");
    /// Next Header, RFC 4303 §2.6.
    ESP_NXT = Field::new("ESP.NXT", 8, "next_header");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_without_case_and_are_unique() {
        assert_eq!(FieldId::named("ipv6.hop_lmt"), Some(IPV6_HOP_LMT));
        assert_eq!(FieldId::named("IPV6.NO"), None);
        for field in FIELDS {
            assert_eq!(FIELDS.iter().filter(|other| other.name == field.name).count(), 1, "{}", field.name);
        }
    }
}
