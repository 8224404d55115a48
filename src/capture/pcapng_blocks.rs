//! Blocks of a pcapng capture that is written (draft-ietf-opsawg-pcapng §4).

use super::options::{self, Block};
use super::{Interface, Options, pcapng};

/// shb_userappl
const USER_APPLICATION: u16 = 4;

/// Sets the interface number in the Enhanced Packet Block at offset `block`.
pub(super) fn put_interface(bytes: &mut [u8], block: usize, id: u32) {
    // Type and length are before it.
    const INTERFACE: usize = 8;
    if let Some(field) = field_mut(bytes, block + INTERFACE) {
        *field = id.to_le_bytes();
    }
}

pub(super) fn field_mut(bytes: &mut [u8], offset: usize) -> Option<&mut [u8; 4]> {
    bytes.get_mut(offset..)?.first_chunk_mut()
}

/// Completes a block of this type at `offset`: fills in type, length and `fields` before the data, and appends the
/// length.
#[inline]
pub(super) fn finish_block<const COUNT: usize>(
    out: &mut Vec<u8>,
    offset: usize,
    block_type: u32,
    fields: [u32; COUNT],
) {
    let len = (out.len() - offset + 4) as u32;
    push_fields(out, [len]);
    put_fields(out, offset, [block_type, len]);
    put_fields(out, offset + 8, fields);
}

fn push_fields<const COUNT: usize>(out: &mut Vec<u8>, fields: [u32; COUNT]) {
    let start = out.len();
    out.resize(start + COUNT * 4, 0);
    put_fields(out, start, fields);
}

pub(super) fn put_fields<const COUNT: usize>(bytes: &mut [u8], offset: usize, fields: [u32; COUNT]) {
    let places = bytes.get_mut(offset..).unwrap_or_default().as_chunks_mut::<4>().0;
    for (place, field) in places.iter_mut().zip(fields) {
        *place = field.to_le_bytes();
    }
}

/// Appends the part of an Enhanced Packet Block after the data, up to the length at its end.
pub(super) fn push_options(out: &mut Vec<u8>, list: Options<'_>, has_new_data: bool, comment: Option<&str>) {
    pad(out);
    let before = out.len();
    match has_new_data {
        true => options::copy_for_new_data(out, list),
        false => options::copy(out, list, Block::EnhancedPacket),
    }
    if let Some(comment) = comment {
        let end = comment.floor_char_boundary(usize::from(u16::MAX));
        options::push(out, options::COMMENT, comment.get(..end).unwrap_or_default().as_bytes());
    }
    if out.len() > before {
        options::push(out, options::END, &[]);
    }
}

pub(super) fn push_interface_description(out: &mut Vec<u8>, interface: &Interface, snap_len: u32) {
    push_block(out, pcapng::INTERFACE_DESCRIPTION_BLOCK, |out| {
        push_fields(out, [u32::from(interface.link_type), snap_len]);
        let before_options = out.len();
        options::copy(out, interface.options(), Block::InterfaceDescription);
        if out.len() > before_options {
            options::push(out, options::END, &[]);
        }
    });
}

pub(super) fn push_section_header(out: &mut Vec<u8>) {
    push_block(out, pcapng::SECTION_HEADER_BLOCK, |out| {
        // Version 1.0; section length not given: -1.
        push_fields(out, [pcapng::BYTE_ORDER_MAGIC, 1, u32::MAX, u32::MAX]);
        options::push(out, USER_APPLICATION, concat!("dietesp ", env!("CARGO_PKG_VERSION")).as_bytes());
        options::push(out, options::END, &[]);
    });
}

/// Appends a block. `body` appends its body, which is then padded to 32 bits.
fn push_block(out: &mut Vec<u8>, block_type: u32, body: impl FnOnce(&mut Vec<u8>)) {
    pad(out);
    let start = out.len();
    push_fields(out, [block_type, 0]);
    body(out);
    let len = ((out.len() - start + 4) as u32).to_le_bytes();
    out.extend_from_slice(&len);
    if let Some(field) = field_mut(out, start + 4) {
        *field = len;
    }
}

/// Pads to 32 bits. All blocks have a length of whole 32-bit words, so alignment in `out` is alignment in the block.
pub(super) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
