//! A client that writes without pause, to every candidate directly or where the site's alias leads, and
//! notes when a write was accepted and by whom (H26).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::rr::{RData, RecordType};
use serde::Deserialize;
use site_agent::guard::timer::boot_ms;

use super::{ALIAS, CANDIDATES, OBSERVER, PORT, Pair};
use crate::hosts::enter;
use crate::sampler::ask;

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

/// How a client that goes by name treats what DNS told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// It asks the authoritative server before each write.
    AsksEachTime,
    /// It keeps an answer as long as its TTL says, whatever becomes of the writes.
    KeepsForTtl,
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
        Self::begin(&servers, entering(pair))
    }

    /// Starts writing to whom the pair's alias leads to, from the observer's host.
    ///
    /// # Panics
    /// When the system gives no threads.
    #[must_use]
    pub fn start_by_name(pair: &Pair, naming: Naming) -> Self {
        let (stop, writes) = <(Arc<AtomicBool>, Arc<Mutex<Vec<Write>>>)>::default();
        let entering = entering(pair);
        let dns = pair.dns_server();
        let of = CANDIDATES.map(|server| (pair.hosts.address(server), server));
        let thread = std::thread::spawn({
            let (stop, writes) = (Arc::clone(&stop), Arc::clone(&writes));
            move || {
                entering();
                write_by_name(dns, naming, &of, &stop, &writes);
            }
        });
        Self {
            stop,
            writes,
            threads: vec![thread],
        }
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
        entering: impl Fn() + Clone + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writes: Arc<Mutex<Vec<Write>>> = Arc::default();
        let thread = |(server, address): &(&'static str, SocketAddr)| {
            let (stop, writes) = (Arc::clone(&stop), Arc::clone(&writes));
            let (server, address, entering) = (*server, *address, entering.clone());
            std::thread::spawn(move || {
                entering();
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
        let end = Instant::now() + within;
        loop {
            if let Some(write) = self.first_after(moment) {
                return write;
            }
            assert!(Instant::now() < end, "no write was accepted");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for a write that this server accepted, sent after this moment.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    pub fn next_by(&self, server: &str, moment: u64, within: Duration) -> Write {
        let end = Instant::now() + within;
        loop {
            let found = self
                .lock()
                .iter()
                .find(|w| w.by == server && w.sent >= moment)
                .cloned();
            if let Some(write) = found {
                return write;
            }
            assert!(Instant::now() < end, "{server} accepted no write");
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

/// Moves a thread onto the observer's host.
fn entering(pair: &Pair) -> impl Fn() + Clone + Send + 'static {
    let file = pair.hosts.namespace_file(OBSERVER);
    move || enter(&file)
}

/// Where it leads now, and how long that may be kept.
fn resolve(dns: SocketAddr) -> Option<(Ipv4Addr, Duration)> {
    let record = ask(dns, ALIAS, RecordType::A)?.into_iter().next()?;
    let RData::A(address) = record.data else {
        return None;
    };
    Some((address.0, Duration::from_secs(record.ttl.into())))
}

fn write_by_name(
    dns: SocketAddr,
    naming: Naming,
    of: &[(Ipv4Addr, &'static str)],
    stop: &AtomicBool,
    writes: &Mutex<Vec<Write>>,
) {
    let writer = Writer::new();
    let mut known: Option<(Ipv4Addr, Instant)> = None;
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        if naming == Naming::AsksEachTime || known.is_none_or(|(_, until)| until <= asked) {
            known = resolve(dns).map(|(address, ttl)| (address, asked + ttl));
        }
        let led = known.and_then(|(address, _)| of.iter().find(|(at, _)| *at == address));
        if let Some((address, server)) = led {
            number += 1;
            let id = format!("{naming:?}-{number}");
            let url = format!("http://{address}:{PORT}/v1/write");
            let accepted = writer.write(server, &url, id);
            let mut writes = writes.lock().unwrap_or_else(PoisonError::into_inner);
            writes.extend(accepted);
        }
        std::thread::sleep(EVERY);
    }
}

fn write_on(
    server: &'static str,
    address: SocketAddr,
    stop: &AtomicBool,
    writes: &Mutex<Vec<Write>>,
) {
    let writer = Writer::new();
    let url = format!("http://{address}/v1/write");
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let accepted = writer.write(server, &url, format!("{server}-{number}"));
        writes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(accepted);
        std::thread::sleep(EVERY);
    }
}

/// Sends writes, one at a time.
struct Writer {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Writer {
    fn new() -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            client: reqwest::Client::builder()
                .no_proxy()
                .timeout(WITHIN)
                .build()
                .expect("fixed settings make a client"),
        }
    }

    /// The write, where it was acknowledged.
    fn write(&self, by: &'static str, url: &str, id: String) -> Option<Write> {
        let sent = boot_ms();
        let body = serde_json::json!({"id": id, "text": ""});
        let accepted = self.runtime.block_on(async {
            let answer = self.client.post(url).json(&body).send().await.ok()?;
            let answer = answer.error_for_status().ok()?;
            answer.json::<Accepted>().await.ok()
        });
        accepted.map(|Accepted { sequence, term }| Write {
            id,
            sequence,
            term,
            by,
            sent,
            answered: boot_ms(),
        })
    }
}
