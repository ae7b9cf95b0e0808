//! A site of voters in this process, each with a folder, a certificate and a listener of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use site_lease::Input;
use site_voting::{Event, Letter, Owner, Snapshot, Voter, Voting, report};
use stead_schemas::lease::{
    DeclaredActive, LeasePart, LeaseReport, LeaseSpec, LeaseTiming, VoterSpec,
};
use stead_schemas::names::{Identity, IdentityKind};
use stead_schemas::time::{DurationMs, WallMs};
use stead_wire::clock::wall_now;
use stead_wire::doors::Doors;
use stead_wire::material::Material;
use stead_wire::pki::{self, Ca, Request};
use stead_wire::serve::{Caller, Limits, serve};
use stead_wire::tls::{ClientTls, ServerTls};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Nothing here takes a tenth of it, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(30);

type Post = Arc<Mutex<Option<Arc<Voting>>>>;

struct Member {
    dir: tempfile::TempDir,
    client: Arc<ClientTls>,
    tls: Arc<ServerTls>,
    post: Post,
    snapshot: tokio::sync::watch::Receiver<Arc<Snapshot>>,
    tasks: Vec<JoinHandle<()>>,
}

pub(crate) struct Site {
    ca: Ca,
    ca_pem: String,
    spec: LeaseSpec,
    members: BTreeMap<String, Member>,
}

pub(crate) fn owner(name: &str) -> Owner {
    Owner {
        hierarchy: "contoso".parse().unwrap(),
        site: "P01".parse().unwrap(),
        name: name.parse().unwrap(),
        machine: "0123456789abcdef".to_owned(),
    }
}

/// Shorter than the default: what is tested is order and outcome.
fn timing() -> LeaseTiming {
    LeaseTiming {
        duration: DurationMs(900),
        renew: DurationMs(150),
        stop_before: DurationMs(150),
        drift_percent: 1,
    }
}

impl Site {
    /// p01-a and p01-b may hold, p01-w is a witness; all of them founders.
    pub(crate) async fn founded() -> Self {
        Self::certified_at(|_| wall_now()).await
    }

    /// The same, each with a certificate for one day from then on, the CA as old as the oldest.
    pub(crate) async fn certified_at(at: impl Fn(&str) -> WallMs) -> Self {
        let names = ["p01-a", "p01-b", "p01-w"];
        let oldest = names.map(&at).into_iter().min().unwrap();
        let made = pki::create_ca(&"contoso".parse().unwrap(), oldest).unwrap();
        let ca = Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap();
        let spec = LeaseSpec {
            voters: BTreeMap::new(),
            founders: None,
            declared: DeclaredActive {
                active: "p01-a".parse().unwrap(),
                above: 0,
            },
            automatic: true,
            failback_after: None,
            failovers_per_hour: None,
            timing: timing(),
            alias: None,
        };
        let mut site = Self {
            ca,
            ca_pem: made.certificate_pem,
            spec,
            members: BTreeMap::new(),
        };
        for (name, rank) in names.into_iter().zip([Some(0), Some(1), None]) {
            site.add(name, rank, at(name)).await;
        }
        site.tell_all().await;
        let lives = site.members.iter().map(|(name, member)| {
            let life = member.snapshot.borrow().me.incarnation.0;
            (name.parse().unwrap(), life)
        });
        site.spec.founders = Some(lives.collect());
        site.admit_all();
        site.tell_all().await;
        site
    }

    async fn add(&mut self, name: &str, rank: Option<u32>, at: WallMs) {
        let issued = pki::issue(&self.ca, &request(name), at).unwrap();
        let material =
            Material::from_pem(&self.ca_pem, &issued.certificate_pem, &issued.key_pem).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let post = Post::default();
        let doors = Doors::new(Router::new(), router(Arc::clone(&post)));
        let tls = ServerTls::new(&material).unwrap();
        let answers = Arc::clone(&tls);
        tokio::spawn(serve(
            listener,
            answers,
            doors,
            Limits::default(),
            std::future::pending(),
        ));
        let dir = tempfile::tempdir().unwrap();
        let client = ClientTls::new(&material).unwrap();
        let (voting, tasks) = open(name, dir.path(), &client, rank.is_some());
        let snapshot = voting.snapshot();
        *post.lock().await = Some(voting);
        let member = Member {
            dir,
            client,
            tls,
            post,
            snapshot,
            tasks,
        };
        self.members.insert(name.to_owned(), member);
        let voter = VoterSpec {
            kind: IdentityKind::Server,
            address,
            rank,
            incarnation: None,
        };
        self.spec.voters.insert(name.parse().unwrap(), voter);
    }

    /// A fourth voter, declared and let in.
    pub(crate) async fn add_witness(&mut self, name: &str) {
        self.add(name, None, wall_now()).await;
        self.admit_all();
        self.tell_all().await;
    }

    fn admit_all(&mut self) {
        for (name, voter) in &mut self.spec.voters {
            let member = &self.members[name.as_str()];
            voter.incarnation = Some(member.snapshot.borrow().me.incarnation.0);
        }
    }

    pub(crate) async fn tell_all(&self) {
        for member in self.members.values() {
            if let Some(voting) = &*member.post.lock().await {
                voting.tell(Arc::new(self.spec.clone())).await;
            }
        }
    }

