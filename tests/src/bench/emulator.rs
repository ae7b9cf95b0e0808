//! Emulated agents: the real wire (mutual TLS, the agent's routes and messages) with nothing behind
//! it. An instance is healthy as soon as it is assigned.
//!
//! It exists because 10,000 real agents would take 75 GiB (H25). Every agent has its own address,
//! listener and certificate. It never refuses anything: no test of behaviour may use it.

use std::convert::Infallible;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::stream;
use stead_schemas::wire::{
    AgentReport, AssignRequest, ClaimRequest, Health, InstanceReport, InstanceSpec, Phase,
    ReachAnswer, WatchEvent,
};
use stead_wire::serve::{Limits, serve};
use stead_wire::tls::ServerTls;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, interval_at};

use super::fleet::{Issuer, Place, now, raise_nofile};

/// The hidden subcommand: `FOLDER FIRST COUNT PORT`.
pub(super) const COMMAND: &str = "emulate-agents";

/// Plays the agents until stdin ends.
pub(super) fn run(args: &[&str]) -> ExitCode {
    let [folder, first, count, port] = args else {
        eprintln!("{COMMAND} FOLDER FIRST COUNT PORT: started by the benches only");
        return ExitCode::FAILURE;
    };
    let first: usize = first.parse().expect("a number");
    let count: usize = count.parse().expect("a number");
    let port: u16 = port.parse().expect("a port");
    raise_nofile();
    let issuer = Issuer::of(Path::new(folder));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for number in first..first + count {
            start(&issuer, Place::new(number, port)).await;
        }
        println!("ready");
        let parent_gone =
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        drop(parent_gone.await);
    });
    ExitCode::SUCCESS
}

type Agent = Arc<watch::Sender<AgentReport>>;

async fn start(issuer: &Issuer, place: Place) {
    let listener = TcpListener::bind(place.address())
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", place.address()));
    let material = issuer.material(&place.identity());
    let tls = ServerTls::new(&material).expect("good certificates");
    let agent: Agent = Arc::new(watch::Sender::new(first_report(place)));
    let router = Router::new()
        .route("/v1/watch", get(watched))
        .route("/v1/state", get(state))
        .route("/v1/assignment", put(assign))
        .route("/v1/claim", post(claim))
        .route("/v1/reach", post(reach))
        .with_state(agent);
    let for_ever = std::future::pending();
    tokio::spawn(serve(listener, tls, router, Limits::default(), for_ever));
}

async fn state(State(agent): State<Agent>) -> Json<AgentReport> {
    Json(agent.borrow().clone())
}

async fn reach() -> Json<ReachAnswer> {
    Json(ReachAnswer {
        reached: false,
        cause: Some("an emulated agent reaches nobody".to_owned()),
    })
}

async fn assign(
    State(agent): State<Agent>,
    Json(request): Json<AssignRequest>,
) -> Json<AgentReport> {
    let assignment = request.assignment;
    agent.send_modify(|report| {
        report.sequence += 1;
        report.highest_epoch = Some(assignment.generation.epoch.clone());
        report.generation = Some(assignment.generation);
        report.instances = assignment
            .instances
            .iter()
            .map(|(name, spec)| (name.clone(), Box::new(healthy(spec))))
            .collect();
        report.assigned = assignment.instances;
        let secrets = request.secrets.into_iter();
        report.secrets = secrets.map(|(name, held)| (name, held.version)).collect();
    });
    Json(agent.borrow().clone())
}

async fn claim(State(agent): State<Agent>, Json(request): Json<ClaimRequest>) -> Json<AgentReport> {
    agent.send_modify(|report| {
        report.sequence += 1;
        report.highest_epoch = Some(request.epoch);
    });
    Json(agent.borrow().clone())
}

async fn watched(State(agent): State<Agent>) -> Body {
    let mut reports = agent.subscribe();
    reports.mark_changed();
    let second = Duration::from_secs(1);
    let beat = interval_at(Instant::now() + second, second);
    Body::from_stream(stream::unfold((reports, beat), |(reports, beat)| async {
        Some(next_event(reports, beat).await)
    }))
}

type Watching = (watch::Receiver<AgentReport>, Interval);

/// The next change, or the next heartbeat.
async fn next_event(
    mut reports: watch::Receiver<AgentReport>,
    mut beat: Interval,
) -> (Result<Bytes, Infallible>, Watching) {
    let event = tokio::select! {
        biased;
        _ = reports.changed() => {
            let mut report = reports.borrow_and_update().clone();
            report.wall = now();
            WatchEvent::Report(Box::new(report))
        }
        _ = beat.tick() => WatchEvent::Heartbeat {
            sequence: reports.borrow().sequence,
            wall: now(),
        },
    };
    let mut line = serde_json::to_vec(&event).expect("events have string keys");
    line.push(b'\n');
    (Ok(line.into()), (reports, beat))
}

/// As an agent that was never assigned anything.
fn first_report(place: Place) -> AgentReport {
    AgentReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: "5f1c9d1e-6a52-4f0c-9a55-2f6d3b0a7c11".to_owned(),
        sequence: 1,
        ..AgentReport::new(place.server(), now())
    }
}

fn healthy(spec: &InstanceSpec) -> InstanceReport {
    InstanceReport {
        role: spec.role,
        spec: spec.id(),
        phase: Phase::Running,
        health: Health::Healthy,
        since: now(),
        pid: Some(4_711),
        restarts: 0,
        endpoint: (spec.address, spec.port).into(),
        message: None,
    }
}
