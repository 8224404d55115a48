//! pcapng blocks (draft-ietf-opsawg-pcapng).
//!
//! ```text
//! block: type, total length, body (padded to 32 bits), total length
//! Section Header:        byte-order magic, version major and minor (2 bytes each), section length (8), options
//! Interface Description: link type (2 bytes), reserved (2), snap length, options
//! Enhanced Packet:       interface, time high, time low, captured length, original length, frame, options
//! Simple Packet:         original length, frame
//! Packet (obsolete):     interface (2 bytes), drops (2), then as Enhanced Packet
//! ```

use std::sync::Arc;

use pcap_file::pcapng::blocks::{
    CUSTOM_BLOCK_COPIABLE, CUSTOM_BLOCK_NON_COPIABLE, PACKET_BLOCK, SYSTEMD_JOURNAL_EXPORT_BLOCK,
};
pub(super) use pcap_file::pcapng::blocks::{
    ENHANCED_PACKET_BLOCK, INTERFACE_DESCRIPTION_BLOCK, SECTION_HEADER_BLOCK, SIMPLE_PACKET_BLOCK,
};

use super::Interface;
use super::options::{self, Options};
use super::read::{Found, Section, Step};
use super::window::Record;

/// Shows the byte order of a section.
pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// A longer block is treated as damage, which limits the memory for one block.
const MAX_BLOCK_LEN: u32 = 64 << 20;
/// More interfaces are treated as damage, which limits the memory for one section.
const MAX_INTERFACES: usize = 1 << 16;
/// Type and the two lengths.
const MIN_BLOCK_LEN: u32 = 12;

/// Integers in the byte order of a section.
#[derive(Debug, Clone, Copy)]
struct Order {
    big_endian: bool,
}

impl Order {
    #[inline]
    fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    #[inline]
    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// The integer at `offset`.
    #[inline]
    fn u32_at(self, bytes: &[u8], offset: usize) -> Option<u32> {
        Some(self.u32(*bytes.get(offset..)?.first_chunk()?))
    }

    #[inline]
    fn u16_at(self, bytes: &[u8], offset: usize) -> Option<u16> {
        Some(self.u16(*bytes.get(offset..)?.first_chunk()?))
    }
}

/// The block at the start of `bytes`. Sections and interfaces are added to `section`.
#[inline]
pub(super) fn block(section: &mut Section, bytes: &[u8]) -> Step {
    let mut order = Order { big_endian: section.big_endian };
    let (Some(block_type), Some(head)) = (order.u32_at(bytes, 0), bytes.get(4..)) else {
        return Step::More;
    };
    if block_type == SECTION_HEADER_BLOCK {
        let Some(magic) = head.get(4..).and_then(|rest| rest.first_chunk::<4>()) else {
            return Step::More;
        };
        order.big_endian = match u32::from_le_bytes(*magic) {
            BYTE_ORDER_MAGIC => false,
            magic if magic.swap_bytes() == BYTE_ORDER_MAGIC => true,
            _ => return Step::Damage("a pcapng section has a wrong byte-order magic".to_owned()),
        };
    }
    let Some(claimed_len) = order.u32_at(head, 0) else {
        return Step::More;
    };
    if !(MIN_BLOCK_LEN..=MAX_BLOCK_LEN).contains(&claimed_len) {
        return Step::Damage(format!("a pcapng block has an invalid length of {claimed_len} bytes"));
    }
    // Like Wireshark, treats a length that is not a multiple of 4 as one without the padding.
    let block_len = claimed_len.next_multiple_of(4);
    let len = block_len as usize;
    let Some(block) = bytes.get(..len) else {
        return Step::More;
    };
    let trailer = order.u32_at(block, len - 4).unwrap_or(0);
    if trailer.checked_next_multiple_of(4) != Some(block_len) {
        return Step::Damage(format!("the lengths around a pcapng block differ: {claimed_len} and {trailer}"));
    }
    let body = block.get(8..len - 4).unwrap_or_default();
    let parsed = match block_type {
        ENHANCED_PACKET_BLOCK => enhanced_packet(section, order, body),
        INTERFACE_DESCRIPTION_BLOCK => interface_description(section, order, body),
        SIMPLE_PACKET_BLOCK => simple_packet(section, order, body),
        PACKET_BLOCK => obsolete_packet(section, order, body),
        SECTION_HEADER_BLOCK => section_header(section, order, body),
        other => Ok(if counts_as_frame(other) { Found::OtherFrame } else { Found::Nothing }),
    };
    match parsed {
        Ok(found) => Step::Next { len, found },
        Err(problem) => Step::Damage(problem),
    }
}

