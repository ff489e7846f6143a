//! A repeated publication gets the receipt of the first, for as long as that is in the log.

use super::*;
use crate::engine::{BeginOutcome, UploadRequest};
use crate::wire::Which;
use proptest::prelude::*;
use std::collections::HashMap;

#[test]
fn the_receipt_of_an_original_that_is_cached_has_its_sequence() {
    let mut engine = engine(Limits::default());
    for n in 1..=10 {
        publish(&mut engine, 1, "a", &payload(0), Some((1, n))).unwrap();
    }
    // Another one's messages in between, many more than one would like to look through.
    for n in 1..=5000 {
        publish(&mut engine, 1, "a", &Bytes::from_static(b"other"), Some((2, n))).unwrap();
    }
    publish(&mut engine, 1, "a", &payload(0), Some((1, 11))).unwrap();
    for n in 1..=10 {
        engine.begin_work();
        let receipt = publish(&mut engine, 1, "a", &payload(1), Some((1, n))).unwrap();
        assert_eq!((receipt.duplicate, receipt.sequence, receipt.count), (true, n, n));
        assert_eq!(receipt.digest, Digest::of(&payload(0)), "that of the first");
        assert!(engine.work <= 2, "{}", engine.work);
    }
    assert_eq!(engine.get("a", Which::Sequence(10)).unwrap().sequence(), 10);
}

#[test]
fn a_producer_at_its_worst_is_bounded_charged_and_let_go() {
    let mut engine = engine(Limits::default().with_cache(8 << 20));
    let window = u64::from(engine.limits().window);
    let other = Bytes::from_static(b"other");
    // Numbers from both ends of the window, each as far from the one before as can be.
    for round in 0..8 {
        for n in 0..window {
            let within = if n % 2 == 0 { n / 2 } else { window - 1 - n / 2 };
            let number = 1 + round * window + within;
            publish(&mut engine, 1, "a", &other, Some((1, number))).unwrap();
        }
        for number in 1 + round * window..=(round + 1) * window {
            engine.begin_work();
            let receipt = publish(&mut engine, 1, "a", &other, Some((1, number))).unwrap();
            assert!(receipt.duplicate && receipt.sequence > round * window, "{receipt:?}");
            assert!(engine.work <= 300, "{}", engine.work);
        }
    }
    let slot = engine.slot("a").unwrap();
    let cost = |engine: &Engine| engine.topic(slot).unwrap().producers_cost();
    assert!((32 << 10..80 << 10).contains(&cost(&engine)), "{}", cost(&engine));
    // Its messages leave the log: what says where they stand goes with them.
    for n in 0..300_u32 {
        let mut large = vec![0; 60_000];
        large[..4].copy_from_slice(&n.to_le_bytes());
        publish(&mut engine, 1, "a", &Bytes::from(large), None).unwrap();
    }
    assert!(cost(&engine) < 8 << 10, "{}", cost(&engine));
    engine.audit();
}

#[derive(Debug, Clone)]
enum Step {
    // A producer's next number, or one that it left out, or one far ahead.
    Publish { producer: u8, back: u64, large: bool },
    // So many of somebody without numbers.
    Others(u8),
    // Something large elsewhere: what is here is evicted.
    Evict,
    Begin { producer: u8 },
    End,
    Again { producer: u8, back: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (1_u8..4, prop_oneof![3 => Just(0_u64), 2 => 0_u64..70], prop::bool::weighted(0.02))
            .prop_map(|(producer, back, large)| Step::Publish { producer, back, large }),
        2 => (1_u8..200).prop_map(Step::Others),
        1 => Just(Step::Evict),
        1 => (1_u8..4).prop_map(|producer| Step::Begin { producer }),
        1 => Just(Step::End),
        20 => (1_u8..4, 0_u64..80).prop_map(|(producer, back)| Step::Again { producer, back }),
    ]
}

