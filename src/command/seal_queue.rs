//! Encrypts the ESP payloads of a window in place, after all its frames are built. Payloads of one SA are encrypted
//! in lock step. After that, UDP checksums can be written.

use crate::cipher::{EspCipher, Scratch, SealRequest};
use crate::link::UdpChecksum;

/// ESP payloads that are not encrypted yet. Offsets refer to the buffer that contains the frames.
#[derive(Debug, Default)]
pub(crate) struct SealQueue {
    payloads: Vec<Payload>,
    checksums: Vec<UdpChecksum>,
    scratch: Scratch,
}

/// The part of a payload after the ESP header: IV, clear text, room for the ICV.
#[derive(Debug)]
struct Payload {
    sa: u32,
    spi: u32,
    sn: u64,
    start: usize,
    end: usize,
}

impl SealQueue {
    /// Removes the last payload if it starts at `start` or later, because its frame is not written.
    pub(crate) fn remove_from(&mut self, start: usize) {
        self.payloads.pop_if(|payload| payload.start >= start);
    }

    /// Appends the part after an ESP header: `iv`, the clear text that `write` appends, and room for the ICV.
    /// [`SealQueue::complete`] encrypts it with the sequence number `sn` of an SA with this `spi`.
    #[inline]
    pub(crate) fn push(
        &mut self,
        (sa, spi, sn): (u32, u32, u64),
        iv: &[u8],
        icv_len: usize,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        // No suite has a longer IV.
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
        self.payloads.push(Payload { sa, spi, sn, start, end: out.len() });
    }

    /// Adds a checksum that [`SealQueue::complete`] writes.
    pub(crate) fn push_checksum(&mut self, checksum: Option<UdpChecksum>) {
        self.checksums.extend(checksum);
    }

    /// Encrypts all payloads in `bytes`, then writes the checksums. Afterwards the queue is empty. `cipher` returns
    /// the cipher of an SA, and whether it uses extended sequence numbers.
    pub(crate) fn complete<'c>(&mut self, bytes: &mut [u8], cipher: impl Fn(u32) -> Option<(&'c EspCipher, bool)>) {
        let SealQueue { payloads, checksums, scratch } = self;
        if !payloads.is_sorted_by_key(|payload| payload.sa) {
            // The sort is stable: the payloads of each SA stay in the order of their offsets.
            payloads.sort_by_key(|payload| payload.sa);
        }
        for of_sa in payloads.chunk_by(|a, b| a.sa == b.sa) {
            let (mut rest, mut offset) = (&mut *bytes, 0);
            let packets = of_sa.iter().map_while(|Payload { spi, sn, start, end, .. }| {
                let (_, after) = std::mem::take(&mut rest).split_at_mut_checked(start - offset)?;
                let (body, after) = after.split_at_mut_checked(end - start)?;
                (rest, offset) = (after, *end);
                Some(SealRequest { spi: *spi, sn: *sn, body })
            });
            match of_sa.first().and_then(|payload| cipher(payload.sa)) {
                Some((cipher, esn)) => {
                    let sealed = cipher.seal_side_by_side(esn, packets, scratch);
                    debug_assert!(sealed.is_ok(), "IV and clear text have the lengths of the suite");
                }
                None => {
                    debug_assert!(false, "payloads are only made for SAs of the table");
                    packets.for_each(|packet| packet.body.fill(0));
                }
            }
        }
        payloads.clear();
        checksums.drain(..).for_each(|checksum| checksum.put(bytes));
    }
}
