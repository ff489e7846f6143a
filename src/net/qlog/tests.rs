//! Which connection is recorded, and what a file has when the disk is slow or the file full.
#![allow(clippy::unwrap_used)]

use super::file::{MOST_FILES, Target, write};
use super::*;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, TryRecvError};

const PEER: &str = "192.0.2.7:40112";

/// A writer with so much room, and the other end of its queue.
fn writer(queue: usize, most: u64) -> (Writer, Receiver<Vec<u8>>, Arc<Missing>) {
    let (put, records) = sync_channel(queue);
    let missing = Arc::<Missing>::default();
    (Writer::new(put, missing.clone(), most), records, missing)
}

fn put(writer: &mut Writer, record: &str) {
    // As the library does: several writes for each record.
    for part in ["\u{1e}", record, "\n"] {
        writer.write_all(part.as_bytes()).unwrap();
    }
}

#[test]
fn one_connection_of_the_address_is_recorded_for_each_request() {
    let recorder = Recorder::new(None);
    let [wanted, other]: [IpAddr; 2] = ["192.0.2.7", "192.0.2.8"].map(|text| text.parse().unwrap());
    assert!(!recorder.take(wanted));
    // A socket for both families shows an IPv4 address so.
    recorder.record_next(Some("::ffff:192.0.2.7".parse().unwrap()));
    assert!(!recorder.take(other));
    assert!(recorder.take(wanted) && !recorder.take(wanted));
    recorder.record_next(Some(wanted));
    recorder.record_next(Some(wanted));
    assert!(recorder.take("::ffff:192.0.2.7".parse().unwrap()) && !recorder.take(wanted));
    recorder.record_next(Some(wanted));
    recorder.record_next(None);
    assert!(!recorder.take(wanted));
}

#[test]
fn records_that_do_not_fit_into_the_queue_are_counted_and_no_other_is_damaged() {
    let (mut writer, records, missing) = writer(2, 1000);
    for record in ["a", "b", "c", "d"] {
        put(&mut writer, record);
    }
    assert_eq!(records.try_iter().collect::<Vec<_>>(), [b"\x1ea\n", b"\x1eb\n"]);
    put(&mut writer, "e");
    assert_eq!(records.try_iter().collect::<Vec<_>>(), [b"\x1ee\n"]);
    assert_eq!(missing.dropped.load(Ordering::Relaxed), 2);
    assert!(!missing.cut.load(Ordering::Relaxed));
}

#[test]
fn a_full_file_ends_with_a_whole_record_and_the_connection_goes_on() {
    let (mut writer, records, missing) = writer(9, 8);
    for record in ["a", "b", "ccc", "d"] {
        put(&mut writer, record);
    }
    assert_eq!(records.try_iter().collect::<Vec<_>>(), [b"\x1ea\n", b"\x1eb\n"]);
    // The thread ends.
    assert_eq!(records.try_recv(), Err(TryRecvError::Disconnected));
    assert!(missing.cut.load(Ordering::Relaxed));
}

#[test]
fn files_are_for_their_owner_are_never_replaced_and_their_number_is_bounded() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join(DIRECTORY);
    let record = |name: &str| {
        let (mut writer, records, missing) = writer(9, 100);
        put(&mut writer, name);
        drop(writer);
        let target =
            Target { directory: directory.clone(), name: name.into(), peer: PEER.parse().unwrap() };
        write(&target, &records, &missing);
        fs::read_to_string(directory.join(name)).ok()
    };
    assert_eq!(record("0"), Some("\u{1e}0\n".into()));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(directory.clone()), mode(directory.join("0"))), (0o700, 0o600));
    fs::write(directory.join("0"), "kept").unwrap();
    assert_eq!(record("0"), Some("kept".into()));
    for number in 1..MOST_FILES {
        assert!(record(&number.to_string()).is_some());
    }
    assert_eq!(record("more"), None);
    fs::remove_file(directory.join("1")).unwrap();
    assert!(record("more").is_some());
}
