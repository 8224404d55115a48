//! Opens several packets in parallel on one core.
//!
//! AES is fast when many blocks are processed at once. For packets of one SA, one call computes the key stream of
//! all. The CBC-MAC of AES-CCM is a chain: each AES call needs the result of the previous one. So the MACs of
//! several packets are computed in lock step. For packets of several SAs, each step is done for all packets before
//! the next step, and the CPU overlaps the work.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroize;

use super::aes::{Block, last_value, xor};
use super::ccm::{Ccm, aad_block_of, b0};
use super::esp_cipher::{Body, EspCipher, Header, Prepared};
use super::gcm::Gcm;
use super::same;

/// Maximum number of packets opened at a time: as many as keep the AES units of a CPU busy.
pub(crate) const SIDE_BY_SIDE: usize = 8;

/// A packet for [`EspCipher::open_side_by_side`].
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenRequest<'a> {
    /// Security Parameters Index (SPI).
    pub spi: u32,
    /// Sequence number.
    pub sn: u64,
    /// IV, cipher text, ICV.
    pub body: &'a [u8],
}

/// A packet for [`open_multi_key`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct MultiKeyRequest<'a> {
    /// The cipher of its SA.
    pub cipher: &'a EspCipher,
    /// Whether the SA uses extended sequence numbers (ESN).
    pub esn: bool,
    /// The packet.
    pub sealed: OpenRequest<'a>,
}

/// Reusable buffers for opening and sealing batches; wiped when dropped.
#[derive(Default)]
pub struct Scratch {
    /// Counter blocks, later overwritten by the key stream.
    pub(super) key_stream: Vec<Block>,
    /// AADs and clear texts in blocks; each row has one block of each packet. Later overwritten by their CBC-MACs.
    pub(super) rows: Vec<Block>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // `zeroize` also wipes the spare capacity, which may still hold data of longer packets.
        self.key_stream.zeroize();
        self.rows.zeroize();
    }
}

impl EspCipher {
    /// Length of the clear text of a packet whose body has `body_len` bytes.
    pub fn clear_len(&self, body_len: usize) -> usize {
        body_len.saturating_sub(self.iv_len() + self.icv_len())
    }

