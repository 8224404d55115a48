//! The headers that rules can describe, field by field.

use crate::net::protocol::{SCTP, TCP, UDP, UDP_LITE};
use crate::schc::fields::*;

/// A header whose fields have rows.
pub(super) struct HeaderForm {
    pub name: &'static str,
    /// Its length in bits without options.
    pub bits: u16,
    pub protocol: Option<u8>,
    /// Its fields with their offset in bits.
    fields: &'static [(FieldId, u16)],
}

impl HeaderForm {
    /// Whether `field` belongs to this header, under any of its names.
    pub(super) fn has(&self, field: FieldId) -> bool {
        field.name.split_once('.').is_some_and(|(header, _)| header == self.name)
    }

    pub(super) fn offset(&self, field: FieldId) -> Option<u16> {
        self.fields.iter().find(|(known, _)| *known == field).map(|(_, offset)| *offset)
    }

    pub(super) fn field_at(&self, at: u16) -> &'static str {
        // An offset inside a field is the second half of an address, or ECN.
        self.fields.iter().find(|(_, offset)| *offset == at).map_or("a field", |(field, _)| field.name)
    }
}

pub(super) const HEADERS: [HeaderForm; 6] = [
    HeaderForm {
        name: "IPV6",
        bits: 320,
        protocol: None,
        fields: &[
            (IPV6_VER, 0),
            (IPV6_TC, 4),
            (IPV6_DSCP, 4),
            (IPV6_ECN, 10),
            (IPV6_FL, 12),
            (IPV6_LEN, 32),
            (IPV6_NXT, 48),
            (IPV6_HOP_LMT, 56),
            (IPV6_SRC, 64),
            (IPV6_SRC_PREFIX, 64),
            (IPV6_SRC_IID, 128),
            (IPV6_DST, 192),
            (IPV6_DST_PREFIX, 192),
            (IPV6_DST_IID, 256),
        ],
    },
    HeaderForm {
        name: "IPV4",
        bits: 160,
        protocol: None,
        fields: &[
            (IPV4_VER, 0),
            (IPV4_IHL, 4),
            (IPV4_DSCP, 8),
            (IPV4_ECN, 14),
            (IPV4_LEN, 16),
            (IPV4_ID, 32),
            (IPV4_FLAGS, 48),
            (IPV4_FRAG, 51),
            (IPV4_TTL, 64),
            (IPV4_PROTO, 72),
            (IPV4_CKSUM, 80),
            (IPV4_SRC, 96),
            (IPV4_DST, 128),
        ],
    },
    HeaderForm {
        name: "UDP",
        bits: 64,
        protocol: Some(UDP),
        fields: &[(UDP_SRC_PORT, 0), (UDP_DST_PORT, 16), (UDP_LEN, 32), (UDP_CKSUM, 48)],
    },
    HeaderForm {
        name: "UDPLITE",
        bits: 64,
        protocol: Some(UDP_LITE),
        fields: &[(UDPLITE_SRC_PORT, 0), (UDPLITE_DST_PORT, 16), (UDPLITE_COVERAGE, 32), (UDPLITE_CKSUM, 48)],
    },
    HeaderForm {
        name: "TCP",
        bits: 160,
        protocol: Some(TCP),
        fields: &[
            (TCP_SRC_PORT, 0),
            (TCP_DST_PORT, 16),
            (TCP_SEQ, 32),
            (TCP_ACK, 64),
            (TCP_DOFF_FLAGS, 96),
            (TCP_WINDOW, 112),
            (TCP_CKSUM, 128),
            (TCP_URG, 144),
        ],
    },
    HeaderForm {
        name: "SCTP",
        bits: 96,
        protocol: Some(SCTP),
        fields: &[(SCTP_SRC_PORT, 0), (SCTP_DST_PORT, 16), (SCTP_VTAG, 32), (SCTP_CKSUM, 64)],
    },
];
