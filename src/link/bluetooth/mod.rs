//! Bluetooth LE: IPv6 in L2CAP channels of the Internet Protocol Support Profile (IPSP, RFC 7668). Captures are
//! taken on the air or at the Host Controller Interface (HCI). Numbers are little-endian.
//!
//! ```text
//! link layer or HCI | L2CAP frame, in pieces | SDU, in K-frames | IPHC, NHC ... | payload
//! ```
//!
//! Between a host and its controller, data is in the clear even if it is encrypted on the air.

mod air;
mod hci;
mod l2cap;

use std::collections::HashMap;

use self::air::{Crc, Pdu};
use self::hci::{Hci, Host};
use self::l2cap::Connection;
use super::LinkAddresses;
use super::repeats::Repeats;
use crate::bytes::Reader;
use crate::capture::Frame;
use crate::error::{Fault, Stage};
use crate::net::LinkAddress;

/// The supported link types of Bluetooth.
pub(super) const LINK_TYPES: [u16; 6] =
    [hci::HCI_H4, hci::HCI_H4_WITH_PHDR, air::LE_LL, hci::LINUX_MONITOR, air::LE_LL_WITH_PHDR, air::NORDIC_BLE];

/// Most connections that are followed at the same time.
const MAX_CONNECTIONS: usize = 64;
/// Most controllers whose own addresses are kept.
const MAX_HOSTS: usize = 64;

const ENCRYPTED: &str = "encrypted on the link layer (Bluetooth LE)";

/// The result of one frame.
#[derive(Debug)]
pub(super) enum BluetoothContent {
    /// [`Bluetooth::sdu`] is a complete 6LoWPAN frame. `guessed`: only its first byte indicates this.
    Sdu { link: LinkAddresses, connection: u64, guessed: bool },
    /// A piece of an L2CAP frame or SDU that is not complete yet.
    Incomplete,
    /// A frame that the link layer retransmitted.
    Repeat(u64),
    /// The frame contains something else, which the text names.
    Other(&'static str),
}

/// The sender of a frame: on the air the central or the peripheral, over HCI the host or its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    /// The central or the host.
    One,
    /// The peripheral or the peer.
    Two,
    /// The capture does not say who.
    Unknown,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::One => Side::Two,
            Side::Two => Side::One,
            Side::Unknown => Side::Unknown,
        }
    }
}

/// Number and time of a frame.
#[derive(Debug, Clone, Copy)]
struct When {
    frame: u64,
    time_ns: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    AccessAddress(u32),
    Handle { adapter: u32, handle: u16 },
}

/// Follows connections.
#[derive(Debug, Default)]
pub(super) struct Bluetooth {
    connections: Connections,
    hosts: HashMap<u32, Host>,
    sdu: Vec<u8>,
    frames: Vec<u64>,
}

#[derive(Debug, Default)]
struct Connections {
    by_key: HashMap<Key, Connection>,
    /// Time of last use: a counter that increases with each use.
    clock: u64,
}

impl Connections {
    /// Starts the connection `key`. If there are too many, it replaces the least recently used one.
    fn used(&mut self, key: Key) -> &mut Connection {
        if !self.by_key.contains_key(&key) && self.by_key.len() >= MAX_CONNECTIONS {
            let oldest = self.by_key.iter().min_by_key(|(_, connection)| connection.last_used).map(|(key, _)| *key);
            oldest.map(|key| self.by_key.remove(&key));
        }
        self.clock += 1;
        let connection = self.by_key.entry(key).or_insert_with(|| Connection::new(self.clock));
        connection.last_used = self.clock;
        connection
    }

    fn end(&mut self, key: Key) {
        self.by_key.remove(&key);
    }
}

impl Bluetooth {
    /// The last complete SDU.
    pub(super) fn sdu(&self) -> &[u8] {
        &self.sdu
    }

    /// The frames that contained it.
    pub(super) fn frames(&self) -> &[u64] {
        &self.frames
    }

