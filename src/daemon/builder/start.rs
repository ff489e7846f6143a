//! The start of a daemon: its settings are checked, its files and ports opened, and its tasks spawned.

use super::state::{StateOf, StateOpened};
use super::{Builder, SpawnError};
use crate::broker::admission::Admission;
use crate::daemon::blocking::blocking;
use crate::daemon::run::run;
use crate::daemon::settings::{Settings, SettingsError};
#[cfg(feature = "otel")]
use crate::daemon::traces::{Exporter, Otlp, traced};
use crate::daemon::watched_keys::{InForce, WatchedKeys, open_keys};
use crate::daemon::{Addresses, BindError, Daemon, IdentityError};
use crate::http;
use crate::http::listen::Listener;
use crate::net::qlog::Recorder;
use crate::net::quic::socket;
use crate::net::session::list::Host;
use crate::net::{bind, endpoint};
use crate::ops;
use crate::ops::metrics::{Metrics, Sources};
use crate::tls::certificates::Certificates;
use crate::tls::reset_key::ResetKey;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Mutex;

fn recorder(state: Option<&Path>, qlog: Option<IpAddr>) -> Result<Arc<Recorder>, SettingsError> {
    let recorder = Recorder::new(state);
    if qlog.is_some() && !recorder.has_directory() {
        return Err(SettingsError::QlogNoState);
    }
    recorder.record_next(qlog);
    Ok(Arc::new(recorder))
}

fn challenge_listener(
    listener: TcpListener,
    certificates: &Arc<Certificates>,
    admission: &Admission,
) -> Result<Listener, BindError> {
    Ok(match certificates.http_challenges() {
        Some(answers) => {
            Listener::plain(listener, admission).only(http::challenge::routes(answers))
        }
        None => Listener::tls(listener, certificates.clone(), admission)?.only(axum::Router::new()),
    })
}

#[cfg(feature = "otel")]
async fn open_exporter(otlp: Option<Otlp>) -> Result<Option<Exporter>, SettingsError> {
    let Some(otlp) = otlp else { return Ok(None) };
    Ok(Some(blocking(|| Exporter::open(otlp)).await?))
}

impl Builder {
    pub(super) async fn start(self) -> Result<Daemon, SpawnError> {
        if SystemTime::now() < SystemTime::UNIX_EPOCH {
            return Err(SpawnError::Clock);
        }
        let settings = Settings {
            access: self.access,
            topic_rules: self.topic_rules,
            origins: self.origins,
            names: self.names,
            // The daemon is also reached by the names for which it orders certificates.
            domains: self.tls.domains().to_vec(),
        };
        let checked = settings.check()?;
        let recorder = recorder(self.state.as_deref(), self.qlog)?;
        // Writes and syncs files, which would block the tasks of this thread.
        let (state, announce) = (self.state.clone(), self.announce);
        let challenges = self.tls.challenge_address();
        let open = move || {
            let certificates = Certificates::open(self.tls, state.clone(), announce)?;
            Ok::<_, IdentityError>((certificates, ResetKey::open(state.as_deref())?))
        };
        #[cfg(feature = "otel")]
        let exporter = open_exporter(self.otlp).await?;
        let (certificates, reset_key) = blocking(open).await?;
        let certificates = Arc::new(certificates);
        let (access, keys) = open_keys(checked.access, false).await?;
        let pair = bind::pair(self.listen, &self.given)?;
        let plain = bind::http(self.http, &self.given)?;
        let http_is_given = self.given.http.is_some();
        // All ports are bound before the journal is opened: a start that fails leaves it as it was.
        let challenges = challenges.map(bind::challenges).transpose()?;
        let ops = self.ops.bind()?;
        let ops_address = ops.as_ref().map(TcpListener::local_addr).transpose();
        let ops_address = ops_address.map_err(|error| BindError::Endpoint { error })?;
        // From here on it says that the daemon is not ready yet.
        let ops = ops.map(ops::Server::start);
        let buffers = socket::buffers(&pair.udp).unwrap_or_default();
        let local = pair.udp.local_addr().map_err(|error| BindError::Endpoint { error })?;
        let http = plain.as_ref().map(TcpListener::local_addr).transpose();
        let http = http.map_err(|error| BindError::Endpoint { error })?;
        let endpoint =
            endpoint::open(pair.udp, certificates.clone(), &reset_key, recorder.clone())?;
        let endpoint = endpoint.outlived(pair.udp_is_given);
        let state_of = StateOf {
            limits: self.limits,
            topic_rules: checked.topic_rules,
            directory: self.state,
            journal: self.journal,
            #[cfg(feature = "jetstream")]
            log: self.log,
        };
        let StateOpened { broker, journal, following } = state_of.open().await?;
        let admission = Admission::new(broker.clone(), self.peers, checked.origins, access);
        let tls = Listener::tls(pair.tcp, certificates.clone(), &admission)?;
        let mut listeners = vec![tls.outlived(pair.tcp_is_given)];
        let plain = plain.map(|plain| Listener::plain(plain, &admission));
        listeners.extend(plain.map(|plain| plain.outlived(http_is_given)));
        if let Some(listener) = challenges {
            listeners.push(challenge_listener(listener, &certificates, &admission)?);
        }
        let certificate = certificates.clone();
        let mut state = http::AppState::new(&admission, move || certificate.facts(), local.port());
        state.routes = self.routes;
        let serving = (listeners, state);
        let host = Host::new(admission.clone());
        let sessions = host.sessions.clone();
        let metrics = Metrics::new(Sources {
            admission: admission.clone(),
            sessions: sessions.clone(),
            certificates: certificates.clone(),
            udp: buffers,
        });
        if let Some(ops) = &ops {
            ops.serve(metrics.clone());
        }
        let addresses = Addresses { local, http, ops: ops_address };
        let ops = (ops, metrics.clone());
        let running = run(endpoint, serving, host, certificates.clone(), journal, ops);
        let running = async move {
            running.await;
            // Until now the log was followed.
            drop(following);
        };
        #[cfg(feature = "otel")]
        let running = traced(running, exporter, admission.clone());
        let running = tokio::spawn(running);
        let keys = keys.map(|keys| WatchedKeys::start(keys, &admission));
        let settings = Box::new(Mutex::new(InForce { settings, keys }));
        Ok(Daemon {
            broker,
            admission,
            sessions,
            addresses,
            metrics,
            certificates,
            recorder,
            settings,
            running,
        })
    }
}
