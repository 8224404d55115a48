//! The sequence numbers that a captured packet may have, most likely first.
//!
//! With a window alone, a gap of half the number space would lose a stream permanently. Here the ICV verifies each
//! candidate, so the search always recovers. The order of candidates affects only the time to find the number,
//! never the result.

/// The sequence numbers that end in the `bits` low bits on the wire, in the order in which they are tried.
#[derive(Debug, Clone)]
pub(crate) struct SequenceNumbers {
    /// Tried before all others: the IV mask gives this number.
    from_mask: Option<u64>,
    order: Order,
    /// The same search around a second number. The two searches alternate, and `other_next` says whose turn it is.
    other: Option<Order>,
    other_next: bool,
    /// Largest valid number.
    max: u64,
}

#[derive(Debug, Clone)]
enum Order {
    /// All bits were sent.
    One(Option<u64>),
    /// Numbers that agree with the wire bits, nearest to the expected one first. If two are equally near, the
    /// larger one first.
    Nearest { expected: u64, up: Option<u64>, down: Option<u64>, step: u64 },
    /// No bits were sent: `h+1 ..= h+64`, then `h` down to `h-64`, then alternating upwards and downwards.
    Blind { expected: u64, index: u64 },
}

/// If no bits are sent, this many numbers are tried upwards, then downwards, before both directions alternate.
const BLIND_RUN: u64 = 64;

impl SequenceNumbers {
    /// The candidates around `expected` (the highest verified number plus one) that end in the low `bits` bits of
    /// `wire`. `from_mask` comes first if it agrees with these bits.
    pub(crate) fn new(expected: u64, wire: u32, bits: u8, esn: bool, from_mask: Option<u64>) -> SequenceNumbers {
        let max = if esn { u64::MAX } else { u64::from(u32::MAX) };
        let step = 1u64 << bits.min(32);
        let from_mask = from_mask.filter(|sn| *sn <= max && (sn ^ u64::from(wire)) & (step - 1) == 0);
        SequenceNumbers { from_mask, order: Order::new(expected, wire, bits, max), other: None, other_next: false, max }
    }

    /// Adds the candidates around `expected` of the other search, in alternation, for a stream that may be near
    /// either number.
    pub(crate) fn or_around(self, expected: u64, wire: u32, bits: u8) -> SequenceNumbers {
        SequenceNumbers { other: Some(Order::new(expected, wire, bits, self.max)), ..self }
    }

    /// The candidate from the IV mask, if it agrees with the wire bits. It comes first.
    pub(crate) fn mask_number(&self) -> Option<u64> {
        self.from_mask
    }

    /// Maximum number of candidates, without the one from the mask.
    pub(crate) fn space(&self) -> u64 {
        match self.order {
            Order::One(_) => 1,
            Order::Nearest { step, .. } => self.max / step + 1,
            Order::Blind { .. } => self.max.saturating_add(1),
        }
    }

    /// How many candidates of a new search come before `sn`, which must be one of them. The one from the mask is
    /// not counted.
    pub(crate) fn position(&self, sn: u64) -> u64 {
        let own = self.order.position(sn, self.max);
        // Both searches have the same numbers, so neither ends before the other.
        match &self.other {
            None => own,
            Some(other) => own.saturating_mul(2).min(other.position(sn, self.max).saturating_mul(2).saturating_add(1)),
        }
    }
}

impl Order {
    fn new(expected: u64, wire: u32, bits: u8, max: u64) -> Order {
        let expected = expected.min(max);
        let step = 1u64 << bits.min(32);
        let wire = u64::from(wire) & (step - 1);
        match bits {
            0 => Order::Blind { expected, index: 0 },
            32.. if max == u64::from(u32::MAX) => Order::One(Some(wire)),
            _ => {
                // The nearest number at or above `expected`, and the nearest one below it.
                let up = expected.checked_add(wire.wrapping_sub(expected) & (step - 1)).filter(|up| *up <= max);
                let down = match up {
                    Some(up) => up.checked_sub(step),
                    None => Some((max & !(step - 1)) | wire),
                };
                Order::Nearest { expected, up, down, step }
            }
        }
    }

