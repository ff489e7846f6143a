//! Which rule applies, and which lists are refused.

use super::*;

fn rule(filter: &str) -> TopicRule {
    TopicRule::new(filter.parse().unwrap())
}

fn problem(rules: impl IntoIterator<Item = TopicRule>) -> (usize, TopicRuleProblem) {
    let error = TopicRules::new(rules).unwrap_err();
    (error.index, error.problem)
}

#[test]
fn the_first_rule_that_matches_applies() {
    let rules = TopicRules::new([
        rule("a/*").with_keep(Keep::LATEST),
        rule("a/**").with_ttl(Duration::from_secs(2)),
        rule("**").with_keep(Keep::None),
    ]);
    let rules = rules.unwrap();
    let keep = |topic| (rules.of(topic).most, rules.of(topic).ttl);
    assert_eq!(keep("a/x"), (1, 0));
    assert_eq!(keep("a"), (u64::MAX, 2_000_000));
    assert_eq!(keep("b"), (0, 0));
    assert_eq!(keep("$weir/x"), (60, 0), "wildcards match nothing of the daemon's own");
    assert!(rules.needs_time());
    let limits = [rule("a").with_payload(1).with_rate(NonZeroU32::MIN)];
    let limits = TopicRules::new(limits).unwrap();
    assert!(!limits.needs_time());
    assert_eq!((limits.of("a").payload(), limits.of("a").rate), (Some(1), Some(NonZeroU32::MIN)));
    assert_eq!((limits.of("b").payload(), limits.of("b").rate), (None, None));
}

#[test]
fn values_out_of_range_are_refused() {
    let (short, long) = (Duration::from_micros(999), Duration::from_secs(u64::MAX));
    assert_eq!(problem([rule("a"), rule("b").with_ttl(short)]), (1, TopicRuleProblem::Ttl));
    assert_eq!(problem([rule("a").with_ttl(long)]), (0, TopicRuleProblem::Ttl));
    assert_eq!(problem([rule("a").with_payload(0)]), (0, TopicRuleProblem::Payload));
    let own = TopicRuleProblem::Reserved("$weir/**".into());
    assert_eq!(problem([rule("$weir/**")]), (0, own));
    let many = |count: usize| (0..count).map(|n| rule(&format!("t/{n}")));
    assert_eq!(TopicRules::new(many(64)).unwrap().all().len(), 64);
    assert_eq!(problem(many(65)), (64, TopicRuleProblem::TooMany));
    // Nor is more than that read.
    assert_eq!(problem((0..).flat_map(|_| many(1))), (64, TopicRuleProblem::TooMany));
}

// Rights are filters without exceptions. Topics that an earlier rule keeps back must not become
// public by a later one.
#[test]
fn a_rule_makes_nothing_public_for_which_an_earlier_one_applies() {
    let (both, read) = (Public::Both, Public::Subscribe);
    let secret = || rule("a/secret");
    let clash = TopicRuleProblem::Public("a/secret".into());
    assert_eq!(problem([secret(), rule("a/**").with_public(read)]), (1, clash.clone()));
    assert_eq!(problem([secret(), rule("*/*").with_public(read)]), (1, clash.clone()));
    let half = [secret().with_public(read), rule("a/*").with_public(both)];
    assert_eq!(problem(half), (1, clash));
    for fits in [
        [secret().with_public(both), rule("a/**").with_public(read)],
        [secret(), rule("b/**").with_public(read)],
        [secret(), rule("a").with_public(both)],
        [rule("a/**").with_public(read), secret()],
    ] {
        TopicRules::new(fits).unwrap();
    }
    let clash = TopicRuleProblem::Public("a/**".into());
    assert_eq!(problem([rule("a/**"), rule("a").with_public(read)]), (1, clash));
}

#[test]
fn rules_that_never_apply_are_found() {
    let rules = [rule("a/**"), rule("b"), rule("a/*/x"), rule("b"), rule("**"), rule("c")];
    let rules = TopicRules::new(rules).unwrap();
    let found =
        rules.unreachable().map(|(rule, by)| (rule.filter().as_str(), by.filter().as_str()));
    assert_eq!(found.collect::<Vec<_>>(), [("a/*/x", "a/**"), ("b", "b"), ("c", "**")]);
}