/// Block types without a captured frame that nevertheless get a frame number in Wireshark: systemd journal entries, both
/// Custom Blocks, Sysdig events (found with tshark 4.0).
fn counts_as_frame(block_type: u32) -> bool {
    const SYSDIG_EVENT: u32 = 0x204;
    const SYSDIG_EVENT_V2: u32 = 0x216;
    const SYSDIG_EVENT_V2_LARGE: u32 = 0x221;
    matches!(
        block_type,
        SYSTEMD_JOURNAL_EXPORT_BLOCK
            | CUSTOM_BLOCK_COPIABLE
            | CUSTOM_BLOCK_NON_COPIABLE
            | SYSDIG_EVENT
            | SYSDIG_EVENT_V2
            | SYSDIG_EVENT_V2_LARGE
    )
}

fn section_header(section: &mut Section, order: Order, body: &[u8]) -> Result<Found, String> {
    let (Some(major), Some(minor)) = (order.u16_at(body, 4), order.u16_at(body, 6)) else {
        return Err("a pcapng section header is too short".to_owned());
    };
    // Some programs write version 1.2, which has the same format.
    if major != 1 || !matches!(minor, 0 | 2) {
        return Err(format!("a pcapng section has unknown version {major}.{minor}"));
    }
    section.restart(order.big_endian);
    Ok(Found::Nothing)
}

fn interface_description(section: &mut Section, order: Order, body: &[u8]) -> Result<Found, String> {
    let (Some(link_type), Some(snap_len)) = (order.u16_at(body, 0), order.u32_at(body, 4)) else {
        return Err("a pcapng interface description is too short".to_owned());
    };
    if section.interface_count() >= MAX_INTERFACES {
        return Err(format!("a pcapng section has more than {MAX_INTERFACES} interfaces"));
    }
    let mut list = Vec::new();
    let read = Options::new(body.get(8..).unwrap_or_default(), order.big_endian);
    options::copy(&mut list, read, options::Block::InterfaceDescription);
    let index = section.next_index();
    section.push(Arc::new(Interface::from_options(index, link_type, snap_len, list)));
    Ok(Found::Nothing)
}

#[inline]
fn enhanced_packet(section: &Section, order: Order, body: &[u8]) -> Result<Found, String> {
    let interface = order.u32_at(body, 0);
    packet(section, order, body, interface)
}

fn obsolete_packet(section: &Section, order: Order, body: &[u8]) -> Result<Found, String> {
    let interface = order.u16_at(body, 0).map(u32::from);
    packet(section, order, body, interface)
}

/// A packet with time and options; `body` starts with 4 bytes that name the interface.
#[inline]
fn packet(section: &Section, order: Order, body: &[u8], interface: Option<u32>) -> Result<Found, String> {
    const DATA: usize = 20;
    let fields = (interface, body.first_chunk::<DATA>());
    let (Some(interface), Some(header)) = fields else {
        return Err("a pcapng packet block is too short".to_owned());
    };
    let [_, high, low, data_len, orig_len] = std::array::from_fn(|index| order.u32_at(header, index * 4).unwrap_or(0));
    check_len(section, interface, data_len, body.len() - DATA)?;
    let options = DATA + (data_len as usize).next_multiple_of(4);
    Ok(Found::Packet(Record {
        number: 0,
        ticks: u64::from(high) << 32 | u64::from(low),
        timed: true,
        orig_len,
        interface,
        data: (BODY + DATA) as u32,
        data_len,
        options: (BODY + options.min(body.len())) as u32,
        options_len: body.len().saturating_sub(options) as u32,
        big_endian: order.big_endian,
    }))
}

/// A packet of the section's first interface, truncated at the interface's snap length, without time and options.
fn simple_packet(section: &Section, order: Order, body: &[u8]) -> Result<Found, String> {
    const DATA: usize = 4;
    let Some(orig_len) = order.u32_at(body, 0) else {
        return Err("a pcapng simple packet block is too short".to_owned());
    };
    let snap_len = section.interface(0).map_or(0, |interface| interface.snap_len);
    let data_len = if snap_len == 0 { orig_len } else { orig_len.min(snap_len) };
    check_len(section, 0, data_len, body.len() - DATA)?;
    Ok(Found::Packet(Record {
        number: 0,
        ticks: 0,
        timed: false,
        orig_len,
        interface: 0,
        data: (BODY + DATA) as u32,
        data_len,
        options: 0,
        options_len: 0,
        big_endian: order.big_endian,
    }))
}

/// Offset of the body in a block.
const BODY: usize = 8;

#[inline]
fn check_len(section: &Section, interface: u32, data_len: u32, room: usize) -> Result<(), String> {
    let count = section.interface_count();
    let Some(interface) = section.interface(interface) else {
        return Err(format!("a packet names interface {interface}, but the section has described {count}"));
    };
    let limit = interface.max_packet_len();
    if data_len > limit {
        return Err(format!("a frame has a length of {data_len} bytes, but the maximum is {limit}"));
    }
    if data_len as usize > room {
        return Err(format!("a frame has a length of {data_len} bytes, but its block has {room}"));
    }
    Ok(())
}
