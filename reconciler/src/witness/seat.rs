//! One site's voter: started, told, and started again from its ledger when it ended.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use site_voting::durable::sync_folder;
use site_voting::{Event, Owner, Voting};
use stead_schemas::lease::LeaseSpec;
use stead_schemas::names::SiteCode;
use tokio::sync::{mpsc, watch};

use super::{Seated, Seats, Surroundings};
use crate::commands::chain;

/// Before a voter that ended, or could not be started, is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps the voter of a site for as long as the daemon lives.
pub(super) async fn run(
    around: Surroundings,
    site: SiteCode,
    seats: Arc<Seats>,
    mut specs: watch::Receiver<Arc<LeaseSpec>>,
) {
    loop {
        let why = match start(around.clone(), site.clone()).await {
            Ok((voting, mut events)) => {
                let voting = Arc::new(voting);
                let spec = Arc::clone(&specs.borrow_and_update());
                voting.tell(spec).await;
                seats.put(&site, Seated::Votes(Arc::clone(&voting)));
                attend(&voting, &mut events, &mut specs).await
            }
            Err(why) => why,
        };
        tracing::error!(%site, "this reconciler does not vote: {why}");
        seats.put(&site, Seated::Problem(why));
        if specs.has_changed().is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Until the voter has ended; answers why.
async fn attend(
    voting: &Voting,
    events: &mut mpsc::Receiver<Event>,
    specs: &mut watch::Receiver<Arc<LeaseSpec>>,
) -> String {
    loop {
        // Both are cancel safe.
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Ended(why)) => return format!("its ledger can't be written: {why}"),
                // It may never hold, so there is nothing to do for it; the voter logs its notes.
                Some(Event::Work { .. } | Event::Stop(_) | Event::Note(_)) => {}
                None => return "its voter is gone".to_owned(),
            },
            changed = specs.changed() => {
                if changed.is_err() {
                    return "the daemon ends".to_owned();
                }
                let spec = Arc::clone(&specs.borrow_and_update());
                voting.tell(spec).await;
            }
        }
    }
}

/// Opens the ledger, where a slow disk delays no other site's votes, and starts the voter.
async fn start(
    around: Surroundings,
    site: SiteCode,
) -> Result<(Voting, mpsc::Receiver<Event>), String> {
    let opening = tokio::task::spawn_blocking(move || {
        let folder = around.folder.join(site.as_str());
        let made = fs::create_dir_all(&folder).and_then(|()| sync_folder(&around.folder));
        made.map_err(|error| format!("no folder {}: {error}", folder.display()))?;
        let owner = Owner {
            hierarchy: around.hierarchy,
            site,
            name: around.name,
            machine: around.machine,
        };
        // A witness only answers.
        Voting::start(folder, &owner, around.tls, None, None).map_err(|error| chain(&error))
    });
    opening.await.map_err(|error| error.to_string())?
}
