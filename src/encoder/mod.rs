//! Compresses packets for Diet-ESP: finds the context that matches a packet and the clear text to encrypt, or the
//! field that does not match.
//!
//! [`RuleMatcher`] finds the SA and the context of a packet, and appends the compressed clear text to
//! [`ClearTexts`]. The result is a [`RuleMatch`]. It does not include sequence numbers, IVs and encryption, so
//! callers can also use it only to count the bytes that a context would send: see [`wire_bytes`].

mod clear_texts;
mod outer_header;
mod rule_match;
mod states;

pub(crate) use clear_texts::{ClearTexts, TextSpan};
pub(crate) use outer_header::outer_header;
pub(crate) use rule_match::{HeadersBeforeEsp, MatchedPacket, RuleMatch, RuleMatcher, wire_bytes};
pub(crate) use states::States;