    fn position(&self, sn: u64, max: u64) -> u64 {
        match *self {
            Order::One(_) => 0,
            Order::Nearest { expected, step, .. } => {
                // Count the numbers nearer than `sn`, on its own side and on the other side.
                let distance = sn.abs_diff(expected);
                let above = sn >= expected;
                let same = if above { distance / step } else { (distance - 1) / step };
                let other_first = (step - distance % step) % step;
                let (other_side, reach) = match above {
                    // Numbers below must be strictly nearer.
                    true => (if other_first == 0 { step } else { other_first }, expected),
                    false => (other_first, max - expected),
                };
                let limit = if above { distance.saturating_sub(1) } else { distance }.min(reach);
                let other = if limit >= other_side { (limit - other_side) / step + 1 } else { 0 };
                same + other
            }
            Order::Blind { expected, .. } => {
                // Count the numbers above and below. Numbers beyond the limits are not candidates.
                let (above, below) = ((max - expected).saturating_add(1), expected);
                let outwards = |all: u64, run: u64| all.saturating_sub(run);
                match sn.checked_sub(expected) {
                    Some(up) if up < BLIND_RUN => up,
                    Some(up) => {
                        let pair = up - BLIND_RUN;
                        up + below.min(BLIND_RUN + 1) + outwards(below, BLIND_RUN + 1).min(pair)
                    }
                    None => {
                        let down = expected - sn - 1;
                        let first_run = above.min(BLIND_RUN);
                        match down.checked_sub(BLIND_RUN + 1) {
                            None => first_run + down,
                            Some(pair) => first_run + down + outwards(above, BLIND_RUN).min(pair + 1),
                        }
                    }
                }
            }
        }
    }
}

impl Iterator for SequenceNumbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if let Some(sn) = self.from_mask.take() {
            return Some(sn);
        }
        let Some(other) = &mut self.other else { return self.order.next(self.max) };
        self.other_next = !self.other_next;
        if self.other_next { self.order.next(self.max) } else { other.next(self.max) }
    }
}

