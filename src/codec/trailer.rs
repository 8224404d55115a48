//! The ESP trailer: RFC 4303 §2.4 to §2.6, and its compression (CTEC, draft-ietf-ipsecme-diet-esp-07 §5.2).
//!
//! ```text
//! [RuleID] payload data | Padding | [Pad Length] | [Next Header]
//! ```
//!
//! Fields that are sent keep their order. The length of the clear text is a multiple of the alignment.

use super::restored::{Mismatch, Warnings};
use crate::bits;
use crate::context::{Context, Mode};
use crate::error::{Fault, Stage};
use crate::net::esp;
use crate::schc::fields::{ESP_NXT, ESP_PAD, ESP_PAD_LEN};
use crate::schc::{Compiled, Compute, FieldDescriptor, FieldLength, ResidueError, Rule};

/// The trailer fields that a Security Association sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// The RuleID before the clear text.
    pub rule_id: Option<u8>,
    /// Padding and Pad Length are sent.
    pub pad: bool,
    /// How Next Header is sent.
    pub next_header: NextHeader,
    /// The length of the clear text plus `uncounted` is a multiple of this many bytes.
    pub align: usize,
    /// Elided bytes that count for the alignment (`trailer_counts_elided_next_header`).
    pub uncounted: usize,
}

/// How the Next Header field is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextHeader {
    /// The whole byte.
    Sent,
    /// Not sent: it follows from the traffic selectors.
    Elided,
    /// Not sent: it always has this value.
    Known(u8),
    /// The residue of a rule for this field, padded with 0 bits to a whole byte. Empty if it has no bits.
    Rule(Compiled),
}

impl NextHeader {
    /// Bytes on the wire.
    fn len(&self) -> usize {
        match self {
            NextHeader::Sent => 1,
            NextHeader::Elided | NextHeader::Known(_) => 0,
            NextHeader::Rule(rule) => rule.residue_bits().div_ceil(8),
        }
    }
}

/// A clear text without its trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadData<'a> {
    /// The payload data.
    pub payload: &'a [u8],
    /// Its offset in the clear text.
    pub offset: usize,
    /// Next Header, if sent.
    pub next_header: Option<u8>,
    /// Bytes of Padding beyond the alignment.
    pub excess_padding: u32,
    pub warnings: Warnings,
}

impl Trailer {
    /// The trailer of RFC 4303 for a cipher of `cipher_block` bytes: a multiple of 4 (§2.4).
    pub(super) fn standard(cipher_block: usize) -> Trailer {
        Trailer {
            rule_id: None,
            pad: true,
            next_header: NextHeader::Sent,
            align: cipher_block.max(esp::ALIGNMENT),
            uncounted: 0,
        }
    }

    /// Whether every clear text ends in a trailer of RFC 4303 and is a multiple of 4 bytes long.
    pub(super) fn is_standard(&self) -> bool {
        self.rule_id.is_none() && self.pad && self.next_header == NextHeader::Sent && self.align.is_multiple_of(4)
    }

    /// The rule of the trailer as data.
    pub(super) fn table(&self, context: &Context) -> Rule {
        let pad = |field| match self.pad {
            true => FieldDescriptor::sent(field),
            false => FieldDescriptor::computed(field, Compute::Length),
        };
        let selectors = &context.selectors;
        let next_header = match (&self.next_header, context.mode) {
            (NextHeader::Sent | NextHeader::Rule(_), _) => FieldDescriptor::sent(ESP_NXT),
            (NextHeader::Known(known), _) => FieldDescriptor::equal(ESP_NXT, (*known).into()),
            (NextHeader::Elided, Mode::Tunnel) => match selectors.version {
                Some(version) => FieldDescriptor::equal(ESP_NXT, version.next_header().into()),
                None => FieldDescriptor::computed(ESP_NXT, Compute::Length),
            },
            (NextHeader::Elided, Mode::Transport) => {
                FieldDescriptor::equal(ESP_NXT, selectors.protocol.unwrap_or(0).into())
            }
        };
        let padding = FieldDescriptor { length: FieldLength::Function, ..pad(ESP_PAD) };
        Rule { fields: vec![padding, pad(ESP_PAD_LEN), next_header] }
    }

