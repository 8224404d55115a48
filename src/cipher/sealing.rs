//! Seals packets of one SA in place, several in parallel: the counterpart of [`super::batch_open`].

use super::aes::{Block, last_value, xor};
use super::batch_open::{SIDE_BY_SIDE, Scratch, mac_of, push_counters, put, room};
use super::ccm::{Ccm, aad_block_of, b0};
use super::esp_cipher::{EspCipher, Header, Prepared, SealError};
use super::gcm::Gcm;

/// A packet for [`EspCipher::seal_side_by_side`].
#[derive(Debug)]
pub struct SealRequest<'a> {
    /// Security Parameters Index.
    pub spi: u32,
    /// Sequence Number.
    pub sn: u64,
    /// IV, clear text and room for the ICV; afterwards IV, cipher text and ICV. The requirements of
    /// [`EspCipher::seal`] apply.
    pub body: &'a mut [u8],
}

/// A packet, with IV and text as separate slices.
struct Lane<'a> {
    spi: u32,
    sn: u64,
    iv: &'a [u8],
    /// The clear text, later the cipher text.
    text: &'a mut [u8],
    icv: &'a mut [u8],
}

impl Lane<'_> {
    fn blocks(&self) -> usize {
        self.text.len().div_ceil(16)
    }

    fn header(&self, esn: bool) -> Header {
        Header::new(self.spi, self.sn, esn)
    }

    fn put_icv(&mut self, icv: &[u8]) {
        let (words, bytes) = self.icv.as_chunks_mut::<4>();
        let after = icv.iter().skip(4 * words.len());
        words.iter_mut().zip(icv.as_chunks().0).for_each(|(to, from)| *to = *from);
        bytes.iter_mut().zip(after).for_each(|(to, from)| *to = *from);
    }
}

/// The packets of one batch. The used entries come first.
type Lanes<'a> = [Option<Lane<'a>>; SIDE_BY_SIDE];

impl EspCipher {
    /// Seals packets in place like [`EspCipher::seal`]. A packet that cannot be sealed is overwritten with zeros,
    /// and the others are still sealed. Returns the first error.
    ///
    /// # Errors
    /// The clear text is too long, or its length is wrong for the cipher.
    pub fn seal_side_by_side<'a>(
        &self,
        esn: bool,
        packets: impl Iterator<Item = SealRequest<'a>>,
        scratch: &mut Scratch,
    ) -> Result<(), SealError> {
        let mut result = Ok(());
        let mut packets = packets.fuse();
        loop {
            let mut lanes: Lanes<'a> = [const { None }; SIDE_BY_SIDE];
            let mut count = 0;
            for (place, SealRequest { spi, sn, body }) in lanes.iter_mut().zip(&mut packets) {
                match self.split_unsealed(body) {
                    Ok([iv, text, icv]) => *place = Some(Lane { spi, sn, iv, text, icv }),
                    Err(error) => result = result.and(Err(error)),
                }
                count += 1;
            }
            match &self.algorithm {
                _ if count == 0 => return result,
                Prepared::Gcm(gcm) => self.seal_gcm(gcm, esn, &mut lanes, scratch),
                Prepared::Ccm(ccm) => match count {
                    1 => self.seal_ccm::<1>(ccm, esn, &mut lanes, scratch),
                    2..=4 => self.seal_ccm::<4>(ccm, esn, &mut lanes, scratch),
                    _ => self.seal_ccm::<SIDE_BY_SIDE>(ccm, esn, &mut lanes, scratch),
                },
                _ => {
                    for lane in lanes.iter_mut().flatten() {
                        let icv = self.seal_in_place(&lane.header(esn), lane.iv, lane.text);
                        lane.put_icv(&icv);
                    }
                }
            }
        }
    }

    /// Splits a packet into IV, clear text and room for the ICV. If the packet is invalid, it is overwritten with
    /// zeros.
    fn split_unsealed<'a>(&self, body: &'a mut [u8]) -> Result<[&'a mut [u8]; 3], SealError> {
        let text_len = body.len().checked_sub(self.iv_len() + self.icv_len()).ok_or(SealError::Iv);
        if let Err(error) = text_len.and_then(|len| self.check_clear_len(len)) {
            body.fill(0);
            return Err(error);
        }
        let (iv, rest) = body.split_at_mut(self.iv_len());
        let (text, icv) = rest.split_at_mut(rest.len() - self.icv_len());
        Ok([iv, text, icv])
    }

    fn seal_gcm(&self, gcm: &Gcm, esn: bool, lanes: &mut Lanes<'_>, scratch: &mut Scratch) {
        let key_stream = &mut scratch.key_stream;
        key_stream.clear();
        // J0, whose encryption masks the ICV, then the counter blocks.
        for lane in lanes.iter().flatten() {
            push_counters(self.counter(lane.iv, lane.header(esn).sn()), 1 + lane.blocks(), key_stream);
        }
        gcm.encrypt_all(key_stream);
        let ghash = gcm.ghash();
        let mut rest = key_stream.as_slice();
        for lane in lanes.iter_mut().flatten() {
            let Some((own, others)) = rest.split_at_checked(1 + lane.blocks()) else { break };
            let Some((mask, own)) = own.split_first() else { break };
            rest = others;
            encrypt(lane.text, own, |_, _| {});
            let mut icv = ghash.clone().hash_esp(Header::aad_value(lane.spi, lane.sn, esn), lane.text);
            xor(&mut icv, mask);
            lane.put_icv(&icv);
        }
    }

    /// Handles at most `N` lanes.
    fn seal_ccm<const N: usize>(&self, ccm: &Ccm, esn: bool, lanes: &mut Lanes<'_>, scratch: &mut Scratch) {
        let Scratch { key_stream, rows } = scratch;
        key_stream.clear();
        let mut most = 0;
        // B0, then A0, whose encryption masks the ICV, then the counter blocks.
        for lane in lanes.iter().flatten() {
            most = most.max(lane.blocks());
            let a0 = self.counter(lane.iv, lane.header(esn).sn());
            key_stream.push(b0(a0, self.icv_len(), true, lane.text.len()).to_be_bytes().into());
            push_counters(a0, 1 + lane.blocks(), key_stream);
        }
        ccm.encrypt_all(key_stream);

        let rows = room::<N>(most, rows);
        let mut first = [Block::default(); N];
        let mut masks = [Block::default(); N];
        let mut rest = key_stream.as_slice();
        for (index, (lane, (first, mask))) in
            lanes.iter_mut().flatten().zip(first.iter_mut().zip(&mut masks)).enumerate()
        {
            let Some((own, others)) = rest.split_at_checked(2 + lane.blocks()) else { break };
            let [b0, a0, own @ ..] = own else { break };
            rest = others;
            (*first, *mask) = (*b0, *a0);
            put(rows, 0, index, aad_block_of(Header::aad_value(lane.spi, lane.sn, esn)));
            encrypt(lane.text, own, |at, block| put(rows, 1 + at, index, block));
        }
        ccm.macs(first, rows);
        for (index, (lane, mask)) in lanes.iter_mut().flatten().zip(&masks).enumerate() {
            let mut icv = mac_of(rows, lane.blocks(), index);
            xor(&mut icv, mask);
            lane.put_icv(&icv);
        }
    }
}

