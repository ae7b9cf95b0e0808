//! One task a server: its agent's watch stream, and what happens when that breaks (H8).
//!
//! While the stream lives the task only reads. When it breaks, fresh connections are tried with
//! back-off while the silence is judged and other agents are asked. An agent that lies or sends
//! nonsense harms its own server's status and nothing else.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use stead_schemas::api::JournalKind;
use stead_schemas::names::ServerName;
use stead_schemas::observed::Contact;
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{AgentReport, ReachAnswer, ReachRequest, WatchEvent};
use stead_wire::lines::Lines;
use stead_wire::peer::{CallError, Peer};
use tokio::time::{sleep, timeout};

use super::judge::{Round, WITNESSES, order_of_witnesses};
use crate::act;
use crate::act::backoff::{Bounds, random};
use crate::commands::chain;
use crate::daemon::core::Core;
use crate::site::Site;
use crate::site::changes::Happened;
use crate::store::{ServerMemory, Write};

const RECONNECT: Bounds = Bounds {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
};
/// A handshake between machines that have time takes a few milliseconds.
const HANDSHAKE: Duration = Duration::from_millis(200);
/// While a stream is down its server is judged this often.
const JUDGE_EVERY: Duration = Duration::from_millis(200);
/// A report is saved at most this often.
const SAVE_EVERY: DurationMs = DurationMs::seconds(2);
/// More instances on one server are no report of ours.
const INSTANCES_MAX: usize = 1_000;

/// What a task needs to observe one server.
#[derive(Debug)]
pub struct Agent {
    /// The daemon.
    pub core: Arc<Core>,
    /// The server's site.
    pub site: Arc<Site>,
    /// The server.
    pub server: ServerName,
    /// Its agent, for reading.
    pub peer: Arc<Peer>,
}

/// Why a stream ended.
enum End {
    /// It broke, or nothing came.
    Broke(String),
    /// What came is not from this server's agent, or makes no sense.
    Refused(String),
}

/// An open stream, its first report taken in, not yet saved.
struct Stream {
    lines: Lines,
    unsaved: bool,
    saved_at: WallMs,
}

impl Agent {
    /// Observes until the task is ended.
    pub async fn run(self) {
        loop {
            // Boxed: a task that only reads must not keep room for connecting and asking (H25).
            let mut stream = Box::pin(self.reach()).await;
            let end = self.listen(&mut stream).await;
            self.note(&end);
        }
    }

    /// An open stream; until there is one, the silence is judged.
    async fn reach(&self) -> Stream {
        // Both arms are cancel safe: `judging` never ends, and what it would have found out is
        // void once the stream is open.
        tokio::select! {
            stream = self.connecting() => stream,
            never = self.judging() => match never {},
        }
    }

    async fn connecting(&self) -> Stream {
        let mut failures = 0;
        loop {
            let begun = self.core.clock.now();
            match self.connect().await {
                Ok(stream) => return stream,
                Err(End::Broke(why)) => {
                    self.site.world().on_failed(&self.server, begun, why);
                }
                Err(end @ End::Refused(_)) => self.note(&end),
            }
            failures += 1;
            sleep(RECONNECT.wait(failures, random())).await;
        }
    }

    /// One try in its turn. A slot is for a handshake, which is work; what takes longer is waiting,
    /// and waiting for the dead must not keep the living out.
    async fn connect(&self) -> Result<Stream, End> {
        // The semaphore is never closed.
        let slot = self.core.connects.acquire().await;
        let mut opening = pin!(self.open());
        let early = timeout(HANDSHAKE, &mut opening).await;
        drop(slot);
        match early {
            Ok(opened) => opened,
            Err(_) => opening.await,
        }
    }

