//! Which certificates are refused, on which side, and before what.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::Value;
use stead_schemas::declared::settings::TlsFiles;
use stead_wire::material::{Material, MaterialError};
use stead_wire::peer::{CallError, Peer};
use stead_wire::pki_files::{PairPaths, write_ca_certificate, write_pair};
use stead_wire::serve::Limits;
use stead_wire::tls::ClientTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::hierarchy::{Hierarchy, PATIENCE, Server, id, now};
use crate::{raw, whoami};

async fn call(server: &Server, client: &Material) -> Result<Value, CallError> {
    let tls = ClientTls::new(client).unwrap();
    Peer::new(server.addr, id("server/p01-a"), tls)
        .get_json("/whoami", PATIENCE)
        .await
}

/// The TLS failure's own words, for telling one refusal from another.
fn tls_cause(answer: Result<Value, CallError>) -> String {
    match answer {
        Err(CallError::Tls { source, .. }) => source.to_string(),
        other => panic!("expected a TLS failure, got {other:?}"),
    }
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (ours, other) = (Hierarchy::new(), Hierarchy::new());
    let server = other.server(whoami()).await;
    let cause = tls_cause(call(&server, &ours.material(&id("reconciler/r"))).await);
    assert!(
        cause.contains("UnknownIssuer") || cause.contains("BadSignature"),
        "{cause}"
    );
}

#[tokio::test]
async fn a_caller_of_another_ca_is_refused_and_told_so() {
    let (ours, other) = (Hierarchy::new(), Hierarchy::new());
    let server = ours.server(whoami()).await;
    let foreign = other.issued(&id("reconciler/r"), now());
    let stray = Material::from_pem(
        ours.0.certificate_pem(),
        &foreign.certificate_pem,
        &foreign.key_pem,
    )
    .unwrap();
    // Many times: the alert must not lose a race against the closing of the connection.
    for _ in 0..50 {
        let cause = tls_cause(call(&server, &stray).await);
        assert!(cause.contains("alert"), "{cause}");
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(whoami()).await;
    let mut stream = raw::connect(server.addr, &hierarchy, None).await.unwrap();
    stream
        .write_all(b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let refused = stream.read(&mut [0; 64]).await.unwrap_err().to_string();
    assert!(refused.contains("CertificateRequired"), "{refused}");
}

#[tokio::test]
async fn an_identity_in_a_header_is_not_looked_at() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(whoami()).await;
    let own = hierarchy.issued(&id("server/p01-b"), now());
    let mut stream = raw::connect(server.addr, &hierarchy, Some(&own))
        .await
        .unwrap();
    stream
        .write_all(
            b"GET /whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
              Caller: stead://contoso/reconciler/stead-1\r\n\
              X-Forwarded-Client-Cert: URI=stead://contoso/reconciler/stead-1\r\n\r\n",
        )
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The server closes without waiting for our close_notify; what came before counts.
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.ends_with("\"stead://contoso/server/p01-b\""),
        "{answer}"
    );
}

#[tokio::test]
async fn a_caller_of_another_hierarchy_is_refused_even_with_a_trusted_ca() {
    // A CA that signs for two hierarchies, or a CA file with both CAs in it, opens neither door.
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(whoami()).await;
    let fabrikam = Hierarchy::named("fabrikam");
    let issued = fabrikam.issued(&"stead://fabrikam/reconciler/r".parse().unwrap(), now());
    let trust_both = format!(
        "{}{}",
        hierarchy.0.certificate_pem(),
        fabrikam.0.certificate_pem()
    );
    let own = hierarchy.issued(&id("server/p01-a"), now());
    let both = Material::from_pem(&trust_both, &own.certificate_pem, &own.key_pem).unwrap();
    server.tls.reload(&both).unwrap();
    let stranger = Material::from_pem(&trust_both, &issued.certificate_pem, &issued.key_pem);
    let cause = tls_cause(call(&server, &stranger.unwrap()).await);
    assert!(cause.contains("alert"), "{cause}");
    call(&server, &hierarchy.material(&id("reconciler/r")))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_wrong_server_is_refused_before_a_byte_of_the_request_is_sent() {
    let hierarchy = Hierarchy::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Not ours, so that its handshake is over as soon as it can be.
    let acceptor = TlsAcceptor::from(raw::server_config(
        &hierarchy.issued(&id("server/p01-b"), now()),
    ));
    let other = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor
            .accept(tcp)
            .await
            .map(drop)
            .unwrap_err()
            .to_string()
    });
    let answer = hierarchy.peer(addr).get_json::<Value>("/", PATIENCE).await;
    match answer {
        Err(CallError::WrongIdentity { expected, got, .. }) => {
            assert_eq!(*expected, id("server/p01-a"));
            assert_eq!(*got, id("server/p01-b"));
        }
        other => panic!("{other:?}"),
    }
    // Its handshake never ended, so it can't have read anything behind it.
    let seen = other.await.unwrap();
    assert!(seen.contains("alert"), "{seen}");
}

