//! Real PostgreSQL servers of a test's own: on loopback, in a scratch folder, ended with the test.
//!
//! As root they run as the user `postgres`, which the package brings; PostgreSQL refuses root.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, NoTls};

use crate::stage::SOON;

/// The database and its owner, as a site has them.
pub(crate) const NAME: &str = "cm_p01";
pub(crate) const USER: &str = "cm";

/// Where the programs are; the newest version of those installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .filter(|(_, path)| path.join("initdb").exists())
        .collect();
    found.sort();
    let newest = found
        .pop()
        .expect("PostgreSQL is installed: tests/run does it");
    newest.1
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// A program of PostgreSQL, under its user; it dies with the test.
fn program(name: &str) -> Command {
    let path = programs().join(name);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .args(["--pdeathsig=KILL", "--"])
            .arg(path);
        command
    } else {
        Command::new(path)
    };
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn uid() -> Option<u32> {
    let asked = Command::new("id")
        .args(["-u", "postgres"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&asked.stdout).trim().parse().ok()
}

/// One server, running or not.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    port: u16,
    more: Vec<String>,
    running: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::QUIT);
    }
}

impl Server {
    /// A new, empty one with the site's database, running.
    pub(crate) async fn primary() -> Self {
        let mut server = Self::empty();
        run(program("initdb")
            .args(["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"])
            .arg("-D")
            .arg(server.data()));
        server.start().await;
        let client = server.client("postgres", "postgres", "test").await;
        for made in [
            format!("CREATE ROLE {USER} LOGIN PASSWORD 'correct horse'"),
            format!("CREATE DATABASE {NAME} OWNER {USER}"),
        ] {
            client.batch_execute(&made).await.unwrap();
        }
        server
    }

    /// A standby of this one, running.
    pub(crate) async fn replica(&self) -> Self {
        let mut replica = Self::empty();
        run(program("pg_basebackup")
            .args([
                "-U",
                "postgres",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
            ])
            .args(["--no-sync", "--checkpoint=fast", "-R", "-D"])
            .arg(replica.data()));
        replica.start().await;
        replica
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if is_root() {
            let uid = uid().expect("the package brings the user `postgres`");
            chown(dir.path(), Some(uid), None).unwrap();
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            port: free.local_addr().unwrap().port(),
            dir,
            more: Vec::new(),
            running: None,
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) async fn start(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = program("postgres");
        command.arg("-D").arg(self.data());
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            // A crash of the machine is not tested here.
            "fsync=off".to_owned(),
        ];
        for setting in settings.iter().chain(&self.more) {
            command.args(["-c", setting]);
        }
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running = Some(child);
        let deadline = Instant::now() + SOON;
        while let Err(error) = self.try_client("postgres", "postgres", "test").await {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "{error:?}:\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn crash(&mut self) {
        self.end(Signal::QUIT);
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::INT);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.running.take() {
            let pid = Pid::from_child(&child);
            kill_process(pid, signal).expect("it still runs");
            drop(child.wait());
        }
    }

    /// Serves TLS with this certificate and key, and asks for passwords, from the next start on.
    pub(crate) fn secure(&mut self, certificate: &str, key: &str) {
        let data = self.data();
        self.put(&data.join("server.crt"), certificate);
        self.put(&data.join("server.key"), key);
        let rules = "host all postgres 127.0.0.1/32 trust\n\
                     hostssl all all 127.0.0.1/32 scram-sha-256\n";
        self.put(&data.join("pg_hba.conf"), rules);
        self.more.push("ssl=on".to_owned());
    }

    /// Asks everybody but the administrator for passwords, from the next start on.
    pub(crate) fn scram(&self) {
        let rules = "host all postgres 127.0.0.1/32 trust\n\
                     host all all 127.0.0.1/32 scram-sha-256\n";
        self.put(&self.data().join("pg_hba.conf"), rules);
    }

    fn put(&self, path: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            chown(path, uid(), None).unwrap();
        }
    }

    pub(crate) async fn client(&self, user: &str, database: &str, application: &str) -> Client {
        self.try_client(user, database, application).await.unwrap()
    }

    async fn try_client(
        &self,
        user: &str,
        database: &str,
        application: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(user)
            .dbname(database)
            .application_name(application);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// An administrator's session on the site's database.
    pub(crate) async fn admin(&self) -> Client {
        self.client("postgres", NAME, "test").await
    }
}

/// Asks until the answer is yes.
pub(crate) async fn until(client: &Client, what: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let asked = client.query_opt(what, &[]).await;
        if let Ok(Some(row)) = &asked
            && row.get::<_, bool>(0)
        {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {asked:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
