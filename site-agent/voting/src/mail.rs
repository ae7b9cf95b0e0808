//! Letters to the other voters: one call each, on a connection that is kept while it answers and
//! replaced once it does not (H12).
//!
//! Nothing is repeated and nothing waits in line: a letter that can't go now is lost, as the protocol
//! allows, and the next one is newer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stead_schemas::names::{Identity, ObjectName, ServerName};
use stead_wire::peer::Peer;
use stead_wire::tls::ClientTls;
use tokio::sync::{Semaphore, mpsc};

use crate::Voter;
use crate::ledger::Route;
use crate::letter::{Letter, PATH, Reply};

/// Letters under way to one voter.
const UNDER_WAY: usize = 4;

/// The other voters.
#[derive(Debug)]
pub(crate) struct Mail {
    hierarchy: ObjectName,
    from: Option<IpAddr>,
    tls: Arc<ClientTls>,
    boxes: BTreeMap<ServerName, Mailbox>,
    replies: mpsc::Sender<(Voter, Reply)>,
}

#[derive(Debug)]
struct Mailbox {
    route: Route,
    peer: Arc<Peer>,
    slots: Arc<Semaphore>,
}

impl Mail {
    pub(crate) const fn new(
        hierarchy: ObjectName,
        from: Option<IpAddr>,
        tls: Arc<ClientTls>,
        replies: mpsc::Sender<(Voter, Reply)>,
    ) -> Self {
        Self {
            hierarchy,
            from,
            tls,
            boxes: BTreeMap::new(),
            replies,
        }
    }

    /// Who is where from now on.
    pub(crate) fn route(&mut self, routes: &BTreeMap<ServerName, Route>) {
        self.boxes.retain(|name, _| routes.contains_key(name));
        for (name, route) in routes {
            if self.boxes.get(name).is_some_and(|one| one.route == *route) {
                continue;
            }
            let identity = Identity {
                hierarchy: self.hierarchy.clone(),
                kind: route.kind,
                name: name.to_string(),
            };
            // Dates excuse no voter from its vote: a wrong clock is no reason for a failover (H20).
            let peer = Peer::new(route.address, identity, Arc::clone(&self.tls))
                .leaving_from(self.from)
                .tolerant();
            let one = Mailbox {
                route: route.clone(),
                peer: Arc::new(peer),
                slots: Arc::new(Semaphore::new(UNDER_WAY)),
            };
            self.boxes.insert(name.clone(), one);
        }
    }

    /// Sends a letter, which has so long; what it brings comes as a reply.
    pub(crate) fn send(&self, letter: Letter, within: Duration) {
        let Some(one) = self.boxes.get(&letter.to.name) else {
            return;
        };
        let Ok(slot) = Arc::clone(&one.slots).try_acquire_owned() else {
            return;
        };
        let (peer, replies) = (Arc::clone(&one.peer), self.replies.clone());
        tokio::spawn(async move {
            let answer: Result<Reply, _> = peer.post_json(PATH, &letter, within).await;
            drop(slot);
            match answer {
                // A driver that is gone needs no reply; one that is too busy gets newer ones.
                Ok(reply) => drop(replies.try_send((letter.to, reply))),
                Err(error) => tracing::debug!(to = %letter.to.name, %error, "no reply"),
            }
        });
    }
}
