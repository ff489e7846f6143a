//! A network namespace with one end of a link.

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tun_rs::{DeviceBuilder, SyncDevice};

const DEVICE: &str = "weir0";
const NET: &str = "10.77.0.0/24";
pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// As on most of the Internet.
const MTU: u16 = 1500;

/// Far more packets than wait for the emulator ever: what is to be dropped, it drops.
const QUEUE: &str = "10000";

/// One end of a link, and where it is.
pub(super) struct Host {
    pub(super) device: Arc<SyncDevice>,
    namespace: File,
}

impl Host {
    /// Puts the calling thread, and the threads and processes that it starts from now on, into a
    /// new network namespace, with one end of a link at this address.
    pub(super) fn enter(address: Ipv4Addr, congestion: Option<&str>) -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
        ip(&["link", "set", "lo", "up"])?;
        let device = DeviceBuilder::new()
            .name(DEVICE)
            .ipv4(address, 24, None)
            .mtu(MTU)
            .build_sync()
            .context("a TUN device")?;
        // Not by ioctl, which only the machine's root may.
        ip(&["link", "set", "dev", DEVICE, "txqueuelen", QUEUE])?;
        // The namespace's default may be changed to some algorithms only; a route may have any.
        if let Some(congestion) = congestion {
            let source = address.to_string();
            ip(&["route", "change", NET, "dev", DEVICE, "src", &source, "congctl", congestion])?;
        }
        let namespace = File::open("/proc/thread-self/ns/net").context("the network namespace")?;
        Ok(Self { device: Arc::new(device), namespace })
    }

    /// Packets that the kernel dropped on their way into the device: the emulator was too slow,
    /// and what was measured is worth nothing.
    pub(super) fn dropped(&self) -> anyhow::Result<u64> {
        let asking = || {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET).context("the network namespace")?;
            ip(&["-s", "-j", "link", "show", "dev", DEVICE])
        };
        // In a thread of its own: the calling one stays where it is.
        let said = std::thread::scope(|scope| scope.spawn(asking).join());
        let said = said.map_err(|_| anyhow::anyhow!("asking ip about drops panicked"))??;
        let value: serde_json::Value = serde_json::from_str(&said).context("what ip says")?;
        let tx = value.pointer("/0/stats64/tx/dropped");
        tx.and_then(serde_json::Value::as_u64).context("what ip says about drops")
    }
}

/// Whether the kernel has a TCP congestion control.
pub(super) fn has_congestion_control(name: &str) -> bool {
    let list = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    list.is_ok_and(|list| list.split_whitespace().any(|one| one == name))
}

/// What is needed is there; says what to do if not.
pub(super) fn check() -> anyhow::Result<()> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    match tun.map_err(|error| (error.kind(), error)) {
        Err((ErrorKind::PermissionDenied, error)) => bail!(
            "/dev/net/tun: {error}: run it as root, or let everybody open it, as most systems do: \
             `chmod 666 /dev/net/tun`"
        ),
        Err((_, error)) => bail!(
            "/dev/net/tun: {error}: the link is made of TUN devices; try `modprobe tun`, or give \
             the container --device /dev/net/tun"
        ),
        Ok(_) => {}
    }
    ip(&["-V"]).map(drop)
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let said = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let said = match said {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("ip: not found: install iproute2")
        }
        said => said.context("ip")?,
    };
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        bail!("ip {}: {}", arguments.join(" "), why.trim());
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
