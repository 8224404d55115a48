//! A set of numbers of which most follow each other.

use std::collections::BTreeMap;

/// Numbers as runs of consecutive ones, each from its first to its last number.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Not in the tree: nearly every number continues this run, and with many keys a tree is not in the CPU cache.
    highest: Option<(u64, u64)>,
    lower: BTreeMap<u64, u64>,
}

impl Runs {
    /// Adds a number. Returns false if it was there.
    #[inline]
    pub(super) fn insert(&mut self, number: u64) -> bool {
        match &mut self.highest {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            Some((first, _)) if number < *first => return self.insert_lower(number),
            Some((_, last)) if number <= *last => return false,
            // After a gap, or the first number.
            highest => self.lower.extend(highest.replace((number, number))),
        }
        true
    }

    /// Adds a number below the highest run. Returns false if it was there.
    fn insert_lower(&mut self, number: u64) -> bool {
        let before = self.lower.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= number) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last + 1 == number => first,
            _ => number,
        };
        let next = number + 1;
        match &mut self.highest {
            Some((highest, _)) if *highest == next => {
                *highest = first;
                self.lower.remove(&first);
            }
            _ => {
                let last = self.lower.remove(&next).unwrap_or(number);
                self.lower.insert(first, last);
            }
        }
        true
    }

    /// Joins the two lowest runs if there are more than `most`, which is 3 at least.
    #[inline]
    pub(super) fn limit(&mut self, most: usize) {
        if self.lower.len() >= most
            && let Some((first, _)) = self.lower.pop_first()
            && let Some((_, last)) = self.lower.pop_first()
        {
            self.lower.insert(first, last);
        }
    }

    /// The last number of the run that has this number, if there is one.
    #[inline]
    pub(super) fn end_of_run_with(&self, number: u64) -> Option<u64> {
        let (first, last) = match self.highest {
            Some((first, last)) if first <= number => (first, last),
            _ => self.lower.range(..=number).next_back().map(|(first, last)| (*first, *last))?,
        };
        (first..=last).contains(&number).then_some(last)
    }

    /// The runs, lowest first.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.lower.iter().map(|(first, last)| (*first, *last)).chain(self.highest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cipher::Random;

    /// Few different numbers, so that runs meet in every way, at the ends of the range too.
    #[test]
    fn runs_are_the_set_of_the_numbers_added() {
        let mut random = Random::new(Some(1), "runs");
        for start in [0, 1000, u64::MAX - 15] {
            for _ in 0..500 {
                let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
                for _ in 0..20 {
                    let number = start + random.u64().unwrap() % 16;
                    assert_eq!(runs.insert(number), set.insert(number), "{number} into {runs:?}");
                    let all: Vec<u64> = runs.iter().flat_map(|(first, last)| first..=last).collect();
                    assert_eq!(all, set.iter().copied().collect::<Vec<_>>());
                    let apart = runs.iter().zip(runs.iter().skip(1)).all(|(before, after)| before.1 + 1 < after.0);
                    assert!(apart, "{runs:?}");
                    for number in start..=start + 15 {
                        let end = (number..=start + 15).take_while(|next| set.contains(next)).last();
                        assert_eq!(runs.end_of_run_with(number), end, "{number} in {runs:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_two_lowest_runs_are_joined() {
        let mut runs = Runs::default();
        for number in [1, 3, 5, 7] {
            runs.insert(number);
            runs.limit(3);
        }
        assert_eq!(runs.iter().collect::<Vec<_>>(), [(1, 3), (5, 5), (7, 7)]);
    }
}
