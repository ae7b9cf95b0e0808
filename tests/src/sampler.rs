//! Looks at a published name from outside, every 10 ms, as a client would: asks DNS, then asks each
//! address it got. Keeps what it saw; the test judges.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// One look.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Since the sampler started.
    pub at: Duration,
    /// Addresses DNS gave out; none: it did not answer.
    pub served: Option<Vec<Ipv4Addr>>,
    /// Those that answered their health check.
    pub healthy: Vec<Ipv4Addr>,
}

impl Sample {
    /// Whether a client would have been served.
    #[must_use]
    pub fn serves(&self) -> bool {
        !self.healthy.is_empty()
    }
}

/// Samples until stopped.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// Starts sampling a name at a DNS server; instances are asked for `/health` on `port`.
    #[must_use]
    pub fn start(dns: SocketAddr, name: &str, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped) = (name.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let round = Instant::now();
                let served = addresses(dns, &name);
                let healthy = served
                    .iter()
                    .flatten()
                    .copied()
                    .filter(|address| answers(SocketAddr::from((*address, port))))
                    .collect();
                samples.push(Sample {
                    at: start.elapsed(),
                    served,
                    healthy,
                });
                std::thread::sleep(Duration::from_millis(10).saturating_sub(round.elapsed()));
            }
            samples
        });
        Self { stop, thread }
    }

    /// Stops and gives what was seen.
    ///
    /// # Panics
    /// When the sampling thread did.
    #[must_use]
    pub fn stop(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sampler runs to its end")
    }
}

/// The addresses of a name, asked over UDP; none: no answer within 500 ms.
#[must_use]
pub fn addresses(dns: SocketAddr, name: &str) -> Option<Vec<Ipv4Addr>> {
    let records = query(dns, name, RecordType::A)?;
    Some(
        records
            .into_iter()
            .filter_map(|data| {
                if let RData::A(address) = data {
                    Some(address.0)
                } else {
                    None
                }
            })
            .collect(),
    )
}

/// The data of all answers; none: no answer within 500 ms.
#[must_use]
pub fn query(dns: SocketAddr, name: &str, rtype: RecordType) -> Option<Vec<RData>> {
    let records = ask(dns, name, rtype)?;
    Some(records.into_iter().map(|record| record.data).collect())
}

/// All answers; none: no answer within 500 ms.
///
/// # Panics
/// When the name is none.
#[must_use]
pub fn ask(dns: SocketAddr, name: &str, rtype: RecordType) -> Option<Vec<Record>> {
    let mut message = Message::new(rand_id(), MessageType::Query, OpCode::Query);
    message.add_query(Query::query(
        Name::from_str(&format!("{name}.")).expect("a name"),
        rtype,
    ));
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .ok()?;
    socket.send_to(&message.to_vec().ok()?, dns).ok()?;
    let mut buffer = [0_u8; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).ok()?.answers)
}

fn rand_id() -> u16 {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    (nanos & 0xffff) as u16
}

/// Whether an instance answers its health check with 200 within 500 ms.
#[must_use]
pub fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let limit = Duration::from_millis(500);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: sampler\r\nConnection: close\r\n\r\n")?;
        let mut head = [0_u8; 15];
        stream.read_exact(&mut head)?;
        Ok(head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200"))
    };
    ask().unwrap_or(false)
}
