//! Older and copied files of the same journal, and logs that are missing: the note of a good end does not
//! hold for them.

use super::foreign::{journal, open, start};
use super::memory::Memory;
use super::{publish, shown};
use crate::journal::keeper::Opened;
use crate::journal::recovery::End;
use crate::journal::storage::{Directory, Storage};

// A copy of the files is put back after the original has gone on: their sequences may not be assigned
// again under the same epoch.
#[test]
fn a_copy_that_is_put_back_begins_another_run() {
    let (storage, had) = journal(1, 2_000_000, 0, true);
    let copy = |seed| {
        let copy = Memory::new(seed);
        storage.contents().into_iter().for_each(|(name, bytes)| copy.put(&name, bytes));
        copy
    };
    let (original, copies) = (copy(1), copy(77));
    let mut epochs = Vec::new();
    for (storage, end) in [(original, End::Closed), (copies, End::Copied)] {
        let (mut keeper, mut opened) = open(&storage, 1, 3_000_000);
        assert_eq!((opened.end, shown(&mut opened.engine)), (end, had.clone()));
        let lines = opened.lines.iter().filter(|line| line.contains("are a copy")).count();
        assert_eq!((opened.lines.len(), lines), if end == End::Copied { (1, 1) } else { (0, 0) });
        let (number, records) = publish(&mut opened.engine, "a", 999 + lines as u32);
        keeper.keep(5, number, &records).unwrap();
        let head = opened.engine.head("a").unwrap();
        epochs.push((head.epoch, head.next));
        keeper.close().unwrap();
        // It is said once.
        let (again, ..) = start(&storage, 1);
        assert_eq!((again.end, again.lines.len()), (End::Closed, 0));
    }
    assert_ne!(epochs[0].0, epochs[1].0);
    assert_eq!(epochs[0].1, epochs[1].1);
}

// `rsync -a --delete` puts an older state back, and leaves the files alone that have not changed since:
// so does one who removes the newest log. The note of the earlier good end was in one of these, and
// its sequences were assigned again under the same epoch.
#[test]
fn an_earlier_good_end_does_not_hold_once_a_daemon_has_begun() {
    for (goes_well, cut) in [(true, false), (true, true), (false, false)] {
        let (storage, had) = journal(1, 2_000_000, 0, true);
        let before: Vec<String> = storage.contents().into_keys().collect();
        let epoch = |opened: &Opened| opened.engine.head("a").unwrap().epoch;
        let (mut keeper, mut opened) = open(&storage, 1, 3_000_000);
        assert_eq!(opened.end, End::Closed);
        let first = epoch(&opened);
        if !cut {
            let (number, records) = publish(&mut opened.engine, "a", 999);
            keeper.keep(5, number, &records).unwrap();
        }
        if goes_well {
            keeper.close().unwrap();
        }
        drop(keeper);
        for name in storage.contents().into_keys().filter(|name| !before.contains(name)) {
            storage.remove(&name).unwrap();
        }
        let (_, mut opened) = open(&storage, 1, 4_000_000);
        assert_eq!((opened.end, opened.lines.len()), (End::Copied, 1), "{:?}", opened.lines);
        assert_eq!(shown(&mut opened.engine), had);
        assert_ne!(epoch(&opened), first);
    }
}

// A log between others is gone, or something else has its name. The one after it has no records, so that
// no hole was noticed.
#[test]
fn a_log_that_is_missing_before_one_without_records_is_noticed() {
    for closed in [true, false] {
        let (storage, had) = journal(1, 2_000_000, 0, true);
        let before: Vec<String> = storage.contents().into_keys().collect();
        let (mut keeper, mut opened) = open(&storage, 1, 3_000_000);
        let (number, records) = publish(&mut opened.engine, "a", 999);
        keeper.keep(5, number, &records).unwrap();
        keeper.close().unwrap();
        let gone: Vec<String> = storage.contents().into_keys().collect();
        let (mut keeper, _) = open(&storage, 1, 3_000_000);
        if closed {
            keeper.close().unwrap();
        }
        drop(keeper);
        gone.iter()
            .filter(|name| !before.contains(name))
            .for_each(|name| storage.remove(name).unwrap());
        let (_, mut opened) = open(&storage, 1, 4_000_000);
        assert_eq!((opened.end, opened.lines.len()), (End::Lossy, 1), "{:?}", opened.lines);
        assert_eq!(shown(&mut opened.engine), had);
    }
}

