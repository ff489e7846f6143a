//! The limit of open files. Each session has its own socket.

use anyhow::{Context as _, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files beside the sockets: pipes, timers, those of the runtime.
const OTHERS: u64 = 200;

/// Raises the limit for this many sockets, in this process and in its children.
pub(super) fn allow(sockets: u64) -> anyhow::Result<()> {
    let wanted = sockets + OTHERS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files")?;
    if wanted > hard {
        bail!(
            "{sockets} sessions need {wanted} open files, and {hard} are allowed here: raise it \
             (as root `ulimit -Hn {wanted}`, in a service LimitNOFILE=), or measure with fewer"
        );
    }
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).context("the limit of open files")?;
    }
    Ok(())
}
