//! From a packet to Diet-ESP: the context that matches it and the clear text to encrypt, or the field that does not match.
//!
//! [`RuleMatcher`] finds the SA and the context of a packet, and appends the compressed clear text to [`ClearTexts`]. The
//! answer is a [`RuleMatch`]. Sequence numbers, IVs and encryption are not part of it, so a caller can also just count the
//! bytes that a context would send: see [`wire_bytes`].

mod clear_texts;
mod outer_header;
mod rule_match;
mod states;

pub(crate) use clear_texts::{ClearTexts, TextSpan};
pub(crate) use outer_header::outer_header;
pub(crate) use rule_match::{HeadersBeforeEsp, MatchedPacket, RuleMatch, RuleMatcher, wire_bytes};
pub(crate) use states::States;