const WINDOW: u64 = 64;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_duplicate_within_the_window_gets_the_first_receipt(
        steps in prop::collection::vec(step(), 1..1500),
    ) {
        let mut engine = engine(Limits { window: WINDOW as u32, ..small() });
        let mut receipts: HashMap<(u8, u64), Receipt> = HashMap::new();
        let mut highest = [0_u64; 4];
        let mut uploads = Vec::new();
        let (large, mut n) = (Bytes::from(vec![5; 70_000]), 0);
        let mut born = None;
        for step in steps {
            n += 1;
            // A topic that was forgotten begins anew, and knows no producers.
            let id = engine.slot("a").and_then(|slot| Some(engine.topic(slot)?.id()));
            if born.is_some() && born != id {
                receipts.clear();
                highest = [0; 4];
            }
            born = id;
            let short = Bytes::from((n % 50_u32).to_le_bytes().to_vec());
            match step {
                Step::Publish { producer, back, large: is_large } => {
                    let highest = &mut highest[producer as usize];
                    let number = (*highest + 20).saturating_sub(back).max(1);
                    let number = if back == 0 { *highest + 1 } else { number };
                    let payload = if is_large { &large } else { &short };
                    let receipt = publish(&mut engine, 1, "a", payload, Some((producer, number)));
                    // Given up, or not known.
                    let Ok(receipt) = receipt else { continue };
                    prop_assert_eq!(receipt.duplicate, receipts.contains_key(&(producer, number)));
                    if !receipt.duplicate {
                        receipts.insert((producer, number), receipt);
                        *highest = number.max(*highest);
                    }
                }
                Step::Others(many) => (0..many).for_each(|_| {
                    publish(&mut engine, 1, "a", &short, None).unwrap();
                }),
                Step::Evict => (0..4_u8).for_each(|at| {
                    let payload = vec![at ^ n as u8; 200_000].into();
                    publish(&mut engine, 1, &format!("b/{at}"), &payload, None).unwrap();
                }),
                Step::Begin { producer } => {
                    let number = highest[producer as usize] + 1;
                    let origin = PublicationId { producer: ProducerId([producer; 16]), number };
                    let opening =
                        UploadRequest { topic: "a", size: 70_000, stamp: 0, origin: Some(origin) };
                    if let Ok(BeginOutcome::Arriving(upload)) = engine.begin(1, &opening) {
                        uploads.push((producer, number, upload));
                    }
                }
                Step::End if !uploads.is_empty() => {
                    let (producer, number, upload) = uploads.swap_remove(n as usize % uploads.len());
                    let whole = engine.append(upload, large.slice(..40_000));
                    let whole = whole.and_then(|()| engine.append(upload, large.slice(40_000..)));
                    let end = whole.and_then(|()| engine.end(1, upload, Digest::of(&large)));
                    if let Ok(receipt) = end && !receipt.duplicate {
                        receipts.insert((producer, number), receipt);
                        let highest = &mut highest[producer as usize];
                        *highest = number.max(*highest);
                    }
                }
                Step::End => {}
                Step::Again { producer, back } => {
                    let highest = highest[producer as usize];
                    let number = highest.saturating_sub(back);
                    let Some(first) = receipts.get(&(producer, number)) else { continue };
                    let again = publish(&mut engine, 1, "a", &short, Some((producer, number)));
                    if back < WINDOW {
                        prop_assert!(again.is_ok(), "{:?}", again);
                    }
                    let Ok(again) = again else { continue };
                    prop_assert!(again.duplicate);
                    let slot = engine.slot("a").unwrap();
                    let entry = engine.topic(slot).unwrap().entry(first.sequence);
                    let is_there = entry.is_some_and(|entry| entry.body.is_complete());
                    if is_there {
                        prop_assert_eq!(again, Receipt { duplicate: true, ..*first });
                    } else {
                        let nothing = (again.sequence, again.count, again.digest);
                        prop_assert_eq!(nothing, (0, 0, Digest::of(&short)));
                    }
                }
            }
            if n % 50 == 0 {
                engine.audit();
            }
        }
    }
}
