//! Sets of frame numbers.

/// Frame numbers, as ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameNumbers(Vec<(u64, u64)>);

impl FrameNumbers {
    /// The numbers in these ranges, which include both ends. Ranges may overlap.
    pub fn new(mut ranges: Vec<(u64, u64)>) -> FrameNumbers {
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = vec![];
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        FrameNumbers(merged)
    }

    /// Whether the set has this number.
    pub fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|(_, last)| number <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_range_are_in_the_set() {
        let ranges = vec![(7, 9), (1, 1), (3, 3), (8, 12), (13, 14), (20, u64::MAX)];
        let set = FrameNumbers::new(ranges.clone());
        assert_eq!(set.0, [(1, 1), (3, 3), (7, 14), (20, u64::MAX)]);
        for number in (0..30).chain([u64::MAX]) {
            let expected = ranges.iter().any(|(first, last)| (*first..=*last).contains(&number));
            assert_eq!(set.contains(number), expected, "{number}");
        }
        assert!(!FrameNumbers::new(vec![]).contains(1));
    }
}