    /// Removes the trailer from a clear text.
    // Always inlined: otherwise the result is passed through memory.
    #[inline(always)]
    pub(super) fn open<'a>(&self, clear: &'a [u8]) -> Result<PayloadData<'a>, Fault> {
        let mut warnings = Warnings::default();
        let mut payload = clear;
        let mut offset = 0;
        if let Some(rule_id) = self.rule_id {
            let (got, rest) = payload.split_first().ok_or_else(|| short("RuleID", 0, 1, 0))?;
            if *got != rule_id {
                return Err(Fault::unsupported(Stage::Trailer, 0, "the RuleID is not that of the context"));
            }
            (payload, offset) = (rest, 1);
        }
        let len = self.next_header.len();
        let Some((rest, last)) = payload.len().checked_sub(len).and_then(|at| payload.split_at_checked(at)) else {
            return Err(short("Next Header", offset, len, payload.len()));
        };
        payload = rest;
        let next_header = match &self.next_header {
            NextHeader::Sent => last.first().copied(),
            NextHeader::Elided => None,
            NextHeader::Known(known) => Some(*known),
            NextHeader::Rule(rule) => Some(expand(rule, last, offset + payload.len(), &mut warnings)?),
        };
        let mut excess_padding = 0;
        if self.pad {
            let (pad_len, rest) = payload.split_last().ok_or_else(|| short("Pad Length", offset, 1, 0))?;
            let pad_len = usize::from(*pad_len);
            let Some((data, padding)) = rest.len().checked_sub(pad_len).and_then(|at| rest.split_at_checked(at)) else {
                return Err(short("Padding", offset, pad_len, rest.len()));
            };
            warnings.add_if(!padding.iter().zip(1..=u8::MAX).all(|(byte, count)| *byte == count), Warnings::PADDING);
            if pad_len >= self.align {
                let needed = self.padding(offset + data.len());
                excess_padding = (pad_len - needed) as u32;
            }
            payload = data;
        }
        Ok(PayloadData { payload, offset, next_header, excess_padding, warnings })
    }

    /// The minimum Padding after this many bytes of RuleID and payload data.
    fn padding(&self, len: usize) -> usize {
        let len = len + 1 + self.next_header.len() + self.uncounted;
        len.next_multiple_of(self.align) - len
    }

    /// Appends the RuleID, if there is one.
    pub(super) fn begin(&self, clear: &mut Vec<u8>) {
        clear.extend(self.rule_id);
    }

    /// Appends the trailer to `clear`. RuleID and payload data are in `clear` from `start` on. Only a rule for Next
    /// Header can cause a mismatch.
    pub(super) fn close(&self, clear: &mut Vec<u8>, start: usize, next_header: u8) -> Result<(), Mismatch> {
        if self.pad {
            // An alignment is at most 48.
            let pad_len = self.padding(clear.len() - start) as u8;
            clear.extend(1..=pad_len);
            clear.push(pad_len);
        }
        match &self.next_header {
            NextHeader::Sent => clear.push(next_header),
            NextHeader::Elided => {}
            NextHeader::Known(known) if *known != next_header => {
                return Err(Mismatch::differs(ESP_NXT.key, next_header, *known));
            }
            NextHeader::Known(_) => {}
            NextHeader::Rule(rule) => {
                let mut residue = [0];
                rule.compress(&[next_header], &mut residue, 0).map_err(Mismatch::from)?;
                clear.extend(residue.iter().take(self.next_header.len()));
            }
        }
        Ok(())
    }
}

fn expand(rule: &Compiled, residue: &[u8], offset: usize, warnings: &mut Warnings) -> Result<u8, Fault> {
    let mut header = Vec::with_capacity(1);
    let end = rule.expand(residue, 0, &mut header).map_err(|unreadable| match unreadable {
        ResidueError::Short { needs_bits } => short("Next Header", offset, needs_bits.div_ceil(8), residue.len()),
        ResidueError::Index { got, .. } => {
            Fault::value(Stage::Trailer, offset, "Next Header", got, "an index in the list of the context")
        }
    })?;
    let fill_bits = residue.len() * 8 - end;
    warnings.add_if(bits::read(residue, end, fill_bits).unwrap_or(0) != 0, Warnings::NONZERO_PAD_BITS);
    Ok(header.first().copied().unwrap_or(0))
}

fn short(what: &'static str, offset: usize, needs: usize, has: usize) -> Fault {
    Fault::short(Stage::Trailer, offset, what, needs, has)
}
