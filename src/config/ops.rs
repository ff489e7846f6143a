//! `[ops]`: metrics and health.

use super::Plain;
use crate::daemon::Builder;
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};

/// Port of metrics and health.
const PORT: u16 = 9090;

/// `[ops]`: metrics and health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OpsConfig {
    /// Address of `/metrics`, `/healthz` and `/readyz`, or off. The default is `127.0.0.1:9090`, if
    /// that is free. An address that is set has to be free.
    pub listen: Option<Plain>,
}

impl OpsConfig {
    /// Applies the setting to a daemon.
    pub(crate) fn apply(&self, builder: Builder) -> Builder {
        match self.listen {
            Some(Plain(address)) => builder.ops(address),
            // A second daemon on this machine, or Prometheus itself, may have this address.
            None => builder.ops_if_free(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))),
        }
    }
}