    /// Opens several packets of one SA like [`EspCipher::open`], at most the first [`SIDE_BY_SIDE`]. It stops at
    /// the first packet that is truncated or does not verify, and returns the number of packets before it. Their
    /// clear texts are appended to `clear`; [`EspCipher::clear_len`] returns their lengths.
    pub fn open_side_by_side(
        &self,
        esn: bool,
        packets: &[OpenRequest<'_>],
        scratch: &mut Scratch,
        clear: &mut Vec<u8>,
    ) -> usize {
        let packets = packets.get(..SIDE_BY_SIDE).unwrap_or(packets);
        match (&self.algorithm, packets.len()) {
            (Prepared::Gcm(gcm), 0..=1) => self.open_gcm::<1>(gcm, esn, packets, scratch, clear),
            (Prepared::Gcm(gcm), _) => self.open_gcm::<SIDE_BY_SIDE>(gcm, esn, packets, scratch, clear),
            (Prepared::Ccm(ccm), 0..=1) => self.open_ccm::<1>(ccm, esn, packets, scratch, clear),
            (Prepared::Ccm(ccm), 2..=4) => self.open_ccm::<4>(ccm, esn, packets, scratch, clear),
            (Prepared::Ccm(ccm), _) => self.open_ccm::<SIDE_BY_SIDE>(ccm, esn, packets, scratch, clear),
            _ => {
                for (opened, OpenRequest { spi, sn, body }) in packets.iter().enumerate() {
                    let Ok(body) = self.split(body) else { return opened };
                    let start = clear.len();
                    clear.extend_from_slice(body.cipher_text);
                    let header = Header::new(*spi, *sn, esn);
                    if !self.open_in_place(&header, body.iv, clear.get_mut(start..).unwrap_or_default(), body.icv) {
                        forget(clear, start);
                        return opened;
                    }
                }
                packets.len()
            }
        }
    }

    /// Handles at most `N` packets.
    fn open_gcm<const N: usize>(
        &self,
        gcm: &Gcm,
        esn: bool,
        packets: &[OpenRequest<'_>],
        scratch: &mut Scratch,
        clear: &mut Vec<u8>,
    ) -> usize {
        let key_stream = &mut scratch.key_stream;
        key_stream.clear();
        let mut lanes = [Lane::<(u128, usize)>::default(); N];
        let mut count = 0;
        for (lane, OpenRequest { spi, sn, body }) in lanes.iter_mut().zip(packets) {
            let Ok(Body { iv, cipher_text, icv }) = self.split(body) else { break };
            *lane = Lane { aad: Header::aad_value(*spi, *sn, esn), cipher_text, icv };
            // J0, whose encryption masks the ICV, then the counter blocks.
            push_counters(self.counter(iv, number(*sn, esn)), 1 + lane.blocks(), key_stream);
            count += 1;
        }
        let lanes = lanes.get(..count).unwrap_or_default();
        gcm.encrypt_all(key_stream);
        let ghash = gcm.ghash();
        let mut rest = key_stream.as_slice();
        let mut text = Text::of(lanes, clear);
        let mut opened = 0;
        for lane in lanes {
            let Some((own, others)) = rest.split_at_checked(1 + lane.blocks()) else { break };
            let Some((mask, own)) = own.split_first() else { break };
            rest = others;
            let mut tag = ghash.clone().hash_esp(lane.aad, lane.cipher_text);
            xor(&mut tag, mask);
            if !same(&tag, lane.icv) {
                break;
            }
            text.decrypt(lane.cipher_text, own, |_, _| {});
            opened += 1;
        }
        text.end(opened, lanes);
        opened
    }

    /// Handles at most `N` packets.
    fn open_ccm<const N: usize>(
        &self,
        ccm: &Ccm,
        esn: bool,
        packets: &[OpenRequest<'_>],
        scratch: &mut Scratch,
        clear: &mut Vec<u8>,
    ) -> usize {
        let Scratch { key_stream, rows } = scratch;
        key_stream.clear();
        let mut lanes = [Lane::<Block>::default(); N];
        let (mut count, mut most) = (0, 0);
        for (lane, OpenRequest { spi, sn, body }) in lanes.iter_mut().zip(packets) {
            let Ok(Body { iv, cipher_text, icv }) = self.split(body) else { break };
            *lane = Lane { aad: aad_block_of(Header::aad_value(*spi, *sn, esn)), cipher_text, icv };
            // B0, then A0, whose encryption masks the ICV, then the counter blocks.
            let a0 = self.counter(iv, number(*sn, esn));
            key_stream.push(b0(a0, self.icv_len(), true, cipher_text.len()).to_be_bytes().into());
            push_counters(a0, 1 + lane.blocks(), key_stream);
            most = most.max(lane.blocks());
            count += 1;
        }
        let lanes = lanes.get(..count).unwrap_or_default();
        ccm.encrypt_all(key_stream);

        let rows = room::<N>(most, rows);
        let mut first = [Block::default(); N];
        let mut masks = [Block::default(); N];
        let mut rest = key_stream.as_slice();
        let mut text = Text::of(lanes, clear);
        for (index, (lane, (first, mask))) in lanes.iter().zip(first.iter_mut().zip(&mut masks)).enumerate() {
            let Some((own, others)) = rest.split_at_checked(2 + lane.blocks()) else { break };
            let [b0, a0, own @ ..] = own else { break };
            rest = others;
            (*first, *mask) = (*b0, *a0);
            put(rows, 0, index, lane.aad);
            text.decrypt(lane.cipher_text, own, |at, block| put(rows, 1 + at, index, block));
        }
        ccm.macs(first, rows);
        let mut opened = 0;
        for (index, (lane, mask)) in lanes.iter().zip(&masks).enumerate() {
            let mut tag = mac_of(rows, lane.blocks(), index);
            xor(&mut tag, mask);
            if !same(&tag, lane.icv) {
                break;
            }
            opened += 1;
        }
        text.end(opened, lanes);
        opened
    }
}

/// Returns rows for [`Ccm::macs`] with texts of up to `most` blocks. Their initial content does not matter.
pub(super) fn room<const N: usize>(most: usize, rows: &mut Vec<Block>) -> &mut [[Block; N]] {
    let len = (1 + most) * N;
    if rows.len() < len {
        rows.resize(len, Block::default());
    }
    rows.get_mut(..len).unwrap_or_default().as_chunks_mut().0
}

/// Stores a block of the packet at `index` in a row.
#[inline(always)]
pub(super) fn put<const N: usize>(rows: &mut [[Block; N]], row: usize, index: usize, block: Block) {
    if let Some(place) = rows.get_mut(row).and_then(|row| row.get_mut(index)) {
        *place = block;
    }
}

/// The MAC of the packet at `index`, whose text has `blocks` blocks. Call it after [`Ccm::macs`].
#[inline(always)]
pub(super) fn mac_of<const N: usize>(rows: &[[Block; N]], blocks: usize, index: usize) -> Block {
    rows.get(blocks).and_then(|row| row.get(index)).copied().unwrap_or_default()
}

/// Opens several packets of different SAs like [`EspCipher::open`], at most the first [`SIDE_BY_SIDE`]. Appends
/// clear texts to `clear`, and returns the range of each packet that verified. Calls `after_each` once for every
/// packet, so that the caller can prefetch the keys of the next packets.
pub(crate) fn open_multi_key(
    packets: &[MultiKeyRequest<'_>],
    scratch: &mut Scratch,
    clear: &mut Vec<u8>,
    mut after_each: impl FnMut(),
) -> [Option<Range<usize>>; SIDE_BY_SIDE] {
    let Scratch { key_stream, rows } = scratch;
    key_stream.clear();
    rows.clear();
    let mut lanes = [Lane::<InKeyStream>::default(); SIDE_BY_SIDE];
    for (lane, MultiKeyRequest { cipher, esn, sealed }) in lanes.iter_mut().zip(packets) {
        let Ok(Body { iv, cipher_text, icv }) = cipher.split(sealed.body) else { continue };
        let aad = Header::aad_value(sealed.spi, sealed.sn, *esn);
        let start = key_stream.len();
        let first = cipher.counter(iv, number(sealed.sn, *esn));
        let counters = 1 + cipher_text.len().div_ceil(16);
        match &cipher.algorithm {
            Prepared::Ccm(_) => {
                key_stream.push(b0(first, cipher.icv_len(), true, cipher_text.len()).to_be_bytes().into());
                push_counters(first, counters, key_stream);
            }
            Prepared::Gcm(_) => push_counters(first, counters, key_stream),
            _ => {}
        }
        let aad = InKeyStream { aad, start, end: key_stream.len(), is_whole: true };
        *lane = Lane { aad, cipher_text, icv };
    }
    for (lane, MultiKeyRequest { cipher, .. }) in lanes.iter().zip(packets) {
        let own = key_stream.get_mut(lane.aad.start..lane.aad.end).unwrap_or_default();
        match &cipher.algorithm {
            Prepared::Ccm(ccm) => ccm.encrypt_all(own),
            Prepared::Gcm(gcm) => gcm.encrypt_all(own),
            _ => {}
        }
    }
    let mut text = Text::of(&lanes, clear);
    let mut verified = [false; SIDE_BY_SIDE];
    let mut tags = [None; SIDE_BY_SIDE];
    for (((lane, MultiKeyRequest { cipher, esn, sealed }), verified), tag) in
        lanes.iter().zip(packets).zip(&mut verified).zip(&mut tags)
    {
        let own = key_stream.get(lane.aad.start..lane.aad.end).unwrap_or_default();
        match (&cipher.algorithm, own) {
            _ if !lane.aad.is_whole => {}
            (Prepared::Ccm(_), [_, _, own @ ..]) => {
                rows.push(aad_block_of(lane.aad.aad));
                text.decrypt(lane.cipher_text, own, |_, block| rows.push(block));
            }
            (Prepared::Gcm(gcm), [mask, own @ ..]) => {
                let mut own_tag = gcm.ghash().hash_esp(lane.aad.aad, lane.cipher_text);
                xor(&mut own_tag, mask);
                *tag = Some(own_tag);
                text.decrypt(lane.cipher_text, own, |_, _| {});
            }
            _ => {
                let header = Header::new(sealed.spi, sealed.sn, *esn);
                let iv = sealed.body.get(..cipher.iv_len()).unwrap_or_default();
                *verified = cipher.open_in_place(&header, iv, text.copy(lane.cipher_text), lane.icv);
            }
        }
        after_each();
    }
    let mut rest = rows.as_mut_slice();
    for ((lane, MultiKeyRequest { cipher, .. }), tag) in lanes.iter().zip(packets).zip(&mut tags) {
        let own = key_stream.get(lane.aad.start..lane.aad.end).unwrap_or_default();
        if let (Prepared::Ccm(ccm), [b0, a0, ..]) = (&cipher.algorithm, own)
            && let Some((own, others)) = std::mem::take(&mut rest).split_at_mut_checked(1 + lane.blocks())
        {
            rest = others;
            let own = own.as_chunks_mut::<1>().0;
            ccm.macs([*b0], own);
            let mut own_tag = mac_of(own, lane.blocks(), 0);
            xor(&mut own_tag, a0);
            *tag = Some(own_tag);
        }
    }
    // All tags are computed before the first is compared, so that the CPU can overlap the packets.
    for ((lane, verified), tag) in lanes.iter().zip(&mut verified).zip(&tags) {
        if let Some(tag) = tag {
            *verified = same(tag, lane.icv);
        }
    }
    text.end_of_each(&lanes, verified)
}

/// The AAD of a packet, and its range in [`Scratch::key_stream`]. For AES-CCM, the range starts with B0 and A0; for
/// AES-GCM, with J0. It is empty for other ciphers.
#[derive(Clone, Copy, Default)]
struct InKeyStream {
    aad: (u128, usize),
    start: usize,
    end: usize,
    /// False for a truncated packet, which has no ICV to verify.
    is_whole: bool,
}

/// The sequence number as used in the nonce if no IV is sent.
fn number(sn: u64, esn: bool) -> u64 {
    if esn { sn } else { sn & u64::from(u32::MAX) }
}

/// A packet being opened.
#[derive(Clone, Copy, Default)]
struct Lane<'a, Aad> {
    aad: Aad,
    cipher_text: &'a [u8],
    icv: &'a [u8],
}

impl<Aad> Lane<'_, Aad> {
    fn blocks(&self) -> usize {
        self.cipher_text.len().div_ceil(16)
    }
}

/// Output buffer for clear texts, one after the other. Each is written in whole blocks. The next text overwrites
/// the excess.
struct Text<'c> {
    clear: &'c mut Vec<u8>,
    start: usize,
    /// Position of the next text.
    next: usize,
}

impl<'c> Text<'c> {
    /// Reserves room for the texts of `lanes` after the present content of `clear`.
    fn of<Aad>(lanes: &[Lane<'_, Aad>], clear: &'c mut Vec<u8>) -> Text<'c> {
        let start = clear.len();
        let len = lanes.iter().map(|lane| lane.cipher_text.len()).sum::<usize>();
        clear.resize(start + len + size_of::<Block>(), 0);
        Text { clear, start, next: start }
    }

