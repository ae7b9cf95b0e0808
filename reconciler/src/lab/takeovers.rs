//! Who holds the leases, from the agents themselves: a failover is told with no reconciler, too.
//!
//! Only looks: over each candidate's own socket, as `site-agent status` does.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use stead_schemas::lease::{LeasePart, Takeover, TakeoverCause};
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::time::WallMs;
use stead_schemas::wire::AgentReport;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::folder::Folder;
use super::scene::LabServer;
use crate::api_client::ApiArgs;

/// Time between looks at one agent.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long an agent may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// A holder of a site's lease as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The site.
    pub(super) site: SiteCode,
    /// Who holds it.
    pub(super) holder: ServerName,
    /// How it took it up.
    pub(super) takeover: Takeover,
}

/// What was told of a site's holders.
#[derive(Debug, Default)]
pub(super) struct Told {
    term: u64,
    published: bool,
    wrote: bool,
}

/// Looks at all that may hold a lease, beside the lab's loop.
pub(super) fn watch(
    folder: &Folder,
    servers: impl Iterator<Item = LabServer>,
) -> mpsc::Receiver<Seen> {
    let (send, receive) = mpsc::channel(1);
    for server in servers.filter(|server| server.is_candidate) {
        let state = folder.agent_state(server.name.as_str());
        let send = send.clone();
        tokio::spawn(async move {
            let mut last = None;
            while !send.is_closed() {
                sleep(LOOK_EVERY).await;
                let asked = timeout(ANSWER, look(&state)).await;
                let takeover = asked.ok().flatten();
                if takeover.is_none() || takeover == last {
                    continue;
                }
                last.clone_from(&takeover);
                let seen = takeover.map(|takeover| Seen {
                    site: server.site.clone(),
                    holder: server.name.clone(),
                    takeover,
                });
                if let Some(seen) = seen {
                    drop(send.send(seen).await);
                }
            }
        });
    }
    receive
}

/// How this agent took up the lease that it holds now.
async fn look(state: &Path) -> Option<Takeover> {
    // Through a descriptor: names of sockets are short, folders are not.
    let folder = File::open(state).ok()?;
    let socket = format!("/proc/self/fd/{}/agent.sock", folder.as_raw_fd());
    let api = ApiArgs {
        api: Some(socket),
        ca: None,
        cert: None,
        key: None,
    };
    let report: AgentReport = api.client().ok()?.get("/v1/state").await.ok()?;
    let lease = report.lease?;
    let holds = lease.part == LeasePart::Holding;
    lease
        .takeover
        .filter(|taken| holds && taken.term == lease.term)
}

impl Told {
    /// The lines for what is new.
    pub(super) fn lines(&mut self, seen: &Seen) -> Vec<String> {
        let Seen {
            site,
            holder,
            takeover,
        } = seen;
        let mut lines = Vec::new();
        if takeover.term < self.term {
            return lines;
        }
        if takeover.term > self.term {
            *self = Self {
                term: takeover.term,
                ..Self::default()
            };
            lines.push(format!("{site}  {}", how(holder, takeover)));
        }
        let moved = matches!(
            takeover.cause,
            TakeoverCause::Failover | TakeoverCause::Handover
        );
        let since = |at: WallMs| since(takeover, at);
        if let Some(at) = takeover.published_at
            && !std::mem::replace(&mut self.published, true)
            && moved
        {
            let alias = site.as_str().to_lowercase();
            let text = format!("{site}  alias {alias} leads to {holder}, {}", since(at));
            lines.push(text);
        }
        if let Some(at) = takeover.first_write_at
            && !std::mem::replace(&mut self.wrote, true)
            && moved
        {
            lines.push(format!(
                "{site}  {holder} took the first write, {}",
                since(at)
            ));
        }
        lines
    }
}

fn how(holder: &ServerName, takeover: &Takeover) -> String {
    let term = takeover.term;
    let from = takeover.from.as_ref().map(|from| format!("{from} -> "));
    let from = from.unwrap_or_default();
    match takeover.cause {
        TakeoverCause::First => format!("{holder} is active, term {term}"),
        TakeoverCause::Again => format!("{holder} is active again, term {term}"),
        TakeoverCause::Failover => format!("failed over {from}{holder}, term {term}"),
        TakeoverCause::Handover => format!("switched over {from}{holder}, term {term}"),
        TakeoverCause::Promoted => format!("promoted by hand {from}{holder}, term {term}"),
    }
}

/// How long after the holder before was last heard, or else after the lease was won.
fn since(takeover: &Takeover, at: WallMs) -> String {
    let (from, word) = match (takeover.heard_at, &takeover.from) {
        (Some(heard), Some(before)) => (heard, format!("{before} was last heard")),
        _ => (takeover.won_at, "it won the lease".to_owned()),
    };
    let ms = at.0.saturating_sub(from.0);
    format!("{}.{} s after {word}", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(term: u64, cause: TakeoverCause) -> Seen {
        Seen {
            site: "P01".parse().unwrap(),
            holder: "p01-b".parse().unwrap(),
            takeover: Takeover {
                term,
                from: Some("p01-a".parse().unwrap()),
                cause,
                heard_at: Some(WallMs(10_000)),
                won_at: WallMs(13_500),
                granted_by: Vec::new(),
                first_write_at: None,
                published_at: None,
            },
        }
    }

    #[test]
    fn a_failover_is_told_as_it_goes_on_and_once() {
        let mut told = Told::default();
        let mut failover = seen(2, TakeoverCause::Failover);
        let lines = told.lines(&failover);
        assert_eq!(lines, ["P01  failed over p01-a -> p01-b, term 2"]);
        failover.takeover.first_write_at = Some(WallMs(13_912));
        let lines = told.lines(&failover);
        let text = "P01  p01-b took the first write, 3.9 s after p01-a was last heard";
        assert_eq!(lines, [text]);
        failover.takeover.published_at = Some(WallMs(14_000));
        let lines = told.lines(&failover);
        let text = "P01  alias p01 leads to p01-b, 4.0 s after p01-a was last heard";
        assert_eq!(lines, [text]);
        assert!(told.lines(&failover).is_empty());
        let older = seen(1, TakeoverCause::Again);
        assert!(told.lines(&older).is_empty(), "it was over already");
    }

    #[test]
    fn the_first_active_of_a_new_lab_is_told_in_one_line() {
        let mut told = Told::default();
        let mut first = seen(1, TakeoverCause::First);
        first.takeover.published_at = Some(WallMs(14_000));
        assert_eq!(told.lines(&first), ["P01  p01-b is active, term 1"]);
    }
}