    /// Number of connections, channels and waiting frames.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let connections = || self.connections.by_key.values();
        let sizes = || connections().map(Connection::sizes);
        (connections().len(), sizes().map(|(channels, _)| channels).sum(), sizes().map(|(_, frames)| frames).sum())
    }

    /// Adds a frame. Offsets of faults count from the start of the frame, or of the L2CAP frame that it completes.
    pub(super) fn take(
        &mut self,
        frame: &Frame<'_>,
        time_ns: i64,
        repeats: &mut Repeats,
    ) -> Result<BluetoothContent, Fault> {
        let (has, needs) = (frame.data.len(), frame.orig_len as usize);
        if has < needs {
            return Err(Fault::short(Stage::Link, 0, "Bluetooth frame", needs, has));
        }
        let when = When { frame: frame.number, time_ns };
        match frame.link_type() {
            air::LE_LL | air::LE_LL_WITH_PHDR | air::NORDIC_BLE => match air::read(frame.link_type(), frame.data)? {
                Ok(pdu) => self.air(&pdu, when, repeats),
                Err(what) => Ok(BluetoothContent::Other(what)),
            },
            _ => self.hci(hci::read(frame.link_type(), frame.data, frame.interface.index)?, when),
        }
    }

    fn air(&mut self, pdu: &Pdu<'_>, when: When, repeats: &mut Repeats) -> Result<BluetoothContent, Fault> {
        const CONNECT_IND: u8 = 5;
        // LLID.
        const REST: u8 = 1;
        const START: u8 = 2;
        const CONTROL: u8 = 3;
        let key = Key::AccessAddress(pdu.access_address);
        if self.has_wrong_crc(pdu) {
            return Err(Fault::unsupported(Stage::Link, 0, "the CRC of the Bluetooth LE frame is wrong"));
        }
        if pdu.access_address == air::ADVERTISING {
            if pdu.first & 0xf == CONNECT_IND {
                self.connect(pdu.payload)?;
            }
            return Ok(BluetoothContent::Other("Bluetooth LE advertising"));
        }
        let connection = self.connections.used(key);
        if let Some(of) = repeated(connection, pdu, when, repeats) {
            return Ok(BluetoothContent::Repeat(of));
        }
        // An encrypted frame has a MIC and at least one more byte.
        if connection.encrypted && !pdu.decrypted && pdu.payload.len() > 4 {
            return Ok(BluetoothContent::Other(ENCRYPTED));
        }
        match (llid(pdu), pdu.payload) {
            (_, []) => Ok(BluetoothContent::Other("a Bluetooth LE frame without data")),
            (CONTROL, [opcode, ..]) => {
                self.control(key, *opcode);
                Ok(BluetoothContent::Other("Bluetooth LE link control"))
            }
            (REST | START, payload) => {
                let out = (&mut self.sdu, &mut self.frames);
                connection.piece(pdu.from, llid(pdu) == START, pdu.decrypted, payload, when, out)
            }
            _ => Ok(BluetoothContent::Other("a reserved kind of Bluetooth LE frame")),
        }
    }

    fn has_wrong_crc(&self, pdu: &Pdu<'_>) -> bool {
        const ADVERTISING_CRC_INIT: u32 = 0x55_5555;
        let init = || match pdu.access_address {
            air::ADVERTISING => Some(ADVERTISING_CRC_INIT),
            address => {
                self.connections.by_key.get(&Key::AccessAddress(address)).and_then(|connection| connection.crc_init)
            }
        };
        match pdu.crc {
            Crc::Checked { good } => !good,
            Crc::Bytes(crc) => init().is_some_and(|init| air::crc(init, pdu.covered) != crc),
        }
    }

    /// A control frame of the link layer.
    fn control(&mut self, key: Key, opcode: u8) {
        const LL_TERMINATE_IND: u8 = 2;
        const LL_ENC_RSP: u8 = 4;
        const LL_START_ENC_REQ: u8 = 5;
        const LL_REJECT_IND: u8 = 0x0d;
        const LL_REJECT_EXT_IND: u8 = 0x11;
        match opcode {
            LL_TERMINATE_IND => self.connections.end(key),
            // From here on all data is encrypted (5.1.3.1), unless the request is rejected.
            LL_ENC_RSP | LL_START_ENC_REQ => self.connections.used(key).encrypted = true,
            LL_REJECT_IND | LL_REJECT_EXT_IND => self.connections.used(key).encrypted = false,
            _ => {}
        }
    }

    /// A connection starts: its two addresses, and the access address and CRC seed of its frames (Vol 6, Part B,
    /// 2.3.3.1).
    fn connect(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let mut reader = Reader::new(Stage::Link, "Bluetooth LE CONNECT_IND", payload);
        let addresses = [Some(address(&mut reader)?), Some(address(&mut reader)?)];
        let access_address = u32::from_le_bytes(reader.array()?);
        let [a, b, c] = reader.array()?;
        let key = Key::AccessAddress(access_address);
        self.connections.end(key);
        let connection = self.connections.used(key);
        connection.addresses = addresses;
        connection.crc_init = Some(u32::from_le_bytes([a, b, c, 0]));
        Ok(())
    }

    fn hci(&mut self, hci: Hci<'_>, when: When) -> Result<BluetoothContent, Fault> {
        match hci {
            Hci::Command { adapter, opcode, parameters } => {
                if let Some(host) = self.host(adapter) {
                    host.command(opcode, parameters);
                }
                Ok(BluetoothContent::Other("a Bluetooth HCI command"))
            }
            Hci::Event { adapter, code, parameters } => {
                let Some(host) = self.host(adapter) else {
                    return Ok(BluetoothContent::Other("a Bluetooth HCI event"));
                };
                match host.event(code, parameters)? {
                    Some(hci::Event::Connected { handle, addresses, is_le }) => {
                        let key = Key::Handle { adapter, handle };
                        self.connections.end(key);
                        let connection = self.connections.used(key);
                        connection.addresses = addresses;
                        connection.is_classic = !is_le;
                    }
                    Some(hci::Event::Disconnected { handle }) => {
                        self.connections.end(Key::Handle { adapter, handle });
                    }
                    None => {}
                }
                Ok(BluetoothContent::Other("a Bluetooth HCI event"))
            }
            Hci::Acl { adapter, from, handle, start, data } => {
                let connection = self.connections.used(Key::Handle { adapter, handle });
                if connection.is_classic {
                    return Ok(BluetoothContent::Other("Bluetooth BR/EDR"));
                }
                let from = if start || from != Side::Unknown { from } else { connection.waiting() };
                connection.piece(from, start, false, data, when, (&mut self.sdu, &mut self.frames))
            }
            Hci::Other(what) => Ok(BluetoothContent::Other(what)),
        }
    }

    /// The addresses of a controller; `None` if there are too many controllers.
    fn host(&mut self, adapter: u32) -> Option<&mut Host> {
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&adapter) {
            return None;
        }
        Some(self.hosts.entry(adapter).or_default())
    }
}

