//! A disk that is full, read-only, and free again, many times, under traffic, while the daemon is
//! killed and stopped in each of these states. It runs in a namespace, on a file system of its own.

use crate::lossy::Random;
use crate::peers::Peers;
use crate::relay::{End, Relay};
use crate::{number, random};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const INNER: &str = "disk::in_a_namespace";

#[test]
#[ignore = "long: cargo test --test crash every_state -- --ignored --nocapture"]
fn what_was_acknowledged_outlives_every_state_of_the_disk() {
    let test = std::env::current_exe().unwrap();
    let arguments = ["-Urm", "--kill-child"];
    let probe = Command::new("unshare").args(arguments).arg("true").output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("not tested: this machine allows no namespaces of users (unshare -Urm)");
        return;
    }
    let inner = ["--ignored", "--exact", INNER, "--nocapture"];
    let status = Command::new("unshare").args(arguments).arg(test).args(inner).status().unwrap();
    assert!(status.success());
}

struct Disk {
    directory: PathBuf,
    read_only: bool,
}

impl Disk {
    fn mount(directory: &Path) -> Self {
        let mount = ["-t", "tmpfs", "-o", "size=256m", "tmpfs"];
        assert!(Command::new("mount").args(mount).arg(directory).status().unwrap().success());
        Self { directory: directory.into(), read_only: false }
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }

    fn remount(&mut self, read_only: bool) {
        if self.read_only == read_only {
            return;
        }
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        // Busy while a file is open for writing: then it stays as it is.
        let mounted = Command::new("mount").args(["-o", how]).arg(&self.directory).output();
        if mounted.unwrap().status.success() {
            self.read_only = read_only;
        }
    }

    fn fill(&mut self, leave: u64) {
        self.remount(false);
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        let block = vec![0; 64 << 10];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(leave)).unwrap();
    }

    fn free(&mut self) {
        self.remount(false);
        let _ = std::fs::remove_file(self.filler());
    }

    fn change(&mut self, random: &mut Random) -> &'static str {
        match random.below(8) {
            0..3 => {
                self.fill(0);
                "full"
            }
            3 => {
                self.fill(random.below(200 << 10));
                "nearly full"
            }
            4 => {
                self.remount(true);
                if self.read_only { "read-only" } else { "busy" }
            }
            _ => {
                self.free();
                "free"
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it mounts a file system: the other test runs it in a namespace"]
async fn in_a_namespace() {
    let seconds = number("WEIR_DISK_SECONDS", 20);
    let sync = std::env::var("WEIR_DISK_SYNC").unwrap_or_else(|_| "1s".into());
    let mut random = random();
    let place = tempfile::tempdir().unwrap();
    let mut disk = Disk::mount(place.path());
    let mut relay = Relay::start_in(place.path(), &[("WEIR_JOURNAL__SYNC", &sync)]);
    let mut peers = Peers::default();
    peers.disk_fails = true;
    peers.subscribe(&relay.target, "crash").await;
    peers.publish(&relay.target, "crash", Duration::from_millis(4)).await;
    let begun = Instant::now();
    let (mut checked, mut ends) = (0, [0, 0]);
    while begun.elapsed().as_secs() < seconds {
        for _ in 0..random.below(4) {
            sleep(Duration::from_millis(random.below(900))).await;
            eprintln!("{:.1} {}", begun.elapsed().as_secs_f64(), disk.change(&mut random));
        }
        sleep(Duration::from_millis(random.below(600))).await;
        let how = if random.below(3) > 0 { End::Kill } else { End::Stop };
        ends[usize::from(how == End::Stop)] += 1;
        let receipts = peers.newest(5);
        relay.end(how);
        if random.below(3) == 0 {
            eprintln!("{:.1} down {}", begun.elapsed().as_secs_f64(), disk.change(&mut random));
        }
        eprintln!("{:.1} {how:?}", begun.elapsed().as_secs_f64());
        relay.begin();
        checked += peers.hold(&relay.target, &receipts).await;
        peers.check();
    }
    disk.free();
    let report = peers.settle(&relay.target).await;
    eprintln!("{ends:?} kills and stops, {checked} receipts looked up after them\n{report}");
    relay.end(End::Stop);
}
