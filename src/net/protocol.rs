//! IP protocol numbers (IANA "Protocol Numbers"), which are also the Next Header values of IPv6 and ESP.

use etherparse::ip_number;

/// IPv6 Hop-by-Hop Options.
pub const HOP_BY_HOP: u8 = ip_number::IPV6_HOP_BY_HOP.0;
/// ICMP.
pub const ICMP: u8 = ip_number::ICMP.0;
/// IPv4 in IP.
pub const IPV4: u8 = ip_number::IPV4.0;
/// TCP.
pub const TCP: u8 = ip_number::TCP.0;
/// UDP.
pub const UDP: u8 = ip_number::UDP.0;
/// IPv6 in IP.
pub const IPV6: u8 = ip_number::IPV6.0;
/// IPv6 Routing header.
pub const ROUTING: u8 = ip_number::IPV6_ROUTE.0;
/// IPv6 Fragment header.
pub const FRAGMENT: u8 = ip_number::IPV6_FRAG.0;
/// GRE.
pub const GRE: u8 = ip_number::GRE.0;
/// ESP.
pub const ESP: u8 = ip_number::ENCAP_SEC.0;
/// Authentication Header.
pub const AH: u8 = ip_number::AUTH.0;
/// ICMPv6.
pub const ICMPV6: u8 = ip_number::IPV6_ICMP.0;
/// No Next Header: nothing follows (RFC 8200 §4.7); in ESP, a dummy packet (RFC 4303 §2.6).
pub const NO_NEXT_HEADER: u8 = ip_number::IPV6_NO_NEXT_HEADER.0;
/// IPv6 Destination Options.
pub const DESTINATION_OPTIONS: u8 = ip_number::IPV6_DEST_OPTIONS.0;
/// EtherIP (RFC 3378).
pub const ETHER_IP: u8 = ip_number::ETHER_IP.0;
/// SCTP.
pub const SCTP: u8 = ip_number::SCTP.0;
/// Mobility Header (RFC 6275).
pub const MOBILITY: u8 = ip_number::MOBILITY.0;
/// UDP-Lite.
pub const UDP_LITE: u8 = ip_number::UDP_LITE.0;
/// MPLS in IP (RFC 4023).
pub const MPLS_IN_IP: u8 = ip_number::MPLS_IN_IP.0;
/// Host Identity Protocol (RFC 7401).
pub const HIP: u8 = ip_number::HIP.0;
/// Shim6 (RFC 5533).
pub const SHIM6: u8 = ip_number::SHIM6.0;
/// Ethernet in IP (RFC 8986).
pub const ETHERNET: u8 = 143;

/// The name of a protocol, if it is a common one.
pub fn name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        ICMP => "ICMP",
        2 => "IGMP",
        IPV4 => "IPv4",
        TCP => "TCP",
        UDP => "UDP",
        IPV6 => "IPv6",
        GRE => "GRE",
        ESP => "ESP",
        AH => "AH",
        ICMPV6 => "ICMPv6",
        NO_NEXT_HEADER => "no next header",
        89 => "OSPF",
        ETHER_IP => "EtherIP",
        103 => "PIM",
        112 => "VRRP",
        115 => "L2TP",
        SCTP => "SCTP",
        UDP_LITE => "UDP-Lite",
        MPLS_IN_IP => "MPLS-in-IP",
        ETHERNET => "Ethernet",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the registry, as implemented by etherparse.
    #[test]
    fn numbers_are_those_of_iana() {
        let numbers = [HOP_BY_HOP, ICMP, IPV4, TCP, UDP, IPV6, ROUTING, FRAGMENT, GRE, ESP, AH, ICMPV6];
        assert_eq!(numbers, [0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58]);
        let numbers = [NO_NEXT_HEADER, DESTINATION_OPTIONS, ETHER_IP, SCTP, MOBILITY, UDP_LITE];
        assert_eq!(numbers, [59, 60, 97, 132, 135, 136]);
        assert_eq!([MPLS_IN_IP, HIP, SHIM6, ETHERNET], [137, 139, 140, 143]);
        assert_eq!((name(ESP), name(UDP_LITE), name(253)), (Some("ESP"), Some("UDP-Lite"), None));
    }
}
