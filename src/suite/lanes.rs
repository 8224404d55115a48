//! Opening several packets of one SA side by side.
//!
//! AES is fast when it has many blocks at once. The key stream of all packets is one call; the CBC-MACs of AES-CCM, each
//! of which is a chain of AES calls that wait for one another, go in lock step.

use std::fmt;

use zeroize::Zeroize;

use super::aes::{Block, padded, xor};
use super::ccm::Ccm;
use super::cryptor::{Body, Cryptor, Header, Prepared};
use super::gcm::Gcm;
use super::same;

/// Packets that are opened at a time, at most: as many as fill the AES units of a CPU.
pub const SIDE_BY_SIDE: usize = 8;

/// A packet for [`Cryptor::open_side_by_side`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Sealed<'a> {
    /// Security Parameters Index.
    pub spi: u32,
    /// Sequence Number.
    pub sn: u64,
    /// IV, cipher text, ICV.
    pub body: &'a [u8],
}

/// Memory that [`Cryptor::open_side_by_side`] and [`Cryptor::seal_side_by_side`] use again; wiped when dropped.
#[derive(Default)]
pub struct Scratch {
    /// Counter blocks, which become key stream.
    pub(super) key_stream: Vec<Block>,
    /// AADs and clear texts in blocks, one of each packet in turn; then their CBC-MACs.
    pub(super) rows: Vec<Block>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for blocks in [&mut self.key_stream, &mut self.rows] {
            blocks.iter_mut().for_each(|block| block.zeroize());
        }
    }
}

/// A packet and what stands in front of it.
#[derive(Clone, Copy)]
struct Lane<'a> {
    header: Header,
    body: Body<'a>,
    counter_block: Block,
}

impl Lane<'_> {
    fn blocks(&self) -> usize {
        self.body.cipher_text.len().div_ceil(16)
    }
}

impl Cryptor {
    /// Length of the clear text of a packet with a body of `body_len` bytes.
    pub fn clear_len(&self, body_len: usize) -> usize {
        body_len.saturating_sub(self.iv_len() + self.icv_len())
    }

    /// [`Cryptor::open`] of several packets, of which only the first [`SIDE_BY_SIDE`] count. Appends to `clear` the clear
    /// texts ([`Cryptor::clear_len`] tells their lengths) of those in front of the first that does not verify or is cut
    /// short, and tells how many these are.
    pub fn open_side_by_side(
        &self,
        esn: bool,
        packets: &[Sealed<'_>],
        scratch: &mut Scratch,
        clear: &mut Vec<u8>,
    ) -> usize {
        let mut lanes: [Option<Lane<'_>>; SIDE_BY_SIDE] = [None; SIDE_BY_SIDE];
        let mut count = 0;
        for (place, Sealed { spi, sn, body }) in lanes.iter_mut().zip(packets) {
            let Ok(body) = self.split(body) else { break };
            let header = Header::new(*spi, *sn, esn);
            *place = Some(Lane { header, body, counter_block: self.counter_block(body.iv, &header) });
            count += 1;
        }
        let lanes = lanes.iter().flatten();
        match &self.cipher {
            Prepared::Gcm(gcm) => open_gcm(gcm, lanes, scratch, clear),
            Prepared::Ccm(ccm) => match count {
                0 => 0,
                1 => open_ccm::<1>(ccm, lanes, scratch, clear),
                2..=4 => open_ccm::<4>(ccm, lanes, scratch, clear),
                _ => open_ccm::<SIDE_BY_SIDE>(ccm, lanes, scratch, clear),
            },
            _ => {
                let mut opened = 0;
                for Lane { header, body, .. } in lanes {
                    let start = clear.len();
                    clear.extend_from_slice(body.cipher_text);
                    if !self.open_in_place(header, body.iv, clear.get_mut(start..).unwrap_or_default(), body.icv) {
                        forget(clear, start);
                        break;
                    }
                    opened += 1;
                }
                opened
            }
        }
    }
}

fn open_gcm<'a>(
    gcm: &Gcm,
    lanes: impl Iterator<Item = &'a Lane<'a>> + Clone,
    scratch: &mut Scratch,
    clear: &mut Vec<u8>,
) -> usize {
    let key_stream = &mut scratch.key_stream;
    key_stream.clear();
    // J0, which masks the ICV, and the counters behind it.
    for lane in lanes.clone() {
        push_counters(&lane.counter_block, 1 + lane.blocks(), key_stream);
    }
    gcm.encrypt_all(key_stream);
    let mut rest = key_stream.as_slice();
    let mut opened = 0;
    for lane in lanes {
        let Some((own, others)) = rest.split_at_checked(1 + lane.blocks()) else { break };
        let Some((mask, own)) = own.split_first() else { break };
        rest = others;
        let mut tag = gcm.hash(&[lane.header.aad()], lane.body.cipher_text);
        xor(&mut tag, mask);
        if !same(&tag, lane.body.icv) {
            break;
        }
        append_decrypted(lane.body.cipher_text, own, clear);
        opened += 1;
    }
    opened
}

/// At most `N` lanes.
fn open_ccm<'a, const N: usize>(
    ccm: &Ccm,
    lanes: impl Iterator<Item = &'a Lane<'a>> + Clone,
    scratch: &mut Scratch,
    clear: &mut Vec<u8>,
) -> usize {
    let Scratch { key_stream, rows } = scratch;
    key_stream.clear();
    // B0, then A0, which masks the ICV, and the counters behind it.
    for lane in lanes.clone() {
        key_stream.push(ccm.b0_with_aad(&lane.counter_block, lane.body.cipher_text.len()));
        push_counters(&lane.counter_block, 1 + lane.blocks(), key_stream);
    }
    ccm.encrypt_all(key_stream);

    let rows = room::<N>(lanes.clone().map(Lane::blocks).max(), rows);
    let start = clear.len();
    let mut first = [Block::default(); N];
    let mut masks = [Block::default(); N];
    let mut rest = key_stream.as_slice();
    for (index, (lane, (first, mask))) in lanes.clone().zip(first.iter_mut().zip(&mut masks)).enumerate() {
        let Some((own, others)) = rest.split_at_checked(2 + lane.blocks()) else { break };
        let [b0, a0, own @ ..] = own else { break };
        rest = others;
        (*first, *mask) = (*b0, *a0);
        let text = clear.len();
        append_decrypted(lane.body.cipher_text, own, clear);
        fill_rows(lane.header.aad_block(), clear.get(text..).unwrap_or_default(), index, rows);
    }

    ccm.macs(&first, rows);
    let mut text = start;
    let mut opened = 0;
    for (index, (lane, mask)) in lanes.zip(&masks).enumerate() {
        let mut tag = mac_of(lane.blocks(), index, rows);
        xor(&mut tag, mask);
        if !same(&tag, lane.body.icv) {
            forget(clear, text);
            break;
        }
        text += lane.body.cipher_text.len();
        opened += 1;
    }
    opened
}

