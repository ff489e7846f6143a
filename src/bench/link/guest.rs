//! `--run`: another program on the far side of the link, in place of the measurement.

use super::emulator::Link;
use super::host::{FAR, Host, NEAR};
use super::model::Spec;
use crate::bench::daemon::Daemon;
use crate::wire::PORT;
use anyhow::Context as _;
use std::process::{Command, ExitCode};

/// Starts a daemon on the near side and, with a shell, the program on the far side. `WEIR_URL` has
/// the address of the daemon's page, `WEIR_SERVER` its address and `WEIR_CERT_HASH` the hash of its
/// certificate. Returns the exit code of the program.
pub(super) fn run(program: &str, spec: &Spec, seed: u64) -> anyhow::Result<ExitCode> {
    let near = Host::enter(NEAR, None)?;
    let daemon = Daemon::start((NEAR, PORT).into())?;
    let far = Host::enter(FAR, None)?;
    let link = Link::join(&near.device, &far.device, spec, seed)?;
    link.begin();
    let mut command = Command::new("sh");
    command
        .args(["-c", program])
        .env("WEIR_URL", format!("https://{}/", daemon.address))
        .env("WEIR_SERVER", daemon.address.to_string())
        .env("WEIR_CERT_HASH", daemon.hash.to_string());
    let status = command.status().context("starting the program")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(1).into())
}
