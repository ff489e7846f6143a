//! The stream: how it is found or made, and what names it.

use super::identity::Identity;
use super::settings::{JetStreamOptions, StreamStorage};
use super::snapshots::{Restored, Snapshots};
use crate::engine::replica::{LogLimits, Sequencer, SequencerState};
use crate::wire::Digest;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ConnectOptions, Event};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// Key of the limits in the stream's metadata.
const LIMITS: &str = "weir-limits";
/// Key of the secret of idempotency keys in the stream's metadata.
const SECRET: &str = "weir-secret";

/// Time for which the stream recognises a message that is sent again, 2 minutes. The sequencer
/// recognises it after that too.
const DUPLICATES: Duration = Duration::from_secs(120);

/// Time for which a daemon that comes waits for others to tell what the stream has forgotten, 90 s.
const NEIGHBOURS: Duration = Duration::from_secs(90);

/// Time for which one request to the servers may take, 5 s.
const REQUEST: Duration = Duration::from_secs(5);

/// The log in JetStream was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file of credentials or certificates cannot be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// No server is named, or one is malformed.
    #[error("{0:?} is not an address of a NATS server: write nats://host:4222")]
    Address(String),
    /// The name of the stream cannot be used.
    #[error("{0:?} is not a name of a stream: use letters, digits, - and _")]
    Name(String),
    /// The stream was not made by Weir: it has other subjects, or discards what is new.
    #[error(
        "the stream {name} is there, and is not Weir's: {why}; choose another name (journal.stream)"
    )]
    Foreign {
        /// Its name.
        name: String,
        /// Why it cannot be used.
        why: String,
    },
}

/// A log that is open.
pub(crate) struct OpenLog {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) stream: Stream,
    pub(super) options: JetStreamOptions,
    /// The stream's identity. Another stream of the same name has another one.
    pub(super) identity: Identity,
    pub(super) snapshots: Snapshots,
    /// The state after the entries that the stream has forgotten.
    pub(super) state: SequencerState,
    /// The entry with which the daemons began to follow the stream; 1, if nothing was lost.
    pub(super) begun: u64,
    secret: [u8; 32],
}

impl OpenLog {
    /// Returns the name of the run of every daemon that follows the stream.
    pub(crate) fn run(&self) -> u64 {
        self.identity.run(&self.options.stream, self.begun)
    }

    /// Returns the number of the last entry that is not replayed, because the stream has forgotten it.
    pub(crate) fn last(&self) -> u64 {
        self.state.last
    }

    /// Returns the secret with which all daemons hash idempotency keys.
    pub(crate) fn secret(&self) -> [u8; 32] {
        self.secret
    }
}

fn check(options: &JetStreamOptions) -> Result<(), LogError> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = &options.stream;
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_fine) {
        return Err(LogError::Name(name.clone()));
    }
    for server in &options.servers {
        server.parse::<async_nats::ServerAddr>().map_err(|_| LogError::Address(server.clone()))?;
    }
    if options.servers.is_empty() {
        return Err(LogError::Address(String::new()));
    }
    Ok(())
}

async fn connect(options: &JetStreamOptions) -> Result<Client, LogError> {
    check(options)?;
    let mut connect = ConnectOptions::new();
    if let Some(path) = &options.credentials {
        let failed = |error| LogError::File { path: path.display().to_string(), error };
        connect = connect.credentials_file(path).await.map_err(failed)?;
    }
    if let Some(path) = &options.authority {
        connect = connect.add_root_certificates(path.clone()).require_tls(true);
    }
    let connect = connect
        .name(concat!("weir ", env!("CARGO_PKG_VERSION")))
        .retry_on_initial_connect()
        .ping_interval(Duration::from_secs(2))
        .connection_timeout(REQUEST)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis((50 * attempts.min(20) as u64).max(10))
        })
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to NATS"),
                Event::Disconnected => tracing::warn!("the connection to NATS is lost"),
                // One for each attempt to connect, which go on.
                Event::ClientError(error) => tracing::debug!("NATS: {error}"),
                other => tracing::warn!("NATS: {other}"),
            }
        });
    // With `retry_on_initial_connect` it goes on by itself.
    connect
        .connect(options.servers.as_slice())
        .await
        .map_err(|_| LogError::Address(options.servers.join(",")))
}