/// Rows for AADs and for texts of up to `most` blocks. What stands in them is of no meaning.
pub(super) fn room<const N: usize>(most: Option<usize>, rows: &mut Vec<Block>) -> &mut [[Block; N]] {
    let len = (1 + most.unwrap_or(0)) * N;
    if rows.len() < len {
        rows.resize(len, Block::default());
    }
    rows.get_mut(..len).unwrap_or_default().as_chunks_mut().0
}

/// That at `index` of `N`, of a text of `blocks`, after [`Ccm::macs`].
pub(super) fn mac_of<const N: usize>(blocks: usize, index: usize, rows: &[[Block; N]]) -> Block {
    rows.get(blocks).and_then(|row| row.get(index)).copied().unwrap_or_default()
}

/// Appends `first` and the counter blocks behind it, `count` in all; their last 4 bytes count.
pub(super) fn push_counters(first: &Block, count: usize, blocks: &mut Vec<Block>) {
    let first = u128::from_be_bytes((*first).into());
    let (fixed, start) = (first >> 32 << 32, first as u32);
    let at = |index| fixed | u128::from(start.wrapping_add(index));
    blocks.extend((0..count as u32).map(|index| Block::from(at(index).to_be_bytes())));
}

/// The AAD and the clear text at `index` of `N` into rows of a block of each.
pub(super) fn fill_rows<const N: usize>(aad: Block, text: &[u8], index: usize, rows: &mut [[Block; N]]) {
    let mut places = rows.iter_mut().filter_map(|row| row.get_mut(index));
    if let Some(place) = places.next() {
        *place = aad;
    }
    let Some(last) = text.last_chunk::<16>() else {
        if let Some(place) = places.next() {
            *place = padded(text);
        }
        return;
    };
    let blocks = text.len().div_ceil(16);
    for (block, place) in text.as_chunks::<16>().0.iter().take(blocks - 1).zip(&mut places) {
        *place = (*block).into();
    }
    if let Some(place) = places.next() {
        // What belongs to the block before is shifted out. Whether there is such cannot be foretold.
        *place = (u128::from_be_bytes(*last) << (8 * (16 * blocks - text.len()))).to_be_bytes().into();
    }
}

fn append_decrypted(cipher_text: &[u8], key_stream: &[Block], clear: &mut Vec<u8>) {
    let start = clear.len();
    clear.extend_from_slice(cipher_text);
    apply_key_stream(key_stream, clear.get_mut(start..).unwrap_or_default());
}

/// Key stream over a text, both directions.
pub(super) fn apply_key_stream(key_stream: &[Block], text: &mut [u8]) {
    let Some(mut last) = text.last_chunk().copied().map(u128::from_be_bytes) else {
        return text.iter_mut().zip(key_stream.iter().flatten()).for_each(|(byte, key)| *byte ^= key);
    };
    let (whole, rest) = text.as_chunks_mut::<16>();
    for (block, key) in whole.iter_mut().zip(key_stream) {
        *block = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes((*key).into())).to_ne_bytes();
    }
    // The last 16 bytes all in one, which are of two blocks: how many of each cannot be foretold, and a branch costs more.
    let key_of = |index: usize| key_stream.get(index).map_or(0, |key| u128::from_be_bytes((*key).into()));
    let shift = 8 * rest.len();
    last ^= key_of(whole.len() - 1) << shift | key_of(whole.len()) >> 1 >> (127 - shift);
    if let Some(place) = text.last_chunk_mut() {
        *place = last.to_be_bytes();
    }
}

/// Wipes and drops what stands in `clear` from `start` on.
fn forget(clear: &mut Vec<u8>, start: usize) {
    clear.get_mut(start..).unwrap_or_default().zeroize();
    clear.truncate(start);
}
