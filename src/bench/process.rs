//! A process that is measured. It does not outlive this one, and the kernel accounts for its cost.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command};
use std::time::Duration;

/// A child process. It is killed when dropped.
pub(super) struct Process(Child);

impl Process {
    /// Starts a process, on `cores` of the CPUs that this thread may use, or on all of them.
    pub(super) fn start(mut command: Command, cores: Option<usize>) -> anyhow::Result<Self> {
        // A group of its own, so that Ctrl-C reaches only the benchmark, which then stops the process.
        command.process_group(0);
        let child = match cores {
            None => command.spawn(),
            Some(cores) => cpus::on(cores, || command.spawn())?,
        };
        Ok(Self(child?))
    }

    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    pub(super) fn usage(&self) -> Usage {
        Usage::of(&self.0.id().to_string())
    }

    pub(super) fn memory(&self) -> Memory {
        Memory::of(&self.0.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a command that the kernel kills when the calling thread ends. Needs setpriv (util-linux);
/// without it the command is an ordinary one.
pub(super) fn with_parent(program: impl AsRef<OsStr>) -> Command {
    const WITH_PARENT: [&str; 3] = ["--pdeathsig", "KILL", "--"];
    let probe = Command::new("setpriv").args(WITH_PARENT).arg("true").output();
    if probe.is_ok_and(|output| output.status.success()) {
        let mut command = Command::new("setpriv");
        command.args(WITH_PARENT).arg(program);
        return command;
    }
    Command::new(program)
}

/// The CPU time and the waits of a process so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    // CPU time of the process, with threads that have ended, in ticks of 10 ms.
    coarse: Option<Duration>,
    // CPU time by thread, to the nanosecond.
    threads: BTreeMap<String, Duration>,
    // Number of voluntary context switches of its threads.
    waits: u64,
}

impl Usage {
    /// The usage of this process.
    pub(super) fn own() -> Self {
        Self::of("self")
    }

    fn of(id: &str) -> Self {
        let mut usage = Self { coarse: coarse(id), ..Self::default() };
        let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return usage };
        for thread in threads.flatten() {
            let read = |name| std::fs::read_to_string(thread.path().join(name)).ok();
            let name = thread.file_name().to_string_lossy().into_owned();
            if let Some(time) = read("schedstat").as_deref().and_then(on_cpu) {
                usage.threads.insert(name, time);
            }
            let status = read("status");
            usage.waits +=
                status.and_then(|status| field(&status, "voluntary_ctxt_switches")).unwrap_or(0);
        }
        usage
    }

    /// CPU time since an earlier moment; `None` if the system does not report it.
    pub(super) fn cpu_since(&self, before: &Self) -> Option<Duration> {
        let coarse = self.coarse.zip(before.coarse);
        let coarse = coarse.map(|(now, before)| now.saturating_sub(before));
        // The time of a thread that ended in between is only in the total of the process.
        let ended = before.threads.keys().any(|thread| !self.threads.contains_key(thread));
        if self.threads.is_empty() || ended {
            return coarse;
        }
        let since = |(thread, time): (&String, &Duration)| {
            time.saturating_sub(before.threads.get(thread).copied().unwrap_or_default())
        };
        Some(self.threads.iter().map(since).sum())
    }

    /// Number of times that its threads waited since an earlier moment.
    pub(super) fn waits_since(&self, before: &Self) -> u64 {
        self.waits.saturating_sub(before.waits)
    }
}

// The first number of schedstat: ns on a CPU.
fn on_cpu(schedstat: &str) -> Option<Duration> {
    Some(Duration::from_nanos(schedstat.split_whitespace().next()?.parse().ok()?))
}

fn coarse(id: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is a name in brackets, which may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // Linux reports ticks of 10 ms to programs, independent of its own.
    Some(Duration::from_millis((user + system) * 10))
}

/// Resident memory, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) now: Option<u64>,
    pub(super) peak: Option<u64>,
}

impl Memory {
    fn of(id: &str) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let bytes = |name| field(&status, name).map(|kib| kib << 10);
        Self { now: bytes("VmRSS"), peak: bytes("VmHWM") }
    }
}

// Returns 123 of `name:   123 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
    status.lines().find_map(of)?.split_whitespace().next()?.parse().ok()
}

#[cfg(target_os = "linux")]
mod cpus {
    use anyhow::{Context as _, bail};
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    /// Calls `what` on the first `cores` of the CPUs that this thread may use. Processes that it
    /// starts stay on them.
    pub(super) fn on<T>(cores: usize, what: impl FnOnce() -> T) -> anyhow::Result<T> {
        let this = Pid::from_raw(0);
        let all = sched_getaffinity(this).context("the CPUs of this thread")?;
        let mut some = CpuSet::new();
        let allowed = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap_or(false));
        let allowed: Vec<_> = allowed.collect();
        if allowed.len() < cores {
            bail!("{cores} cores requested, {} available", allowed.len());
        }
        for cpu in &allowed[..cores] {
            some.set(*cpu)?;
        }
        sched_setaffinity(this, &some).context("the CPUs of a process")?;
        let done = what();
        sched_setaffinity(this, &all).context("the CPUs of this thread")?;
        Ok(done)
    }
}

#[cfg(not(target_os = "linux"))]
mod cpus {
    pub(super) fn on<T>(_: usize, _: impl FnOnce() -> T) -> anyhow::Result<T> {
        anyhow::bail!("choosing cores works on Linux only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let status = "Name:\tweir\nVmHWM:\t   2048 kB\nVmRSS:\t1024 kB\n\
            nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "VmHWM"), Some(2048));
        assert_eq!(field(status, "voluntary_ctxt_switches"), Some(3));
        assert_eq!(field(status, "Vm"), None);
        assert_eq!(on_cpu("1500 2 3\n"), Some(Duration::from_nanos(1500)));
    }

    #[test]
    fn cpu_time_is_summed_over_threads_and_coarse_once_one_has_ended() {
        let usage = |coarse: u64, threads: &[(&str, u64)]| Usage {
            coarse: Some(Duration::from_millis(coarse)),
            threads: threads
                .iter()
                .map(|(thread, ns)| ((*thread).to_owned(), Duration::from_nanos(*ns)))
                .collect(),
            waits: 0,
        };
        let before = usage(10, &[("1", 1_000), ("2", 500)]);
        let since = |after: &Usage| after.cpu_since(&before).unwrap();
        let after = usage(40, &[("1", 1_300), ("2", 500), ("3", 50)]);
        assert_eq!(since(&after), Duration::from_nanos(350));
        assert_eq!(since(&usage(40, &[("1", 1_300)])), Duration::from_millis(30));
        assert_eq!(since(&usage(40, &[])), Duration::from_millis(30));
    }
}