    /// Decrypts the next text. `each` is called with every block of it, the last one padded with zeros.
    // Blocks are assembled in registers. A block that is stored byte by byte and then loaded as a whole stalls the
    // CPU.
    #[inline(always)]
    fn decrypt(&mut self, cipher_text: &[u8], key_stream: &[Block], mut each: impl FnMut(usize, Block)) {
        let places = self.clear.get_mut(self.next..).unwrap_or_default().as_chunks_mut::<16>().0;
        self.next += cipher_text.len();
        let (whole, rest) = cipher_text.as_chunks::<16>();
        let key_stream = key_stream.iter().map(|key| u128::from_ne_bytes((*key).into()));
        let mut at = 0;
        let mut blocks = places.iter_mut().zip(key_stream);
        for (from, (to, key)) in whole.iter().zip(&mut blocks) {
            let block = (u128::from_ne_bytes(*from) ^ key).to_ne_bytes();
            *to = block;
            each(at, block.into());
            at += 1;
        }
        if let Some((to, key)) = blocks.next().filter(|_| !rest.is_empty()) {
            let mask = !(u128::MAX >> (8 * rest.len()));
            let block = ((last_value(cipher_text) ^ u128::from_be(key)) & mask).to_be_bytes();
            *to = block;
            each(at, block.into());
        }
    }

