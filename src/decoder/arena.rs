//! Memory for the clear texts and the restored packets of many frames.

/// A range of bytes in an [`Arena`]. 32 bits are enough, because it holds the packets of a few hundred kilobytes of a
/// capture.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    pub start: u32,
    pub len: u32,
}

/// Restored packets and clear texts. The caller of the decoder clears it.
#[derive(Debug, Default)]
pub struct Arena {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packet: Vec<u8>,
    pub(crate) given_up: Vec<u64>,
    pub(crate) tries: Vec<Tries>,
}

/// How often the cipher was tried under one candidate of a packet that verified under none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tries {
    /// Number of the frame.
    pub frame: u64,
    /// Position of the packet among those of the frame, from 0.
    pub part: usize,
    /// The SA.
    pub sa: u32,
    /// How often the cipher was tried.
    pub tries: u64,
}

impl Arena {
    /// Drops the packets of all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.given_up.clear();
        self.tries.clear();
    }

    /// Frames of fragments whose packet will never be complete. They may be older than the last [`Arena::clear`].
    pub fn given_up(&self) -> &[u64] {
        &self.given_up
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }

    pub(crate) fn get(&self, Span { start, len }: Span) -> &[u8] {
        self.bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize)).unwrap_or_default()
    }
}
