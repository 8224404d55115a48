//! The Host Controller Interface (Bluetooth Core Specification, Vol 4, Part E), limited to connections and their
//! data:
//!
//! ```text
//! | direction 4, big-endian | type 1 | packet          LINKTYPE_BLUETOOTH_HCI_H4, with the direction LINKTYPE_..._WITH_PHDR
//! | adapter 2 | type 2, big-endian | packet            LINKTYPE_BLUETOOTH_LINUX_MONITOR
//! ```

use super::{Side, address, u16_le};
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

pub(super) const HCI_H4: u16 = 187;
pub(super) const HCI_H4_WITH_PHDR: u16 = 201;
pub(super) const LINUX_MONITOR: u16 = 254;

/// One HCI packet. `adapter` is the number of the controller.
pub(super) enum Hci<'a> {
    Command {
        adapter: u32,
        opcode: u16,
        parameters: &'a [u8],
    },
    Event {
        adapter: u32,
        code: u8,
        parameters: &'a [u8],
    },
    /// A piece of an L2CAP frame. `start` marks the first piece.
    Acl {
        adapter: u32,
        from: Side,
        handle: u16,
        start: bool,
        data: &'a [u8],
    },
    Other(&'static str),
}

/// Reads a packet. `interface` is its interface number in the capture.
pub(super) fn read(link_type: u16, frame: &[u8], interface: u32) -> Result<Hci<'_>, Fault> {
    enum Kind {
        Command,
        Acl,
        Event,
        Other,
    }
    let mut reader = Reader::new(Stage::Link, "Bluetooth HCI packet", frame);
    let mut adapter = interface;
    let (kind, from) = if link_type == LINUX_MONITOR {
        adapter = u32::from(reader.u16()?);
        match reader.u16()? {
            2 => (Kind::Command, Side::One),
            3 => (Kind::Event, Side::Two),
            4 => (Kind::Acl, Side::One),
            5 => (Kind::Acl, Side::Two),
            _ => (Kind::Other, Side::Unknown),
        }
    } else {
        let from = match link_type == HCI_H4_WITH_PHDR {
            true if reader.u32()? & 1 == 0 => Side::One,
            true => Side::Two,
            false => Side::Unknown,
        };
        match reader.u8()? {
            1 => (Kind::Command, from),
            2 => (Kind::Acl, from),
            4 => (Kind::Event, from),
            _ => (Kind::Other, from),
        }
    };
    Ok(match kind {
        Kind::Command => {
            let opcode = u16_le(&mut reader)?;
            let len = usize::from(reader.u8()?);
            Hci::Command { adapter, opcode, parameters: reader.take(len)? }
        }
        Kind::Event => {
            let code = reader.u8()?;
            let len = usize::from(reader.u8()?);
            Hci::Event { adapter, code, parameters: reader.take(len)? }
        }
        Kind::Acl => {
            let word = u16_le(&mut reader)?;
            let len = usize::from(u16_le(&mut reader)?);
            // Packet Boundary Flag (5.4.2) of LE data: 0 starts a frame of the host, 2 one of the controller.
            let (boundary, handle) = (word >> 12 & 3, word & 0xfff);
            let from = match (from, boundary) {
                (Side::Unknown, 0) => Side::One,
                (Side::Unknown, 2) => Side::Two,
                _ => from,
            };
            Hci::Acl { adapter, from, handle, start: boundary != 1, data: reader.take(len)? }
        }
        Kind::Other => Hci::Other("neither LE data nor a command nor an event of Bluetooth HCI"),
    })
}

/// The addresses that a controller uses.
#[derive(Debug, Default)]
pub(super) struct Host {
    public: Option<[u8; 6]>,
    random: Option<[u8; 6]>,
    /// The random address that was last set for an advertising set.
    set_random: Option<[u8; 6]>,
    /// Own_Address_Type as central and as peripheral.
    initiates_as: Option<u8>,
    advertises_as: Option<u8>,
}

/// Changes to connections that an event reports.
pub(super) enum Event {
    /// `addresses`: that of the host, then that of its peer.
    Connected {
        handle: u16,
        addresses: [Option<[u8; 6]>; 2],
        is_le: bool,
    },
    Disconnected {
        handle: u16,
    },
}