    /// Opens the stream and takes in its first report.
    async fn open(&self) -> Result<Stream, End> {
        let silence = &self.core.config.spec.silence;
        let opened = self
            .peer
            .stream_lines("/v1/watch", silence.ask.std(), silence.after.std())
            .await;
        let mut lines = opened.map_err(|error| End::of(&error))?;
        let first = timeout(silence.ask.std(), lines.next_json::<WatchEvent>()).await;
        match first {
            Ok(Ok(Some(WatchEvent::Report(report)))) => {
                self.take_in(*report)?;
                Ok(Stream {
                    lines,
                    unsaved: true,
                    saved_at: WallMs(0),
                })
            }
            Ok(Ok(Some(WatchEvent::Heartbeat { .. }))) => Err(End::Refused(
                "its watch stream does not begin with a report".to_owned(),
            )),
            Ok(Ok(None)) => Err(End::Broke("it ended the watch stream".to_owned())),
            Ok(Err(error)) => Err(End::of(&error)),
            Err(_) => Err(End::Broke(format!(
                "connected, but no report within {}",
                silence.ask
            ))),
        }
    }

    async fn listen(&self, stream: &mut Stream) -> End {
        loop {
            self.save(stream);
            match stream.lines.next_json::<WatchEvent>().await {
                Ok(Some(WatchEvent::Heartbeat { .. })) => {
                    let now = self.core.clock.now();
                    self.site.world().on_heartbeat(&self.server, now);
                }
                Ok(Some(WatchEvent::Report(report))) => {
                    if let Err(end) = self.take_in(*report) {
                        return end;
                    }
                    stream.unsaved = true;
                }
                Ok(None) => return End::Broke("it ended the watch stream".to_owned()),
                Err(error) => return End::of(&error),
            }
        }
    }

    fn take_in(&self, report: AgentReport) -> Result<(), End> {
        if report.server != self.server {
            let text = format!("it reports as {}", report.server);
            return Err(End::Refused(text));
        }
        if report.instances.len() > INSTANCES_MAX || report.assigned.len() > INSTANCES_MAX {
            return Err(End::Refused(format!(
                "it reports more than {INSTANCES_MAX} instances"
            )));
        }
        if let Some(told) = &report.highest_epoch {
            self.core.meet(told).map_err(End::Refused)?;
        }
        let now = self.core.clock.now();
        let silence = self.core.config.spec.silence.after;
        let mut world = self.site.world();
        let changed = world.on_report(&self.site.code, report, now);
        let judged = world.judge(&self.site.code, &self.server, now, silence);
        let lost = judged && clear_lost(&mut world, &self.server);
        drop(world);
        if lost {
            self.returned();
        }
        act::claim(&self.core, &self.site, &self.server);
        if changed || judged {
            self.site.wake();
        }
        Ok(())
    }

    /// A server that was confirmed lost is heard again.
    fn returned(&self) {
        self.core.set_lost(&self.server, None);
        self.core
            .store
            .write(Write::Lost(self.server.clone(), None));
        let about = format!("{}/{}", self.site.code, self.server);
        let text = "back, though it was confirmed lost";
        self.core.journal(
            Some(&self.site.code),
            vec![Happened::new(JournalKind::Contact, about, text)],
        );
    }

    fn note(&self, end: &End) {
        let now = self.core.clock.now();
        let mut world = self.site.world();
        let news = match end {
            End::Broke(why) => {
                world.troubles.insert(self.server.clone(), why.clone());
                false
            }
            End::Refused(why) => {
                let news = world.troubles.get(&self.server) != Some(why);
                world.on_refused(&self.server, now, why.clone());
                news
            }
        };
        if news && let End::Refused(why) = end {
            let about = format!("{}/{}", self.site.code, self.server);
            world.tell([Happened::new(JournalKind::Contact, about, why.clone())]);
        }
        let after = self.core.config.spec.silence.after;
        let judged = world.judge(&self.site.code, &self.server, now, after);
        drop(world);
        if judged || news {
            self.site.wake();
        }
    }

    /// Saves the last report, now and then; a restart begins with it.
    fn save(&self, stream: &mut Stream) {
        let now = self.core.clock.now();
        if !stream.unsaved || now.since(stream.saved_at) < SAVE_EVERY {
            return;
        }
        let report = self
            .site
            .world()
            .observed
            .servers
            .get(&self.server)
            .and_then(|server| server.report.clone());
        if let Some(report) = report {
            let memory = ServerMemory {
                heard_at: now,
                report,
            };
            let write = Write::Server(self.server.clone(), Some(Box::new(memory)));
            self.core.store.write(write);
        }
        stream.unsaved = false;
        stream.saved_at = now;
    }