    /// Copies `bytes` to the position of the next text.
    fn copy(&mut self, bytes: &[u8]) -> &mut [u8] {
        let place = self.clear.get_mut(self.next..).and_then(|rest| rest.get_mut(..bytes.len())).unwrap_or_default();
        self.next += bytes.len();
        place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        place
    }

    /// Keeps the texts that verified and wipes the others. Returns the position of each kept text.
    fn end_of_each<Aad>(
        self,
        lanes: &[Lane<'_, Aad>; SIDE_BY_SIDE],
        verified: [bool; SIDE_BY_SIDE],
    ) -> [Option<Range<usize>>; SIDE_BY_SIDE] {
        let mut start = self.start;
        let mut places = [const { None }; SIDE_BY_SIDE];
        for ((lane, verified), place) in lanes.iter().zip(verified).zip(&mut places) {
            let range = start..start + lane.cipher_text.len();
            start = range.end;
            match verified {
                true => *place = Some(range),
                false => self.clear.get_mut(range).unwrap_or_default().zeroize(),
            }
        }
        self.clear.truncate(start);
        places
    }

    /// Keeps the first `opened` texts and wipes the others.
    fn end<Aad>(self, opened: usize, lanes: &[Lane<'_, Aad>]) {
        let len = lanes.iter().take(opened).map(|lane| lane.cipher_text.len()).sum::<usize>();
        if opened < lanes.len() {
            self.clear.get_mut(self.start + len..).unwrap_or_default().zeroize();
        }
        self.clear.truncate(self.start + len);
    }
}

/// Appends `count` counter blocks, starting with `first`. Their last 4 bytes are the counter.
pub(super) fn push_counters(first: u128, count: usize, blocks: &mut Vec<Block>) {
    let head = first & !u128::from(u32::MAX);
    blocks.extend((0..count as u32).map(|index| {
        let counter = (first as u32).wrapping_add(index);
        Block::from((head | u128::from(counter)).to_be_bytes())
    }));
}

/// Wipes and removes the content of `clear` from `start` on.
fn forget(clear: &mut Vec<u8>, start: usize) {
    clear.get_mut(start..).unwrap_or_default().zeroize();
    clear.truncate(start);
}
