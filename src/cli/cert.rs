//! `weir cert`: looks at certificates, and makes one.

use super::certificate_facts::facts;
use crate::client::presented::{Chain, presented};
use crate::console::output::Output;
use crate::console::terminal::line;
use crate::tls::info::{CertificateInfo, utc};
use crate::tls::{pem, self_signed};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

#[derive(Debug, Subcommand)]
pub(super) enum Cert {
    /// Show the certificate of a running daemon, over QUIC and TCP, or those in files.
    #[command(after_help = "\
Examples:
  weir cert show
  weir cert show --server edge.example:4433 --json
  weir cert show /etc/weir/fullchain.pem")]
    Show(Show),
    /// Make a self-signed certificate, for tests and closed networks.
    #[command(after_help = "\
Examples:
  weir cert new --names relay.lan --out certificate
  weir cert new --names relay.lan,10.0.0.7 --days 365 --out /etc/weir

Browsers can pin a certificate that is valid for at most 14 days. As a client's: weir sub … --cert \
certificate.pem --key key.pem")]
    New(New),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// PEM files, in place of a daemon.
    #[arg(value_name = "FILE", conflicts_with = "server")]
    files: Vec<PathBuf>,
    /// The daemon's address; the port is 4433 unless given [default: localhost:4433].
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_SERVER")]
    server: Option<String>,
    /// Print JSON objects, one for each certificate.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// DNS names and addresses, with commas between or the flag again.
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true)]
    names: Vec<String>,
    /// Directory for certificate.pem and key.pem, which it does not have yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days for which it is valid.
    #[arg(long, value_name = "N", default_value_t = 13, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(verb: Cert) -> anyhow::Result<()> {
    match verb {
        Cert::Show(arguments) => show(arguments).await,
        Cert::New(arguments) => new(&arguments),
    }
}

async fn show(arguments: Show) -> anyhow::Result<()> {
    let output = Output::new(arguments.json);
    if !arguments.files.is_empty() {
        for file in &arguments.files {
            let chain = pem::chain(file)?;
            print_chain(&output, &file.display().to_string(), &[], &chain)?;
        }
        return Ok(());
    }
    let server = arguments.server.unwrap_or_else(|| "localhost:4433".into());
    match presented(&server).await? {
        [Ok(quic), Ok(tcp)] if quic == tcp => {
            print_chain(&output, &server, &["quic", "tcp"], &quic)?;
        }
        [quic, tcp] => {
            let mut failures = Vec::new();
            for (over, chain) in [("quic", quic), ("tcp", tcp)] {
                match chain {
                    Ok(chain) => print_chain(&output, &server, &[over], &chain)?,
                    Err(error) => failures.push(format!("over {over}: {error}")),
                }
            }
            if !failures.is_empty() {
                bail!("{server}: {}", failures.join("; "));
            }
        }
    }
    Ok(())
}

fn print_chain(output: &Output, source: &str, over: &[&str], chain: &Chain) -> anyhow::Result<()> {
    for (position, certificate) in chain.iter().enumerate() {
        let info = CertificateInfo::of(certificate)
            .map_err(|problem| anyhow::anyhow!("{source}: certificate {position}: {problem}"))?;
        let over_text =
            if over.is_empty() { String::new() } else { format!(" over {}", over.join(" and ")) };
        let what = if position == 0 { "certificate" } else { "authority" };
        let title = format!("{source}{over_text}: {what}");
        let mut value = json!({ "source": source, "over": over, "position": position });
        if let (Value::Object(members), Value::Object(facts)) = (&mut value, facts(&info)) {
            members.extend(facts);
        }
        Output::print(output.value(&value, &text(&title, &info)))?;
    }
    Ok(())
}

