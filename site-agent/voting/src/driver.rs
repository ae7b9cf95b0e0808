//! One task that owns a node: it saves before it sends (I4), and tells its owner what may be done.
//!
//! Inputs come one at a time through a bounded channel. When the ledger can't be written the task
//! ends, and with it the voter's memory: whoever wants to vote again begins from the ledger.

mod letters;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use site_lease::{
    Action, Body, Committed, How, Input, Message, Mono, Ms, Node, Note, Part, Saved, Standing,
    Term, Timing,
};
use stead_schemas::lease::{LeaseSpec, Takeover, TakeoverCause};
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::time::WallMs;
use stead_wire::clock::wall_now;
use stead_wire::tls::ClientTls;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::{boot_now, sleep_until};
use crate::ledger::{LedgerError, Owner, Route, VoteLedger};
use crate::letter::{Letter, LetterRefusal, Reply};
use crate::mail::Mail;
use crate::snapshot::Snapshot;
use crate::{Voter, spec};

/// Inputs that wait; more are refused.
const INPUTS: usize = 256;
/// What is told that nobody took yet.
const EVENTS: usize = 256;
/// Inputs that follow from one input, at most: each rests on a change of the one before.
const FOLLOW_UPS: usize = 8;
/// A voter with nothing to wait for looks at its standing this often.
const LOOK: Ms = Ms(10_000);

/// What a voter's owner has to do or know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Work may go on under this term.
    Work {
        /// The term.
        term: Term,
        /// When the question was sent that a majority has answered (H5).
        proved: Mono,
        /// No work begins at or after this.
        until: Mono,
        /// When the lease ends.
        lease: Mono,
    },
    /// Work of this term must end; [`Input::Idle`] says that it has.
    Stop(Term),
    /// Something worth telling.
    Note(Note<ServerName>),
    /// The voter has ended: it could not make durable what it must not forget.
    Ended(String),
}

/// Why a voter can't be started.
#[derive(Debug, Error)]
pub enum VotingError {
    /// Its ledger can't be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

#[derive(Debug)]
enum Command {
    Input(Box<Input<ServerName>>),
    Letter {
        letter: Box<Letter>,
        answer: oneshot::Sender<Result<Reply, LetterRefusal>>,
    },
    Spec(Arc<LeaseSpec>),
}

/// A running voter.
#[derive(Debug)]
pub struct Voting {
    site: SiteCode,
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    task: JoinHandle<()>,
}

impl Voting {
    /// Starts the voter whose ledger is, or will be, in this folder. It votes once it is told a
    /// lease of which it is a founder, or was let in. Letters leave from `from`, where that leads
    /// there. `resume`: a term that this very process held until its program was replaced, and the
    /// end of that lease (H18).
    ///
    /// # Errors
    /// [`VotingError`]: its ledger is not used, and it does not vote.
    pub fn start(
        folder: PathBuf,
        owner: &Owner,
        tls: Arc<ClientTls>,
        from: Option<IpAddr>,
        resume: Option<(Term, Mono)>,
    ) -> Result<(Self, mpsc::Receiver<Event>), VotingError> {
        let ledger = VoteLedger::open(&folder, owner)?;
        let (commands, inbox) = mpsc::channel(INPUTS);
        let (events, told) = mpsc::channel(EVENTS);
        let (reply, replies) = mpsc::channel(INPUTS);
        let first = Snapshot {
            me: ledger.me(),
            node: None,
            at: boot_now(),
            takeover: None,
            routes: ledger.routes.clone(),
            refused: 0,
            heard: BTreeMap::new(),
            since: boot_now(),
            problem: Some("it was not told the site's voters yet".to_owned()),
        };
        let (shown, snapshot) = watch::channel(Arc::new(first.clone()));
        let mut mail = Mail::new(owner.hierarchy.clone(), from, tls, reply);
        mail.route(&ledger.routes);
        let driver = Driver {
            folder,
            ledger,
            node: None,
            spec: None,
            settings: None,
            guests: BTreeSet::new(),
            mail,
            events,
            shown,
            snapshot: first,
            heard_at: None,
            ready: false,
            resume,
            retired: false,
        };
        let task = tokio::spawn(driver.run(inbox, replies));
        let voting = Self {
            site: owner.site.clone(),
            commands,
            snapshot,
            task,
        };
        Ok((voting, told))
    }

