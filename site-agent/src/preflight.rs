//! What this server lacks to run a site server (SP-1 to SP-18): looked at before one is installed, from
//! where it would run, with the account and the settings that it would have.
//!
//! Each thing has a deadline of its own; what does not answer in time is not met. Nothing is kept of
//! the request, its secrets least of all (H30), and nothing is decided here: the reconciler asks again,
//! installs or holds.

mod disk;
mod library;
mod ports;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use site_roles::settings::{Password, SiteServerSettings};
use site_roles::store::Store;
use stead_schemas::names::SecretName;
use stead_schemas::prerequisite::{Check, CheckAnswer, CheckRequest, Finding, Prerequisite};
use stead_schemas::wire::{EnvValue, Refusal};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::agent::Agent;

/// The variable that a site server reads its database's password from.
const PASSWORD_VARIABLE: &str = "STEAD_DATABASE_PASSWORD";
/// The database as a whole; each operation has the site server's own limit.
const DATABASE: Duration = Duration::from_secs(10);
/// A disk, or a folder somewhere in the network.
const DISK: Duration = Duration::from_secs(5);

/// Looks under way: one at a time, and none beside one that a disk still keeps.
#[derive(Debug, Clone)]
pub struct Looks {
    one: Arc<Semaphore>,
    ledger: Arc<Semaphore>,
    library: Arc<Semaphore>,
}

impl Default for Looks {
    fn default() -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self {
            one: one(),
            ledger: one(),
            library: one(),
        }
    }
}

impl Looks {
    /// Everything that was looked at; none: somebody else is being answered.
    ///
    /// # Errors
    /// [`Refusal::NotForMe`].
    pub async fn answer(
        &self,
        agent: &Agent,
        request: &CheckRequest,
    ) -> Result<Option<CheckAnswer>, Refusal> {
        let CheckRequest {
            question,
            secrets: _,
        } = request;
        let me = &agent.me;
        let other_site = me.site.as_ref().is_some_and(|site| *site != question.site);
        if question.server != me.server || other_site {
            return Err(Refusal::NotForMe {
                server: me.server.clone(),
            });
        }
        let Ok(_slot) = self.one.try_acquire() else {
            return Ok(None);
        };
        let state = agent.layout.root().to_owned();
        let (ways, disk, library, database) = tokio::join!(
            ports::look(agent, &question.peers),
            blocking(&self.ledger, Prerequisite::Disk, {
                let within = question.sync_within;
                move || disk::look(&state, within)
            }),
            self.library(request),
            database(request),
        );
        let mut checks = vec![database, disk];
        checks.extend(ways);
        checks.extend(library);
        Ok(Some(CheckAnswer { checks }))
    }

    /// A folder can be tried; what is kept elsewhere has no driver in this version.
    async fn library(&self, request: &CheckRequest) -> Option<Check> {
        let url = request.question.content_library.as_deref()?;
        let folder = PathBuf::from(url.strip_prefix("file://")?);
        let server = request.question.server.clone();
        let look = move || library::look(&folder, &server);
        Some(blocking(&self.library, Prerequisite::ContentLibrary, look).await)
    }
}

/// Work that may never come back, once at a time: the thread that it keeps is one, not one a request.
async fn blocking(
    slot: &Arc<Semaphore>,
    prerequisite: Prerequisite,
    look: impl FnOnce() -> Check + Send + 'static,
) -> Check {
    let stuck = |text: String| Check {
        prerequisite,
        measured: None,
        findings: vec![Finding {
            fatal: prerequisite == Prerequisite::Disk,
            text,
            remedy: "find out what it waits for: dmesg, mount, the storage's own log".to_owned(),
        }],
    };
    let Ok(permit) = Arc::clone(slot).try_acquire_owned() else {
        return stuck("the look before this one still waits for it".to_owned());
    };
    let work = tokio::task::spawn_blocking(move || {
        let check = look();
        drop(permit);
        check
    });
    match timeout(DISK, work).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => stuck(format!("it could not be looked at: {error}")),
        Err(_) => stuck(format!("no answer within {} s", DISK.as_secs())),
    }
}

async fn database(request: &CheckRequest) -> Check {
    let lacks = |text: String, remedy: &str| Check {
        prerequisite: Prerequisite::Database,
        measured: None,
        findings: vec![Finding::fatal(text, remedy)],
    };
    let question = &request.question;
    let settings = serde_json::from_value(question.instance.settings.clone());
    let settings: SiteServerSettings = match settings {
        Ok(settings) => settings,
        // What stood there is not repeated.
        Err(_) => {
            let text = "this version can't read the site server's settings".to_owned();
            return lacks(text, "install the reconciler's version of site-agent here");
        }
    };
    let (secret, password) = match password(request) {
        Ok(found) => found,
        Err(missing) => {
            let text = format!("the secret {missing} was not sent");
            return lacks(text, "put it into the reconciler's secretsDir");
        }
    };
    let secret = secret.map(SecretName::as_str);
    let (holder, address) = (question.server.as_str(), Some(question.instance.address));
    let look = Store::look(&settings, holder, address, password, secret);
    match timeout(DATABASE, look).await {
        Ok(check) => check,
        Err(_) => lacks(
            format!("no answer within {} s", DATABASE.as_secs()),
            "it has to run, and this server has to reach it",
        ),
    }
}

/// The password that the site server would be given, with its name; the name of one that is missing.
fn password(request: &CheckRequest) -> Result<(Option<&SecretName>, Password), &SecretName> {
    match request.question.instance.env.get(PASSWORD_VARIABLE) {
        None => Ok((None, Password::new(None))),
        Some(EnvValue::Plain(text)) => Ok((None, Password::new(Some(text.clone())))),
        Some(EnvValue::Secret { secret }) => {
            let material = request.secrets.get(secret).ok_or(secret)?;
            Ok((Some(secret), Password::new(Some(material.value.clone()))))
        }
    }
}