fn config(options: &JetStreamOptions, replicas: usize) -> Config {
    let limits = LogLimits::default();
    let secret: [u8; 32] = rand::random();
    let secret = Digest(secret).to_string();
    let metadata = HashMap::from([
        (LIMITS.into(), serde_json::json!(limits).to_string()),
        (SECRET.into(), secret),
    ]);
    Config {
        name: options.stream.clone(),
        description: Some("the log of the Weir daemons".into()),
        subjects: vec![format!("{}.>", options.stream)],
        storage: match options.storage {
            StreamStorage::File => StorageType::File,
            StreamStorage::Memory => StorageType::Memory,
        },
        discard: DiscardPolicy::Old,
        max_bytes: i64::try_from(options.bytes).unwrap_or(i64::MAX),
        max_age: options.age.unwrap_or_default(),
        num_replicas: replicas,
        duplicate_window: DUPLICATES,
        allow_direct: true,
        metadata,
        ..Config::default()
    }
}

/// Finds the stream, or makes it. It waits until a server answers.
pub(crate) async fn open(options: JetStreamOptions) -> Result<OpenLog, LogError> {
    let client = connect(&options).await?;
    let builder = ContextBuilder::new().timeout(REQUEST).ack_timeout(REQUEST);
    let context = builder.max_ack_inflight(16_384).build(client.clone());
    let servers = options.servers.join(",");
    tracing::info!(servers, stream = options.stream, "waiting for NATS JetStream (journal.nats)");
    let mut told = false;
    let stream = loop {
        match find(&context, &client, &options).await {
            Ok(stream) => break stream,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        servers,
                        "JetStream does not answer yet, and is tried again: {error}"
                    );
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    let info = stream.cached_info();
    let name = options.stream.clone();
    let subjects = vec![format!("{name}.>")];
    let foreign = |why: String| LogError::Foreign { name: name.clone(), why };
    if info.config.subjects != subjects {
        return Err(foreign(format!("its subjects are {}", info.config.subjects.join(", "))));
    }
    let metadata = &info.config.metadata;
    let limits = match metadata.get(LIMITS) {
        Some(text) => {
            serde_json::from_str(text).map_err(|error| foreign(format!("its limits: {error}")))?
        }
        // Servers before 2.10 keep no metadata.
        None => LogLimits::default(),
    };
    let identity = Identity::of(info);
    let secret = match metadata.get(SECRET).map(|text| text.parse::<Digest>()) {
        Some(Ok(secret)) => secret.0,
        Some(Err(error)) => return Err(foreign(format!("its secret: {error}"))),
        None => identity.digest().0,
    };
    let copies = (info.config.num_replicas, options.storage);
    let (snapshots, begun, state) = loop {
        match recall(&context, &stream, identity, limits, copies).await {
            Ok(recalled) => break recalled,
            Err(error) => {
                tracing::warn!("the order is not known yet, and is asked for again: {error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    Ok(OpenLog { client, context, stream, options, identity, snapshots, state, begun, secret })
}

// Finds out what the entries have left that the stream does not have any more.
async fn recall(
    context: &Context,
    stream: &Stream,
    identity: Identity,
    limits: LogLimits,
    copies: (usize, StreamStorage),
) -> Result<(Snapshots, u64, SequencerState), String> {
    let name = &stream.cached_info().config.name;
    let snapshots = Snapshots::open(context, name, identity, copies).await?;
    let until = Instant::now() + NEIGHBOURS;
    loop {
        let info = stream.get_info().await.map_err(|error| error.to_string())?;
        let first = info.state.first_sequence.max(1);
        let anew = Sequencer::after(limits, first - 1).save();
        // The stream has everything, and so will the cache.
        if first == 1 {
            return Ok((snapshots, 1, anew));
        }
        if let Some(Restored { begun, state }) = snapshots.load(first).await? {
            return Ok((snapshots, begun, state));
        }
        // A daemon that follows the stream writes what it knows within a minute.
        if Instant::now() >= until {
            tracing::error!(
                stream = name,
                first,
                "nobody knows what the first entries were, which the stream has forgotten: topics have new epochs"
            );
            snapshots.save(first, &anew, first).await?;
            return Ok((snapshots, first, anew));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn find(
    context: &Context,
    client: &Client,
    options: &JetStreamOptions,
) -> Result<Stream, String> {
    // Asked first: a daemon may have no right to make a stream.
    if let Ok(stream) = context.get_stream(&options.stream).await {
        return Ok(stream);
    }
    let cluster = client.try_server_info().map_or(0, |info| info.connect_urls.len());
    let replicas = options.replicas.unwrap_or(if cluster >= 3 { 3 } else { 1 });
    let made = context.create_stream(config(options, replicas)).await;
    match made {
        Ok(stream) => Ok(stream),
        // Another daemon may have made it meanwhile, with a secret of its own.
        Err(error) => context.get_stream(&options.stream).await.map_err(|_| error.to_string()),
    }
}