#[tokio::test]
async fn an_operator_can_not_stand_in_for_a_server() {
    let hierarchy = Hierarchy::new();
    let operator = hierarchy.material(&id("operator/ann"));
    let server = Server::start(&operator, whoami(), Limits::default()).await;
    let cause = tls_cause(call(&server, &hierarchy.material(&id("reconciler/r"))).await);
    assert!(cause.contains("server authentication"), "{cause}");
}

#[tokio::test]
async fn certificates_are_reloaded_on_both_sides_without_a_restart() {
    let (old, new) = (Hierarchy::new(), Hierarchy::new());
    let server = old.server(whoami()).await;
    let tls = ClientTls::new(&old.material(&id("reconciler/before"))).unwrap();
    let peer = Peer::new(server.addr, id("server/p01-a"), Arc::clone(&tls));
    let caller = async || peer.get_json::<String>("/whoami", PATIENCE).await;
    assert_eq!(caller().await.unwrap(), "stead://contoso/reconciler/before");
    // The kept connection was made with the old certificate and must not be used again.
    tls.reload(&old.material(&id("reconciler/after"))).unwrap();
    assert_eq!(caller().await.unwrap(), "stead://contoso/reconciler/after");
    tls.reload(&new.material(&id("reconciler/new"))).unwrap();
    assert!(matches!(caller().await, Err(CallError::Tls { .. })));
    server
        .tls
        .reload(&new.material(&id("server/p01-a")))
        .unwrap();
    assert_eq!(caller().await.unwrap(), "stead://contoso/reconciler/new");
}

#[test]
fn files_are_checked_when_loaded_and_errors_name_file_and_remedy() {
    let hierarchy = Hierarchy::new();
    let dir = tempfile::tempdir().unwrap();
    let pair = PairPaths::of(dir.path(), &id("server/p01-a"));
    write_pair(&pair, &hierarchy.issued(&id("server/p01-a"), now())).unwrap();
    let ca = write_ca_certificate(dir.path(), &hierarchy.0).unwrap();
    let good = TlsFiles {
        ca: ca.clone(),
        cert: pair.certificate.clone(),
        key: pair.key.clone(),
    };
    let loaded = Material::load(&good).unwrap();
    assert_eq!(loaded.identity(), &id("server/p01-a"));
    assert_eq!(
        format!("{loaded:?}"),
        "Material(stead://contoso/server/p01-a)"
    );
    let fails = |paths: TlsFiles| Material::load(&paths).unwrap_err();

    let missing = fails(TlsFiles {
        key: dir.path().join("nothing.key"),
        ..good.clone()
    });
    assert!(missing.to_string().contains("nothing.key"), "{missing}");
    let swapped = fails(TlsFiles {
        cert: pair.key.clone(),
        ..good.clone()
    });
    assert!(matches!(swapped, MaterialError::NoPem { .. }));
    let no_identity = fails(TlsFiles {
        cert: ca,
        ..good.clone()
    });
    assert!(matches!(no_identity, MaterialError::Identity { .. }));

    let other = PairPaths::of(dir.path(), &id("server/p01-b"));
    write_pair(&other, &hierarchy.issued(&id("server/p01-b"), now())).unwrap();
    let mixed = fails(TlsFiles {
        key: other.key,
        ..good.clone()
    });
    assert!(matches!(mixed, MaterialError::NotAPair { .. }));

    let large = dir.path().join("large.crt");
    std::fs::write(&large, vec![b'x'; 300 * 1024]).unwrap();
    let large = fails(TlsFiles {
        cert: large,
        ..good
    });
    assert!(matches!(large, MaterialError::TooLarge { .. }));
}
