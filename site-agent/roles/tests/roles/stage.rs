//! What the tests of site servers stand on: a server with its agent's end, and plain HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use site_roles::clock::{Clock, Reading};
use site_roles::control::{ControlLink, Order, State, Stop, Work};
use site_roles::settings::{
    EmbeddedSettings, PairSettings, Password, SiteServerSettings, StoreSettings,
};
use site_roles::site_server::SiteServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Nothing here takes longer on a machine that works at all.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A program that serves HTTP until it is dropped.
pub(crate) struct Serving {
    pub(crate) addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn serve(router: Router) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Serving {
        addr: listener.local_addr().unwrap(),
        task: tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
    }
}

/// One request on a connection of its own: status and body.
pub(crate) async fn ask(addr: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text))
        .await
        .expect("an answer")
        .unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    (status, body)
}

pub(crate) fn settings(
    dir: &tempfile::TempDir,
    holder: &str,
    store: StoreSettings,
) -> PairSettings {
    PairSettings {
        holder: holder.to_owned(),
        address: None,
        settings: SiteServerSettings {
            site: "P01".to_owned(),
            store,
            timeout_ms: 20_000,
        },
        password: Password::new(None),
        control: dir.path().join(format!("{holder}.sock")),
        data: dir.path().to_owned(),
    }
}

pub(crate) fn embedded(address: SocketAddr) -> StoreSettings {
    StoreSettings::Embedded(EmbeddedSettings { address })
}

/// A site server whose clock stands, and the agent that gives it orders.
pub(crate) struct Server {
    pub(crate) clock: Clock,
    pub(crate) link: ControlLink,
    pub(crate) control: PathBuf,
    pub(crate) http: Serving,
    pub(crate) server: SiteServer,
    pub(crate) dir: tempfile::TempDir,
}

impl Server {
    /// Stands by, its clock at 1,000.
    pub(crate) async fn new(holder: &str, store: StoreSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::standing(Reading {
            boot: 1_000,
            real: 9_000_000,
        });
        let settings = settings(&dir, holder, store);
        let control = settings.control.clone();
        let server = SiteServer::start(settings, clock.clone()).unwrap();
        Self {
            link: ControlLink::connect(&control, SOON).await.unwrap(),
            http: serve(server.router()).await,
            clock,
            control,
            server,
            dir,
        }
    }

    /// Lets time pass, on both clocks alike.
    pub(crate) fn at(&self, boot: u64) {
        self.clock.turn(|now| {
            now.real += boot - now.boot;
            now.boot = boot;
        });
    }

    pub(crate) async fn work(&mut self, term: u64, proved: u64, until: u64) {
        let order = Order::Work(Work {
            term,
            proved,
            until,
        });
        self.link.send(&order, SOON).await.unwrap();
    }

    pub(crate) async fn halt(&mut self, term: u64) {
        let order = Order::Stop(Stop { term });
        self.link.send(&order, SOON).await.unwrap();
    }

    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&State) -> bool) -> State {
        let mut last = State::default();
        let found = timeout(SOON, async {
            loop {
                last = self.link.receive(SOON).await.unwrap();
                if is(&last) {
                    return last.clone();
                }
            }
        })
        .await;
        found.unwrap_or_else(|_| panic!("not {what}: {last:?}"))
    }

    pub(crate) async fn until_working(&mut self, term: u64) -> State {
        let what = format!("working under {term}");
        self.until(&what, |state| {
            state.working == Some(term) && state.sequence.is_some()
        })
        .await
    }

    pub(crate) async fn until_reason(&mut self, part: &str) -> State {
        self.until(part, |state| {
            let reason = state.reason.as_ref();
            state.working.is_none() && reason.is_some_and(|reason| reason.contains(part))
        })
        .await
    }

    pub(crate) async fn write(&self, id: &str) -> (u16, Value) {
        let body = json!({ "id": id, "text": "x" });
        ask(self.http.addr, "POST", "/v1/write", &body).await
    }

    /// What it recorded of its work.
    pub(crate) fn intervals(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("intervals.log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// A way to a store that can be cut, and lead elsewhere.
pub(crate) struct Road {
    pub(crate) addr: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Drop for Road {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Road {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (target, targets) = watch::channel(Some(target));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut targets = targets.clone();
                let Some(target) = *targets.borrow_and_update() else {
                    continue;
                };
                tokio::spawn(async move {
                    tokio::select! {
                        _ = targets.changed() => {}
                        () = carry(stream, target) => {}
                    }
                });
            }
        });
        Self { addr, target, task }
    }

    /// Ends what is on the way; what comes is led there, or nowhere.
    pub(crate) fn lead(&self, target: Option<SocketAddr>) {
        self.target.send_replace(target);
    }
}

async fn carry(mut from: TcpStream, target: SocketAddr) {
    if let Ok(mut to) = TcpStream::connect(target).await {
        drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
    }
}
