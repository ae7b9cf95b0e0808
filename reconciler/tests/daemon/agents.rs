//! Agents for tests: one that keeps the protocol, and the door for those that don't.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::stream;
use stead_schemas::lease::HandoverRequest;
use stead_schemas::names::ServerName;
use stead_schemas::prerequisite::{Check, CheckAnswer, CheckRequest, Prerequisite};
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{
    AgentReport, AssignRequest, ClaimRequest, Health, InstanceReport, Phase, ReachAnswer,
    ReachRequest, Refusal, WatchEvent,
};
use stead_wire::serve::{Limits, serve};
use stead_wire::tls::ServerTls;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::scene::Scene;

/// Something that answers as a server's agent until it is dropped.
pub(crate) struct Agent {
    pub(crate) addr: SocketAddr,
    pub(crate) book: Arc<Book>,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a well-behaved agent knows and was told.
pub(crate) struct Book {
    report: watch::Sender<AgentReport>,
    pub(crate) assigned: Mutex<Vec<AssignRequest>>,
    /// What it does when asked to hand its lease over.
    hand_over: Mutex<Option<HandOver>>,
    /// What it finds missing when it is asked, whatever the question.
    lacks: Mutex<Vec<Check>>,
    asked: AtomicUsize,
}

type HandOver = Box<dyn FnMut(ServerName) -> Result<(), String> + Send>;

impl Book {
    fn new(server: &str) -> Self {
        Self {
            report: watch::Sender::new(blank(server)),
            assigned: Mutex::default(),
            hand_over: Mutex::default(),
            lacks: Mutex::default(),
            asked: AtomicUsize::default(),
        }
    }

    /// Whether the last assignment has a group.
    pub(crate) fn runs(&self, group: &str) -> bool {
        let group = group.parse().unwrap();
        let assigned = self.assigned.lock().unwrap();
        assigned
            .last()
            .is_some_and(|last| last.assignment.instances.contains_key(&group))
    }

    /// No assignment repeats the one before it.
    pub(crate) fn assert_nothing_twice(&self) {
        let assigned = self.assigned.lock().unwrap();
        for pair in assigned.windows(2) {
            let (one, two) = (&pair[0].assignment, &pair[1].assignment);
            let same = one.instances == two.instances && one.lease == two.lease;
            assert!(!same, "sent twice");
        }
    }

    /// Something about what it reports is new.
    pub(crate) fn change(&self, change: impl FnOnce(&mut AgentReport)) {
        self.report.send_modify(|report| {
            change(report);
            report.sequence += 1;
        });
    }

    /// What it does when asked to hand its lease over.
    pub(crate) fn when_asked(
        &self,
        act: impl FnMut(ServerName) -> Result<(), String> + Send + 'static,
    ) {
        *self.hand_over.lock().unwrap() = Some(Box::new(act));
    }

    /// What it finds missing from now on.
    pub(crate) fn lacks(&self, lacks: Vec<Check>) {
        *self.lacks.lock().unwrap() = lacks;
    }

    /// How often it was asked what it lacks.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn assignments(&self) -> usize {
        self.assigned.lock().unwrap().len()
    }
}

impl Agent {
    /// One that keeps the protocol: takes what it is given, and says it is healthy.
    pub(crate) async fn good(scene: &Scene, server: &str) -> Self {
        let book = Arc::new(Book::new(server));
        let preflight = Router::new().route("/v1/preflight", post(good_preflight));
        Self::keeping(scene, server, preflight, book).await
    }

    /// A good one, but for what it lacks: that this router says.
    pub(crate) async fn answering(
        scene: &Scene,
        server: &str,
        preflight: Router<Arc<Book>>,
    ) -> Self {
        let book = Arc::new(Book::new(server));
        Self::keeping(scene, server, preflight, book).await
    }

    async fn keeping(
        scene: &Scene,
        server: &str,
        preflight: Router<Arc<Book>>,
        book: Arc<Book>,
    ) -> Self {
        let router = Router::new()
            .route("/v1/watch", get(good_watch))
            .route("/v1/assignment", put(good_assign))
            .route("/v1/claim", post(good_claim))
            .route("/v1/reach", post(good_reach))
            .route("/v1/handover", post(good_handover))
            .merge(preflight)
            .with_state(Arc::clone(&book));
        Self::with(scene, server, router, book).await
    }

    /// One that answers with this router and the certificate of `certified`.
    pub(crate) async fn odd(scene: &Scene, certified: &str, router: Router) -> Self {
        let book = Arc::new(Book::new(certified));
        Self::with(scene, certified, router, book).await
    }

    async fn with(scene: &Scene, certified: &str, router: Router, book: Arc<Book>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let tls = ServerTls::new(&scene.material(certified)).unwrap();
        let forever = std::future::pending();
        let task = tokio::spawn(serve(listener, tls, router, Limits::default(), forever));
        Self { addr, book, task }
    }
}

pub(crate) fn reached(reached: bool) -> Json<ReachAnswer> {
    Json(ReachAnswer {
        reached,
        cause: None,
    })
}

/// The report of an agent that runs nothing.
pub(crate) fn blank(server: &str) -> AgentReport {
    AgentReport {
        version: "0.0.0".into(),
        boot_id: "test".into(),
        sequence: 1,
        ..AgentReport::new(server.parse().unwrap(), WallMs(1))
    }
}

pub(crate) fn line(event: &WatchEvent) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap();
    line.push(b'\n');
    line.into()
}

