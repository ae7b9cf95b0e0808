//! Agents that lie, babble or hang harm their own server's status and nothing else.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use stead_schemas::api::WriterState;
use stead_schemas::generation::Epoch;
use stead_schemas::observed::Contact;
use stead_schemas::wire::WatchEvent;

use super::agents::{Agent, blank, line, topology};
use super::scene::{Scene, contact};

fn once(bytes: impl Into<Bytes>) -> Router {
    let bytes: Bytes = bytes.into();
    Router::new().route(
        "/v1/watch",
        get(move || async move {
            let first = stream::once(async move { Ok::<_, Infallible>(bytes) });
            Body::from_stream(first.chain(stream::pending()))
        }),
    )
}

fn refused(contact: Option<Contact>) -> bool {
    matches!(contact, Some(Contact::Refused { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_or_malformed_agent_harms_only_its_own_servers_status() {
    let scene = Scene::new();
    let good = Agent::good(&scene, "p01-a").await;
    let mut liar = blank("p01-c");
    liar.highest_epoch = Some(Epoch {
        counter: u64::MAX,
        reconciler: "stead-9".into(),
        start: "zz".into(),
    });
    let odd = [
        (
            "p01-b",
            Agent::odd(&scene, "p01-b", once("certainly not JSON\n")).await,
        ),
        (
            "p01-c",
            Agent::odd(
                &scene,
                "p01-c",
                once(line(&WatchEvent::Report(Box::new(liar)))),
            )
            .await,
        ),
        (
            "p01-d",
            Agent::odd(&scene, "p01-d", once(vec![b'x'; 5 * 1024 * 1024])).await,
        ),
        (
            "p01-e",
            Agent::odd(
                &scene,
                "p01-e",
                once(line(&WatchEvent::Report(Box::new(blank("p01-a"))))),
            )
            .await,
        ),
        ("p01-f", Agent::odd(&scene, "someone-else", once("")).await),
    ];
    let silent = Agent::odd(&scene, "p01-g", once("")).await;
    let mut servers = vec![("p01-a", good.addr), ("p01-g", silent.addr)];
    servers.extend(odd.iter().map(|(name, agent)| (*name, agent.addr)));
    let revision = scene.commit(&topology(&servers, &[("proxy", "p01-a")]));
    let daemon = scene.daemon("state").await;
    daemon.until_in_force(&revision).await;
    for (name, _) in &odd {
        daemon
            .until(name, |snapshot| refused(contact(snapshot, name)))
            .await;
    }
    daemon
        .until("the mute one is judged", |snapshot| {
            !matches!(
                contact(snapshot, "p01-g"),
                Some(Contact::Connecting | Contact::Heard)
            )
        })
        .await;
    daemon
        .until("the good one runs its instance", |snapshot| {
            contact(snapshot, "p01-a") == Some(Contact::Heard) && good.book.runs("proxy")
        })
        .await;
    good.book.assert_nothing_twice();
    let snapshot = daemon.snapshot();
    assert_eq!(
        snapshot.reconciler.writer,
        WriterState::Writing,
        "no lie fences it"
    );
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_silent_server_needs_others_to_say_so() {
    let scene = Scene::new();
    let here = Agent::good(&scene, "p01-a").await;
    let also = Agent::good(&scene, "p01-b").await;
    let gone = Agent::good(&scene, "p01-c").await;
    let servers = [
        ("p01-a", here.addr),
        ("p01-b", also.addr),
        ("p01-c", gone.addr),
    ];
    scene.commit(&topology(&servers, &[("proxy", "p01-c")]));
    let daemon = scene.daemon("state").await;
    daemon
        .until("all heard", |s| {
            servers
                .iter()
                .all(|(name, _)| contact(s, name) == Some(Contact::Heard))
        })
        .await;
    drop(gone);
    daemon
        .until("both others say so", |s| {
            matches!(contact(s, "p01-c"), Some(Contact::Silent { confirmed_for, .. }) if confirmed_for.0 > 1_000)
        })
        .await;
    // Nobody left to ask: no verdict on anybody, and the reconciler doubts itself.
    drop((here, also));
    daemon
        .until("the reconciler is the suspect", |s| {
            let site = s.sites.values().next();
            site.is_some_and(|site| site.observed.reconciler_suspect)
                && !matches!(contact(s, "p01-c"), Some(Contact::Silent { .. }))
        })
        .await;
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_server_that_others_reach_is_cut_off_not_silent() {
    let scene = Scene::new();
    let reaching = Router::new()
        .route("/v1/watch", get(|| async { beating("p01-a") }))
        .route(
            "/v1/reach",
            axum::routing::post(|| async { super::agents::reached(true) }),
        );
    let witness = Agent::odd(&scene, "p01-a", reaching).await;
    let gone = Agent::good(&scene, "p01-b").await;
    scene.commit(&topology(
        &[("p01-a", witness.addr), ("p01-b", gone.addr)],
        &[],
    ));
    drop(gone);
    let daemon = scene.daemon("state").await;
    daemon
        .until("cut off", |s| {
            matches!(contact(s, "p01-b"), Some(Contact::CutOff { .. }))
        })
        .await;
    daemon.0.stop().await;
}

/// A report, then heartbeats, without a watch channel behind it.
fn beating(server: &str) -> Body {
    let first = line(&WatchEvent::Report(Box::new(blank(server))));
    let beats = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let beat = WatchEvent::Heartbeat {
            sequence: 1,
            wall: stead_schemas::time::WallMs(1),
        };
        Some((Ok(line(&beat)), ()))
    });
    let first = stream::once(async move { Ok::<_, Infallible>(first) });
    Body::from_stream(first.chain(beats))
}
