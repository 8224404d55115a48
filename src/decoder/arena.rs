//! Memory for the clear texts and the restored packets of many frames.

/// Bytes of an [`Arena`]. A window is a few hundred kilobytes, and no packet of it restores to more than 64 more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    pub start: u32,
    pub len: u32,
}

/// The restored packets and clear texts of one window.
#[derive(Debug, Default)]
pub struct Arena {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packet: Vec<u8>,
    pub(crate) given_up: Vec<u64>,
}

impl Arena {
    /// Drops the packets of all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.given_up.clear();
    }

    /// Frames, of this window and before, whose packet will never be whole.
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
