//! The alias of a site with a lease, published by the holder's own agent under its term (H22).
//!
//! One atomic update at the first server, whose prerequisite is the mark as read; then every server
//! is asked. The server itself refuses who was overtaken, so nothing here asks a lease or a clock
//! whether it may: a caller whose term is over drops the future. When to publish, and what a newer
//! term means for the lease, is the agent's to say.

mod judge;
mod message;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use stead_schemas::alias::{AliasJob, AliasPublished, AliasServed};
use stead_schemas::generation::Epoch;
use stead_schemas::names::SecretName;
use stead_schemas::observed::Served;
use stead_schemas::record::RecordKey;
use stead_schemas::time::WallMs;
use thiserror::Error;
use tokio::time::{Instant, timeout};

use self::judge::{Other, Step, Write, judge, ours};
use crate::client::change::{Outcome, outcome};
use crate::client::publish::Sent;
use crate::client::{Client, Expected, PublishError, Unreadable, ZoneState, ask_all, reading};
use crate::key::{KeyError, TsigKey};

/// Who loses the race for the mark this often meets a writer that never ends.
const ATTEMPTS: usize = 8;

/// The term an alias is published under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasTerm {
    /// The term held. At least 1: 0 stands for no lease.
    pub term: u64,
    /// The epoch of the assignment in force: marks are written in it where none newer is read.
    pub epoch: Epoch,
}

/// How long publishing may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasLimits {
    /// Each exchange with a server.
    pub exchange: Duration,
    /// Until the first server has taken the change, all attempts together.
    pub change: Duration,
    /// From then until every server serves it; who does not by then is reported so.
    pub seen: Duration,
}

impl Default for AliasLimits {
    fn default() -> Self {
        Self {
            exchange: Duration::from_secs(1),
            change: Duration::from_secs(4),
            seen: Duration::from_secs(2),
        }
    }
}

/// Why an alias was not published, or is not known to be.
#[derive(Debug, Error)]
pub enum AliasError {
    /// A newer term has published: this writer's is over, or its lease must ask above (H5).
    #[error("{record} was published under term {term} (`{found}`), this writer's is {own}")]
    Outranked {
        /// The record whose mark says so.
        record: RecordKey,
        /// The newer term.
        term: u64,
        /// This writer's.
        own: u64,
        /// The newer mark.
        found: String,
    },
    /// Not this site's: another hierarchy's or site's mark, or none.
    #[error("{record} is not this site's ({found}): remove it by hand")]
    Foreign {
        /// The record.
        record: RecordKey,
        /// The mark found, or that there is none.
        found: String,
    },
    /// The mark was another one each time.
    #[error("{record} changed under each of {attempts} attempts at {server}: who else writes it?")]
    Contended {
        /// The record.
        record: RecordKey,
        /// Which server.
        server: SocketAddr,
        /// How often.
        attempts: usize,
    },
    /// Too slow; it is not known whether a message under way is still taken.
    #[error("{record} was not published within {} ms", within.as_millis())]
    Late {
        /// The record.
        record: RecordKey,
        /// The time there was.
        within: Duration,
    },
    /// What the first server holds is not known: nothing was sent.
    #[error("{record} could not be read before an update")]
    Unreadable {
        /// The record.
        record: RecordKey,
        /// Why.
        #[source]
        source: Unreadable,
    },
    /// The update was not taken, or is not known to have been.
    #[error(transparent)]
    Update(#[from] PublishError),
}

/// The keys of a job that can sign, in its order, from the secrets the assignment named; and what is
/// wrong with the others, never with secret material in it. One bad key of two stops no failover.
pub fn alias_keys<S: AsRef<str>>(
    job: &AliasJob,
    secret: impl Fn(&SecretName) -> Option<S>,
) -> (Vec<TsigKey>, Vec<KeyError>) {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    for key in &job.keys {
        let made = match secret(&key.secret) {
            Some(text) => TsigKey::from_base64(&key.name, key.algorithm, text.as_ref()),
            None => Err(KeyError::Missing {
                name: key.name.clone(),
                secret: key.secret.clone(),
            }),
        };
        match made {
            Ok(key) => keys.push(key),
            Err(problem) => problems.push(problem),
        }
    }
    (keys, problems)
}

/// Publishes the alias under a term: changes it at the first server where that is needed, then asks
/// every server. `keys` as of [`alias_keys`]; `clock` dates what was seen.
///
/// # Errors
/// [`AliasError`]. After [`AliasError::Outranked`] and [`AliasError::Foreign`] the alias is as it
/// was, and trying again under the same term is of no use; all others may pass.
pub async fn publish_alias(
    job: &AliasJob,
    under: &AliasTerm,
    keys: Vec<TsigKey>,
    limits: AliasLimits,
    clock: impl Fn() -> WallMs,
) -> Result<AliasPublished, AliasError> {
    let writer = Writer {
        client: Client::new(job.servers.clone(), keys, limits.exchange),
        job,
        under,
    };
    let late = |_| AliasError::Late {
        record: job.record(),
        within: limits.change,
    };
    let taken = timeout(limits.change, writer.change())
        .await
        .map_err(late)??;
    let servers = writer.seen(&taken, limits.seen, &clock).await?;
    Ok(AliasPublished {
        record: job.record(),
        term: under.term,
        mark: taken.mark,
        changed: taken.changed,
        signed_by: taken.signed_by,
        servers,
    })
}

/// One writer of one alias in one term.
struct Writer<'j> {
    client: Client,
    job: &'j AliasJob,
    under: &'j AliasTerm,
}

