//! Who is active: changed by command through the holder's agent, and journalled once a term.
//!
//! The agents here say what they are told to say of their lease; the real ones hold one in the system
//! tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use stead::api::{Backend as _, SwitchoverRefusal};
use stead_schemas::api::{
    FailbackRequest, JournalEntry, JournalKind, ReplaceRequest, ResumeRequest, SuspendRequest,
    SwitchoverRequest, SwitchoverState, SwitchoverView,
};
use stead_schemas::lease::{
    LeasePart, LeaseReport, MemoryReport, Takeover, TakeoverCause, VotersReport,
};
use stead_schemas::names::ServerName;
use stead_schemas::observed::Contact;
use stead_schemas::time::WallMs;

use super::agents::{Agent, Book};
use super::scene::{Running, Scene, contact};

pub(super) const NAMES: [&str; 3] = ["p01-a", "p01-b", "p01-w"];

pub(super) fn name(text: &str) -> ServerName {
    text.parse().unwrap()
}

/// What a voter says: p01-a holds term 7, all are well.
fn says(server: &str) -> LeaseReport {
    let lives = NAMES.into_iter().zip(1..);
    let lives: BTreeMap<ServerName, u64> = lives.map(|(n, life)| (name(n), life)).collect();
    let holds = server == "p01-a";
    let life = lives[&name(server)];
    LeaseReport {
        voters: Some(VotersReport {
            number: 1,
            term: 0,
            in_force: lives,
            pending: None,
        }),
        part: if holds {
            LeasePart::Holding
        } else {
            LeasePart::Following
        },
        term: 7,
        holder: Some(name("p01-a")),
        ready: server == "p01-b",
        memory: MemoryReport {
            lost: Default::default(),
            number: 1,
            declared: Some(name("p01-a")),
            request: None,
            failovers: Vec::new(),
        },
        takeover: holds.then(|| taken(7, TakeoverCause::First, None)),
        ready_voters: if holds {
            vec![name("p01-b")]
        } else {
            Vec::new()
        },
        ..LeaseReport::new(life)
    }
}

fn taken(term: u64, cause: TakeoverCause, from: Option<&str>) -> Takeover {
    let failover = cause == TakeoverCause::Failover;
    Takeover {
        term,
        from: from.map(name),
        cause,
        heard_at: failover.then_some(WallMs(1_000)),
        won_at: WallMs(4_900),
        granted_by: vec![name("p01-b"), name("p01-w")],
        first_write_at: Some(WallMs(4_906)),
        published_at: None,
    }
}

/// A server takes up the lease.
pub(super) fn take_up(book: &Book, term: u64, cause: TakeoverCause) {
    book.change(|report| {
        let server = report.server.clone();
        let lease = report.lease.as_mut().unwrap();
        lease.part = LeasePart::Holding;
        lease.term = term;
        lease.holder = Some(server);
        lease.takeover = Some(taken(term, cause, Some("p01-a")));
        lease.ready_voters.clear();
    });
}

/// It holds no more.
pub(super) fn follow(book: &Book, holder: &str, term: u64) {
    book.change(|report| {
        let lease = report.lease.as_mut().unwrap();
        lease.part = LeasePart::Following;
        (lease.holder, lease.term) = (Some(name(holder)), term);
    });
}

pub(crate) struct Site {
    pub(crate) scene: Scene,
    pub(crate) agents: BTreeMap<&'static str, Agent>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(None).await
    }

    /// The same, p01-b saying what it lacks by this router.
    pub(crate) async fn with(mut of_b: Option<Router<Arc<Book>>>) -> Self {
        let scene = Scene::new();
        let mut agents = BTreeMap::new();
        for server in NAMES {
            let agent = match of_b.take_if(|_| server == "p01-b") {
                Some(router) => Agent::answering(&scene, server, router).await,
                None => Agent::good(&scene, server).await,
            };
            agent
                .book
                .change(|report| report.lease = Some(Box::new(says(server))));
            agents.insert(server, agent);
        }
        let servers = agents.iter().map(|(name, agent)| {
            let (ip, port) = (agent.addr.ip(), agent.addr.port());
            format!("    {name}: {{address: {ip}, agentPort: {port}}}\n")
        });
        let servers: String = servers.collect();
        scene.commit(&format!(
            "apiVersion: stead/v1\nkind: Hierarchy\nmetadata: {{name: lab}}\nspec:\n  \
             reconcilers:\n    stead-1: {{address: 127.0.0.1}}\n---\n\
             apiVersion: stead/v1\nkind: Site\nmetadata: {{name: P01}}\nspec:\n  type: primary\n  \
             servers:\n{servers}  siteServer:\n    active: p01-a\n    passive: [p01-b]\n    \
             witnesses: [p01-w]\n  database: {{engine: embedded, server: p01-w, port: 7450}}\n  \
             contentLibrary: {{url: \"s3://content/P01\"}}\n"
        ));
        Self { scene, agents }
    }

    pub(crate) fn book(&self, server: &str) -> Arc<Book> {
        Arc::clone(&self.agents[server].book)
    }

    pub(crate) async fn daemon(&self) -> Running {
        let daemon = self.scene.daemon("state").await;
        daemon
            .until("all are heard, and it writes", |s| {
                let heard = |name: &&str| contact(s, name) == Some(Contact::Heard);
                s.ready && NAMES.iter().all(heard)
            })
            .await;
        daemon
    }
}