    /// Judges the silence, and has other agents asked, until the task goes on.
    async fn judging(&self) -> Infallible {
        let after = self.core.config.spec.silence.after;
        loop {
            let (changed, witnesses) = self.look(after);
            if changed {
                self.site.wake();
            }
            if let Some(witnesses) = witnesses {
                let round = self.ask(witnesses).await;
                self.site.world().on_round(&self.server, round);
                // A confirmed silence grows: `moveAfter` counts it.
                self.site.wake();
            }
            sleep(JUDGE_EVERY).await;
        }
    }

    /// Judges now; answers whether the verdict changed, and whom to ask, if anybody.
    fn look(&self, after: DurationMs) -> (bool, Option<Vec<Arc<Peer>>>) {
        let now = self.core.clock.now();
        let mut world = self.site.world();
        let changed = world.judge(&self.site.code, &self.server, now, after);
        let ask = world
            .watches
            .get(&self.server)
            .is_some_and(|watch| watch.wants_round(now, after));
        (changed, ask.then(|| self.witnesses(&world)))
    }

    /// Other agents that are heard, in the order in which they are asked.
    fn witnesses(&self, world: &crate::site::SiteWorld) -> Vec<Arc<Peer>> {
        let zone_of = |server: &ServerName| {
            let declared = world.desired.as_ref()?.servers.get(server)?;
            declared.zone.as_ref().map(|zone| zone.as_str())
        };
        let heard = world
            .observed
            .servers
            .iter()
            .filter(|(name, seen)| **name != self.server && seen.contact == Contact::Heard);
        let named: Vec<_> = heard
            .map(|(name, _)| (name.to_string(), zone_of(name), name))
            .collect();
        let order = order_of_witnesses(
            self.server.as_str(),
            zone_of(&self.server),
            named.iter().map(|(text, zone, _)| (text, *zone)),
        );
        order
            .into_iter()
            .filter_map(|text| named.iter().find(|(name, ..)| name == text))
            .filter_map(|(.., name)| world.peers.get(*name).cloned())
            .collect()
    }

    /// Asks one after the other until enough have answered.
    async fn ask(&self, witnesses: Vec<Arc<Peer>>) -> Round {
        let request = ReachRequest {
            server: self.server.clone(),
            address: self.peer.addr(),
        };
        let limit = self.core.config.spec.silence.ask.std() + Duration::from_secs(1);
        let (mut reached, mut not_reached) = (0, 0);
        let mut waiting = witnesses.into_iter();
        while reached == 0 && not_reached < WITNESSES {
            let missing = WITNESSES - not_reached;
            let group: Vec<_> = waiting.by_ref().take(missing).collect();
            if group.is_empty() {
                break;
            }
            let calls = group
                .iter()
                .map(|peer| peer.post_json::<_, ReachAnswer>("/v1/reach", &request, limit));
            for answer in futures_util::future::join_all(calls).await {
                match answer {
                    Ok(answer) if answer.reached => reached += 1,
                    Ok(_) => not_reached += 1,
                    Err(error) => {
                        tracing::debug!(server = %self.server, %error, "witness without a word");
                    }
                }
            }
        }
        Round {
            at: self.core.clock.now(),
            reached,
            not_reached,
            all_asked: waiting.next().is_none(),
        }
    }
}

impl End {
    fn of(error: &CallError) -> Self {
        let text = chain(error);
        match error {
            CallError::WrongIdentity { .. }
            | CallError::Tls { .. }
            | CallError::BadBody { .. }
            | CallError::Unsendable { .. } => Self::Refused(text),
            // Too many streams at once, or starting up: it is there, and it will have room.
            CallError::Status { code, .. } if *code >= 500 || *code == 429 => Self::Broke(text),
            CallError::Status { .. } => Self::Refused(text),
            CallError::Refused { .. } | CallError::Timeout { .. } | CallError::Lost { .. } => {
                Self::Broke(text)
            }
        }
    }
}

fn clear_lost(world: &mut crate::site::SiteWorld, server: &ServerName) -> bool {
    world
        .observed
        .servers
        .get_mut(server)
        .is_some_and(|seen| seen.contact == Contact::Heard && seen.confirmed_lost.take().is_some())
}
