//! The agent's half: guards found, started, lost, and replaced when they hang.
//!
//! The agent is this test's process. No term of its is ever left to run out: the guard would kill
//! every other test with it.

use std::path::Path;

use rustix::process::Signal;
use site_agent::guard::link::{GuardError, GuardLink};
use site_agent::guard::message::Release;
use site_agent::guard::timer::boot_ms;
use site_agent::layout::Layout;
use site_agent::processes;

use crate::lab::{EXE, Lab, lives, until};

const LONG: u64 = 60 * 60 * 1_000 - 1_000;

fn release() -> Release {
    Release {
        path: "/v1/lease".to_owned(),
        peers: Vec::new(),
    }
}

/// Ends the guard it was given.
struct Ended(u32);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(processes::signal(self.0, Signal::KILL));
    }
}

async fn ensure(lab: &Lab, layout: &Layout) -> (GuardLink, Ended) {
    let link = GuardLink::ensure(Path::new(EXE), &lab.config(), layout).await;
    let link = link.unwrap_or_else(|error| panic!("{}", site_agent::chain(&error)));
    let pid = link.pid().unwrap();
    assert_ne!(pid, std::process::id());
    (link, Ended(pid))
}

#[tokio::test]
async fn a_guard_is_started_once_and_found_again() {
    let lab = Lab::new();
    let layout = Layout::make(&lab.state()).unwrap();
    assert!(GuardLink::connect(&layout).await.unwrap().is_none());
    let (mut link, _ended) = ensure(&lab, &layout).await;
    assert_eq!(
        (link.welcome().highest, link.welcome().pid_lived),
        (0, false)
    );
    let deadline = boot_ms() + LONG;
    link.allow(7, deadline, &release()).await.unwrap();
    drop(link);
    let (mut link, _same) = ensure(&lab, &layout).await;
    let welcome = link.welcome();
    assert_eq!((welcome.term, welcome.until), (Some(7), Some(deadline)));
    assert!(welcome.pid_lived, "H18");
    // A refusal leaves the link as it is.
    let refused = link.allow(6, deadline, &release()).await;
    assert!(
        matches!(refused, Err(GuardError::Refused { .. })),
        "{refused:?}"
    );
    link.ended(7).await.unwrap();
    let refused = link.allow(7, deadline, &release()).await;
    assert!(
        matches!(refused, Err(GuardError::Refused { .. })),
        "{refused:?}"
    );
    assert!(!link.news().borrow().lost);
}

#[tokio::test]
async fn h34_a_lost_guard_is_heard_of_and_replaced() {
    let lab = Lab::new();
    let layout = Layout::make(&lab.state()).unwrap();
    let (mut link, ended) = ensure(&lab, &layout).await;
    link.allow(7, boot_ms() + LONG, &release()).await.unwrap();
    let mut news = link.news();
    drop(ended);
    news.wait_for(|news| news.lost).await.unwrap();
    let lost = link.allow(7, boot_ms() + LONG, &release()).await;
    assert!(matches!(lost, Err(GuardError::Lost)), "{lost:?}");
    let (mut link, _ended) = ensure(&lab, &layout).await;
    assert_eq!(link.welcome().term, None, "R13");
    link.allow(8, boot_ms() + LONG, &release()).await.unwrap();
    link.ended(8).await.unwrap();
}

#[tokio::test]
async fn h34_a_hung_guard_arms_nothing_and_is_replaced() {
    let lab = Lab::new();
    let layout = Layout::make(&lab.state()).unwrap();
    let (mut link, hung) = ensure(&lab, &layout).await;
    processes::signal(hung.0, Signal::STOP).unwrap();
    let silent = link.allow(7, boot_ms() + LONG, &release()).await;
    assert!(matches!(silent, Err(GuardError::Silent(_))), "{silent:?}");
    let lost = link.allow(7, boot_ms() + LONG, &release()).await;
    assert!(
        matches!(lost, Err(GuardError::Lost)),
        "late answers: {lost:?}"
    );
    let (mut link, new) = ensure(&lab, &layout).await;
    assert_ne!(new.0, hung.0);
    until("the hung one gone", || !lives(hung.0)).await;
    link.allow(7, boot_ms() + LONG, &release()).await.unwrap();
    link.ended(7).await.unwrap();
}

#[tokio::test]
async fn a_guard_that_can_t_start_says_why() {
    let lab = Lab::new();
    let layout = Layout::make(&lab.state()).unwrap();
    std::fs::write(lab.config(), "kind: AgentConfig\n").unwrap();
    let failed = GuardLink::ensure(Path::new(EXE), &lab.config(), &layout).await;
    let Err(GuardError::Start(said)) = failed else {
        panic!("{failed:?}");
    };
    assert!(said.contains("agent.yaml"), "{said}");
}
