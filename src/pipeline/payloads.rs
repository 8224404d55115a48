//! The ESP payloads that a window gives: laid out one after another, then sealed where they are, those of one SA side by
//! side.

use std::ops::Range;

use crate::suite::{Cryptor, Scratch, Unsealed};

/// ESP payloads from header to ICV.
#[derive(Debug, Default)]
pub struct Payloads {
    bytes: Vec<u8>,
    unsealed: Vec<Body>,
    scratch: Scratch,
}

/// What is still to be sealed of a payload.
#[derive(Debug)]
struct Body {
    sa: u32,
    spi: u32,
    sn: u64,
    /// IV, clear text, room for the ICV.
    bytes: Range<usize>,
}

impl Payloads {
    /// Forgets all payloads and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.unsealed.clear();
    }

    /// Where the next payload begins.
    pub fn next(&self) -> usize {
        self.bytes.len()
    }

    /// The payload that begins at `start`, if it is the last one.
    pub fn since(&self, start: usize) -> Range<usize> {
        start..self.bytes.len()
    }

    /// The bytes of a payload.
    pub fn get(&self, payload: &Range<usize>) -> &[u8] {
        self.bytes.get(payload.clone()).unwrap_or_default()
    }

    /// To append a header, or what needs no sealing.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends what stands behind the header: `iv`, the clear text that `write` appends, and room for the ICV. It is
    /// sealed by [`Payloads::seal`], under the Sequence Number `sn` of an SA with this `spi`.
    pub fn body(&mut self, sa: u32, spi: u32, sn: u64, iv: &[u8], icv_len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(iv);
        write(&mut self.bytes);
        self.bytes.resize(self.bytes.len() + icv_len, 0);
        self.unsealed.push(Body { sa, spi, sn, bytes: start..self.bytes.len() });
    }

    /// Seals all bodies. `cryptor` gives that of an SA, and whether its Sequence Numbers are extended.
    pub fn seal<'c>(&mut self, cryptor: impl Fn(u32) -> Option<(&'c Cryptor, bool)>) {
        let Payloads { bytes, unsealed, scratch } = self;
        if !unsealed.is_sorted_by_key(|body| body.sa) {
            // Of each SA from the first to the last.
            unsealed.sort_by_key(|body| body.sa);
        }
        for bodies in unsealed.chunk_by(|a, b| a.sa == b.sa) {
            let Some((cryptor, esn)) = bodies.first().and_then(|body| cryptor(body.sa)) else {
                debug_assert!(false, "bodies are made for SAs that are there");
                continue;
            };
            let (mut rest, mut offset) = (bytes.as_mut_slice(), 0);
            let packets = bodies.iter().map_while(|Body { spi, sn, bytes, .. }| {
                let (_, behind) = std::mem::take(&mut rest).split_at_mut_checked(bytes.start - offset)?;
                let (body, behind) = behind.split_at_mut_checked(bytes.len())?;
                (rest, offset) = (behind, bytes.end);
                Some(Unsealed { spi: *spi, sn: *sn, body })
            });
            let sealed = cryptor.seal_side_by_side(esn, packets, scratch);
            debug_assert!(sealed.is_ok(), "IV and clear text have the lengths of the suite");
        }
        unsealed.clear();
    }
}