fn text(title: &str, info: &CertificateInfo) -> String {
    let now = OffsetDateTime::now_utc();
    let left = match info.until - now {
        _ if now < info.from => "not valid yet".into(),
        left if left.is_negative() => "EXPIRED".into(),
        left if left < Duration::days(2) => format!("{} hours left", left.whole_hours()),
        left => format!("{} days left", left.whole_days()),
    };
    let issuer = if info.self_signed { "itself".into() } else { line(&info.issuer) };
    let pinning = match info.not_pinnable {
        None => "browsers can pin it".into(),
        Some(reason) => format!("browsers cannot pin it: {reason}"),
    };
    format!(
        "{title}\n  \
         names    {}\n  \
         subject  {}\n  \
         issuer   {issuer}\n  \
         valid    {} to {}, {left}\n  \
         SHA-256  {}\n  \
         pinning  {pinning}",
        line(&info.names.join(" ")),
        line(&info.subject),
        utc(info.from),
        utc(info.until),
        info.hash,
    )
}

fn new(arguments: &New) -> anyhow::Result<()> {
    let New { names, out, days, json } = arguments;
    for name in names {
        let plain = name.strip_prefix("*.").unwrap_or(name);
        if ServerName::try_from(plain).is_err() {
            bail!("--names: {name:?} is neither a DNS name nor an address");
        }
    }
    let now = OffsetDateTime::now_utc();
    let valid = Duration::days(i64::from(*days));
    let pem = self_signed::make(names, &names[0], now, valid).context("--names")?;
    let written = write_new(out, &pem);
    let [certificate, key] = written.map_err(|(path, error)| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} exists, and is not replaced: give another --out", path.display())
        }
        _ => anyhow::anyhow!("{}: {error}", path.display()),
    })?;
    let chain = pem::chain(&certificate)?;
    let info = CertificateInfo::of(&chain[0])?;
    let (certificate, key) = (certificate.display(), key.display());
    let value = json!({
        "certificate": certificate.to_string(),
        "key": key.to_string(),
        "sha256": info.hash.to_string(),
        "not_after": utc(info.until),
        "pinnable": info.not_pinnable.is_none(),
    });
    let text = format!("{}\n  key      {key}", text(&format!("{certificate}: certificate"), &info));
    Output::print(Output::new(*json).value(&value, &text))?;
    Ok(())
}

// Writes a certificate and its key to a directory, as `certificate.pem` and `key.pem`. It never
// replaces a file. Only the owner can read the key.
fn write_new(directory: &Path, pem: &[String; 2]) -> Result<[PathBuf; 2], (PathBuf, io::Error)> {
    fs::create_dir_all(directory).map_err(|error| (directory.to_owned(), error))?;
    let paths = ["certificate.pem", "key.pem"].map(|name| directory.join(name));
    let mut written = Vec::new();
    // The key first: a certificate without its key is of no use.
    for (index, mode) in [(1, 0o600), (0, 0o644)] {
        let path = &paths[index];
        let mut write = || {
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
            written.push(path.clone());
            file.write_all(pem[index].as_bytes())?;
            file.sync_all()
        };
        let result: io::Result<()> = write();
        if let Err(error) = result {
            for path in &written {
                let _ = fs::remove_file(path);
            }
            return Err((path.clone(), error));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn nothing_is_replaced_and_nothing_half_made_stays() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("new");
        let pem = ["certificate", "key"].map(String::from);
        let paths = write_new(&out, &pem).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(paths.each_ref().map(|path| mode(path) & 0o077), [0o044, 0]);
        let (path, error) = write_new(&out, &pem).unwrap_err();
        assert_eq!((path, error.kind()), (paths[1].clone(), io::ErrorKind::AlreadyExists));
        // Only the certificate is there: no key is left beside it.
        fs::remove_file(&paths[1]).unwrap();
        fs::write(&paths[0], "mine").unwrap();
        assert_eq!(write_new(&out, &pem).unwrap_err().0, paths[0]);
        assert!(!paths[1].exists());
        assert_eq!(fs::read_to_string(&paths[0]).unwrap(), "mine");
    }
}