/// A device address. On the wire its last byte comes first.
fn address(reader: &mut Reader<'_>) -> Result<[u8; 6], Fault> {
    let mut address = reader.array::<6>()?;
    address.reverse();
    Ok(address)
}

/// The next two bytes, little-endian.
fn u16_le(reader: &mut Reader<'_>) -> Result<u16, Fault> {
    Ok(u16::from_le_bytes(reader.array()?))
}

/// Source and destination address of a frame from `from`.
fn link(from: Side, [one, two]: [Option<[u8; 6]>; 2]) -> LinkAddresses {
    let [one, two] = [one, two].map(|address| address.map(LinkAddress::Bluetooth));
    match from {
        Side::One => LinkAddresses { src: one, dst: two },
        Side::Two => LinkAddresses { src: two, dst: one },
        Side::Unknown => LinkAddresses::default(),
    }
}

/// The LLID of a data frame: whether it starts an L2CAP frame, continues one, or controls the link.
fn llid(pdu: &Pdu<'_>) -> u8 {
    pdu.first & 3
}

/// The earlier frame that this one retransmits. A frame is retransmitted until the other side acknowledges it. The next
/// new frame has the other sequence number (Vol 6, Part B, 4.5.9).
fn repeated(connection: &mut Connection, pdu: &Pdu<'_>, when: When, repeats: &mut Repeats) -> Option<u64> {
    if pdu.from == Side::Unknown {
        return None;
    }
    let (count, is_next) = connection.count(pdu.from, pdu.first >> 3 & 1);
    if pdu.payload.is_empty() {
        return None;
    }
    let identity = (connection.id, pdu.from, count, llid(pdu), pdu.payload);
    let repeated = repeats.check(when.frame, when.time_ns, identity);
    if repeated.is_none() && !is_next {
        // A frame in between is missing from the capture.
        connection.lost(pdu.from);
    }
    repeated
}