    /// Tells it the declared lease.
    pub async fn tell(&self, spec: Arc<LeaseSpec>) {
        // A driver that has ended says so by its event.
        drop(self.commands.send(Command::Spec(spec)).await);
    }

    /// Gives it an input; lost where it has ended.
    pub async fn input(&self, input: Input<ServerName>) {
        drop(self.commands.send(Command::Input(Box::new(input))).await);
    }

    /// Takes a letter from whom the certificate says.
    ///
    /// # Errors
    /// [`LetterRefusal`]; then it had no effect.
    pub async fn receive(&self, caller: &str, letter: Letter) -> Result<Reply, LetterRefusal> {
        if caller != letter.from.name.as_str() {
            return Err(LetterRefusal::Forged {
                caller: caller.to_owned(),
                from: letter.from.name,
            });
        }
        let (answer, answered) = oneshot::channel();
        let letter = Box::new(letter);
        self.commands
            .try_send(Command::Letter { letter, answer })
            .map_err(|_| LetterRefusal::Busy)?;
        answered.await.map_err(|_| LetterRefusal::Busy)?
    }

    /// The release of a term for each other voter, for somebody who outlives this process (H1, R12).
    #[must_use]
    pub fn releases(&self, term: Term) -> Vec<(Route, Letter)> {
        let snapshot = self.snapshot.borrow();
        let Some(node) = &snapshot.node else {
            return Vec::new();
        };
        let saved = node.saved();
        let letter = |to: Voter| Letter {
            site: self.site.clone(),
            from: saved.me.clone(),
            to,
            votes: saved.votes,
            seen: 0,
            message: Message {
                epoch: saved.configuration.epoch(),
                memory: saved.memory.clone(),
                body: Body::Release {
                    term,
                    successor: None,
                },
            },
        };
        let others = saved.configuration.everyone();
        others
            .into_iter()
            .filter_map(|to| Some((snapshot.routes.get(&to.name)?.clone(), letter(to))))
            .collect()
    }

    /// What it knows, as it changes.
    #[must_use]
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }
}

impl Drop for Voting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The ledger could not be written.
#[derive(Debug)]
struct NotDurable(String);

type Done<T> = Result<T, NotDurable>;

#[derive(Debug)]
struct Driver {
    folder: PathBuf,
    ledger: VoteLedger,
    node: Option<Node<ServerName>>,
    spec: Option<Arc<LeaseSpec>>,
    /// As the node was told them last.
    settings: Option<(Timing, Standing)>,
    /// As the node was told them last.
    guests: BTreeSet<Voter>,
    mail: Mail,
    events: mpsc::Sender<Event>,
    shown: watch::Sender<Arc<Snapshot>>,
    snapshot: Snapshot,
    /// When a holder that is another was last heard to go on.
    heard_at: Option<WallMs>,
    /// As it was told last; a node that starts knows nothing.
    ready: bool,
    /// What the program before this one held, in the same process.
    resume: Option<(Term, Mono)>,
    /// It found out that it must not vote.
    retired: bool,
}

