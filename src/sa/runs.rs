//! A set of numbers, stored as runs of consecutive values.

use std::collections::BTreeMap;

/// Most runs that each stream may keep, given the number of streams: 4096, or less to limit memory. If a stream has
/// more gaps, its lowest runs are joined.
pub(crate) fn runs_kept(streams: usize) -> usize {
    const ALL: usize = 1 << 18;
    (ALL / streams.max(1)).clamp(16, 4096)
}

/// A set of numbers, stored as runs of consecutive values.
#[derive(Debug, Clone)]
pub struct Runs {
    /// The run that is growing, first to last; [`Runs::NONE`] if there is none.
    current: (u64, u64),
    /// Boxed because most streams have a single run, and each stream should be small.
    pub(super) others: Option<Box<OtherRuns>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct OtherRuns {
    /// Complete runs: first to last.
    closed: BTreeMap<u64, u64>,
    /// See [`Runs::joined`].
    joined: (u64, u64),
}

impl Default for Runs {
    fn default() -> Runs {
        Runs { current: Runs::NONE, others: None }
    }
}

impl Runs {
    const NONE: (u64, u64) = (1, 0);

    /// Adds a number. Returns false if it was there. If there are more than `most()` runs, the lowest ones are
    /// joined.
    #[inline]
    pub fn add(&mut self, number: u64, most: impl FnOnce() -> usize) -> bool {
        let (first, last) = self.current;
        if self.others.is_none() && last.wrapping_add(1) == number && first <= last && number > 0 {
            self.current.1 = number;
            return true;
        }
        if (first..=last).contains(&number) {
            return false;
        }
        if self.others.is_none() && self.current == Runs::NONE {
            self.current = (number, number);
            return true;
        }
        self.add_to_others(number, most())
    }

    /// Adds a number that is not in the current run.
    fn add_to_others(&mut self, number: u64, most: usize) -> bool {
        let own = self.others.get_or_insert_default();
        if self.current != Runs::NONE && self.current.1.checked_add(1) == Some(number) {
            self.current.1 = number;
            if own.closed.last_key_value().is_some_and(|(highest, _)| *highest > number) {
                self.join(most);
            }
            return true;
        }
        if self.current != Runs::NONE {
            own.close(std::mem::replace(&mut self.current, Runs::NONE), most);
        }
        let before = own.closed.range(..=number).next_back().map(|(first, last)| (*first, *last));
        let is_new = before.is_none_or(|(_, last)| last < number);
        self.current = match before {
            // The highest run continues to grow.
            Some(_) if !is_new => own.highest(),
            Some((first, last)) if last + 1 == number => {
                own.closed.remove(&first);
                (first, number)
            }
            _ => (number, number),
        };
        self.join(most);
        is_new
    }

    /// The number of gaps that were closed to save memory, and of the numbers in them. If a number in such a gap
    /// arrives later, it counts as already there.
    pub fn joined(&self) -> (u64, u64) {
        self.others.as_ref().map_or((0, 0), |own| own.joined)
    }

    /// Joins the current run with the run that follows it directly.
    fn join(&mut self, most: usize) {
        if let Some(own) = &mut self.others
            && self.current != Runs::NONE
            && let Some(end) = self.current.1.checked_add(1).and_then(|next| own.closed.remove(&next))
        {
            own.close((self.current.0, end), most);
            self.current = own.highest();
        }
    }

    /// The runs, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let closed = self.others.iter().flat_map(|own| &own.closed).map(|(first, last)| (*first, *last));
        let current = Some(self.current).filter(|current| *current != Runs::NONE);
        let mut runs: Vec<_> = closed.chain(current).collect();
        runs.sort_unstable();
        runs.into_iter()
    }
}

impl OtherRuns {
    fn close(&mut self, (first, last): (u64, u64), most: usize) {
        self.closed.insert(first, last);
        while self.closed.len() > most
            && let Some((lowest, end)) = self.closed.pop_first()
            && let Some((next, last)) = self.closed.pop_first()
        {
            self.joined.0 += 1;
            self.joined.1 += next - end - 1;
            self.closed.insert(lowest, last);
        }
    }

    /// Removes and returns the highest run.
    fn highest(&mut self) -> (u64, u64) {
        self.closed.pop_last().unwrap_or(Runs::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_contain_the_added_numbers() {
        let mut runs = Runs::default();
        for number in [5, 6, 7, 10, 9, 8, 1, 3, 2, 6, 20, u64::MAX, 19, 21] {
            runs.add(number, || 4096);
        }
        assert_eq!(runs.iter().collect::<Vec<_>>(), [(1, 3), (5, 10), (19, 21), (u64::MAX, u64::MAX)]);
    }

    #[test]
    fn missing_numbers_are_counted_in_joined_gaps() {
        let mut runs = Runs::default();
        // Every third number is missing.
        (1..30_000u64).filter(|number| number % 3 != 0).for_each(|number| _ = runs.add(number, || 100));
        let kept: Vec<_> = runs.iter().collect();
        let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1].0 - pair[0].1 - 1).collect();
        assert!(gaps.len() <= 100);
        let (joined, missing) = runs.joined();
        assert_eq!(joined + gaps.len() as u64, 9999);
        assert_eq!(missing + gaps.iter().sum::<u64>(), 9999);
    }

    proptest::proptest! {
        #[test]
        fn runs_are_a_set(numbers in proptest::collection::vec(0u64..60, 0..80)) {
            let mut runs = Runs::default();
            numbers.iter().for_each(|number| _ = runs.add(*number, || 4096));
            let mut expected = numbers;
            expected.sort_unstable();
            expected.dedup();
            let held: Vec<u64> = runs.iter().flat_map(|(first, last)| first..=last).collect();
            proptest::prop_assert_eq!(held, expected);
            let all: Vec<_> = runs.iter().collect();
            proptest::prop_assert!(all.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", all);
        }
    }

    proptest::proptest! {
        #[test]
        fn joined_runs_contain_the_added_numbers(
            numbers in proptest::collection::vec(0u64..200, 0..300),
            most in 1usize..6,
        ) {
            let mut runs = Runs::default();
            let mut added = std::collections::BTreeSet::new();
            for number in numbers {
                let is_new = runs.add(number, || most);
                proptest::prop_assert!(added.insert(number) || !is_new, "{} twice", number);
                let all: Vec<_> = runs.iter().collect();
                proptest::prop_assert!(all.len() <= most + 1, "{:?}", all);
                proptest::prop_assert!(all.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", all);
                proptest::prop_assert!(
                    added.iter().all(|own| all.iter().any(|(first, last)| (first..=last).contains(&own))),
                    "{:?}",
                    all
                );
            }
        }
    }
}