/// The stream of one that keeps the protocol.
pub(crate) fn lines_of(mut reports: watch::Receiver<AgentReport>) -> Response {
    reports.mark_changed();
    let lines = stream::unfold(reports, |mut reports| async move {
        let beat = DurationMs(300).std();
        let event = match tokio::time::timeout(beat, reports.changed()).await {
            Ok(changed) => {
                changed.ok()?;
                WatchEvent::Report(Box::new(reports.borrow_and_update().clone()))
            }
            Err(_) => WatchEvent::Heartbeat {
                sequence: reports.borrow().sequence,
                wall: WallMs(1),
            },
        };
        Some((Ok::<_, Infallible>(line(&event)), reports))
    });
    Body::from_stream(lines).into_response()
}

async fn good_watch(State(book): State<Arc<Book>>) -> Response {
    lines_of(book.report.subscribe())
}

/// Whether anything listens there.
async fn good_reach(Json(request): Json<ReachRequest>) -> Json<ReachAnswer> {
    let there = tokio::net::TcpStream::connect(request.address).await;
    reached(there.is_ok())
}

async fn good_preflight(
    State(book): State<Arc<Book>>,
    Json(request): Json<CheckRequest>,
) -> Json<CheckAnswer> {
    assert_eq!(request.question.server, book.report.borrow().server);
    book.asked.fetch_add(1, Ordering::Relaxed);
    let mut checks = book.lacks.lock().unwrap().clone();
    let looked_at = [
        Prerequisite::Clock,
        Prerequisite::Database,
        Prerequisite::Disk,
        Prerequisite::Ports,
    ];
    for prerequisite in looked_at {
        if !checks.iter().any(|c| c.prerequisite == prerequisite) {
            checks.push(Check {
                prerequisite,
                measured: None,
                findings: Vec::new(),
            });
        }
    }
    Json(CheckAnswer { checks })
}

async fn good_claim(State(book): State<Arc<Book>>, Json(claim): Json<ClaimRequest>) -> Response {
    let mut refused = None;
    book.report
        .send_modify(|report| match &report.highest_epoch {
            Some(highest) if *highest > claim.epoch => refused = Some(highest.clone()),
            _ => report.highest_epoch = Some(claim.epoch),
        });
    answer(
        &book,
        refused.map(|highest| Refusal::StaleEpoch { highest }),
    )
}

async fn good_handover(
    State(book): State<Arc<Book>>,
    Json(request): Json<HandoverRequest>,
) -> Response {
    let answer = match &mut *book.hand_over.lock().unwrap() {
        Some(act) => act(request.to),
        None => Err("this server has no seat in a lease".to_owned()),
    };
    match answer {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(why) => (StatusCode::CONFLICT, why).into_response(),
    }
}

async fn good_assign(
    State(book): State<Arc<Book>>,
    Json(request): Json<AssignRequest>,
) -> Response {
    let given = &request.assignment;
    let mut refused = None;
    book.report.send_modify(|report| {
        let highest = report.highest_epoch.clone();
        if highest
            .as_ref()
            .is_some_and(|h| *h > given.generation.epoch)
        {
            refused = highest.map(|highest| Refusal::StaleEpoch { highest });
            return;
        }
        if report.generation != request.based_on {
            refused = Some(Refusal::StaleGeneration {
                in_force: report.generation.clone(),
            });
            return;
        }
        report.highest_epoch = Some(given.generation.epoch.clone());
        report.generation = Some(given.generation.clone());
        report.assigned = given.instances.clone();
        report.assigned_lease = given.lease.clone();
        report.secrets = request
            .secrets
            .iter()
            .map(|(name, material)| (name.clone(), material.version.clone()))
            .collect();
        report.instances = given
            .instances
            .iter()
            .map(|(group, spec)| {
                let instance = InstanceReport {
                    role: spec.role,
                    spec: spec.id(),
                    phase: Phase::Running,
                    health: Health::Healthy,
                    since: WallMs(1),
                    pid: Some(1),
                    restarts: 0,
                    endpoint: SocketAddr::new(spec.address, spec.port),
                    message: None,
                };
                (group.clone(), Box::new(instance))
            })
            .collect();
        report.sequence += 1;
    });
    if refused.is_none() {
        book.assigned.lock().unwrap().push(request);
    }
    answer(&book, refused)
}

fn answer(book: &Book, refused: Option<Refusal>) -> Response {
    match refused {
        Some(refusal) => (StatusCode::CONFLICT, Json(refusal)).into_response(),
        None => Json(book.report.borrow().clone()).into_response(),
    }
}

/// A hierarchy of one primary site with these servers, and one group on each.
pub(crate) fn topology(servers: &[(&str, SocketAddr)], groups: &[(&str, &str)]) -> String {
    let mut text = String::from(
        "apiVersion: stead/v1\nkind: Hierarchy\nmetadata: {name: lab}\nspec:\n  \
         reconcilers:\n    stead-1: {address: 127.0.0.1}\n---\n\
         apiVersion: stead/v1\nkind: Site\nmetadata: {name: P01}\nspec:\n  type: primary\n  \
         servers:\n",
    );
    for (name, addr) in servers {
        let (ip, port) = (addr.ip(), addr.port());
        text.push_str(&format!(
            "    {name}: {{address: {ip}, agentPort: {port}}}\n"
        ));
    }
    let first = servers[0].0;
    text.push_str(&format!("  siteServer: {{active: {first}}}\n"));
    if !groups.is_empty() {
        text.push_str("  roles:\n");
    }
    for (group, server) in groups {
        text.push_str(&format!(
            "    {group}: {{role: custom, servers: [{server}], port: 8080, publish: false, \
             service: {{command: [/bin/true]}}}}\n"
        ));
    }
    text
}