impl Driver {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        mut replies: mpsc::Receiver<(Voter, Reply)>,
    ) {
        let ended = self.attend(&mut inbox, &mut replies).await;
        if let Err(NotDurable(why)) = ended {
            tracing::error!("the vote ledger can't be written: {why}; this voter ends");
            self.node = None;
            self.snapshot.problem = Some(format!("its ledger can't be written: {why}"));
            self.show();
            self.tell(Event::Ended(why));
        }
    }

    async fn attend(
        &mut self,
        inbox: &mut mpsc::Receiver<Command>,
        replies: &mut mpsc::Receiver<(Voter, Reply)>,
    ) -> Done<()> {
        loop {
            let look = boot_now().plus(LOOK);
            let wake = self.node.as_ref().and_then(Node::wake_at).unwrap_or(look);
            tokio::select! {
                biased;
                () = sleep_until(wake.min(look)) => self.take_all(Input::Tick).await?,
                Some((from, reply)) = replies.recv() => self.take_reply(from, reply).await?,
                command = inbox.recv() => match command {
                    Some(Command::Input(input)) => self.take_all(*input).await?,
                    Some(Command::Spec(spec)) => self.take_spec(spec).await?,
                    Some(Command::Letter { letter, answer }) => {
                        let reply = self.take_letter(*letter).await?;
                        // Who asked may have given up.
                        drop(answer.send(reply));
                    }
                    None => return Ok(()),
                },
            }
            self.show();
        }
    }

    /// A declared lease: routes, the founding, lengths and standing; the holder changes voters.
    async fn take_spec(&mut self, spec: Arc<LeaseSpec>) -> Done<()> {
        let timing = match spec::timing(&spec.timing) {
            Ok(timing) => timing,
            Err(error) => {
                tracing::error!("the lease is not taken: {error}");
                return Ok(());
            }
        };
        let routes = self.ledger.routes.clone();
        self.ledger.routes.extend(spec::routes(&spec));
        self.ledger.routes.remove(&self.ledger.owner.name);
        self.mail.route(&self.ledger.routes);
        self.snapshot.routes.clone_from(&self.ledger.routes);
        let me = self.ledger.me();
        let saved = self.ledger.saved.as_ref();
        let unknown = saved.is_none_or(|saved| spec::is_nobody(&saved.configuration));
        let founding = spec::founding(&spec, &me).filter(|_| unknown);
        if let Some(voters) = founding {
            // It may have voted already, for a founder that was told before: that stands.
            let nobody = || Saved::new(me.clone(), spec::nobody());
            let mut saved = self.ledger.saved.take().unwrap_or_else(nobody);
            saved.configuration = voters;
            self.ledger.saved = Some(saved);
            self.node = None;
            self.save_ledger().await?;
        } else if routes != self.ledger.routes {
            self.save_ledger().await?;
        }
        if self.node.is_none() && !self.retired {
            let nobody = || Saved::new(me.clone(), spec::nobody());
            let saved = self.ledger.saved.clone().unwrap_or_else(nobody);
            let standing = spec::standing(&spec, &me.name, &saved.memory, wall_now());
            let now = boot_now();
            let goes_on = self
                .resume
                .take()
                .and_then(|held| Node::resume(saved.clone(), timing, standing, now, held));
            self.node = Some(match goes_on {
                Some(node) => node,
                None => Node::start(saved, timing, standing, now),
            });
            self.settings = Some((timing, standing));
            self.guests.clear();
            self.snapshot.problem = None;
            self.take_all(Input::Jitter(jitter())).await?;
            self.take_all(Input::Ready(self.ready)).await?;
        }
        let declared = Input::Declared {
            active: spec.declared.active.clone(),
            above: spec.declared.above,
        };
        self.spec = Some(spec);
        self.take_all(declared).await
    }

    /// An input, and what follows from it.
    async fn take_all(&mut self, input: Input<ServerName>) -> Done<()> {
        if let Input::Ready(ready) = input {
            self.ready = ready;
        }
        self.take(input, None).await?;
        self.follow_up().await
    }

    /// What the declared lease asks of the node as it is now, one input after the other.
    async fn follow_up(&mut self) -> Done<()> {
        for _ in 0..FOLLOW_UPS {
            let Some(next) = self.next_input() else {
                return Ok(());
            };
            self.take(next, None).await?;
        }
        Ok(())
    }

    fn next_input(&mut self) -> Option<Input<ServerName>> {
        let (node, declared) = (self.node.as_ref()?, self.spec.as_ref()?);
        let saved = node.saved();
        let me = &saved.me.name;
        let timing = spec::timing(&declared.timing).ok()?;
        let standing = spec::standing(declared, me, &saved.memory, wall_now());
        if self.settings != Some((timing, standing)) {
            self.settings = Some((timing, standing));
            return Some(Input::Settings { timing, standing });
        }
        let configuration = &saved.configuration;
        let guests = spec::guests(declared, saved);
        if self.guests != guests {
            self.guests.clone_from(&guests);
            return Some(Input::Guests(guests));
        }
        if !matches!(node.part(), Part::Holding(_)) || configuration.pending.is_some() {
            return None;
        }
        let members = spec::wanted(declared, node, boot_now())?;
        Some(Input::Change { members })
    }

    /// One input; its answers to `asker` come back, everything else is carried out.
    async fn take(
        &mut self,
        input: Input<ServerName>,
        asker: Option<&Voter>,
    ) -> Done<Vec<Message<ServerName>>> {
        let Some(node) = &mut self.node else {
            return Ok(Vec::new());
        };
        let effects = node.handle(boot_now(), input);
        self.ledger.saved = Some(node.saved().clone());
        let committed = if effects.saves() {
            let (ledger, folder) = (self.ledger.clone(), self.folder.clone());
            let saving = tokio::task::spawn_blocking(move || {
                effects.commit(|_| ledger.save(&folder).map_err(|error| error.to_string()))
            });
            let saved = saving
                .await
                .map_err(|error| NotDurable(error.to_string()))?;
            saved.map_err(NotDurable)?
        } else {
            effects
                .commit(|_| Err("nothing was to be saved"))
                .map_err(|error| NotDurable(error.to_owned()))?
        };
        self.carry_out(committed, asker).await
    }

    async fn carry_out(
        &mut self,
        committed: Committed<ServerName>,
        asker: Option<&Voter>,
    ) -> Done<Vec<Message<ServerName>>> {
        let mut answers = Vec::new();
        for action in committed.actions {
            match action {
                Action::Send { to, message } if asker == Some(&to) => answers.push(message),
                Action::Send { to, message } => self.send(to, message),
                Action::Work { term, until } => self.work(term, until),
                Action::Stop { term } => self.tell(Event::Stop(term)),
            }
        }
        for note in committed.notes {
            self.note(note).await?;
        }
        Ok(answers)
    }

    fn work(&self, term: Term, until: Mono) {
        let Some((timing, _)) = self.settings else {
            return;
        };
        let lease = until.plus(timing.stop_before());
        self.tell(Event::Work {
            term,
            proved: lease.minus(timing.duration()),
            until,
            lease,
        });
    }

    async fn note(&mut self, note: Note<ServerName>) -> Done<()> {
        tracing::info!(?note, "lease");
        self.tell(Event::Note(note.clone()));
        match note {
            Note::Won(term, how) => self.note_won(term, &how).await,
            Note::GaveUp(_) | Note::Released(_) => {
                Box::pin(self.take(Input::Jitter(jitter()), None)).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn note_won(&mut self, term: Term, how: &How<ServerName>) -> Done<()> {
        let (cause, from) = match how {
            How::Again => (TakeoverCause::Again, None),
            How::Failover { from } => (TakeoverCause::Failover, from.as_ref()),
            How::First => (TakeoverCause::First, None),
            How::Handover { from } => (TakeoverCause::Handover, Some(from)),
            How::Promoted { from } => (TakeoverCause::Promoted, from.as_ref()),
        };
        let lease = self.node.as_ref().and_then(Node::lease);
        let granted_by = lease.map_or_else(Vec::new, |lease| {
            lease.granted_by().map(|voter| voter.name.clone()).collect()
        });
        self.snapshot.takeover = Some(Takeover {
            term: term.0,
            from: from.map(|voter| voter.name.clone()),
            cause,
            heard_at: self.heard_at.filter(|_| cause == TakeoverCause::Failover),
            won_at: wall_now(),
            granted_by,
            first_write_at: None,
            published_at: None,
        });
        if cause == TakeoverCause::Failover {
            let counted = Input::FailedOver(wall_now().0);
            Box::pin(self.take(counted, None)).await?;
        }
        Ok(())
    }

    async fn save_ledger(&self) -> Done<()> {
        let (ledger, folder) = (self.ledger.clone(), self.folder.clone());
        let saving = tokio::task::spawn_blocking(move || ledger.save(&folder));
        match saving.await {
            Ok(saved) => saved.map_err(|error| NotDurable(error.to_string())),
            Err(error) => Err(NotDurable(error.to_string())),
        }
    }

    /// An owner that does not listen is gone, or stuck: its enforcers have the deadlines.
    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            tracing::error!("nobody takes what the lease says");
        }
    }

    fn show(&mut self) {
        self.snapshot.node.clone_from(&self.node);
        self.snapshot.at = boot_now();
        self.shown.send_replace(Arc::new(self.snapshot.clone()));
    }

    /// How long a letter has: one renewal interval (H12).
    fn patience(&self) -> Duration {
        let renew = self.settings.map_or(Ms(500), |(timing, _)| timing.renew());
        Duration::from_millis(renew.0)
    }
}

/// By chance, as long as it may be.
fn jitter() -> Ms {
    let mut byte = [0];
    if SystemRandom::new().fill(&mut byte).is_err() {
        // Two candidates of one rank may ask at once: slower, and as safe.
        return Ms(0);
    }
    Ms(u64::from(byte[0]) % (Node::<ServerName>::JITTER_MAX.0 + 1))
}
