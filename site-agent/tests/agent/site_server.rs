//! A site server of a pair and the embedded store as real processes, ordered over the control socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use site_agent::processes;
use site_roles::clock::Clock;
use site_roles::control::{ControlLink, Order, State, Stop, Work};
use stead_schemas::role::Role;
use stead_schemas::wire::{EnvValue, Program};
use tokio::time::timeout;

use crate::lab::{Lab, free_address, one, shell, until, web};

/// Nothing here takes longer on a machine that works at all.
const WAIT: Duration = Duration::from_secs(60);

struct Pair {
    lab: Lab,
    store: SocketAddr,
    control: PathBuf,
    link: ControlLink,
}

impl Pair {
    /// A site server that stands by, healthy: the store answers it.
    async fn new() -> Self {
        site_agent::init_crypto();
        let mut lab = Lab::running().await;
        let store = free_address();
        let control = lab.state().join("control.sock");
        let mut database = web();
        database.role = Role::Database;
        database.program = Program::BuiltIn;
        (database.address, database.port) = (store.ip(), store.port());
        let mut server = web();
        server.role = Role::SiteServer;
        server.program = Program::BuiltIn;
        server.settings = json!({
            "site": "P01", "store": {"embedded": {"address": store.to_string()}},
        });
        let path = EnvValue::Plain(control.display().to_string());
        server.env.insert("STEAD_CONTROL".to_owned(), path);
        let mut assigned = one("siteServer", server);
        assigned.insert("database".parse().unwrap(), Box::new(database));
        lab.assign(assigned).await;
        lab.until_healthy("database").await;
        lab.until_healthy("siteServer").await;
        Self {
            link: ControlLink::connect(&control, WAIT).await.unwrap(),
            lab,
            store,
            control,
        }
    }

    async fn order(&mut self, order: Order) {
        self.link.send(&order, WAIT).await.unwrap();
    }

    async fn work(&mut self, term: u64, lasts: u64) {
        let now = Clock::system().read().boot;
        let work = Work {
            term,
            proved: now,
            until: now + lasts,
        };
        self.order(Order::Work(work)).await;
    }

    async fn until(&mut self, is: impl Fn(&State) -> bool) -> State {
        let found = timeout(WAIT, async {
            loop {
                let state = self.link.receive(WAIT).await.unwrap();
                if is(&state) {
                    return state;
                }
            }
        });
        found.await.expect("the state that is waited for")
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("http://{}{path}", self.store);
        let request = reqwest::Client::new().post(url).json(body);
        request
            .timeout(WAIT)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn it_works_when_told_and_says_so_in_its_record() {
    let mut pair = Pair::new().await;
    pair.work(7, 3_600_000).await;
    pair.until(|state| state.sequence.is_some()).await;
    pair.order(Order::Stop(Stop { term: 7 })).await;
    pair.until(|state| state.working.is_none()).await;
    let record = pair.lab.state().join("data/siteServer/intervals.log");
    until("the end of the interval", || {
        let text = std::fs::read_to_string(&record).unwrap();
        text.lines().last().is_some_and(|line| line.contains("end"))
    })
    .await;
}

/// I5, I1b: what a frozen holder had in mind counts for nothing when it thaws.
#[tokio::test]
async fn a_frozen_holder_that_thaws_writes_nothing_more() {
    let mut pair = Pair::new().await;
    for round in 0..5 {
        let term = 10 + 2 * round;
        pair.work(term, 3_600_000).await;
        pair.until(|state| state.working == Some(term) && state.sequence.is_some())
            .await;
        let one = pair.lab.until_healthy("siteServer").await;
        let pid = one.pid.unwrap();
        processes::signal(pid, Signal::STOP).unwrap();
        let token = json!({"term": term + 1, "holder": "p01-b"});
        let row = pair.post("/v1/claim", &token).await;
        let mut append = token.clone();
        append["entries"] = json!([{"text": "by the other"}]);
        pair.post("/v1/append", &append).await;
        processes::signal(pid, Signal::CONT).unwrap();
        // Its deadline is an hour away: the store is what stops it.
        pair.link = ControlLink::connect(&pair.control, WAIT).await.unwrap();
        let told = pair.until(|state| state.outranked == Some(term + 1)).await;
        assert_eq!(told.working, None);
        let next = row["sequence"].as_u64().unwrap() + 2;
        let url = format!("http://{}/v1/log?from={next}", pair.store);
        let log: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        assert_eq!(log["entries"], json!([]), "round {round}");
    }
}

#[tokio::test]
async fn a_role_gets_its_settings() {
    let mut lab = Lab::running().await;
    let mut told = shell("echo \"$STEAD_SETTINGS\" > $STEAD_DATA/told; sleep 1000");
    told.settings = json!({"a": "'$b'"});
    let settings = told.settings.clone();
    lab.assign(one("told", told)).await;
    let told = lab.state().join("data/told/told");
    until("its settings", || {
        let text = std::fs::read(&told).unwrap_or_default();
        serde_json::from_slice::<Value>(&text).is_ok_and(|found| found == settings)
    })
    .await;
}