impl Order {
    fn next(&mut self, max: u64) -> Option<u64> {
        match self {
            Order::One(sn) => sn.take(),
            Order::Nearest { expected, up, down, step } => match (*up, *down) {
                (Some(above), below) if below.is_none_or(|below| above - *expected <= *expected - below) => {
                    *up = above.checked_add(*step).filter(|up| *up <= max);
                    Some(above)
                }
                (_, below) => {
                    *down = below?.checked_sub(*step);
                    below
                }
            },
            Order::Blind { expected, index } => loop {
                let i = *index;
                let above = expected.checked_add(i);
                let (candidate, exhausted) = if i < BLIND_RUN {
                    (above, false)
                } else if i <= 2 * BLIND_RUN {
                    (expected.checked_sub(i - BLIND_RUN + 1), false)
                } else {
                    // From here on in pairs: up 64, down 66, up 65, down 67, ...
                    let pair = i - 2 * BLIND_RUN - 1;
                    let up = expected.checked_add(BLIND_RUN + pair / 2).filter(|sn| *sn <= max);
                    let down = expected.checked_sub(BLIND_RUN + 2 + pair / 2);
                    (if pair.is_multiple_of(2) { up } else { down }, up.is_none() && down.is_none())
                };
                *index = i + 1;
                match candidate.filter(|sn| *sn <= max) {
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

    fn first(candidates: SequenceNumbers, count: usize) -> Vec<u64> {
        candidates.take(count).collect()
    }

    #[test]
    fn nearest_first_and_the_larger_of_two_at_one_distance() {
        // Expected 108, wire bits 4 = 0b0100: 100 is 8 below, 116 is 8 above.
        assert_eq!(first(SequenceNumbers::new(108, 4, 4, false, None), 4), [116, 100, 132, 84]);
        // No candidate below zero, and none above 32 bits.
        assert_eq!(first(SequenceNumbers::new(1, 0xff, 8, false, None), 3), [0xff, 0x1ff, 0x2ff]);
        assert_eq!(first(SequenceNumbers::new(1, 1, 8, false, None), 2), [1, 257]);
        let top = u64::from(u32::MAX);
        assert_eq!(first(SequenceNumbers::new(top, 0, 8, false, None), 2), [top - 255, top - 511]);
        assert_eq!(first(SequenceNumbers::new(top, 0, 8, true, None), 2), [top + 1, top - 255]);
        assert_eq!(first(SequenceNumbers::new(u64::MAX, 0, 8, true, None), 2), [u64::MAX - 255, u64::MAX - 511]);
    }

    #[test]
    fn all_bits_on_the_wire_leave_one_candidate_unless_the_high_half_is_missing() {
        assert_eq!(first(SequenceNumbers::new(1, 7, 32, false, None), 9), [7]);
        assert_eq!(first(SequenceNumbers::new(1 << 32, 7, 32, true, None), 3), [(1 << 32) + 7, 7, (2 << 32) + 7]);
    }

    #[test]
    fn without_bits_sixty_four_up_then_down_then_outwards() {
        let all = first(SequenceNumbers::new(1000, 0, 0, false, None), 133);
        assert_eq!(all[..64], (1000..1064).collect::<Vec<u64>>());
        assert_eq!(all[64..129], (935..=999).rev().collect::<Vec<u64>>());
        assert_eq!(all[129..], [1064, 934, 1065, 933]);
        // At the limits, no number is omitted or repeated, and the search ends.
        let top = u64::from(u32::MAX);
        assert_eq!(first(SequenceNumbers::new(top, 0, 0, false, None), 3), [top, top - 1, top - 2]);
        let mut low: Vec<u64> = first(SequenceNumbers::new(3, 0, 0, false, None), 70);
        assert_eq!(low[64..], [2, 1, 0, 67, 68, 69]);
        low.dedup();
        assert_eq!(low.len(), 70);
    }

    #[test]
    fn positions_are_those_of_the_search() {
        let top = u64::from(u32::MAX);
        for (expected, wire, bits) in
            [(108, 4, 4), (108, 0, 4), (108, 12, 4), (1, 0xff, 8), (1, 1, 8), (300, 44, 8), (300, 45, 8), (300, 43, 8)]
        {
            let all = SequenceNumbers::new(expected, wire, bits, false, None);
            for (index, sn) in all.clone().take(200).enumerate() {
                assert_eq!(all.position(sn), index as u64, "{sn} of {expected} {wire} {bits}");
            }
        }
        let blind = SequenceNumbers::new(1000, 0, 0, false, None);
        for (index, sn) in blind.clone().take(500).enumerate() {
            assert_eq!(blind.position(sn), index as u64, "{sn}");
        }
        for expected in [0, 1, 3, 65, 66, 70, top, top - 3, top - 63, top - 70] {
            let blind = SequenceNumbers::new(expected, 0, 0, false, None);
            for (index, sn) in blind.clone().take(400).enumerate() {
                assert_eq!(blind.position(sn), index as u64, "{sn} around {expected}");
            }
        }
        let whole = SequenceNumbers::new(9, 7, 32, true, None);
        for (index, sn) in whole.clone().take(9).enumerate() {
            assert_eq!(whole.position(sn), index as u64, "{sn}");
        }
        assert_eq!(SequenceNumbers::new(top, 0, 8, false, None).position(top - 511), 1);
    }

    proptest::proptest! {
        #[test]
        fn positions_are_those_of_any_search(near in 0u64..600, edge in 0usize..5, wire: u32, bits in 0u8..=32, esn: bool, around in 0u64..600) {
            let edges = [300, 1 << 31, u64::from(u32::MAX) - 300, 1 << 32, u64::MAX - 600];
            let expected = edges[edge] - 300 + near;
            let one = SequenceNumbers::new(expected, wire, bits, esn, None);
            let two = one.clone().or_around(around, wire, bits);
            for all in [one, two] {
                let mut seen = std::collections::HashSet::new();
                for (index, sn) in all.clone().take(300).enumerate() {
                    if seen.insert(sn) {
                        proptest::prop_assert_eq!(all.position(sn), index as u64, "{} of {:?}", sn, &all);
                    }
                }
                let agree = seen.iter().all(|sn| (sn ^ u64::from(wire)) & ((1u64 << bits) - 1) == 0);
                proptest::prop_assert!(agree && seen.len() as u64 <= all.space());
                proptest::prop_assert!(all.other.is_some() || seen.len() as u64 == all.space().min(300));
            }
        }
    }

    #[test]
    fn two_searches_alternate() {
        let both = SequenceNumbers::new(100, 4, 8, false, None).or_around(3_000_000, 4, 8);
        // 3,000,000 ends in 192: 68 to 3,000,068, and 188 back to 2,999,812.
        assert_eq!(first(both, 5), [4, 3_000_068, 260, 2_999_812, 516]);
    }

    #[test]
    fn the_mask_comes_first_if_it_agrees_with_the_wire() {
        assert_eq!(first(SequenceNumbers::new(5, 5, 8, false, Some(0x4705)), 2), [0x4705, 5]);
        assert_eq!(first(SequenceNumbers::new(5, 5, 8, false, Some(0x4706)), 2), [5, 261]);
        assert_eq!(first(SequenceNumbers::new(5, 5, 8, false, Some(1 << 40 | 5)), 1), [5]);
    }
}
