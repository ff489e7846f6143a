//! The first of many items by a value, with little memory.

/// The items with the highest values. Among equal ones, those that came first.
pub(super) struct Ranked<T> {
    most: usize,
    all: Vec<(f64, T)>,
    total: u64,
}

impl<T> Ranked<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, all: Vec::new(), total: 0 }
    }

    pub(super) fn add(&mut self, value: f64, item: T) {
        self.total += 1;
        self.all.push((value, item));
        if self.all.len() >= 2 * self.most.max(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        self.all.truncate(self.most);
    }

    /// Returns how many items were added, and the first of them.
    pub(super) fn finish(mut self) -> (u64, impl Iterator<Item = T>) {
        self.cut();
        (self.total, self.all.into_iter().map(|(_, item)| item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_agrees_with_sorting_everything(
            values in proptest::collection::vec(0_u32..50, 0..1000),
            most in 0_usize..200,
        ) {
            let mut ranked = Ranked::new(most);
            for (n, value) in values.iter().enumerate() {
                ranked.add((*value).into(), n);
            }
            let (total, first) = ranked.finish();
            let mut expected: Vec<_> = (0..values.len()).collect();
            expected.sort_by_key(|n| std::cmp::Reverse(values[*n]));
            expected.truncate(most);
            prop_assert_eq!(total, values.len() as u64);
            prop_assert_eq!(first.collect::<Vec<_>>(), expected);
        }
    }
}
