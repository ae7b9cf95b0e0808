//! H20: a certificate of which nothing but the date is wrong. Who is let in where, and that nobody else
//! comes in behind a wrong date. Clocks stand still: certificates are made for other times.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, put};
use axum::{Json, Router};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use serde_json::Value;
use stead_schemas::time::WallMs;
use stead_wire::dates::Dates;
use stead_wire::doors::Doors;
use stead_wire::material::Material;
use stead_wire::peer::{CallError, Peer};
use stead_wire::serve::{Caller, Limits};
use stead_wire::tls::ClientTls;
use time::OffsetDateTime;

use crate::hierarchy::{DAY, Hierarchy, PATIENCE, Server, id, now};
use crate::whoami;

/// Issued then: over since a year but for its 90 days, ended yesterday, begins the day after tomorrow.
const OUTSIDE: [i64; 3] = [365, 91, -2];

fn days_ago(days: i64) -> WallMs {
    let ms = days * i64::try_from(DAY).unwrap();
    WallMs(now().0.checked_add_signed(-ms).unwrap())
}

/// `/read` for everybody, `/whoami` and `/obey` for those within their dates.
fn doors() -> Doors {
    let read = get(|dates: Dates, Caller(caller): Caller| async move {
        Json((caller.to_string(), dates != Dates::Within))
    });
    let strict = whoami().route("/obey", put(|| async {}));
    Doors::new(strict, Router::new().route("/read", read))
}

fn peer(server: &Server, client: &Material) -> Peer {
    Peer::new(
        server.addr,
        id("server/p01-a"),
        ClientTls::new(client).unwrap(),
    )
}

async fn read(peer: &Peer) -> Result<(String, bool), CallError> {
    peer.get_json("/read", PATIENCE).await
}

fn tls_cause(answer: Result<(String, bool), CallError>) -> String {
    match answer {
        Err(CallError::Tls { source, .. }) => source.to_string(),
        other => panic!("expected a TLS failure, got {other:?}"),
    }
}

fn refused(answer: Result<Value, CallError>) -> String {
    match answer {
        Err(CallError::Status {
            code: 403, text, ..
        }) => text,
        other => panic!("expected 403, got {other:?}"),
    }
}

#[tokio::test]
async fn h20_a_caller_outside_its_dates_gets_to_tolerant_routes_only_and_is_told_why() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(doors()).await;
    let who = id("reconciler/stead-1");
    for days in OUTSIDE {
        let peer = peer(&server, &hierarchy.material_at(&who, days_ago(days)));
        assert_eq!(read(&peer).await.unwrap(), (who.to_string(), true));
        for path in ["/whoami", "/nothing", "/obey"] {
            let text = refused(peer.get_json(path, PATIENCE).await);
            let want = if days > 0 {
                "ended 20"
            } else {
                "is not valid before 20"
            };
            assert!(text.contains(want), "{text}");
            assert!(
                text.contains("stead pki issue reconciler stead-1"),
                "{text}"
            );
        }
        refused(peer.put_json("/obey", &(), PATIENCE).await);
        // A method that the tolerant route does not have is no way round.
        refused(peer.put_json("/read", &(), PATIENCE).await);
    }
    let complaints = server.tls.outdated().complaints();
    assert_eq!(complaints.keys().collect::<Vec<_>>(), [&who]);
    assert_eq!(server.tls.outdated().times(&who), 18, "every request");
    // Gone with a good one; 12 h ahead of us and 89 days ago are fine.
    for at in [days_ago(89), WallMs(now().0 + DAY / 2)] {
        let fine = peer(&server, &hierarchy.material_at(&who, at));
        assert_eq!(read(&fine).await.unwrap(), (who.to_string(), false));
        fine.get_json::<Value>("/whoami", PATIENCE).await.unwrap();
    }
    assert!(server.tls.outdated().complaints().is_empty());
}

#[tokio::test]
async fn h20_a_plain_router_is_strict() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(whoami()).await;
    let late = hierarchy.material_at(&id("operator/ann"), days_ago(91));
    let text = refused(peer(&server, &late).get_json("/whoami", PATIENCE).await);
    assert!(text.contains("stead pki issue operator ann"), "{text}");
}