/// What the first server holds after the change.
struct Taken {
    mark: String,
    changed: bool,
    signed_by: Option<String>,
    /// The other family was withdrawn.
    withdrew: bool,
}

/// What a server has of both families of the alias.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Reading {
    own: Served,
    other: Served,
}

impl Writer<'_> {
    /// Reads, judges and writes until the first server holds what is wanted under this term.
    async fn change(&self) -> Result<Taken, AliasError> {
        let missing = PublishError::NotSetUp { what: "server" };
        let server = *self.client.servers().first().ok_or(missing)?;
        let record = self.job.record();
        let zone = self.client.enclosing_zone(server, &record).await?;
        let mut unanswered = None;
        let mut withdrew = false;
        for _ in 0..ATTEMPTS {
            let write = match judge(self.job, self.under, &self.read(server).await?)? {
                Step::Write(write) => write,
                Step::InStep { mark } => {
                    return Ok(Taken {
                        mark,
                        changed: unanswered.is_some(),
                        signed_by: None,
                        withdrew,
                    });
                }
            };
            withdrew |= matches!(write.other, Other::Ours(_));
            let message = || message::update(&zone, self.job, &write);
            match self.client.send(server, &record, message).await? {
                Sent::Answered(verdict, key) => {
                    if outcome(verdict, &record, &zone, server, key.name())? == Outcome::Applied {
                        return Ok(taken(&write, key, withdrew));
                    }
                }
                // Whether it was taken is read in the next round; taken late, its prerequisite
                // refuses it.
                Sent::Unanswered(source) => unanswered = Some(source),
            }
        }
        Err(match unanswered {
            Some(source) => AliasError::Update(PublishError::Unanswered {
                server,
                key: record,
                source,
            }),
            None => AliasError::Contended {
                record,
                server,
                attempts: ATTEMPTS,
            },
        })
    }

    /// Both families with their marks, in one go.
    async fn read(&self, server: SocketAddr) -> Result<Reading, AliasError> {
        let (own, other) = (self.job.record(), self.job.other_record());
        let unreadable = |source| AliasError::Unreadable {
            record: own.clone(),
            source,
        };
        let asked = [&own, &other].map(reading::questions);
        let [asked_own, asked_other] = asked;
        let asked_own = asked_own.map_err(unreadable)?;
        let asked_other = asked_other.map_err(unreadable)?;
        let questions = [asked_own.clone(), asked_other.clone()].concat();
        let answers = ask_all(server, &questions, self.client.limit())
            .await
            .map_err(|source| {
                unreadable(Unreadable::Exchange {
                    name: own.name.clone(),
                    source: Arc::new(source),
                })
            })?;
        let served = |asked, from: usize| {
            reading::served(server, asked, &answers[from], &answers[from + 1]).map_err(unreadable)
        };
        Ok(Reading {
            own: served(&asked_own, 0)?,
            other: served(&asked_other, 2)?,
        })
    }

    /// Asks every server until it serves the alias as taken, and not the family withdrawn.
    async fn seen(
        &self,
        taken: &Taken,
        within: Duration,
        clock: &impl Fn() -> WallMs,
    ) -> Result<Vec<AliasServed>, AliasError> {
        let deadline = Instant::now() + within;
        let mut expected = vec![Expected {
            key: self.job.record(),
            set: Some(self.job.set()),
            mark: Some(taken.mark.clone()),
        }];
        if taken.withdrew {
            expected.push(Expected {
                key: self.job.other_record(),
                set: None,
                mark: None,
            });
        }
        let asked = self.client.servers().iter().map(|server| {
            let expected = &expected;
            async move { self.seen_at(*server, expected, deadline, clock).await }
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn seen_at(
        &self,
        server: SocketAddr,
        expected: &[Expected],
        deadline: Instant,
        clock: &impl Fn() -> WallMs,
    ) -> Result<AliasServed, AliasError> {
        for expected in expected {
            let instead = match self.client.settle(server, expected, deadline).await.state {
                ZoneState::InStep => continue,
                ZoneState::Differs(served) => {
                    self.outranked(&expected.key, served.mark.as_deref())?;
                    format!("{}: {}", expected.key, words(&served))
                }
                ZoneState::Unknown(error) => chain(&error),
            };
            return Ok(AliasServed {
                server,
                since: None,
                instead: Some(instead),
            });
        }
        Ok(AliasServed {
            server,
            since: Some(clock()),
            instead: None,
        })
    }

    /// Refuses to go on where a mark of this site is of a newer term.
    fn outranked(&self, record: &RecordKey, mark: Option<&str>) -> Result<(), AliasError> {
        match ours(self.job, mark) {
            Some(mark) => judge::outranked(record, &mark, self.under.term),
            None => Ok(()),
        }
    }
}

fn taken(write: &Write, key: &TsigKey, withdrew: bool) -> Taken {
    Taken {
        mark: write.mark.to_string(),
        changed: true,
        signed_by: Some(key.name().to_owned()),
        withdrew,
    }
}

fn words(served: &Served) -> String {
    let Some(set) = &served.set else {
        return "not there".to_owned();
    };
    let values: Vec<String> = set.values.iter().map(ToString::to_string).collect();
    let mark = served.mark.as_deref().unwrap_or("no mark").escape_debug();
    format!("{} ({mark})", values.join(", "))
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use stead_schemas::alias::AliasKey;
    use stead_schemas::desired::TsigAlgorithm;
    use stead_schemas::time::DurationMs;

    use super::*;

    #[test]
    fn one_bad_key_of_several_leaves_the_others_usable() {
        let key = |name: &str| AliasKey {
            name: format!("{name}-p01"),
            algorithm: TsigAlgorithm::HmacSha256,
            secret: format!("{name}-p01").parse().unwrap(),
        };
        let job = AliasJob {
            hierarchy: "contoso".parse().unwrap(),
            site: "P01".parse().unwrap(),
            domain: "cm.example".parse().unwrap(),
            servers: Vec::new(),
            keys: ["missing", "good", "bad"].map(key).to_vec(),
            address: "10.1.0.12".parse().unwrap(),
            ttl: DurationMs::seconds(5),
        };
        let (keys, problems) = alias_keys(&job, |secret| match secret.as_str() {
            "good-p01" => Some("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="),
            "bad-p01" => Some("not base64!"),
            _ => None,
        });
        assert_eq!(keys[0].name(), "good-p01");
        assert_eq!((keys.len(), problems.len()), (1, 2));
        let text = problems[0].to_string();
        assert!(text.contains("missing-p01"), "{text}");
        assert!(!problems[1].to_string().contains("not base64!"));
    }
}
