//! kill -9 of the embedded server in the middle of updates: whole messages only, and every update
//! that was answered is still there (H2).

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stead_dns::client::Client;

use crate::contract::{change, mark, record, set};
use crate::servers::{KEY, LIMIT, SITE_KEYS, ZONE, free_address, key, secret};

const ROUNDS: u64 = 12;

struct Process(Child);

impl Process {
    async fn start(dir: &Path, listen: SocketAddr) -> Self {
        let file = |name: &str| {
            let path = dir.join(name);
            std::fs::write(&path, secret(name)).unwrap();
            format!("{name}:hmac-sha256:{}", path.display())
        };
        let (site, code) = SITE_KEYS[0];
        let args = [
            format!("--listen={listen}"),
            format!("--zone={ZONE}"),
            format!("--dir={}", dir.join("zone").display()),
            format!("--key={}", file(KEY)),
            format!(
                "--site-key={}:{}.cm.{ZONE}",
                file(site),
                code.to_lowercase()
            ),
        ];
        let child = Command::new(env!("CARGO_BIN_EXE_stead"))
            .arg("dns")
            .args(args)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self(child);
        let client = client(listen);
        let deadline = Instant::now() + Duration::from_secs(20);
        while client.zone_of(listen, ZONE).await.is_err() {
            assert!(Instant::now() < deadline, "the server does not serve");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn client(listen: SocketAddr) -> Client {
    Client::new(vec![listen], vec![key(KEY)], LIMIT)
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_kill_9_keeps_whole_messages_and_everything_answered() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_address();
    let name = record("p01");
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut process = Process::start(dir.path(), listen).await;
        let served = client(listen).read_from(listen, &name).await.unwrap();
        let found = served.mark.as_deref().map_or(0, number);
        // The message under way when it was killed may have been saved, not more than that one.
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "answered up to {acknowledged}, kept {found}"
        );
        assert_eq!(
            served.set,
            (found > 0).then(|| set(&values(found))),
            "a half message"
        );
        acknowledged = found;
        let writer = tokio::spawn(write_on(listen, found));
        tokio::time::sleep(Duration::from_millis(10 + 7 * round)).await;
        process.kill();
        acknowledged = writer.await.unwrap().max(acknowledged);
    }
    assert!(
        acknowledged > ROUNDS,
        "the writer really wrote: {acknowledged}"
    );
}

/// Replaces three addresses and the mark until the server is gone; the last number answered.
async fn write_on(listen: SocketAddr, mut last: u64) -> u64 {
    let (client, name) = (client(listen), record("p01"));
    loop {
        let before = (last > 0).then(|| mark(1, last));
        let next = change(&name, &values(last + 1), mark(1, last + 1), before.as_ref());
        if client.change(&next).await.is_err() {
            return last;
        }
        last += 1;
    }
}

fn values(number: u64) -> [u8; 3] {
    let n = (number % 80) as u8;
    [1 + n, 81 + n, 161 + n]
}

fn number(mark: &str) -> u64 {
    mark.rsplit_once('.').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_process_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_address();
    let mut process = Process::start(dir.path(), listen).await;
    let publish = change(&record("p01"), &[1], mark(1, 1), None);
    client(listen).change(&publish).await.unwrap();
    let pid = rustix::process::Pid::from_child(&process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = process.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "SIGTERM was not obeyed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(status.success(), "{status}");
}
