//! Servers of NATS, of a test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A nats-server with JetStream. It ends with the test.
pub(crate) struct Server {
    name: String,
    program: PathBuf,
    home: TempDir,
    process: Child,
    client: u16,
    cluster: Option<u16>,
    routes: Vec<u16>,
}

// tests/cluster/run.sh installs one.
fn program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let installed = target.join("tools/nats/bin/nats-server");
    let given = std::env::var_os("WEIR_NATS_SERVER").map(PathBuf::from);
    given.or_else(|| installed.is_file().then_some(installed)).unwrap_or("nats-server".into())
}

impl Server {
    /// Starts a server that is alone.
    pub(crate) fn alone() -> Self {
        Self::start("alone", None, &[])
    }

    /// Starts three servers that are one cluster.
    pub(crate) fn cluster() -> [Self; 3] {
        // A server of a cluster needs a route. Nobody listens there.
        let first = Self::start("n1", Some(0), &[1]);
        let route = [first.cluster.unwrap()];
        let second = Self::start("n2", Some(0), &route);
        let third = Self::start("n3", Some(0), &route);
        [first, second, third]
    }

    fn start(name: &str, cluster: Option<u16>, routes: &[u16]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let program = program();
        let process = run(&program, name, home.path(), None, cluster, routes);
        let mut server = Self {
            name: name.into(),
            program,
            home,
            process,
            client: 0,
            cluster: None,
            routes: routes.to_vec(),
        };
        let ports = server.ports();
        server.client = port(&ports["nats"]);
        server.cluster = cluster.map(|_| port(&ports["cluster"]));
        server
    }

    // Waits for the file in which the server says where it listens.
    fn ports(&mut self) -> serde_json::Value {
        let until = Instant::now() + Duration::from_secs(30);
        let file = self.home.path().join(format!("nats-server_{}.ports", self.process.id()));
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(ports) = serde_json::from_str(&text) {
                return ports;
            }
            if self.process.try_wait().unwrap().is_some() {
                let log = std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
                panic!("{} has ended: {log}", self.name);
            }
            assert!(Instant::now() < until, "{} does not say where it listens", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("nats://127.0.0.1:{}", self.client)
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, at the same address and with the same files.
    pub(crate) fn again(&mut self) {
        let cluster = self.cluster;
        let client = Some(self.client);
        self.process =
            run(&self.program, &self.name, self.home.path(), client, cluster, &self.routes);
        self.ports();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn port(urls: &serde_json::Value) -> u16 {
    let url = urls[0].as_str().unwrap();
    url.rsplit(':').next().unwrap().parse().unwrap()
}

fn run(
    program: &Path,
    name: &str,
    home: &Path,
    client: Option<u16>,
    cluster: Option<u16>,
    routes: &[u16],
) -> Child {
    let client = client.map_or(-1, i32::from);
    let mut text = format!(
        "server_name: {name}\nlisten: \"127.0.0.1:{client}\"\nports_file_dir: \"{home}\"\n\
         jetstream {{ store_dir: \"{home}\" }}\n",
        home = home.display()
    );
    if let Some(listen) = cluster {
        let listen = if listen == 0 { -1 } else { i32::from(listen) };
        let routes: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let routes = routes.join(", ");
        let listen = format!("listen: \"127.0.0.1:{listen}\"");
        text = format!("{text}cluster {{ name: weir\n {listen}\n routes: [{routes}] }}\n");
    }
    let file = home.join("conf");
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::create(home.join("log")).unwrap();
    let command = Command::new(program)
        .arg("-c")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    command.unwrap_or_else(|error| {
        panic!("{}: {error}: tests/cluster/run.sh installs it", program.display())
    })
}
