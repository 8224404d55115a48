//! The clear texts of many packets, in one buffer.

/// Clear texts that will be encrypted later.
#[derive(Debug, Default)]
pub(crate) struct ClearTexts {
    bytes: Vec<u8>,
    /// Buffer for a packet whose header and payload are not adjacent.
    pub(super) packet: Vec<u8>,
}

/// One of [`ClearTexts`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextSpan {
    start: u32,
    len: u32,
}

impl TextSpan {
    /// Bytes of the clear text.
    pub(crate) fn len(self) -> usize {
        self.len as usize
    }
}

impl ClearTexts {
    /// Removes all clear texts and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds the clear text that `write` appends.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> TextSpan {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.since(start)
    }

    /// Adds the clear text that `write` appends. If `write` fails, nothing is added.
    #[inline]
    pub(super) fn try_write<T, E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<(T, TextSpan), E> {
        let start = self.bytes.len();
        match write(&mut self.bytes) {
            Ok(written) => Ok((written, self.since(start))),
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// The bytes of a clear text.
    pub(crate) fn get(&self, TextSpan { start, len }: TextSpan) -> &[u8] {
        self.bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize)).unwrap_or_default()
    }

    fn since(&self, start: usize) -> TextSpan {
        TextSpan { start: start as u32, len: (self.bytes.len() - start) as u32 }
    }
}
