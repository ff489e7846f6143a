//! TLS 1.3: the daemon's certificates and where they come from, those of its clients, and the ways to
//! verify them.
//!
//! | file | content |
//! |---|---|
//! | `provider` | the cryptography |
//! | `certificate_hash`, `announce` | hashes of certificates; those of the daemon, for this machine |
//! | `pem`, `info` | reading certificates and keys; the content of a certificate |
//! | `trust` | a client's configuration |
//! | `self_signed`, `state_file` | making certificates; files of the state directory |
//! | `identity`, `files`, `acme` | the sources of the daemon's certificate |
//! | `watched` | files that change |
//! | `client_authorities` | certificates of native clients |
//! | `settings`, `certificates`, `server` | the daemon's settings, its certificate in use, its configurations |
//! | `reset_key` | the key of stateless resets |

#[cfg(feature = "daemon")]
pub(crate) mod acme;
#[cfg(feature = "daemon")]
mod announce;
mod certificate_hash;
#[cfg(feature = "daemon")]
pub(crate) mod certificates;
#[cfg(feature = "daemon")]
pub(crate) mod client_authorities;
#[cfg(feature = "daemon")]
mod files;
#[cfg(all(feature = "daemon", any(test, fuzzing)))]
pub(crate) mod fuzz;
#[cfg(feature = "daemon")]
pub(crate) mod identity;
#[cfg(feature = "daemon")]
pub(crate) mod info;
pub(crate) mod pem;
mod provider;
pub(crate) mod regular_file;
#[cfg(feature = "daemon")]
pub(crate) mod reset_key;
#[cfg(feature = "daemon")]
pub(crate) mod self_signed;
#[cfg(feature = "daemon")]
mod server;
#[cfg(feature = "daemon")]
pub(crate) mod settings;
#[cfg(feature = "daemon")]
mod state_file;
#[cfg(test)]
mod tests;
mod trust;
#[cfg(feature = "daemon")]
pub(crate) mod watched;

pub(crate) use certificate_hash::local_hashes;
pub use certificate_hash::{CertificateHash, CertificateHashError, CertificateHashes};
pub(crate) use pem::ClientIdentity;
pub use pem::{CertificateError, CertificateProblem};
#[cfg(feature = "daemon")]
pub(crate) use server::{server_over_tcp, server_over_udp};
pub(crate) use trust::{Complaint, Expect, client};
pub use trust::{TlsError, Trust};