async fn ask(
    daemon: &Running,
    to: Option<&str>,
    dry_run: bool,
) -> Result<SwitchoverView, SwitchoverRefusal> {
    let request = SwitchoverRequest {
        site: "P01".parse().unwrap(),
        to: to.map(name),
        reason: Some("CHG-4711".to_owned()),
        dry_run,
    };
    daemon.desk().switchover(request, "bob".to_owned()).await
}

pub(super) async fn journal(daemon: &Running, kind: JournalKind) -> Vec<String> {
    let all = daemon
        .desk()
        .history(Some("P01".parse().unwrap()), 500, None);
    let of_kind = |entry: &JournalEntry| entry.kind == kind;
    let all = all.await.unwrap().into_iter().filter(of_kind);
    all.map(|entry| entry.text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_is_asked_of_the_holder_waited_for_and_journalled() {
    let site = Site::new().await;
    let daemon = site.daemon().await;
    let planned = ask(&daemon, None, true).await.unwrap();
    assert_eq!(planned.state, SwitchoverState::Planned);
    assert_eq!((planned.from, planned.to), (name("p01-a"), name("p01-b")));
    assert!(journal(&daemon, JournalKind::Command).await.is_empty());
    let (a, b) = (site.book("p01-a"), site.book("p01-b"));
    site.book("p01-a").when_asked(move |to| {
        assert_eq!(to, name("p01-b"));
        follow(&a, "p01-b", 8);
        take_up(&b, 8, TakeoverCause::Handover);
        Ok(())
    });
    let view = ask(&daemon, None, false).await.unwrap();
    assert_eq!(view.state, SwitchoverState::Done);
    assert!(view.parked);
    let diff = view.diff.unwrap();
    assert!(
        diff.contains("-    active: p01-a\n+    active: p01-b\n"),
        "{diff}"
    );
    assert!(diff.contains("+    passive: [p01-a]\n"), "{diff}");
    let taken = view.taken.unwrap();
    assert_eq!((taken.takeover.term, taken.server.as_str()), (8, "p01-b"));
    let asked = taken.asked.unwrap();
    assert_eq!(
        (asked.by.as_str(), asked.reason.as_deref()),
        ("bob", Some("CHG-4711"))
    );
    assert!(asked.interrupted_at_most.is_some());
    let commands = journal(&daemon, JournalKind::Command).await;
    assert_eq!(
        commands,
        ["bob asked p01-a to hand over to p01-b: CHG-4711"]
    );
    let again = ask(&daemon, Some("p01-b"), false).await.unwrap();
    assert_eq!(again.state, SwitchoverState::NothingToDo);
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h11_a_switchover_is_refused_with_the_reason() {
    let site = Site::new().await;
    let daemon = site.daemon().await;
    let cannot = ask(&daemon, Some("p01-w"), false).await.unwrap_err();
    assert!(
        matches!(cannot, SwitchoverRefusal::CannotHold { .. }),
        "{cannot}"
    );
    let first = "a handover to p01-b is under way";
    site.book("p01-a")
        .when_asked(move |_| Err(first.to_owned()));
    let refused = ask(&daemon, None, false).await.unwrap_err();
    assert!(refused.to_string().contains(first), "{refused}");
    let failed = journal(&daemon, JournalKind::Failed).await;
    assert!(failed.iter().any(|text| text.contains(first)), "{failed:?}");
    site.book("p01-b").change(|report| {
        let lease = report.lease.as_mut().unwrap();
        lease.ready = false;
        lease.not_ready = Some("the database refuses it".to_owned());
    });
    let code = "P01".parse().unwrap();
    daemon
        .until("not ready", |s| {
            let seen = &s.sites[&code].observed.servers[&name("p01-b")];
            !seen.report.as_ref().unwrap().lease.as_ref().unwrap().ready
        })
        .await;
    for to in [None, Some("p01-b")] {
        let refused = ask(&daemon, to, false).await.unwrap_err();
        assert!(
            refused.to_string().contains("the database refuses it"),
            "{refused}"
        );
    }
    let request = FailbackRequest {
        site: code,
        reason: None,
        dry_run: false,
    };
    let refused = daemon.desk().failback(request, "bob".into()).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, SwitchoverRefusal::NotParked { .. }),
        "{refused}"
    );
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_holder_is_asked_for_nothing_and_its_failover_is_journalled_once() {
    let mut site = Site::new().await;
    let daemon = site.daemon().await;
    drop(site.agents.remove("p01-a"));
    daemon
        .until("not heard", |s| contact(s, "p01-a") != Some(Contact::Heard))
        .await;
    let refused = ask(&daemon, None, false).await.unwrap_err();
    assert!(
        matches!(refused, SwitchoverRefusal::HolderNotHeard { .. }),
        "{refused}"
    );
    assert!(refused.is_unobserved());
    let failovers = async |daemon: &Running| {
        let told = journal(daemon, JournalKind::Takeover).await;
        let failovers = told.into_iter().filter(|text| text.contains("failed over"));
        failovers.collect::<Vec<_>>()
    };
    assert!(failovers(&daemon).await.is_empty());
    daemon.0.stop().await;
    // It happens while the reconciler is dead, and is found at the next report.
    take_up(&site.book("p01-b"), 8, TakeoverCause::Failover);
    let line =
        "failed over from p01-a to p01-b: term 8, granted by p01-b, p01-w; 3.906 s without writes";
    for _ in 0..2 {
        let daemon = site.scene.daemon("state").await;
        let code = "P01".parse().unwrap();
        daemon
            .until("its takeover is known", |s| {
                let site = s.sites.get(&code);
                site.is_some_and(|site| site.takeovers.contains_key(&8) && site.plan.is_some())
            })
            .await;
        daemon
            .until("heard", |s| contact(s, "p01-b") == Some(Contact::Heard))
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!(failovers(&daemon).await, [line]);
        daemon.0.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h31_failover_is_stopped_at_the_voters_while_the_suspension_holds() {
    let site = Site::new().await;
    let daemon = site.daemon().await;
    let automatic = || {
        NAMES.map(|name| {
            let book = site.book(name);
            let assigned = book.assigned.lock().unwrap();
            let last = assigned
                .last()
                .and_then(|last| last.assignment.lease.clone());
            last.map(|lease| lease.automatic)
        })
    };
    daemon
        .until("told", |_| automatic() == [Some(true); 3])
        .await;
    let mut request = SuspendRequest {
        scope: Some("P01/p01-a".to_owned()),
        reason: "CHG-1".to_owned(),
        until: None,
        failover: true,
    };
    let desk = daemon.desk();
    let refused = desk.suspend(request.clone(), "bob".into()).await;
    assert!(refused.unwrap_err().error.contains("not for a server"));
    request.scope = Some("P01".to_owned());
    desk.suspend(request.clone(), "bob".into()).await.unwrap();
    daemon
        .until("manual", |_| automatic() == [Some(false); 3])
        .await;
    request.failover = false;
    let refused = desk.suspend(request, "eve".into()).await.unwrap_err();
    assert!(refused.error.contains("bob"), "{refused:?}");
    let resume = ResumeRequest {
        scope: Some("P01".to_owned()),
    };
    desk.resume(resume, "bob".into()).await.unwrap();
    daemon
        .until("automatic again", |_| automatic() == [Some(true); 3])
        .await;
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h4_a_replaced_voter_is_let_in_also_after_a_restart_and_then_it_is_done() {
    let site = Site::new().await;
    let daemon = site.daemon().await;
    let request = |server: &str| ReplaceRequest {
        server: name(server),
        reason: "burnt".to_owned(),
    };
    let replace = async |daemon: &Running, server: &str| {
        daemon.desk().replace(request(server), "bob".into()).await
    };
    let well = replace(&daemon, "p01-b").await.unwrap_err();
    assert!(well.error.contains("is the one that votes"), "{well:?}");
    let unknown = replace(&daemon, "p09-z").await.unwrap_err();
    assert!(unknown.hint.is_some());
    let lives = |number: u64, life: u64| {
        for server in NAMES {
            site.book(server).change(|report| {
                let voters = report.lease.as_mut().unwrap().voters.as_mut().unwrap();
                voters.number = number;
                voters.in_force.insert(name("p01-b"), life);
            });
        }
    };
    site.book("p01-b")
        .change(|report| report.lease.as_mut().unwrap().incarnation = 99);
    let code = "P01".parse().unwrap();
    daemon
        .until("a new ledger", |s| {
            let holds = s.sites[&code].plan.iter().flat_map(|plan| &plan.holds);
            holds
                .into_iter()
                .any(|hold| hold.reason.kind() == "newLedger")
        })
        .await;
    replace(&daemon, "p01-b").await.unwrap();
    daemon.0.stop().await;
    let daemon = site.daemon().await;
    let admits = |life: u64| {
        let book = site.book("p01-a");
        let assigned = book.assigned.lock().unwrap();
        let lease = assigned
            .last()
            .and_then(|last| last.assignment.lease.clone());
        lease.is_some_and(|lease| lease.voters[&name("p01-b")].incarnation == Some(life))
    };
    daemon.until("the holder is told", |_| admits(99)).await;
    assert!(daemon.0.core().replaced().contains_key(&name("p01-b")));
    lives(2, 99);
    daemon
        .until("done", |_| daemon.0.core().replaced().is_empty())
        .await;
    daemon.0.stop().await;
}
