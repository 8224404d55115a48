//! The secrets of IKE SAs: SK_d, and the keys of messages.

use std::fmt;

use crate::cipher::{Hash, Keys};
use crate::context::Origin;
use crate::secret::Secret;

/// The secrets of IKE SAs from key files.
#[derive(Debug, Default)]
pub struct Secrets {
    /// The values SK_d, from which the keys of child SAs are derived.
    pub children: Vec<ChildSecret>,
    /// Keys that decrypt messages.
    pub messages: Vec<MessageKeys>,
}

impl Secrets {
    /// Number of secrets.
    pub fn len(&self) -> usize {
        self.children.len() + self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty() && self.messages.is_empty()
    }

    /// The file and line of the first secret.
    pub fn origin(&self) -> Option<&Origin> {
        self.children.first().map(|secret| &secret.origin).or(self.messages.first().map(|keys| &keys.origin))
    }
}

/// The SPIs that identify an IKE SA in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spis {
    /// SPI of the initiator.
    pub initiator: u64,
    /// SPI of the responder.
    pub responder: u64,
}

impl fmt::Display for Spis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}_i {:016x}_r", self.initiator, self.responder)
    }
}

/// The SK_d of one IKE SA (RFC 7296 §2.14).
#[derive(Debug, Clone)]
pub struct ChildSecret {
    /// The IKE SA.
    pub spis: Spis,
    /// The hash of its prf, an HMAC; `None` if IKE_SA_INIT names it.
    pub prf: Option<Hash>,
    /// SK_d.
    pub sk_d: Secret,
    /// The file and line that it was read from.
    pub origin: Origin,
}

/// Keys that decrypt the messages of one IKE SA: SK_ei and SK_ai, SK_er and SK_ar.
#[derive(Debug, Clone)]
pub struct MessageKeys {
    /// The IKE SA.
    pub spis: Spis,
    /// Keys for messages of the initiator.
    pub initiator: Keys,
    /// Keys for messages of the responder.
    pub responder: Keys,
    /// The file and line that they were read from.
    pub origin: Origin,
}
