//! What is still to be done to the frames of a window when all are laid out: their ESP payloads are sealed where they are,
//! those of one SA side by side, and then UDP checksums can be written.

use crate::cipher::{EspCipher, Scratch, SealRequest};
use crate::link::UdpChecksum;

/// ESP payloads that are not sealed yet. Offsets are those of the buffer that the frames are written to.
#[derive(Debug, Default)]
pub(crate) struct Payloads {
    unsealed: Vec<Body>,
    checksums: Vec<UdpChecksum>,
    scratch: Scratch,
}

/// What is still to be sealed of a payload.
#[derive(Debug)]
struct Body {
    sa: u32,
    spi: u32,
    sn: u64,
    /// IV, clear text, room for the ICV.
    start: usize,
    end: usize,
}

impl Payloads {
    /// Forgets all payloads and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.unsealed.clear();
        self.checksums.clear();
    }

    /// The payload that was laid out last, from `start` on in `out`, is not to be sealed: its frame is given up.
    pub(crate) fn give_up(&mut self, start: usize) {
        self.unsealed.pop_if(|body| body.start >= start);
    }

    /// Appends what stands behind an ESP header: `iv`, the clear text that `write` appends, and room for the ICV. It is
    /// sealed by [`Payloads::complete`], under the Sequence Number `sn` of an SA with this `spi`.
    #[inline]
    pub(crate) fn body(
        &mut self,
        (sa, spi, sn): (u32, u32, u64),
        iv: &[u8],
        icv_len: usize,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        // No suite has a longer one.
        const ICV: [u8; 64] = [0; 64];
        let start = out.len();
        match iv.as_array::<8>() {
            Some(iv) => out.extend_from_slice(iv),
            None => out.extend_from_slice(iv),
        }
        write(out);
        match icv_len {
            8 => out.extend_from_slice(&[0; 8]),
            _ => out.extend_from_slice(ICV.get(..icv_len).unwrap_or_default()),
        }
        self.unsealed.push(Body { sa, spi, sn, start, end: out.len() });
    }

    /// Keeps a checksum that [`Payloads::complete`] writes.
    pub(crate) fn checksum(&mut self, checksum: Option<UdpChecksum>) {
        self.checksums.extend(checksum);
    }

    /// Seals all bodies in `bytes`, and writes the checksums over them. `cipher` gives that of an SA, and whether its
    /// Sequence Numbers are extended.
    pub(crate) fn complete<'c>(&mut self, bytes: &mut [u8], cipher: impl Fn(u32) -> Option<(&'c EspCipher, bool)>) {
        let Payloads { unsealed, checksums, scratch } = self;
        if !unsealed.is_sorted_by_key(|body| body.sa) {
            // Of each SA from the first to the last.
            unsealed.sort_by_key(|body| body.sa);
        }
        for bodies in unsealed.chunk_by(|a, b| a.sa == b.sa) {
            let (mut rest, mut offset) = (&mut *bytes, 0);
            let packets = bodies.iter().map_while(|Body { spi, sn, start, end, .. }| {
                let (_, behind) = std::mem::take(&mut rest).split_at_mut_checked(start - offset)?;
                let (body, behind) = behind.split_at_mut_checked(end - start)?;
                (rest, offset) = (behind, *end);
                Some(SealRequest { spi: *spi, sn: *sn, body })
            });
            match bodies.first().and_then(|body| cipher(body.sa)) {
                Some((cipher, esn)) => {
                    let sealed = cipher.seal_side_by_side(esn, packets, scratch);
                    debug_assert!(sealed.is_ok(), "IV and clear text have the lengths of the suite");
                }
                None => {
                    debug_assert!(false, "bodies are made for SAs that are there");
                    packets.for_each(|packet| packet.body.fill(0));
                }
            }
        }
        unsealed.clear();
        checksums.drain(..).for_each(|checksum| checksum.put(bytes));
    }
}
