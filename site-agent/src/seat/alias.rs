//! The alias of the site follows the lease: published by the holder itself, under its term, with the
//! site's own key (H22), so that clients find the new active with every reconciler dead.
//!
//! One task a term. It is tried until every DNS server serves it, then looked at again now and then,
//! and dropped when the term is over: what is under way then is the DNS server's to refuse.

use std::sync::Arc;
use std::time::Duration;

use site_lease::Term;
use stead_dns::alias::{AliasError, AliasLimits, AliasTerm, alias_keys, publish_alias};
use stead_schemas::alias::AliasJob;
use stead_schemas::names::SecretName;
use stead_schemas::time::WallMs;
use stead_wire::clock::wall_now;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::chain;
use crate::supervisor::Context;

/// Between two looks at an alias that is served.
const LOOK: Duration = Duration::from_secs(30);
/// First and longest pause after a failure.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Largest key.
const KEY_MAX: u64 = 16 * 1024;
const ABOUT: &str = "alias";

/// What came of it so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Published {
    /// When every server was first seen to serve it.
    pub(super) at: Option<WallMs>,
    /// A newer term has published.
    pub(super) outranked: Option<Term>,
}

/// Publishing under one term.
#[derive(Debug)]
pub(super) struct Alias {
    published: watch::Receiver<Published>,
    context: Arc<Context>,
    task: JoinHandle<()>,
}

impl Alias {
    pub(super) fn publish(context: Arc<Context>, job: AliasJob, term: Term) -> Self {
        let (say, published) = watch::channel(Published::default());
        let task = tokio::spawn(keep(Arc::clone(&context), job, term, say));
        Self {
            published,
            context,
            task,
        }
    }

    pub(super) fn published(&self) -> Published {
        self.published.borrow().clone()
    }

    /// Until there is news. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.published.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Alias {
    fn drop(&mut self) {
        self.task.abort();
        self.context.board.problem(ABOUT, None);
    }
}

async fn keep(context: Arc<Context>, job: AliasJob, term: Term, say: watch::Sender<Published>) {
    let mut pause = PAUSE;
    loop {
        match once(&context, &job, term).await {
            Ok(everywhere) => {
                context.board.problem(ABOUT, None);
                if everywhere && say.borrow().at.is_none() {
                    say.send_modify(|published| published.at = Some(wall_now()));
                    tracing::info!(term = term.0, "the alias is served by every DNS server");
                }
                pause = PAUSE;
                sleep(if everywhere { LOOK } else { PAUSE }).await;
            }
            Err(AliasError::Outranked { term, .. }) => {
                say.send_modify(|published| published.outranked = Some(Term(term)));
                return;
            }
            Err(error) => {
                let text = chain(&error);
                tracing::warn!(term = term.0, "the alias is not published: {text}");
                context.board.problem(ABOUT, Some(text));
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Whether every server serves it now.
async fn once(context: &Context, job: &AliasJob, term: Term) -> Result<bool, AliasError> {
    let report = context.board.report();
    let secret = |name: &SecretName| {
        let version = report.secrets.get(name)?;
        read(&context.layout.secrets().file(name, version))
    };
    let (keys, problems) = alias_keys(job, secret);
    for problem in problems {
        tracing::warn!("a key for the alias can't be used: {}", chain(&problem));
    }
    let Some(generation) = &report.generation else {
        return Ok(false);
    };
    let under = AliasTerm {
        term: term.0,
        epoch: generation.epoch.clone(),
    };
    let published = publish_alias(job, &under, keys, AliasLimits::default(), wall_now).await?;
    Ok(published.everywhere())
}

fn read(path: &std::path::Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(KEY_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}
