//! Warnings of a record, as a set.

/// A set of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Warnings(u16);

impl Warnings {
    /// No warnings.
    pub const NONE: Warnings = Warnings(0);
    /// The same ESP payload was captured before; `repeat_of` names the frame.
    pub const DUPLICATE: Warnings = Warnings(1);
    /// The same Sequence Number was captured before with another ESP payload.
    pub const REPLAYED: Warnings = Warnings(1 << 1);
    /// The SA has no integrity check.
    pub const UNAUTHENTICATED: Warnings = Warnings(1 << 2);
    /// The padding bytes are not 1, 2, 3, ...
    pub const PADDING: Warnings = Warnings(1 << 3);
    /// An address, port or protocol is outside the traffic selectors.
    pub const OUTSIDE_SELECTOR: Warnings = Warnings(1 << 4);
    /// The padding bits after the residue are not 0.
    pub const NONZERO_PAD_BITS: Warnings = Warnings(1 << 5);
    /// A dummy packet, Next Header 59 (RFC 4303 §2.6).
    pub const DUMMY: Warnings = Warnings(1 << 6);
    /// TCP numbers were restored as the nearest ones although packets are missing before.
    pub const TCP_NEAREST: Warnings = Warnings(1 << 7);

    /// A 6LoWPAN context is not known, so an address of the packet has zeros in its place.
    pub const UNKNOWN_CONTEXT: Warnings = Warnings(1 << 8);

    /// All names, in the order of records.
    pub(crate) const NAMES: [&'static str; 9] = [
        "duplicate",
        "replayed",
        "unauthenticated",
        "padding",
        "outside-selector",
        "nonzero-pad-bits",
        "dummy",
        "tcp-nearest",
        "unknown-context",
    ];

    /// Adds the warnings of `other`.
    pub fn add(&mut self, other: Warnings) {
        self.0 |= other.0;
    }

    /// Adds the warnings of a codec.
    pub fn add_codec(&mut self, codec: crate::codec::Warnings) {
        use crate::codec::Warnings as Codec;
        for (theirs, ours) in [
            (Codec::PADDING, Warnings::PADDING),
            (Codec::OUTSIDE_SELECTOR, Warnings::OUTSIDE_SELECTOR),
            (Codec::NONZERO_PAD_BITS, Warnings::NONZERO_PAD_BITS),
            (Codec::DUMMY, Warnings::DUMMY),
        ] {
            if codec.contains(theirs) {
                self.add(ours);
            }
        }
    }

    /// Whether all warnings of `other` are set.
    pub fn has(self, other: Warnings) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names in records.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }
}
