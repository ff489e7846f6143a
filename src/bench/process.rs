//! A process that is measured: started so that it does not outlive this one, and what it costs,
//! from the kernel.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command};
use std::time::Duration;

/// Ends when dropped.
pub(super) struct Process(Child);

impl Process {
    /// Starts it; on so many of the CPUs that this thread may use, if that is said.
    pub(super) fn start(mut command: Command, cores: Option<usize>) -> anyhow::Result<Self> {
        // Ctrl-C is for whoever measures, who then stops it.
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

/// A command that the kernel ends when the calling thread ends in whatever way, if there is
/// setpriv (util-linux) to ask it to.
pub(super) fn with_parent(program: impl AsRef<OsStr>) -> Command {
    const WITH_PARENT: [&str; 3] = ["--pdeathsig", "KILL", "--"];
    let probe = Command::new("setpriv").args(WITH_PARENT).arg("true").output();
    if probe.is_ok_and(|said| said.status.success()) {
        let mut command = Command::new("setpriv");
        command.args(WITH_PARENT).arg(program);
        return command;
    }
    Command::new(program)
}

/// What a process has used up to a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    // Of the whole process, threads that have ended included; in ticks of 10 ms.
    coarse: Option<Duration>,
    // By thread, to the nanosecond.
    threads: BTreeMap<String, Duration>,
    // How often its threads have waited for something.
    waits: u64,
}

impl Usage {
    /// Of this process.
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

    /// CPU time since an earlier moment; none where the system does not say.
    pub(super) fn cpu_since(&self, before: &Self) -> Option<Duration> {
        let coarse = self.coarse.zip(before.coarse);
        let coarse = coarse.map(|(now, before)| now.saturating_sub(before));
        // What a thread used that has ended meanwhile, only the process knows.
        let ended = before.threads.keys().any(|thread| !self.threads.contains_key(thread));
        if self.threads.is_empty() || ended {
            return coarse;
        }
        let since = |(thread, time): (&String, &Duration)| {
            time.saturating_sub(before.threads.get(thread).copied().unwrap_or_default())
        };
        Some(self.threads.iter().map(since).sum())
    }

    /// How often its threads have waited for something since.
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
    // Linux tells programs about ticks of 10 ms, whatever its own are.
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

// Of `name:   123 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
    status.lines().find_map(of)?.split_whitespace().next()?.parse().ok()
}

#[cfg(target_os = "linux")]
mod cpus {
    use anyhow::{Context as _, bail};
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    /// Does something on the first of the CPUs that this thread may use; what it starts stays
    /// there.
    pub(super) fn on<T>(cores: usize, what: impl FnOnce() -> T) -> anyhow::Result<T> {
        let this = Pid::from_raw(0);
        let all = sched_getaffinity(this).context("the CPUs of this thread")?;
        let mut some = CpuSet::new();
        let allowed = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap_or(false));
        let allowed: Vec<_> = allowed.collect();
        if allowed.len() < cores {
            bail!("{cores} cores asked for, there are {}", allowed.len());
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
        anyhow::bail!("choosing cores: Linux only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
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