// A daemon was killed, the next one began another run, and published nothing. Its log is gone: what came
// later was shown under the epochs of the run before.
#[test]
fn a_log_in_which_a_run_began_is_missed() {
    let (storage, had) = journal(1, 2_000_000, 0, true);
    let (mut keeper, mut opened) = open(&storage, 1, 3_000_000);
    let (number, records) = publish(&mut opened.engine, "a", 998);
    keeper.keep(5, number, &records).unwrap();
    drop(keeper);
    let before: Vec<String> = storage.contents().into_keys().collect();
    let (mut keeper, opened) = open(&storage, 1, 4_000_000);
    assert_eq!(opened.end, End::Killed);
    keeper.close().unwrap();
    let gone: Vec<String> = storage.contents().into_keys().collect();
    let (mut keeper, mut opened) = open(&storage, 1, 5_000_000);
    assert_eq!(opened.end, End::Closed);
    let (number, records) = publish(&mut opened.engine, "a", 999);
    keeper.keep(5, number, &records).unwrap();
    keeper.close().unwrap();
    gone.iter()
        .filter(|name| !before.contains(name))
        .for_each(|name| storage.remove(name).unwrap());
    let (_, mut opened) = open(&storage, 1, 6_000_000);
    assert_eq!((opened.end, opened.lines.len()), (End::Lossy, 1), "{:?}", opened.lines);
    assert_eq!(opened.engine.run(), 6_000_000);
    assert_eq!(shown(&mut opened.engine).len(), had.len() + 2);
}

#[test]
fn a_file_has_another_state_once_it_is_touched_written_moved_or_copied() {
    let path = std::env::temp_dir().join(format!("weir-states-{}", std::process::id()));
    let directory = Directory::open(path.clone()).unwrap();
    directory.create("a").unwrap().append(b"abc").unwrap();
    let mut states = vec![directory.state("a").unwrap()];
    assert_eq!(directory.state("a").unwrap(), states[0]);
    let changes: [&dyn Fn(); 5] = [
        &|| directory.touch("a").unwrap(),
        &|| std::fs::write(path.join("a"), "abc").unwrap(),
        &|| directory.link("a", "b").unwrap(),
        &|| {
            std::fs::rename(path.join("a"), path.join("c")).unwrap();
            std::fs::rename(path.join("c"), path.join("a")).unwrap();
        },
        &|| {
            std::fs::copy(path.join("a"), path.join("c")).unwrap();
            std::fs::rename(path.join("c"), path.join("a")).unwrap();
        },
    ];
    for change in changes {
        // Until the clock of the file system goes on, which has steps of some ms.
        std::thread::sleep(std::time::Duration::from_millis(50));
        change();
        let state = directory.state("a").unwrap();
        assert!(!states.contains(&state));
        states.push(state);
    }
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_file_of_a_directory_has_one_id_under_all_its_names_and_a_copy_another() {
    let path = std::env::temp_dir().join(format!("weir-copies-{}", std::process::id()));
    let directory = Directory::open(path.clone()).unwrap();
    directory.create("a").unwrap().append(b"abc").unwrap();
    let id = directory.id("a").unwrap();
    directory.link("a", "b").unwrap();
    directory.rename("a", "c").unwrap();
    std::fs::copy(path.join("b"), path.join("d")).unwrap();
    let ids = ["b", "c", "d"].map(|name| directory.id(name).unwrap());
    std::fs::remove_dir_all(&path).unwrap();
    assert_eq!((ids[0], ids[1]), (id, id));
    assert_ne!(ids[2], id);
}
