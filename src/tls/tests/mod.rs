#[cfg(feature = "daemon")]
mod files;
mod trust;