#[tokio::test]
async fn h20_a_connection_that_outlives_its_certificate_turns_strict() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(doors()).await;
    // Of its 90 days three seconds are left.
    let ends = WallMs(now().0 - 90 * DAY + 3_000);
    let who = id("reconciler/stead-1");
    let peer = peer(&server, &hierarchy.material_at(&who, ends));
    peer.get_json::<Value>("/whoami", PATIENCE).await.unwrap();
    let over = tokio::time::Instant::now() + PATIENCE;
    loop {
        match peer.get_json::<Value>("/whoami", PATIENCE).await {
            Ok(_) => assert!(tokio::time::Instant::now() < over, "still obeyed"),
            answer => {
                assert!(refused(answer).contains("ended"));
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(read(&peer).await.unwrap().1);
}

#[tokio::test]
async fn h20_only_a_tolerant_peer_takes_a_server_outside_its_dates() {
    let hierarchy = Hierarchy::new();
    let ours = hierarchy.material(&id("reconciler/stead-1"));
    for days in OUTSIDE {
        let bad = hierarchy.material_at(&id("server/p01-a"), days_ago(days));
        let server = Server::start(&bad, doors(), Limits::default()).await;
        let cause = tls_cause(read(&peer(&server, &ours)).await);
        let want = if days > 0 {
            "certificate expired"
        } else {
            "not valid yet"
        };
        assert!(cause.contains(want), "{cause}");
        let tls = ClientTls::new(&ours).unwrap();
        let tolerant = Peer::new(server.addr, id("server/p01-a"), Arc::clone(&tls)).tolerant();
        read(&tolerant).await.unwrap();
        let complaints = tls.outdated().complaints();
        let complaint = &complaints[&id("server/p01-a")];
        assert!(complaint.contains("stead pki issue server p01-a"));
        // It is renewed; the next connection shows it.
        let good = hierarchy.material(&id("server/p01-a"));
        server.tls.reload(&good).unwrap();
        let next = Peer::new(server.addr, id("server/p01-a"), Arc::clone(&tls)).tolerant();
        read(&next).await.unwrap();
        assert!(tls.outdated().complaints().is_empty());
    }
}

#[tokio::test]
async fn h20_nothing_else_hides_behind_a_date() {
    let (ours, other) = (Hierarchy::new(), Hierarchy::new());
    let (at, who) = (days_ago(365), id("reconciler/stead-1"));
    let trusting_us = |hierarchy: &Hierarchy, identity: &str| {
        let issued = hierarchy.issued(&identity.parse().unwrap(), at);
        let ca = format!(
            "{}{}",
            ours.0.certificate_pem(),
            hierarchy.0.certificate_pem()
        );
        Material::from_pem(&ca, &issued.certificate_pem, &issued.key_pem).unwrap()
    };
    let server = ours.server(doors()).await;
    // A caller of another CA.
    let foreign = trusting_us(&other, &who.to_string());
    let cause = tls_cause(read(&peer(&server, &foreign)).await);
    assert!(cause.contains("alert"), "{cause}");
    // One of another hierarchy, whose CA is trusted.
    let fabrikam = Hierarchy::named("fabrikam");
    let own = ours.issued(&id("server/p01-a"), now());
    let both = format!(
        "{}{}",
        ours.0.certificate_pem(),
        fabrikam.0.certificate_pem()
    );
    let both = Material::from_pem(&both, &own.certificate_pem, &own.key_pem).unwrap();
    server.tls.reload(&both).unwrap();
    let stranger = trusting_us(&fabrikam, "stead://fabrikam/reconciler/r");
    let cause = tls_cause(read(&peer(&server, &stranger)).await);
    assert!(cause.contains("alert"), "{cause}");
    assert!(server.tls.outdated().complaints().is_empty());
    // Servers: of another CA, of another name, of another purpose.
    let caller = ours.material(&who);
    for (material, want) in [
        (other.material_at(&id("server/p01-a"), at), ""),
        (
            ours.material_at(&id("operator/p01-a"), at),
            "server authentication",
        ),
    ] {
        let server = Server::start(&material, doors(), Limits::default()).await;
        let cause = tls_cause(read(&peer(&server, &caller).tolerant()).await);
        assert!(
            cause.contains(want) && !cause.contains("expired"),
            "{cause}"
        );
    }
    let wrong = ours.material_at(&id("server/p01-b"), at);
    let server = Server::start(&wrong, doors(), Limits::default()).await;
    let answer = read(&peer(&server, &caller).tolerant()).await;
    assert!(
        matches!(answer, Err(CallError::WrongIdentity { .. })),
        "{answer:?}"
    );
}

/// A server under a root, and a caller in its dates under a CA between that ended yesterday.
fn with_an_old_ca_between() -> (Material, Material) {
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let leaf = |identity: &str, usage: ExtendedKeyUsagePurpose, issuer: &Issuer<'_, KeyPair>| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![usage];
        let uri = id(identity).to_string();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        (params.signed_by(&key, issuer).unwrap(), key)
    };
    let key = KeyPair::generate().unwrap();
    let params = ca("root");
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let (server, server_key) = leaf("server/p01-a", ExtendedKeyUsagePurpose::ServerAuth, &issuer);
    let key = KeyPair::generate().unwrap();
    let mut params = ca("between");
    params.not_after = OffsetDateTime::now_utc() - Duration::from_secs(86_400);
    let between = params.signed_by(&key, &issuer).unwrap();
    let issuer = Issuer::new(params, key);
    let (client, client_key) = leaf(
        "reconciler/stead-1",
        ExtendedKeyUsagePurpose::ClientAuth,
        &issuer,
    );
    // The root may be sent along; its dates are nobody's business.
    let chain = format!("{}{}{}", client.pem(), between.pem(), root.pem());
    let material = |chain: &str, key: &KeyPair| {
        Material::from_pem(&root.pem(), chain, &key.serialize_pem()).unwrap()
    };
    (
        material(&server.pem(), &server_key),
        material(&chain, &client_key),
    )
}

#[tokio::test]
async fn h20_a_ca_between_that_ended_counts_like_the_certificate() {
    let (server, client) = with_an_old_ca_between();
    assert!(matches!(client.validity().at(now()), Dates::After(_)));
    let server = Server::start(&server, doors(), Limits::default()).await;
    let peer = peer(&server, &client);
    assert!(read(&peer).await.unwrap().1);
    refused(peer.get_json("/whoami", PATIENCE).await);
}
