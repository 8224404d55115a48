//! Formats without ESP keys, or with keys in an unsupported form: their names, and what to give instead.

/// One of these formats.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// The name with its article.
    pub(crate) name: &'static str,
    /// Text that occurs in lines of this format and rarely in other files.
    marks: &'static [&'static str],
    pub(crate) help: &'static str,
}

const NO_KEYS: &str =
    "it has no ESP keys: get them from a host that shows them (`ip xfrm state`, a charon log with chd = 4, ...)";
const WRITE_YAML: &str = "write SPI, addresses, algorithms and keys of each SA as YAML; see docs/key-and-rule-files.md";
const GIVE_XFRM: &str = "give the output of `ip xfrm state`, run as root on the same host";

const FORMATS: [Foreign; 15] = [
    Foreign {
        name: "the output of `diagnose vpn tunnel list` of a FortiGate",
        marks: &["dec: spi=", "enc: spi="],
        help: WRITE_YAML,
    },
    Foreign {
        name: "the output of `show crypto ipsec sa` of a Cisco device",
        marks: &["inbound esp sas:", "outbound esp sas:", "Crypto map tag:", "#pkts encaps"],
        help: NO_KEYS,
    },
    Foreign {
        name: "a log of Libreswan's pluto",
        marks: &["| our  keymat", "| our keymat", "| peer keymat", "| ESP enckey:", "| ESP authkey:"],
        help: GIVE_XFRM,
    },
    Foreign {
        name: "a configuration of a GlobalProtect tunnel",
        marks: &["<c2s-spi>", "<s2c-spi>", "<ekey-c2s>", "<ekey-s2c>", "<akey-c2s>", "<akey-s2c>"],
        help: WRITE_YAML,
    },
    Foreign {
        name: "the status of strongSwan",
        marks: &["INSTALLED, TUNNEL", "INSTALLED, TRANSPORT", "INSTALLED, BEET", "Security Associations ("],
        help: GIVE_XFRM,
    },
    Foreign {
        name: "the status of Libreswan",
        marks: &["STATE_V2_ESTABLISHED", "IPsec SA established", "STATE_QUICK_"],
        help: GIVE_XFRM,
    },
    Foreign { name: "a file of IKE secrets", marks: &[": PSK ", ": RSA ", ": EAP ", ": XAUTH "], help: NO_KEYS },
    Foreign { name: "a configuration of strongSwan or Libreswan", marks: &["conn ", "connections {"], help: NO_KEYS },
    Foreign {
        name: "the output of `show security ipsec security-associations` of a Juniper device",
        marks: &["Total active tunnels:"],
        help: NO_KEYS,
    },
    Foreign {
        name: "the output of `/ip ipsec installed-sa print` of RouterOS",
        marks: &["enc-algorithm="],
        help: WRITE_YAML,
    },
    Foreign { name: "the output of `show ipsec sa` of VPP", marks: &["protocol:esp"], help: WRITE_YAML },
    Foreign { name: "a list of SAs of Windows", marks: &["Quick Mode SA", "QuickModeSA"], help: NO_KEYS },
    Foreign { name: "a configuration of WireGuard", marks: &["[Interface]", "[Peer]"], help: "WireGuard is not ESP" },
    Foreign {
        name: "a certificate or a private key",
        marks: &["-----BEGIN "],
        help: "ESP keys cannot be computed from it, because the peers also use a secret that it does not contain",
    },
    Foreign {
        name: "a log of TLS secrets",
        marks: &["CLIENT_RANDOM ", "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "CLIENT_TRAFFIC_SECRET_0 "],
        help: "TLS is not ESP",
    },
];

/// The format of a line.
pub(crate) fn of_line(line: &str) -> Option<&'static Foreign> {
    FORMATS.iter().find(|format| {
        format.marks.iter().any(|mark| match mark.ends_with(' ') && !mark.starts_with(':') {
            true => line.starts_with(mark),
            false => line.contains(mark),
        })
    })
}
