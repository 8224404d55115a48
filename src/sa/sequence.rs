//! Which Sequence Numbers a captured packet may have, best guess first.
//!
//! A window alone loses a stream for good after a gap of half the number space; a search whose every answer is
//! verified by the ICV does not. The order below only decides how soon the answer is found, never which it is.

/// The Sequence Numbers that agree with `bits` low bits on the wire, in the order in which they are tried.
#[derive(Debug, Clone)]
pub struct Candidates {
    /// Tried before all others: IV xor mask.
    from_mask: Option<u64>,
    order: Order,
    /// Largest number there is.
    max: u64,
}

#[derive(Debug, Clone)]
enum Order {
    /// All bits were sent.
    One(Option<u64>),
    /// Numbers congruent to the wire bits, nearest to the expected one first, the larger of two at one distance.
    Nearest { expected: u64, up: Option<u64>, down: Option<u64>, step: u64 },
    /// No bits were sent: `h+1 ..= h+64`, then `h` down to `h-64`, then outwards.
    Blind { expected: u64, index: u64, max: u64 },
}

/// Numbers tried upwards, then downwards, before the search goes both ways, where no bits are sent.
const BLIND_RUN: u64 = 64;

impl Candidates {
    /// Candidates around `expected` (the highest verified number plus one) that end in the low `bits` bits of `wire`.
    /// `from_mask` comes first if it agrees with them.
    pub fn new(expected: u64, wire: u32, bits: u8, esn: bool, from_mask: Option<u64>) -> Candidates {
        let max = if esn { u64::MAX } else { u64::from(u32::MAX) };
        let expected = expected.min(max);
        let step = 1u64 << bits.min(32);
        let wire = u64::from(wire) & (step - 1);
        let order = match bits {
            0 => Order::Blind { expected, index: 0, max },
            32.. if !esn => Order::One(Some(wire)),
            _ => {
                // The nearest number at or above `expected`, and the one below it.
                let up = expected.checked_add(wire.wrapping_sub(expected) & (step - 1)).filter(|up| *up <= max);
                let down = match up {
                    Some(up) => up.checked_sub(step),
                    None => Some((max & !(step - 1)) | wire),
                };
                Order::Nearest { expected, up, down, step }
            }
        };
        let from_mask = from_mask.filter(|sn| *sn <= max && sn & (step - 1) == wire);
        Candidates { from_mask, order, max }
    }

    /// Whether every bit of the number was on the wire.
    pub fn is_whole(&self) -> bool {
        matches!(self.order, Order::One(_))
    }

    /// Whether the next candidate is the one from the IV mask.
    pub fn next_is_from_mask(&self) -> bool {
        self.from_mask.is_some()
    }
}

impl Iterator for Candidates {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if let Some(sn) = self.from_mask.take() {
            return Some(sn);
        }
        match &mut self.order {
            Order::One(sn) => sn.take(),
            Order::Nearest { expected, up, down, step } => match (*up, *down) {
                (Some(above), below) if below.is_none_or(|below| above - *expected <= *expected - below) => {
                    *up = above.checked_add(*step).filter(|up| *up <= self.max);
                    Some(above)
                }
                (_, below) => {
                    *down = below?.checked_sub(*step);
                    below
                }
            },
            Order::Blind { expected, index, max } => loop {
                let i = *index;
                let above = expected.checked_add(i);
                let (candidate, exhausted) = if i < BLIND_RUN {
                    (above, false)
                } else if i <= 2 * BLIND_RUN {
                    (expected.checked_sub(i - BLIND_RUN + 1), false)
                } else {
                    // From here on by pairs: up 64, down 66, up 65, down 67, ...
                    let pair = i - 2 * BLIND_RUN - 1;
                    let up = expected.checked_add(BLIND_RUN + pair / 2).filter(|sn| sn <= max);
                    let down = expected.checked_sub(BLIND_RUN + 2 + pair / 2);
                    (if pair.is_multiple_of(2) { up } else { down }, up.is_none() && down.is_none())
                };
                *index = i + 1;
                match candidate.filter(|sn| sn <= max) {
                    Some(sn) => return Some(sn),
                    None if exhausted => return None,
                    None => {}
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(candidates: Candidates, count: usize) -> Vec<u64> {
        candidates.take(count).collect()
    }

    #[test]
    fn nearest_first_and_the_larger_of_two_at_one_distance() {
        // Expected 108, wire bits 4 = 0b0100: 100 is 8 below, 116 is 8 above.
        assert_eq!(first(Candidates::new(108, 4, 4, false, None), 4), [116, 100, 132, 84]);
        // Nothing below zero, nothing above the 32 bits.
        assert_eq!(first(Candidates::new(1, 0xff, 8, false, None), 3), [0xff, 0x1ff, 0x2ff]);
        assert_eq!(first(Candidates::new(1, 1, 8, false, None), 2), [1, 257]);
        let top = u64::from(u32::MAX);
        assert_eq!(first(Candidates::new(top, 0, 8, false, None), 2), [top - 255, top - 511]);
        assert_eq!(first(Candidates::new(top, 0, 8, true, None), 2), [top + 1, top - 255]);
        assert_eq!(first(Candidates::new(u64::MAX, 0, 8, true, None), 2), [u64::MAX - 255, u64::MAX - 511]);
    }

    #[test]
    fn all_bits_on_the_wire_leave_one_candidate_unless_the_high_half_is_missing() {
        assert_eq!(first(Candidates::new(1, 7, 32, false, None), 9), [7]);
        assert_eq!(first(Candidates::new(1 << 32, 7, 32, true, None), 3), [(1 << 32) + 7, 7, (2 << 32) + 7]);
    }

    #[test]
    fn without_bits_sixty_four_up_then_down_then_outwards() {
        let all = first(Candidates::new(1000, 0, 0, false, None), 133);
        assert_eq!(all[..64], (1000..1064).collect::<Vec<u64>>());
        assert_eq!(all[64..129], (935..=999).rev().collect::<Vec<u64>>());
        assert_eq!(all[129..], [1064, 934, 1065, 933]);
        // At the edges nothing is lost, nothing comes twice, and the end is reached.
        let top = u64::from(u32::MAX);
        assert_eq!(first(Candidates::new(top, 0, 0, false, None), 3), [top, top - 1, top - 2]);
        let mut low: Vec<u64> = first(Candidates::new(3, 0, 0, false, None), 70);
        assert_eq!(low[64..], [2, 1, 0, 67, 68, 69]);
        low.dedup();
        assert_eq!(low.len(), 70);
    }

    #[test]
    fn the_mask_comes_first_if_it_agrees_with_the_wire() {
        assert_eq!(first(Candidates::new(5, 5, 8, false, Some(0x4705)), 2), [0x4705, 5]);
        assert_eq!(first(Candidates::new(5, 5, 8, false, Some(0x4706)), 2), [5, 261]);
        assert_eq!(first(Candidates::new(5, 5, 8, false, Some(1 << 40 | 5)), 1), [5]);
    }
}
