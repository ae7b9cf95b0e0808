//! A client that writes without pause to every candidate directly, and notes when a write was accepted
//! and by whom (H26).

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;
use site_agent::guard::timer::boot_ms;

use super::{CANDIDATES, OBSERVER, PORT, Pair};

/// Between two writes to one candidate.
const EVERY: Duration = Duration::from_millis(3);
/// How long a write may take before the client tries another.
const WITHIN: Duration = Duration::from_millis(250);

/// A write that the site acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The client's own name for it.
    pub id: String,
    /// Its number in the store.
    pub sequence: u64,
    /// The term it was accepted under.
    pub term: u64,
    /// Who accepted it.
    pub by: &'static str,
    /// When it was sent, and when the answer was there: boot time, milliseconds.
    pub sent: u64,
    /// See `sent`.
    pub answered: u64,
}

/// A writing client; it stops when it is dropped.
pub struct Client {
    stop: Arc<AtomicBool>,
    writes: Arc<Mutex<Vec<Write>>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    sequence: u64,
    term: u64,
}

impl Client {
    /// Starts writing to both candidates of a pair, from the observer's host.
    ///
    /// # Panics
    /// When the system gives no threads.
    #[must_use]
    pub fn start(pair: &Pair) -> Self {
        let servers = CANDIDATES.map(|server| (server, (pair.hosts.address(server), PORT).into()));
        let file = pair.hosts.namespace_file(OBSERVER);
        Self::begin(&servers, move || {
            let file = std::fs::File::open(&file).expect("the observer's namespace");
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
        })
    }

    /// Starts writing to these site servers, from here.
    ///
    /// # Panics
    /// When the system gives no threads.
    #[must_use]
    pub fn start_at(servers: &[(&'static str, SocketAddr)]) -> Self {
        site_agent::init_crypto();
        Self::begin(servers, || ())
    }

    fn begin(
        servers: &[(&'static str, SocketAddr)],
        enter: impl Fn() + Clone + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writes: Arc<Mutex<Vec<Write>>> = Arc::default();
        let thread = |(server, address): &(&'static str, SocketAddr)| {
            let (stop, writes) = (Arc::clone(&stop), Arc::clone(&writes));
            let (server, address, enter) = (*server, *address, enter.clone());
            std::thread::spawn(move || {
                enter();
                write_on(server, address, &stop, &writes);
            })
        };
        let threads = servers.iter().map(thread).collect();
        Self {
            stop,
            writes,
            threads,
        }
    }

    /// What was acknowledged so far.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.lock().clone()
    }

    /// The first write that was sent after this moment and acknowledged.
    #[must_use]
    pub fn first_after(&self, moment: u64) -> Option<Write> {
        let writes = self.lock();
        writes.iter().find(|write| write.sent >= moment).cloned()
    }

    /// Waits for a write sent after this moment.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    pub fn next_after(&self, moment: u64, within: Duration) -> Write {
        let end = std::time::Instant::now() + within;
        loop {
            if let Some(write) = self.first_after(moment) {
                return write;
            }
            assert!(std::time::Instant::now() < end, "no write was accepted");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for a write that this server accepted, sent after this moment.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    pub fn next_by(&self, server: &str, moment: u64, within: Duration) -> Write {
        let end = std::time::Instant::now() + within;
        loop {
            let found = self
                .lock()
                .iter()
                .find(|w| w.by == server && w.sent >= moment)
                .cloned();
            if let Some(write) = found {
                return write;
            }
            assert!(
                std::time::Instant::now() < end,
                "{server} accepted no write"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Write>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn write_on(
    server: &'static str,
    address: SocketAddr,
    stop: &AtomicBool,
    writes: &Mutex<Vec<Write>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(WITHIN)
        .build()
        .expect("fixed settings make a client");
    let url = format!("http://{address}/v1/write");
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let id = format!("{server}-{number}");
        let sent = boot_ms();
        let body = serde_json::json!({"id": id, "text": ""});
        let accepted = runtime.block_on(async {
            let answer = client.post(&url).json(&body).send().await.ok()?;
            let answer = answer.error_for_status().ok()?;
            answer.json::<Accepted>().await.ok()
        });
        if let Some(Accepted { sequence, term }) = accepted {
            let write = Write {
                id,
                sequence,
                term,
                by: server,
                sent,
                answered: boot_ms(),
            };
            writes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(write);
        }
        std::thread::sleep(EVERY);
    }
}
