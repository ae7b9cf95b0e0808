//! The server's seat in its site's lease: a voter, and what follows here from what it says.
//!
//! Work is allowed in this order (H34): the voters, the guard acknowledges, only then the site server.
//! It is stopped in the other order: the site server by its own deadline, then this agent, then the
//! guard. A term is released only where no work of it is proven to be left (R12), and what an earlier
//! agent left is ended before the first vote (R13). Who may be active is decided in `site-lease`.

mod alias;
mod attend;
mod handover;
mod progress;
mod promote;
mod resume;
mod sickness;
mod workload;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use site_voting::{Letter, LetterRefusal, Owner, Reply, Voter, Voting, machine_id};
use stead_schemas::lease::LeaseSpec;
use stead_schemas::names::{ObjectName, ServerName, SiteCode};
use stead_schemas::wire::Assignment;
use stead_wire::tls::ClientTls;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use resume::Resume;

use crate::chain;
use crate::supervisor::Context;

/// Questions that wait; more are refused.
const QUESTIONS: usize = 8;
/// How long a request for a handover may take to be begun or refused.
const HANDOVER: Duration = Duration::from_secs(2);
/// How long leaving may take: a handover, or the end of the work.
const LEAVE: Duration = Duration::from_secs(5);

/// What a seat needs to know of its agent.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The supervisor's.
    pub context: Arc<Context>,
    /// What it calls others with.
    pub tls: Arc<ClientTls>,
    /// Where its calls leave from.
    pub from: Option<IpAddr>,
    /// The hierarchy.
    pub hierarchy: ObjectName,
    /// The agent's settings, for its guard.
    pub config: PathBuf,
}

/// The seat, taken or not.
#[derive(Debug)]
pub struct Seat {
    surroundings: Surroundings,
    taken: Mutex<Option<Taken>>,
}

#[derive(Debug)]
struct Taken {
    site: SiteCode,
    voting: watch::Receiver<Option<Arc<Voting>>>,
    spec: watch::Sender<Arc<LeaseSpec>>,
    questions: mpsc::Sender<Question>,
    task: JoinHandle<()>,
}

/// What a seat is asked.
#[derive(Debug)]
enum Question {
    /// Hand over to this voter.
    HandOver {
        to: ServerName,
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// What the program that replaces this one may go on with.
    Resume {
        answer: oneshot::Sender<Option<Resume>>,
    },
    /// Go on alone.
    Promote {
        lost: BTreeSet<Voter>,
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// Leave the lease in order: the agent ends.
    Leave { done: oneshot::Sender<()> },
}

impl Seat {
    /// A seat that is not taken.
    #[must_use]
    pub const fn new(surroundings: Surroundings) -> Self {
        Self {
            surroundings,
            taken: Mutex::new(None),
        }
    }

    /// Takes the seat, keeps it with a changed lease, or gives it up, as the assignment says.
    pub fn apply(&self, assignment: &Assignment) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spec) = &assignment.lease else {
            if let Some(left) = taken.take() {
                left.task.abort();
                self.surroundings
                    .context
                    .board
                    .change(|report| report.lease = None);
            }
            return;
        };
        let spec: Arc<LeaseSpec> = Arc::new(LeaseSpec::clone(spec));
        match &*taken {
            Some(seat) if seat.site == assignment.site => {
                seat.spec.send_if_modified(|now| {
                    let differs = **now != *spec;
                    *now = spec;
                    differs
                });
            }
            _ => *taken = Some(self.take(assignment.site.clone(), spec)),
        }
    }

    fn take(&self, site: SiteCode, spec: Arc<LeaseSpec>) -> Taken {
        let (spec, specs) = watch::channel(spec);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let (voter, voting) = watch::channel(None);
        let owner = Owner {
            hierarchy: self.surroundings.hierarchy.clone(),
            site: site.clone(),
            name: self.surroundings.context.server.clone(),
            machine: machine_id(),
        };
        let task = tokio::spawn(attend::run(
            self.surroundings.clone(),
            owner,
            specs,
            asked,
            voter,
        ));
        Taken {
            site,
            voting,
            spec,
            questions,
            task,
        }
    }

    /// Takes a letter of another voter.
    ///
    /// # Errors
    /// [`LetterRefusal`]; then it had no effect.
    pub async fn receive(&self, caller: &str, letter: Letter) -> Result<Reply, LetterRefusal> {
        let Some((_, voting)) = self.voting() else {
            return Err(LetterRefusal::Out("it has no seat in a lease".to_owned()));
        };
        voting.receive(caller, letter).await
    }

    fn voting(&self) -> Option<(SiteCode, Arc<Voting>)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let seat = taken.as_ref()?;
        let voting = seat.voting.borrow().clone()?;
        Some((seat.site.clone(), voting))
    }

    fn spec(&self) -> Option<Arc<LeaseSpec>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = taken.as_ref()?.spec.borrow().clone();
        Some(spec)
    }

    /// Asks the holder here to hand over (H11). When this returns `Ok` it has begun.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn hand_over(&self, to: ServerName) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.ask(Question::HandOver { to, answer })?;
        match timeout(HANDOVER, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the seat was given up meanwhile".to_owned()),
            Err(_) => Err("it was not begun in time; ask for the status".to_owned()),
        }
    }

    /// What the program that replaces this one may go on with; none: no term is held here, or it is
    /// being handed over.
    pub async fn resume(&self) -> Option<Resume> {
        let (answer, answered) = oneshot::channel();
        self.ask(Question::Resume { answer }).ok()?;
        timeout(HANDOVER, answered).await.ok()?.ok()?
    }

    /// Leaves the lease in order: hands over if somebody is ready, else ends the work and releases.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.ask(Question::Leave { done }).is_ok() {
            // Past this the guard has the deadline.
            drop(timeout(LEAVE, left).await);
        }
    }

    fn ask(&self, question: Question) -> Result<(), String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seat) = &*taken else {
            return Err("this server has no seat in a lease".to_owned());
        };
        seat.questions
            .try_send(question)
            .map_err(|_| "too many questions wait, or the seat could not be taken".to_owned())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A failed start of a voter, as it is reported.
fn problem_of(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error)
}
