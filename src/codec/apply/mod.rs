//! Applies one rule to one packet, field by field (RFC 8724 §7.2). This is used for human-readable output, and for
//! rules with fields of variable length (§7.4.2), which [`crate::schc::Compiled`] does not support.

mod compress;
mod expand;
#[cfg(test)]
mod tests;

pub(crate) use compress::{Applied, ApplyError};

use crate::bits::{self, BitWriter};
use crate::schc::{FieldDescriptor, FieldLength};

/// Bits as text of `0` and `1`.
pub fn digits(bytes: &[u8], at: usize, count: usize) -> String {
    (at..at.saturating_add(count))
        .map_while(|at| bits::read(bytes, at, 1))
        .map(|bit| if bit == 1 { '1' } else { '0' })
        .collect()
}

/// [`bits::read`] for any number of bits. `None` if the bits do not fit into an integer.
fn read(bytes: &[u8], at: usize, count: usize) -> Option<u128> {
    if count > 128 { None } else { bits::read(bytes, at, count) }
}

/// Length of the IPv4 options: IHL (in words of 32 bits) minus the 5 words of the header.
fn options_bits(ihl: u128) -> usize {
    usize::try_from(ihl).unwrap_or(0).saturating_sub(5).saturating_mul(32)
}

/// Length of a target value in bits: that of the field, or whole bytes if the length varies.
fn target_bits(row: &FieldDescriptor, value: u128) -> usize {
    match row.length {
        FieldLength::Fixed(bits) => usize::from(bits),
        _ => (128 - value.leading_zeros() as usize).next_multiple_of(8),
    }
}

/// Appends `count` bits of `from`, from bit `at` on.
fn append(writer: &mut BitWriter, from: &[u8], mut at: usize, count: usize) {
    let end = at + count;
    while at < end {
        let taken = (end - at).min(64);
        writer.write(bits::read(from, at, taken).unwrap_or(0), taken as u32);
        at += taken;
    }
}
