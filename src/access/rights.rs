//! Rights of a peer: filters to publish, and filters to subscribe.

use super::filter_set::FilterSet;
use crate::wire::Filter;

/// Maximum number of filters to publish, and of filters to subscribe.
pub const MAX_FILTERS: usize = 64;

/// Why filters are not rights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RightsError {
    /// A list has more than [`MAX_FILTERS`] filters.
    #[error("rights have at most {MAX_FILTERS} filters to publish and as many to subscribe")]
    TooMany,
    /// A filter to publish is below `$weir`.
    #[error("nobody may publish below `$weir`, whose topics are the daemon's own: leave out {0:?}")]
    Reserved(String),
}

/// The topics that a peer may publish to and read. No filter grants topics below `$weir` unless it names `$weir`.
///
/// ```
/// use weir::access::Rights;
///
/// let rights = Rights::new(["chat/ada".parse()?], ["chat/*".parse()?])?;
/// assert!(rights.may_publish("chat/ada") && !rights.may_publish("chat/bob"));
/// assert!(rights.may_read("chat/bob"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    publish: FilterSet,
    subscribe: FilterSet,
    everything: bool,
}

impl Rights {
    /// Returns the rights to publish these filters, and to subscribe to those: at most
    /// [`MAX_FILTERS`] each.
    pub fn new(
        publish: impl IntoIterator<Item = Filter>,
        subscribe: impl IntoIterator<Item = Filter>,
    ) -> Result<Self, RightsError> {
        let publish = bounded(publish)?;
        if let Some(own) = publish.iter().find(|filter| names_reserved(filter)) {
            return Err(RightsError::Reserved(own.as_str().to_owned()));
        }
        Ok(Self::of(publish, bounded(subscribe)?))
    }

    /// Returns the rights to publish to every topic that clients may publish to, and to subscribe to
    /// every topic, those below `$weir` included.
    pub fn everything() -> Self {
        let filter = |text| Filter::new(text).ok();
        let subscribe = ["**", "$weir/**"].into_iter().filter_map(filter);
        Self::of(filter("**").into_iter().collect(), subscribe.collect())
    }

    /// Returns no rights.
    pub fn nothing() -> Self {
        Self::of(Vec::new(), Vec::new())
    }

    fn of(publish: Vec<Filter>, subscribe: Vec<Filter>) -> Self {
        let everything = [("**", &publish), ("**", &subscribe), ("$weir/**", &subscribe)];
        let everything = everything.iter().all(|(text, list)| {
            Filter::new(text).is_ok_and(|all| list.iter().any(|filter| filter.covers(&all)))
        });
        let (publish, subscribe) = (FilterSet::new(publish), FilterSet::new(subscribe));
        Self { publish, subscribe, everything }
    }

    /// Returns whether these are the rights of [`everything`](Self::everything).
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Returns the filters to publish.
    pub fn publish(&self) -> &[Filter] {
        self.publish.filters()
    }

    /// Returns the filters to subscribe.
    pub fn subscribe(&self) -> &[Filter] {
        self.subscribe.filters()
    }

    /// Returns whether the peer may publish to `topic`, which is one that clients may publish to.
    pub fn may_publish(&self, topic: &str) -> bool {
        self.everything || self.publish.matches(topic)
    }

    /// Returns whether the peer may subscribe to `filter`: one of its filters has to cover all of it.
    pub fn may_subscribe(&self, filter: &Filter) -> bool {
        self.everything || self.subscribe().iter().any(|granted| granted.covers(filter))
    }

    /// Returns whether the peer may read the messages of `topic`.
    pub fn may_read(&self, topic: &str) -> bool {
        self.everything || self.subscribe.matches(topic)
    }

    /// Returns these rights and the `other` ones together. A filter of the other ones that one of
    /// these covers is left out. The result may have more than [`MAX_FILTERS`] filters: as many as
    /// both have.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if other.publish().is_empty() && other.subscribe().is_empty() {
            return self.clone();
        }
        let both = |mine: &[Filter], theirs: &[Filter]| {
            let more = theirs.iter().filter(|filter| !mine.iter().any(|own| own.covers(filter)));
            mine.iter().chain(more).cloned().collect()
        };
        Self::of(both(self.publish(), other.publish()), both(self.subscribe(), other.subscribe()))
    }
}