/// Encrypts a text. `each` is called with every block before it is encrypted, the last one padded with zeros.
#[inline(always)]
fn encrypt(text: &mut [u8], key_stream: &[Block], mut each: impl FnMut(usize, Block)) {
    let last = last_value(text);
    let end: Option<[u8; 16]> = text.last_chunk().copied();
    let (whole, rest) = text.as_chunks_mut::<16>();
    for (at, (block, key)) in whole.iter_mut().zip(key_stream).enumerate() {
        each(at, (*block).into());
        *block = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes((*key).into())).to_ne_bytes();
    }
    if rest.is_empty() {
        return;
    }
    each(whole.len(), last.to_be_bytes().into());
    let key_of = |at: usize| key_stream.get(at).map_or(0, |key| u128::from_be_bytes((*key).into()));
    let (bits, key) = (8 * rest.len(), key_of(whole.len()));
    match end {
        // The last 16 bytes, which belong to two blocks, are encrypted as one word. This is faster than byte by
        // byte.
        Some(end) => {
            let keys = key_of(whole.len() - 1) << bits | key >> (128 - bits);
            if let Some(place) = text.last_chunk_mut() {
                *place = (u128::from_be_bytes(end) ^ keys).to_be_bytes();
            }
        }
        None => rest.iter_mut().zip(key.to_be_bytes()).for_each(|(byte, key)| *byte ^= key),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{IntegKey, Keys, SUITES, Suite};
    use super::*;
    use crate::cipher::{OpenRequest, Random};
    use crate::secret::Secret;

    /// One packet: SPI, Sequence Number, IV, clear text.
    struct Packet {
        spi: u32,
        sn: u64,
        iv: Vec<u8>,
        clear: Vec<u8>,
    }

    /// Packets whose texts have `lens` whole blocks of `cipher`. No two packets share a field.
    fn packets(cipher: &EspCipher, lens: &[usize]) -> Vec<Packet> {
        let of = |(n, len): (usize, &usize)| Packet {
            spi: 0xc0ff_ee00 + n as u32,
            sn: (n as u64) << 32 | 7,
            iv: (0..cipher.iv_len()).map(|at| (at * 5 + n) as u8).collect(),
            clear: (0..len.next_multiple_of(cipher.block())).map(|at| (at * 7 + n * 31) as u8).collect(),
        };
        lens.iter().enumerate().map(of).collect()
    }

    fn sealed(cipher: &EspCipher, esn: bool, packets: &[Packet]) -> Vec<Vec<u8>> {
        let icv = vec![0xee; cipher.icv_len()];
        let mut bodies: Vec<_> = packets.iter().map(|packet| [&packet.iv[..], &packet.clear, &icv].concat()).collect();
        let unsealed = packets.iter().zip(&mut bodies).map(|(Packet { spi, sn, .. }, body)| SealRequest {
            spi: *spi,
            sn: *sn,
            body,
        });
        cipher.seal_side_by_side(esn, unsealed, &mut Scratch::default()).unwrap();
        bodies
    }

    /// For each number of packets up to more than a group: equal lengths, and lengths that end at every position in
    /// a block.
    fn lens() -> impl Iterator<Item = Vec<usize>> {
        let all = [17, 100, 31, 32, 1400, 3, 0, 48, 16, 0, 200, 9000, 15, 1, 33, 64, 5, 5];
        let equal = (0..=48).map(|len| vec![len; 8]);
        equal.chain((0..=all.len()).map(move |count| all[..count].to_vec()))
    }

    #[test]
    fn aes_ccm_equals_the_crate_ccm() {
        use ::ccm::aead::inout::InOutBuf;
        use ::ccm::consts::{U8, U11};
        use ::ccm::{AeadInOut, KeyInit};
        let (key, salt) = ([7; 16], [1, 2, 3]);
        let reference = ::ccm::Ccm::<aes::Aes128, U8, U11>::new_from_slice(&key).unwrap();
        let suite = Suite::by_name("ENCR_AES_CCM_8").unwrap();
        let keys = Keys::new(suite, Secret::new(key.into()), Secret::new(salt.into()), IntegKey::Missing).unwrap();
        let cipher = EspCipher::new(&keys);
        for (lens, esn) in lens().flat_map(|lens| [(lens.clone(), false), (lens, true)]) {
            let packets = packets(&cipher, &lens);
            for (Packet { spi, sn, iv, clear }, ours) in packets.iter().zip(sealed(&cipher, esn, &packets)) {
                let nonce: [u8; 11] = [&salt[..], iv].concat().try_into().unwrap();
                let sn = sn.to_be_bytes();
                let aad = [&spi.to_be_bytes()[..], if esn { &sn } else { &sn[4..] }].concat();
                let mut theirs = clear.clone();
                let buffer: InOutBuf<'_, '_, u8> = theirs.as_mut_slice().into();
                let icv = reference.encrypt_inout_detached(&nonce.into(), &aad, buffer).unwrap();
                assert_eq!(ours, [&iv[..], &theirs, &icv].concat(), "{lens:?}");
            }
        }
    }

    #[test]
    fn sealing_in_parallel_equals_sealing_one_by_one() {
        for suite in SUITES {
            let keys = Keys::generate(suite, &mut Random::new(Some(1), "test")).unwrap();
            let cipher = EspCipher::new(&keys);
            for (lens, esn) in lens().zip([false, true].into_iter().cycle()) {
                let packets = packets(&cipher, &lens);
                let bodies = sealed(&cipher, esn, &packets);
                for (Packet { spi, sn, iv, clear }, body) in packets.iter().zip(&bodies) {
                    let mut alone = vec![];
                    cipher.seal(*spi, *sn, esn, iv, clear, &mut alone).unwrap();
                    assert_eq!(*body, alone, "{} {lens:?}", suite.name);
                }
                let group: Vec<_> = packets.iter().zip(&bodies).take(SIDE_BY_SIDE).collect();
                let sealed: Vec<_> = group
                    .iter()
                    .map(|(Packet { spi, sn, .. }, body)| OpenRequest { spi: *spi, sn: *sn, body })
                    .collect();
                let mut opened = vec![];
                assert_eq!(
                    cipher.open_side_by_side(esn, &sealed, &mut Scratch::default(), &mut opened),
                    group.len(),
                    "{}",
                    suite.name
                );
                let clear: Vec<u8> = group.iter().flat_map(|(packet, _)| packet.clear.clone()).collect();
                assert_eq!(opened, clear, "{}", suite.name);
            }
        }
    }

    /// A clear text that could not be sealed is wiped; the others are sealed.
    #[test]
    fn a_packet_that_cannot_be_sealed_is_overwritten() {
        let suite = Suite::by_name("ENCR_AES_CBC").unwrap();
        let cipher = EspCipher::new(&Keys::generate(suite, &mut Random::new(Some(1), "test")).unwrap());
        let mut bodies = [vec![1; 16 + 16 + 16], vec![1; 16 + 15 + 16], vec![1; 31], vec![1; 16 + 32 + 16]];
        let unsealed = bodies.iter_mut().map(|body| SealRequest { spi: 1, sn: 2, body });
        let result = cipher.seal_side_by_side(false, unsealed, &mut Scratch::default());
        assert_eq!(result, Err(SealError::Block));
        assert_eq!(bodies[1..3], [vec![0; 47], vec![0; 31]]);
        for body in [&bodies[0], &bodies[3]] {
            let mut alone = vec![];
            cipher.seal(1, 2, false, &[1; 16], &vec![1; body.len() - 32], &mut alone).unwrap();
            assert_eq!(*body, alone);
        }
    }
}
