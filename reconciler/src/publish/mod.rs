//! Publishing: what DNS serves is read (`read`), what the plan wants is written (`write`).
//!
//! Each DNS server has its own reader task, so that a dead one delays nothing at the others. Which
//! records are wanted, and when, is the planner's decision; the exchange itself is `stead_dns`.

pub mod contested;
mod once;
pub(crate) mod read;
pub mod withdrawn;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use stead_plan::{Context, record_keys};
use stead_schemas::desired::DnsDesired;
use stead_schemas::names::SiteCode;
use stead_schemas::observed::RecordObserved;
use stead_schemas::record::RecordKey;
use tokio::sync::Notify;

use crate::daemon::core::Core;
use crate::site::SiteWorld;
use stead_dns::TsigKey;
use stead_dns::client::Client;

pub(crate) use once::read_once;
pub(crate) use write::write;

/// One exchange with a DNS server.
const EXCHANGE: Duration = Duration::from_secs(2);

/// The publisher's shared part.
#[derive(Debug, Default)]
pub struct Publisher {
    live: RwLock<Option<Arc<Live>>>,
    needs: Mutex<BTreeMap<usize, BTreeSet<SiteCode>>>,
    needed: Notify,
}

/// A client with the servers and keys of now.
#[derive(Debug)]
pub struct Live {
    /// What it was made for.
    pub dns: Arc<DnsDesired>,
    /// The client.
    pub client: Client,
    /// What is wrong with the keys, in words.
    pub problem: Option<String>,
    /// Versions of the key material it was made with.
    versions: Vec<Option<String>>,
}

impl Publisher {
    /// The client of now.
    #[must_use]
    pub fn live(&self) -> Option<Arc<Live>> {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A site's records are to be read soon, at every server.
    pub fn need(&self, code: &SiteCode) {
        let servers = self.live().map_or(0, |live| live.dns.servers.len());
        let mut needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        for index in 0..servers {
            needs.entry(index).or_default().insert(code.clone());
        }
        drop(needs);
        self.needed.notify_waiters();
    }

    fn take_needs(&self, index: usize) -> BTreeSet<SiteCode> {
        let mut needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        needs.remove(&index).unwrap_or_default()
    }

    /// What is wrong with publishing as a whole.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.live().and_then(|live| live.problem.clone())
    }

    /// Takes servers and keys as they are declared now; true where anything is new.
    pub fn refresh(&self, core: &Core, dns: Option<&Arc<DnsDesired>>) -> bool {
        let Some(dns) = dns else {
            let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
            return live.take().is_some();
        };
        let materials: Vec<_> = dns
            .tsig
            .iter()
            .map(|key| core.secrets.lookup(None, &key.secret))
            .collect();
        let versions: Vec<_> = materials
            .iter()
            .map(|material| material.as_ref().map(|m| m.version.clone()))
            .collect();
        let same = self
            .live()
            .is_some_and(|live| *live.dns == **dns && live.versions == versions);
        if same {
            return false;
        }
        let mut problems = Vec::new();
        let mut keys = Vec::new();
        for (key, material) in dns.tsig.iter().zip(&materials) {
            let made = match material {
                Some(material) => TsigKey::from_base64(&key.name, key.algorithm, &material.value)
                    .map_err(|error| error.to_string()),
                None => Err(format!(
                    "TSIG key {}: the reconciler has no secret {}; put a file of that name into \
                     its secretsDir",
                    key.name, key.secret
                )),
            };
            match made {
                Ok(made) => keys.push(made),
                Err(problem) => problems.push(problem),
            }
        }
        let live = Live {
            dns: Arc::clone(dns),
            client: Client::new(dns.servers.clone(), keys, EXCHANGE),
            problem: (!problems.is_empty()).then(|| problems.join("; ")),
            versions,
        };
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(live));
        true
    }
}

/// Sees to it that every record the site may want is read: new keys are asked for at once, those
/// neither wanted nor marked any more are forgotten.
pub fn want_records(core: &Core, world: &mut SiteWorld, context: &Context) {
    let Some(dns) = &context.dns else {
        world.observed.records.clear();
        return;
    };
    let wanted = record_keys(world.desired.as_deref(), &world.observed, context);
    world
        .observed
        .records
        .retain(|key, record| wanted.contains(key) || !is_clear(record, dns));
    let mut news = false;
    for key in wanted {
        world.observed.records.entry(key).or_insert_with(|| {
            news = true;
            RecordObserved {
                servers: Vec::new(),
                contested: false,
            }
        });
    }
    let unread = |record: &RecordObserved| record.servers.len() != dns.servers.len();
    if news || world.observed.records.values().any(unread) {
        core.publisher.need(&context.site);
    }
    let known: BTreeSet<RecordKey> = world.observed.records.keys().cloned().collect();
    world.contests.retain(|key| known.contains(key));
    world.written.retain(|key, _| known.contains(key));
}

/// Every server was asked, and none has the record with a mark.
fn is_clear(record: &RecordObserved, dns: &DnsDesired) -> bool {
    record.servers.len() == dns.servers.len()
        && record
            .servers
            .iter()
            .all(|server| server.served.as_ref().is_some_and(|s| s.mark.is_none()))
}