fn bounded(filters: impl IntoIterator<Item = Filter>) -> Result<Vec<Filter>, RightsError> {
    let found: Vec<_> = filters.into_iter().take(MAX_FILTERS + 1).collect();
    if found.len() > MAX_FILTERS { Err(RightsError::TooMany) } else { Ok(found) }
}

fn names_reserved(filter: &Filter) -> bool {
    filter.segments().next() == Some("$weir")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(list: &[&str]) -> Vec<Filter> {
        list.iter().map(|text| Filter::new(text).unwrap()).collect()
    }

    fn rights(publish: &[&str], subscribe: &[&str]) -> Rights {
        Rights::new(filters(publish), filters(subscribe)).unwrap()
    }

    #[test]
    fn only_what_is_granted() {
        let ada = rights(&["demo/chat", "game/*/moves"], &["demo/**", "game/7/*"]);
        let publish = |topic| ada.may_publish(topic);
        assert!(publish("demo/chat") && publish("game/7/moves"));
        assert!(!publish("demo/chat/x") && !publish("demo") && !publish("game/7/8/moves"));
        let read = |topic| ada.may_read(topic);
        assert!(read("demo") && read("demo/a/b") && read("game/7/x") && !read("game/8/x"));
        let subscribe = |filter| ada.may_subscribe(&Filter::new(filter).unwrap());
        assert!(subscribe("demo/*") && subscribe("demo/**") && subscribe("game/7/moves"));
        // Wholly inside one filter: a part is not enough, and two together are not one.
        assert!(!subscribe("*/a") && !subscribe("**") && !subscribe("game/*/x"));
        let halves = rights(&[], &["a/*", "a/*/**"]);
        assert!(halves.may_subscribe(&Filter::new("a/*/**").unwrap()));
        assert!(!halves.may_subscribe(&Filter::new("a/**").unwrap()));
    }

    #[test]
    fn wildcards_grant_nothing_below_weir() {
        let stars = rights(&["**", "*/x"], &["**", "*/x"]);
        assert!(stars.may_publish("a/b") && stars.may_read("a/b"));
        assert!(!stars.may_publish("$weir/x") && !stars.may_read("$weir/x"));
        assert!(!stars.may_subscribe(&Filter::new("$weir/**").unwrap()));
        assert!(!stars.is_everything());
        let named = rights(&[], &["$weir/**"]);
        assert!(named.may_read("$weir/x") && !named.may_read("a"));
        let own = Rights::new(filters(&["$weir/x"]), []);
        assert_eq!(own, Err(RightsError::Reserved("$weir/x".to_owned())));
    }

    #[test]
    fn everything_and_nothing() {
        let (all, none) = (Rights::everything(), Rights::nothing());
        let filter = Filter::new("$weir/**").unwrap();
        assert!(all.is_everything() && all.may_publish("a") && all.may_read("$weir/x"));
        assert!(all.may_subscribe(&filter) && all.may_subscribe(&Filter::new("**").unwrap()));
        assert!(!none.is_everything() && !none.may_publish("a") && !none.may_read("a"));
        assert!(!none.may_subscribe(&Filter::new("a").unwrap()));
        assert!(none.union(&all).is_everything());
        assert!(rights(&["**"], &["$weir/**", "**"]).is_everything());
        assert!(!rights(&["a/**"], &["$weir/**", "**"]).is_everything());
    }

    #[test]
    fn a_union_grants_what_either_grants() {
        let both = rights(&["a"], &["b/**"]).union(&rights(&["c"], &["b/x", "d"]));
        assert!(both.may_publish("a") && both.may_publish("c") && !both.may_publish("d"));
        assert!(both.may_read("b/y") && both.may_read("d") && !both.may_read("a"));
        assert_eq!(both.subscribe(), filters(&["b/**", "d"]), "without what is covered");
        let again = both.union(&both);
        assert_eq!(again, both);
    }

    #[test]
    fn the_number_of_filters_is_bounded() {
        let many = |count: usize| (0..count).map(|n| Filter::new(&format!("t/{n}")).unwrap());
        assert_eq!(Rights::new(many(64), many(64)).unwrap().publish().len(), 64);
        assert_eq!(Rights::new(many(65), []), Err(RightsError::TooMany));
        assert_eq!(Rights::new([], many(65)), Err(RightsError::TooMany));
        // Nor is more than that read.
        assert_eq!(Rights::new((0..).flat_map(|_| many(1)), []), Err(RightsError::TooMany));
    }
}