impl Host {
    pub(super) fn command(&mut self, opcode: u16, parameters: &[u8]) {
        const LE_SET_RANDOM_ADDRESS: u16 = 0x2005;
        const LE_SET_ADVERTISING_PARAMETERS: u16 = 0x2006;
        const LE_CREATE_CONNECTION: u16 = 0x200d;
        const LE_SET_ADVERTISING_SET_RANDOM_ADDRESS: u16 = 0x2035;
        const LE_SET_EXTENDED_ADVERTISING_PARAMETERS: u16 = 0x2036;
        const LE_EXTENDED_CREATE_CONNECTION: u16 = 0x2043;
        let at = |at: usize| parameters.get(at).copied();
        let address = |from: usize| {
            let bytes = parameters.get(from..).unwrap_or_default();
            address(&mut Reader::new(Stage::Link, "address", bytes)).ok()
        };
        match opcode {
            LE_SET_RANDOM_ADDRESS => self.random = address(0),
            LE_SET_ADVERTISING_SET_RANDOM_ADDRESS => self.set_random = address(1),
            LE_SET_ADVERTISING_PARAMETERS => (self.advertises_as, self.set_random) = (at(5), None),
            LE_SET_EXTENDED_ADVERTISING_PARAMETERS => self.advertises_as = at(10),
            LE_CREATE_CONNECTION => self.initiates_as = at(12),
            LE_EXTENDED_CREATE_CONNECTION => self.initiates_as = at(1),
            _ => {}
        }
    }

    pub(super) fn event(&mut self, code: u8, parameters: &[u8]) -> Result<Option<Event>, Fault> {
        const CONNECTION_COMPLETE: u8 = 0x03;
        const DISCONNECTION_COMPLETE: u8 = 0x05;
        const COMMAND_COMPLETE: u8 = 0x0e;
        const LE_META: u8 = 0x3e;
        const READ_BD_ADDR: u16 = 0x1009;
        let mut reader = Reader::new(Stage::Link, "Bluetooth HCI event", parameters);
        Ok(match code {
            CONNECTION_COMPLETE if reader.u8()? == 0 => {
                let handle = u16_le(&mut reader)? & 0xfff;
                Some(Event::Connected { handle, addresses: [None; 2], is_le: false })
            }
            DISCONNECTION_COMPLETE if reader.u8()? == 0 => {
                Some(Event::Disconnected { handle: u16_le(&mut reader)? & 0xfff })
            }
            COMMAND_COMPLETE => {
                reader.u8()?;
                if u16_le(&mut reader)? == READ_BD_ADDR && reader.u8()? == 0 {
                    self.public = Some(address(&mut reader)?);
                }
                None
            }
            LE_META => self.le_connection(&mut reader)?,
            _ => None,
        })
    }

    /// LE Connection Complete (7.7.65.1) and its enhanced forms, which also contain resolvable private addresses.
    fn le_connection(&self, reader: &mut Reader<'_>) -> Result<Option<Event>, Fault> {
        const COMPLETE: u8 = 0x01;
        const ENHANCED: [u8; 2] = [0x0a, 0x29];
        const CENTRAL: u8 = 0;
        let subevent = reader.u8()?;
        let is_enhanced = ENHANCED.contains(&subevent);
        if subevent != COMPLETE && !is_enhanced || reader.u8()? != 0 {
            return Ok(None);
        }
        let handle = u16_le(reader)? & 0xfff;
        let (role, peer_type, peer) = (reader.u8()?, reader.u8()?, address(reader)?);
        let local = if is_enhanced { Some(address(reader)?) } else { None }.filter(|address| *address != [0; 6]);
        // 2 and 3 mean that an identity address was resolved. It is not the address used on the air.
        let peer = Some(peer).filter(|_| peer_type < 2);
        let random = self.set_random.filter(|_| role != CENTRAL).or(self.random);
        let own = match if role == CENTRAL { self.initiates_as } else { self.advertises_as } {
            Some(0) => self.public,
            Some(1) => random,
            // Resolvable private addresses are used if the controller has a key for the peer.
            Some(2 | 3) if is_enhanced => local,
            _ => None,
        };
        Ok(Some(Event::Connected { handle, addresses: [own, peer], is_le: true }))
    }
}
