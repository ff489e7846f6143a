//! Percentiles and medians.

/// Values in ascending order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sorted(Vec<u64>);

impl Sorted {
    pub(super) fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    pub(super) fn merge<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::new(all.into_iter().flat_map(|one| one.0.iter().copied()).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the smallest measured value that at least this share of all values do not exceed.
    /// Values are not interpolated; 1.0 is the maximum.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "shares of small numbers"
    )]
    pub(super) fn percentile(&self, share: f64) -> Option<u64> {
        // Without the correction, rounding of binary fractions could make the rank one too high.
        let rank = (self.0.len() as f64 * share - 1e-6).ceil().max(1.0) as usize;
        self.0.get(rank - 1).copied()
    }
}

/// Returns the middle value, or the mean of the two in the middle.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(*middle);
    }
    values.get(values.len() / 2 - 1).map(|below| f64::midpoint(*below, *middle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_rank() {
        let sorted = Sorted::new((1..=1000).rev().collect());
        let at = |share| sorted.percentile(share).unwrap();
        assert_eq!([at(0.5), at(0.95), at(0.99), at(0.999), at(1.0)], [500, 950, 990, 999, 1000]);
        assert_eq!(Sorted::new(vec![7]).percentile(0.5), Some(7));
        assert_eq!(Sorted::new(vec![7, 9]).percentile(0.999), Some(9));
        assert_eq!(Sorted::default().percentile(0.5), None);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}
