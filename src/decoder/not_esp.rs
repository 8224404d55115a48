//! The reason given for packets without ESP, with advice if they look like ESP.

use super::status::Reason;
use crate::net::protocol::{self, TCP};
use crate::net::{esp, ports, udp};
use crate::sa::table::SaTable;

/// The TCP port of IKE and ESP (RFC 9329 §2).
const TCP_PORT: u16 = 4500;
const ESP_IN_TCP: Reason = Reason::Text(
    "TCP port 4500: IKE and ESP in TCP (RFC 9329) are not decoded; extract the ESP packets from the stream and \
     decode them as lines of hex digits",
);

/// The reason for a packet without ESP. `reason` is what its IP header shows.
#[inline]
pub(crate) fn reason(reason: Reason, table: &SaTable, segment: &[u8]) -> Reason {
    match reason {
        Reason::Protocol(protocol::UDP) => of_udp(table, segment).unwrap_or(reason),
        Reason::Protocol(TCP) if ports(segment).is_some_and(|ports| ports.contains(&TCP_PORT)) => ESP_IN_TCP,
        _ => reason,
    }
}

#[inline]
fn of_udp(table: &SaTable, segment: &[u8]) -> Option<Reason> {
    let payload = segment.get(udp::HEADER_LEN..)?;
    let spi = esp::spi(payload)?;
    if payload.len() <= esp::HEADER_LEN || !table.has_whole_spi(protocol::ESP, spi) {
        return None;
    }
    // Clients use high ports.
    ports(segment)?.into_iter().min().filter(|port| *port > 0).map(Reason::EspPort)
}
