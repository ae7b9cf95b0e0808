//! The fence in the kernel (`networkFence: nftables`): what runs under a lease sends nothing past it, with
//! neither agent nor guard to see to that. No time is asserted, only what came before what.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use site_agent::guard::timer::boot_ms;
use stead_schemas::lease::LeasePart;
use system_tests::pair::{Client, Machines, PATIENCE, Pair};
use system_tests::processes::{cgroups, signal, wait_until};

/// Fifty times what lies between two packets; what must not come has no event to wait for.
const QUIET: Duration = Duration::from_secs(1);
/// Joins a cgroup, and sends a packet every now and then, whatever becomes of it.
const CHATTER: &str = "echo $$ > \"$1/cgroup.procs\" || exit 1
while :; do echo x > \"/dev/udp/$2\"; sleep 0.02; done";

/// A program that knows nothing of leases, in the site server's cgroup; and who hears it.
struct Chatter {
    process: Child,
    heard: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Chatter {
    fn start(pair: &Pair, server: &str) -> Self {
        let socket = UdpSocket::bind((pair.hosts.address("observer"), 0)).expect("a socket");
        socket
            .set_read_timeout(Some(QUIET / 10))
            .expect("a timeout");
        let to = socket.local_addr().expect("an address");
        let cgroup = cgroups(&[pair.site_server(server).expect("it runs")]);
        let cgroup = cgroup.first().expect("a version 2 cgroup");
        let mut command = pair.hosts.command(server, Path::new("bash"));
        command.args(["-c", CHATTER, "chatter"]).arg(cgroup);
        command.arg(format!("{}/{}", to.ip(), to.port()));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("bash");
        let (heard, stop) = (
            Arc::<Mutex<Vec<u64>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (notes, ended) = (Arc::clone(&heard), Arc::clone(&stop));
        let listener = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if socket.recv(&mut [0; 16]).is_ok() {
                    notes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(boot_ms());
                }
            }
        });
        Self {
            process,
            heard,
            stop,
            listener: Some(listener),
        }
    }

    fn heard(&self) -> Vec<u64> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_heard_anew(&self, pair: &Pair) {
        let before = self.heard().len();
        let heard = || self.heard().len() > before + 10;
        wait_until("it is heard", PATIENCE, heard, || pair.describe());
    }

    fn lives(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

/// Issue 3, H10: the deadline is the kernel's own. It is let go once nothing of the work is left.
#[test]
fn h10_the_kernel_cuts_off_work_whose_agent_and_guard_are_frozen() {
    let mut pair = Pair::start_on(Machines {
        fence: true,
        ..Machines::default()
    });
    let client = Client::start(&pair);
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-a");
    let mut chatter = Chatter::start(&pair, "p01-a");
    // Longer than any lease: it is extended with it.
    let first = boot_ms();
    while boot_ms() < first + 5_000 {
        chatter.is_heard_anew(&pair);
    }

    let (guard, agent) = (pair.guard("p01-a"), pair.agent("p01-a"));
    for pid in [guard, agent].into_iter().flatten() {
        signal(pid, Signal::STOP);
    }
    pair.until("p01-b", "takes over", |lease| {
        lease.part == LeasePart::Holding
    });
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-b");
    let heard = chatter.heard();
    let theirs = client.writes();
    let theirs = theirs.iter().filter(|write| write.by == "p01-b");
    let took_over = theirs.map(|write| write.sent).min().expect("it wrote");
    let last = heard.last();
    assert!(last < Some(&took_over), "{last:?} {took_over}");
    assert!(chatter.lives(), "nobody has killed it");
    std::thread::sleep(QUIET);
    assert_eq!(chatter.heard().len(), heard.len(), "it is not heard");

    // The guard kills what it finds past its deadline, and whoever stands by sends what he likes.
    for pid in [guard, agent].into_iter().flatten() {
        signal(pid, Signal::CONT);
    }
    wait_until(
        "it is killed",
        PATIENCE,
        || !chatter.lives(),
        || pair.describe(),
    );
    assert_eq!(pair.until_whole(), "p01-b");
    let passive = Chatter::start(&pair, "p01-a");
    passive.is_heard_anew(&pair);
    pair.hand_over("p01-b", "p01-a");
    pair.until_works("p01-a");

    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}