    pub(crate) async fn declare(&mut self, active: &str, above: u64) {
        self.spec.declared = DeclaredActive {
            active: active.parse().unwrap(),
            above,
        };
        self.tell_all().await;
    }

    pub(crate) async fn limit_failovers(&mut self, limit: Option<u32>) {
        self.spec.failovers_per_hour = limit;
        self.tell_all().await;
    }

    /// The voter's process is gone.
    pub(crate) fn stop(&mut self, name: &str) {
        let member = self.members.get_mut(name).unwrap();
        for task in member.tasks.drain(..) {
            task.abort();
        }
        *member.post.try_lock().unwrap() = None;
    }

    pub(crate) async fn start(&mut self, name: &str) {
        let rank = self.spec.voters[&name.parse().unwrap()].rank;
        let member = self.members.get_mut(name).unwrap();
        let (voting, tasks) = open(name, member.dir.path(), &member.client, rank.is_some());
        member.snapshot = voting.snapshot();
        member.tasks = tasks;
        voting.tell(Arc::new(self.spec.clone())).await;
        *member.post.lock().await = Some(voting);
    }

    /// Its disk is lost; it starts again with nothing.
    pub(crate) async fn forget(&mut self, name: &str) {
        self.stop(name);
        let file = self.members[name].dir.path().join(site_voting::FILE);
        std::fs::remove_file(file).unwrap();
        self.start(name).await;
    }

    /// Nothing can be written there any more.
    pub(crate) fn spoil_disk(&mut self, name: &str) {
        let dir = self.members[name].dir.path();
        std::fs::remove_file(dir.join(site_voting::FILE)).unwrap();
        std::fs::create_dir(dir.join(site_voting::FILE)).unwrap();
    }

    pub(crate) fn voting(&self, name: &str) -> Arc<Voting> {
        let post = self.members[name].post.try_lock().unwrap();
        Arc::clone(post.as_ref().unwrap())
    }

    pub(crate) async fn input(&self, name: &str, input: Input<stead_schemas::names::ServerName>) {
        self.voting(name).input(input).await;
    }

    /// Whom this voter heard, or was answered by, with a certificate outside its dates.
    pub(crate) fn outdated(&self, name: &str) -> Vec<String> {
        let member = &self.members[name];
        let mut complaints = member.tls.outdated().complaints();
        complaints.extend(member.client.outdated().complaints());
        complaints.into_keys().map(|who| who.name).collect()
    }

    pub(crate) fn voter(&self, name: &str) -> Voter {
        self.members[name].snapshot.borrow().me.clone()
    }

    pub(crate) fn report(&self, name: &str) -> LeaseReport {
        report(&self.members[name].snapshot.borrow(), None)
    }

    /// The holder, once there is one.
    pub(crate) async fn holder(&mut self) -> String {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            for name in self.members.keys() {
                if self.report(name).part == LeasePart::Holding {
                    return name.clone();
                }
            }
            assert!(tokio::time::Instant::now() < end, "nobody holds");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn until(&mut self, name: &str, is: impl Fn(&LeaseReport) -> bool) {
        let snapshot = &mut self.members.get_mut(name).unwrap().snapshot;
        let waited = snapshot.wait_for(|snapshot| is(&report(snapshot, None)));
        let reached = tokio::time::timeout(DEADLINE, waited).await.is_ok();
        assert!(reached, "{name}: {:?}", self.report(name));
    }
}

fn request(name: &str) -> Request {
    Request {
        identity: Identity {
            hierarchy: "contoso".parse().unwrap(),
            kind: IdentityKind::Server,
            name: name.to_owned(),
        },
        addresses: Vec::new(),
        dns_names: Vec::new(),
        days: 1,
    }
}

fn open(
    name: &str,
    dir: &std::path::Path,
    tls: &Arc<ClientTls>,
    ready: bool,
) -> (Arc<Voting>, Vec<JoinHandle<()>>) {
    let tls = Arc::clone(tls);
    let (voting, mut events) =
        Voting::start(dir.to_owned(), &owner(name), tls, None, None).unwrap();
    let voting = Arc::new(voting);
    let weak = Arc::downgrade(&voting);
    // The agent's part: there is progress, and work ends at once when it is told to.
    let task = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            let input = tokio::select! {
                _ = tick.tick() => Input::Progress,
                event = events.recv() => match event {
                    Some(Event::Stop(_)) => Input::Idle,
                    Some(_) => continue,
                    None => return,
                },
            };
            let Some(voting) = weak.upgrade() else { return };
            voting.input(input).await;
            voting.input(Input::Ready(ready)).await;
        }
    });
    (voting, vec![task])
}

fn router(post: Post) -> Router {
    Router::new().route("/v1/lease", post_letter(post))
}

fn post_letter(voter: Post) -> axum::routing::MethodRouter {
    post(
        move |Caller(caller): Caller, Json(letter): Json<Letter>| async move {
            let voting = voter.lock().await.clone();
            let Some(voting) = voting else {
                return Err(axum::http::StatusCode::SERVICE_UNAVAILABLE);
            };
            match voting.receive(&caller.name, letter).await {
                Ok(reply) => Ok(Json(reply)),
                Err(_) => Err(axum::http::StatusCode::CONFLICT),
            }
        },
    )
}
