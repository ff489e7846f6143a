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

/// The MTU of most of the Internet, bytes.
const MTU: u16 = 1500;

/// Queue of the device, packets. It never fills, so that only the emulator drops packets.
const QUEUE: &str = "10000";

/// One end of a link, and its namespace.
pub(super) struct Host {
    pub(super) device: Arc<SyncDevice>,
    namespace: File,
}

impl Host {
    /// Moves the calling thread into a new network namespace with one end of a link at this address.
    /// Threads and processes that it starts afterwards are in it too.
    pub(super) fn enter(address: Ipv4Addr, congestion: Option<&str>) -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("creating a network namespace")?;
        ip(&["link", "set", "lo", "up"])?;
        let device = DeviceBuilder::new()
            .name(DEVICE)
            .ipv4(address, 24, None)
            .mtu(MTU)
            .build_sync()
            .context("creating a TUN device")?;
        // With `ip`, because the ioctl needs the root of the machine.
        ip(&["link", "set", "dev", DEVICE, "txqueuelen", QUEUE])?;
        // A route may use any algorithm. The default of a namespace is limited to some of them.
        if let Some(congestion) = congestion {
            let source = address.to_string();
            ip(&["route", "change", NET, "dev", DEVICE, "src", &source, "congctl", congestion])?;
        }
        let namespace = File::open("/proc/thread-self/ns/net").context("the network namespace")?;
        Ok(Self { device: Arc::new(device), namespace })
    }

    /// Returns the number of packets that the kernel dropped on their way into the device. If there
    /// are any, the emulator was too slow, and the figures are worthless.
    pub(super) fn dropped(&self) -> anyhow::Result<u64> {
        let ask = || {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET).context("the network namespace")?;
            ip(&["-s", "-j", "link", "show", "dev", DEVICE])
        };
        // In a thread of its own, so that the calling thread stays in its namespace.
        let output = std::thread::scope(|scope| scope.spawn(ask).join());
        let output = output.map_err(|_| anyhow::anyhow!("reading the drops panicked"))??;
        let value: serde_json::Value = serde_json::from_str(&output).context("the output of ip")?;
        let tx = value.pointer("/0/stats64/tx/dropped");
        tx.and_then(serde_json::Value::as_u64).context("the drops in the output of ip")
    }
}

/// Whether the kernel has a TCP congestion control.
pub(super) fn has_congestion_control(name: &str) -> bool {
    let list = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    list.is_ok_and(|list| list.split_whitespace().any(|one| one == name))
}

/// Checks that TUN devices and `ip` are available. The error names the remedy.
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
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("ip: not found: install iproute2")
        }
        output => output.context("starting ip")?,
    };
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
