//! A server that has no certificate yet and a reconciler: who is met, who is refused, and how far a
//! stranger gets.

use axum::routing::post;
use axum::{Json, Router};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use stead_wire::doors::Doors;
use stead_wire::material::Material;
use stead_wire::meeting::{MeetError, Pin, meet};
use stead_wire::peer::{CallError, Peer};
use stead_wire::serve::Limits;
use stead_wire::tls::{ClientTls, ServerTls};

use crate::hierarchy::{Hierarchy, PATIENCE, Server, id, short};
use crate::whoami;

fn pin_of(hierarchy: &Hierarchy) -> Pin {
    Pin::of(&CertificateDer::from_pem_slice(hierarchy.0.certificate_pem().as_bytes()).unwrap())
}

/// `/whoami` for those of the hierarchy, `/join` for strangers.
async fn reconciler(hierarchy: &Hierarchy, named: &str) -> Server {
    let material = hierarchy.material(&id(named));
    let join = post(|Json(token): Json<String>| async move { Json(format!("took {token}")) });
    let doors = Doors::from(whoami()).strangers(Router::new().route("/join", join));
    let tls = ServerTls::open_to_strangers(&material).unwrap();
    Server::start_with(tls, doors, Limits::default()).await
}

#[tokio::test]
async fn a_reconciler_is_met_by_its_cas_digest_and_called_by_its_name_then() {
    let hierarchy = Hierarchy::new();
    let server = reconciler(&hierarchy, "reconciler/stead-1").await;
    let met = meet(server.addr, &pin_of(&hierarchy), PATIENCE)
        .await
        .unwrap();
    assert_eq!(met.who, id("reconciler/stead-1"));
    assert_eq!(Pin::of(&met.ca), pin_of(&hierarchy));
    let peer = Peer::new(server.addr, met.who, ClientTls::nameless(&met.ca).unwrap());
    let answer: String = peer.post_json("/join", &"a token", PATIENCE).await.unwrap();
    assert_eq!(answer, "took a token");
    // Everything else is for those who have a name.
    for path in ["/whoami", "/nothing"] {
        let refused = peer.get_json::<Value>(path, PATIENCE).await;
        let Err(CallError::Status {
            code: 401, text, ..
        }) = refused
        else {
            panic!("{path}: {refused:?}");
        };
        assert!(text.contains("site-agent join"), "{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn those_of_the_hierarchy_go_in_by_the_same_door_as_ever() {
    let hierarchy = Hierarchy::new();
    let server = reconciler(&hierarchy, "reconciler/stead-1").await;
    let tls = ClientTls::new(&hierarchy.material(&id("operator/ann"))).unwrap();
    let ann = Peer::new(server.addr, id("reconciler/stead-1"), tls);
    let caller: String = ann.get_json("/whoami", PATIENCE).await.unwrap();
    assert_eq!(caller, "stead://contoso/operator/ann");
    // A certificate of another CA is worse than none.
    let theirs = Hierarchy::new();
    let tls = ClientTls::new(&theirs.material(&id("operator/ann"))).unwrap();
    let stranger = Peer::new(server.addr, id("reconciler/stead-1"), tls);
    let refused = stranger
        .post_json::<_, Value>("/join", &"a token", PATIENCE)
        .await;
    assert!(matches!(refused, Err(CallError::Tls { .. })), "{refused:?}");
}

#[tokio::test]
async fn whoever_is_not_under_the_pinned_ca_is_not_met() {
    let (ours, theirs) = (Hierarchy::new(), Hierarchy::new());
    let pin = pin_of(&ours);
    // Another CA of the same name; a server of ours, which is no reconciler.
    let impostor = reconciler(&theirs, "reconciler/stead-1").await;
    let agent = reconciler(&ours, "server/p01-a").await;
    // One that shows our CA above a certificate of its own CA.
    let borrowed = {
        let issued = theirs.issued(&id("reconciler/stead-1"), crate::hierarchy::now());
        let shown = issued.certificate_pem + ours.0.certificate_pem();
        let material = Material::from_pem(theirs.0.certificate_pem(), &shown, &issued.key_pem);
        let tls = ServerTls::new(&material.unwrap()).unwrap();
        Server::start_with(tls, whoami(), Limits::default()).await
    };
    // One that keeps its CA to itself, as agents do.
    let silent = {
        let material = ours.material(&id("reconciler/stead-1"));
        let tls = ServerTls::new(&material).unwrap();
        Server::start_with(tls, whoami(), Limits::default()).await
    };
    for addr in [impostor.addr, agent.addr, borrowed.addr, silent.addr] {
        let met = meet(addr, &pin, PATIENCE).await;
        assert!(matches!(met, Err(MeetError::Stranger { .. })), "{met:?}");
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_apart() {
    let hierarchy = Hierarchy::new();
    let server = reconciler(&hierarchy, "reconciler/stead-1").await;
    let addr = server.addr;
    server.stop().await;
    let gone = meet(addr, &pin_of(&hierarchy), PATIENCE).await;
    assert!(matches!(gone, Err(MeetError::Refused { .. })), "{gone:?}");
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = mute.local_addr().unwrap();
    let late = meet(addr, &pin_of(&hierarchy), short()).await;
    assert!(matches!(late, Err(MeetError::Timeout { .. })), "{late:?}");
}
