//! State that a stream keeps for its next packet: the TCP numbers of which dialect `ehc` sends only the low bits.

use super::restored::Mismatch;
use crate::net::tcp::Tcp;

/// The state after the previous packet of one Security Association. If the destination is a multicast address, each
/// source has its own state. Sender and receiver each keep one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Sequence Number and Acknowledgment Number of the previous TCP packet.
    tcp: Option<[u32; 2]>,
}

/// TCP Sequence Number and Acknowledgment Number, of which only the low bits are sent (wire format §3, `tcp_lsb`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpLsb {
    /// Bits sent of each number, less than 32.
    pub bits: u32,
    /// The numbers before the first packet: `tcp_sn`, `tcp_ack`.
    pub first: [u32; 2],
}

/// Names of the two numbers in messages.
const NAMES: [&str; 2] = ["tcp.sequence", "tcp.acknowledgment"];

impl State {
    /// Stores the numbers of a TCP segment.
    pub(crate) fn note(&mut self, segment: &[u8]) {
        self.tcp = Some(numbers(segment));
    }
}

impl TcpLsb {
    /// Checks that a receiver can restore the numbers of `segment`: both must change by less than half the range of the
    /// sent bits.
    pub(super) fn check(&self, segment: &[u8], state: &State) -> Result<(), Mismatch> {
        let before = state.tcp.unwrap_or(self.first);
        for ((number, before), name) in numbers(segment).into_iter().zip(before).zip(NAMES) {
            // The shorter distance modulo 2^32.
            let jump = (number.wrapping_sub(before) as i32).unsigned_abs();
            if u64::from(jump) * 2 >= 1 << self.bits {
                return Err(Mismatch::says(name, "differs too much from that of the previous packet for `tcp_lsb`"));
            }
        }
        Ok(())
    }

    /// Restores the numbers of `segment`, which contains their low bits, and stores them.
    pub(super) fn fill(&self, segment: &mut [u8], state: &mut State) {
        let before = state.tcp.unwrap_or(self.first);
        let low = numbers(segment);
        let [sequence, acknowledgment] = [0, 1].map(|index: usize| {
            let of = |pair: [u32; 2]| pair.get(index).copied().unwrap_or(0);
            self.nearest(of(before), of(low))
        });
        if let Some(mut tcp) = Tcp::at_mut(segment, 0) {
            tcp.set_numbers([sequence, acknowledgment]);
        }
        state.tcp = Some([sequence, acknowledgment]);
    }

    /// The number nearest to `before` with these low bits. If two are equally near, the larger one.
    fn nearest(&self, before: u32, low: u32) -> u32 {
        let range = 1u64 << self.bits;
        let ahead = u64::from(low.wrapping_sub(before)) & (range - 1);
        let forward = before.wrapping_add(ahead as u32);
        if ahead * 2 > range { forward.wrapping_sub(range as u32) } else { forward }
    }
}

fn numbers(segment: &[u8]) -> [u32; 2] {
    Tcp::of(segment).map_or([0; 2], |tcp| tcp.numbers())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(numbers: [u32; 2]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        for (place, number) in bytes[4..12].chunks_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// The low 16 bits around 0x0001_2345. A number less than 0x8000 away is restored, on both sides and across
    /// 2^32.
    #[test]
    fn the_nearest_number_is_restored() {
        let near = TcpLsb { bits: 16, first: [0x0001_2345, 5] };
        for (sent, sequence) in [
            (0x2345, 0x0001_2345),
            (0x2346, 0x0001_2346),
            (0xa344, 0x0001_a344),
            // 0x8000 away on both sides: the larger number is chosen.
            (0xa345, 0x0001_a345),
            (0xa346, 0x0000_a346),
            (0x2344, 0x0001_2344),
            (0x0000, 0x0001_0000),
        ] {
            let mut bytes = segment([sent, 0xfffe]);
            let mut state = State::default();
            near.fill(&mut bytes, &mut state);
            // 5 and fffe: 7 below 5.
            assert_eq!(numbers(&bytes), [sequence, 0xffff_fffe], "{sent:04x}");
            assert_eq!(state.tcp, Some([sequence, 0xffff_fffe]));
        }
    }

    #[test]
    fn a_sender_refuses_a_number_that_would_be_restored_wrong() {
        let state = State { tcp: Some([0x0001_2345, 0xffff_ff00]) };
        let says = |bits: u32, numbers| {
            let near = TcpLsb { bits, first: [0; 2] };
            near.check(&segment(numbers), &state).err().map(|mismatch| mismatch.field)
        };
        assert_eq!(says(16, [0x0001_a344, 0x0000_7eff]), None);
        assert_eq!(says(16, [0x0001_a345, 0xffff_ff00]), Some("tcp.sequence"));
        assert_eq!(says(16, [0x0000_a345, 0xffff_ff00]), Some("tcp.sequence"));
        assert_eq!(says(16, [0x0000_a346, 0xffff_ff00]), None);
        assert_eq!(says(16, [0x0001_2345, 0x0000_7f00]), Some("tcp.acknowledgment"));
        assert_eq!(says(24, [0x0081_2344, 0xffff_ff00]), None);
        assert_eq!(says(24, [0x0081_2345, 0xffff_ff00]), Some("tcp.sequence"));
        // No bits are sent, so the numbers may not change.
        assert_eq!(says(0, [0x0001_2345, 0xffff_ff00]), None);
        assert_eq!(says(0, [0x0001_2346, 0xffff_ff00]), Some("tcp.sequence"));
    }
}
