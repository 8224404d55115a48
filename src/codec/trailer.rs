//! The ESP trailer: RFC 4303 §2.4 to §2.6, and its compression (CTEC, draft-ietf-ipsecme-diet-esp-07 §5.2).
//!
//! ```text
//! [RuleID] payload data | Padding | [Pad Length] | [Next Header]
//! ```
//!
//! What stays keeps its place, and the whole is a multiple of the alignment.

use super::restored::Warnings;
use crate::error::{Fault, Stage};

/// Which fields of the trailer a Security Association sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// The RuleID in front of the clear text.
    pub rule_id: Option<u8>,
    /// Padding and Pad Length are there.
    pub pad: bool,
    /// Next Header is there.
    pub next_header: bool,
    /// The clear text, and `uncounted` bytes that are not there, are a multiple of this many bytes.
    pub align: usize,
    /// Elided bytes that count for the alignment (`trailer_counts_elided_next_header`).
    pub uncounted: usize,
}

/// A clear text without its trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    /// The payload data.
    pub payload: &'a [u8],
    /// Its offset in the clear text.
    pub offset: usize,
    /// Next Header, if sent.
    pub next_header: Option<u8>,
    pub warnings: Warnings,
}

impl Trailer {
    /// The trailer of RFC 4303 for a cipher of `cipher_block` bytes: a multiple of 4 (§2.4).
    pub fn standard(cipher_block: usize) -> Trailer {
        Trailer { rule_id: None, pad: true, next_header: true, align: cipher_block.max(4), uncounted: 0 }
    }

    /// Whether every clear text is one of RFC 4303 that is a multiple of 4.
    pub fn is_standard(&self) -> bool {
        self.rule_id.is_none() && self.pad && self.next_header && self.align.is_multiple_of(4)
    }

    /// Takes the trailer off a clear text.
    pub fn open<'a>(&self, clear: &'a [u8]) -> Result<Opened<'a>, Fault> {
        let mut warnings = Warnings::default();
        let mut payload = clear;
        let mut offset = 0;
        if let Some(rule_id) = self.rule_id {
            let (got, rest) = payload.split_first().ok_or_else(|| short("RuleID", 0, 1, 0))?;
            if *got != rule_id {
                return Err(Fault::unsupported(Stage::Trailer, 0, "another RuleID than that of the context"));
            }
            (payload, offset) = (rest, 1);
        }
        let mut next_header = None;
        if self.next_header {
            let (last, rest) = payload.split_last().ok_or_else(|| short("Next Header", offset, 1, 0))?;
            next_header = Some(*last);
            payload = rest;
        }
        if self.pad {
            let (pad_len, rest) = payload.split_last().ok_or_else(|| short("Pad Length", offset, 1, 0))?;
            let pad_len = usize::from(*pad_len);
            let Some((data, padding)) = rest.len().checked_sub(pad_len).and_then(|at| rest.split_at_checked(at)) else {
                return Err(short("Padding", offset, pad_len, rest.len()));
            };
            warnings.add_if(!padding.iter().zip(1..=u8::MAX).all(|(byte, count)| *byte == count), Warnings::PADDING);
            payload = data;
        }
        Ok(Opened { payload, offset, next_header, warnings })
    }

    /// Puts the RuleID in front, where there is one. `clear` is empty.
    pub fn begin(&self, clear: &mut Vec<u8>) {
        clear.extend(self.rule_id);
    }

    /// Appends the trailer to `clear`, which holds what stands in front of it and nothing else.
    pub fn close(&self, clear: &mut Vec<u8>, next_header: u8) {
        if self.pad {
            let len = clear.len() + 1 + usize::from(self.next_header) + self.uncounted;
            // Alignments are 16 at most.
            let pad_len = (len.next_multiple_of(self.align) - len) as u8;
            clear.extend(1..=pad_len);
            clear.push(pad_len);
        }
        if self.next_header {
            clear.push(next_header);
        }
    }
}

fn short(what: &'static str, offset: usize, needs: usize, has: usize) -> Fault {
    Fault::short(Stage::Trailer, offset, what, needs, has)
}
