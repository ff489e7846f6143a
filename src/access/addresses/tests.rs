//! The table of addresses.
#![allow(clippy::unwrap_used)]

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const SECOND: u64 = 1_000_000_000;

fn table() -> Arc<Addresses> {
    let limits = PeerLimits {
        sessions_per_address: 2,
        connections_per_address: 3,
        handshakes_per_address: 4,
        exempt: vec!["10.0.0.0/8".parse().unwrap()],
        ..PeerLimits::default()
    };
    Addresses::new(limits, Arc::default())
}

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from(0xc000_0000 + n).into()
}

// Live and remembered addresses.
fn sizes(table: &Addresses) -> (usize, usize) {
    let table = table.table();
    (table.live.len(), table.idle.len())
}

#[test]
fn unproven_addresses_leave_no_trace() {
    let table = table();
    for n in 0..100_000 {
        assert_eq!(table.handshake(v4(n), false, 0), Handshake::Accept);
    }
    assert_eq!(sizes(&table), (0, 0));
    // Nor do they use up what an address may do that they forge.
    for _ in 0..1000 {
        table.handshake(v4(1), false, 0);
    }
    for _ in 0..4 {
        assert_eq!(table.handshake(v4(1), true, 0), Handshake::Accept);
    }
}

#[test]
fn an_address_that_began_too_many_handshakes_proves_itself_and_is_refused() {
    let table = table();
    let of = |proven, now| table.handshake(v4(1), proven, now);
    // The burst, and one that empties the bucket.
    for _ in 0..4 {
        assert_eq!(of(false, 0), Handshake::Accept);
        table.charge(v4(1), 0);
    }
    assert_eq!(of(true, 0), Handshake::Accept);
    assert_eq!(of(false, 0), Handshake::Prove);
    assert_eq!(of(true, 0), Handshake::Refuse);
    assert_eq!(table.counts.get(Limit::HandshakesPerAddress), 1);
    // Others are not concerned, and a quarter of a second later it may begin one more.
    assert_eq!(table.handshake(v4(2), true, 0), Handshake::Accept);
    assert_eq!(of(true, SECOND / 4), Handshake::Accept);
    assert_eq!(of(true, SECOND / 4), Handshake::Refuse);
}

#[test]
fn handshakes_of_tls_share_the_bucket_and_do_not_mind_sessions() {
    let table = table();
    let _sessions: Vec<_> = (0..2).map(|_| table.admit_session(v4(1)).unwrap()).collect();
    for _ in 0..5 {
        assert!(table.tls_handshake(v4(1), 0));
    }
    assert!(!table.tls_handshake(v4(1), 0) && table.tls_handshake(v4(2), 0));
    assert_eq!(table.handshake(v4(1), false, 0), Handshake::Prove);
    assert_eq!(table.counts.get(Limit::HandshakesPerAddress), 1);
}

#[test]
fn an_address_has_so_many_sessions_and_connections() {
    let table = table();
    let mut sessions: Vec<_> = (0..2).map(|_| table.admit_session(v4(1)).unwrap()).collect();
    assert_eq!(table.admit_session(v4(1)).unwrap_err(), Limit::SessionsPerAddress);
    assert_eq!(table.handshake(v4(1), false, 0), Handshake::Prove);
    assert_eq!(table.handshake(v4(1), true, 0), Handshake::Refuse);
    assert!(table.admit_session(v4(2)).unwrap().is_some());
    let connections: Vec<_> = (0..3).map(|_| table.admit_connection(v4(1)).unwrap()).collect();
    assert_eq!(table.admit_connection(v4(1)).unwrap_err(), Limit::ConnectionsPerAddress);
    sessions.pop();
    let again = table.admit_session(v4(1)).unwrap();
    drop((sessions, connections, again));
    // Both addresses are remembered, and have no places.
    assert_eq!(sizes(&table), (0, 2));
    let counted = [Limit::SessionsPerAddress, Limit::ConnectionsPerAddress];
    assert_eq!(counted.map(|limit| table.counts.get(limit)), [2, 1]);
}

#[test]
fn a_network_of_64_bits_is_one_address_and_mapped_addresses_are_ipv4() {
    let table = table();
    let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
    let _places: Vec<_> = ["2001:db8::1", "2001:db8::ffff:0:0:1"]
        .map(|address| table.admit_session(v6(address)).unwrap())
        .into();
    assert!(table.admit_session(v6("2001:db8::2")).is_err());
    assert!(table.admit_session(v6("2001:db8:0:1::2")).is_ok());
    let mapped = |n: u32| Ipv4Addr::from(0xc000_0000 + n).to_ipv6_mapped().into();
    let _places: Vec<_> = [v4(1), mapped(1)].map(|a| table.admit_session(a).unwrap()).into();
    assert!(table.admit_session(v4(1)).is_err());
    assert!(table.admit_session(mapped(2)).is_ok());
    assert!(table.admit_session(Ipv6Addr::LOCALHOST.into()).unwrap().is_some());
}

#[test]
fn exempt_addresses_have_no_limits_and_no_places() {
    let table = table();
    let exempt = Ipv4Addr::new(10, 1, 2, 3).into();
    for _ in 0..100 {
        assert!(table.admit_session(exempt).unwrap().is_none());
        assert!(table.admit_connection(exempt).unwrap().is_none());
        assert_eq!(table.handshake(exempt, true, 0), Handshake::Accept);
        table.charge(exempt, 0);
    }
    assert_eq!(sizes(&table), (0, 0));
}

#[test]
fn when_the_table_is_full_the_address_that_came_least_recently_begins_anew() {
    let table = table();
    let live = table.admit_session(v4(0)).unwrap();
    let exhaust = |n| while table.handshake(v4(n), true, 0) == Handshake::Accept {};
    exhaust(0);
    exhaust(1);
    exhaust(2);
    for n in 3..=(REMEMBERED as u32) {
        assert_eq!(table.handshake(v4(n), true, 0), Handshake::Accept);
    }
    assert_eq!(sizes(&table), (1, REMEMBERED));
    // The first one comes again, so that the second one gives way to two more.
    assert_eq!(table.handshake(v4(1), true, 0), Handshake::Refuse);
    for n in 0..10_000 {
        assert_eq!(table.handshake(v4(1_000_000 + n), true, 0), Handshake::Accept);
        assert_eq!(table.handshake(v4(1), true, 0), Handshake::Refuse);
    }
    assert_eq!(sizes(&table), (1, REMEMBERED));
    assert_eq!(table.handshake(v4(2), true, 0), Handshake::Accept);
    // An address with a session is never forgotten.
    assert_eq!(table.handshake(v4(0), true, 0), Handshake::Refuse);
    drop(live);
    assert_eq!(sizes(&table), (0, REMEMBERED));
}
