//! Health asked over https, and archives from web servers that are trusted, unknown, or misbehave.

use std::fs;
use std::sync::atomic::Ordering;

use stead_schemas::wire::{Health, InstanceReport, Phase, Probe};

use crate::archives::{archive, digest, from};
use crate::lab::{Lab, check, command, one};
use crate::tls::{Body, Web};

#[tokio::test]
async fn health_is_asked_over_https_whoever_signed_the_certificate() {
    let mut lab = Lab::running().await;
    let web = Web::https();
    let mut spec = command(&["sleep", "1000"]);
    spec.address = web.address.ip();
    let probe = |port| Probe::Https {
        path: "/health".to_owned(),
        port: Some(port),
    };
    spec.health = Some(check(probe(web.address.port())));
    lab.assign(one("app", spec.clone())).await;
    lab.until_healthy("app").await;
    assert!(web.answers.load(Ordering::Relaxed) > 0);
    web.status.store(503, Ordering::Relaxed);
    let sick = |one: &InstanceReport| one.health == Health::Unhealthy;
    let seen = lab.until_instance("app", "sick", sick).await;
    let message = seen.message.unwrap();
    assert!(
        message.contains("https://") && message.contains("503"),
        "{message}"
    );
    web.status.store(200, Ordering::Relaxed);
    lab.until_healthy("app").await;
    // No TLS where it is asked for: that is not well.
    let plain = Web::http();
    spec.address = plain.address.ip();
    spec.health = Some(check(probe(plain.address.port())));
    lab.assign(one("app", spec)).await;
    lab.until_instance("app", "sick", sick).await;
}

async fn failed(lab: &Lab) -> String {
    let seen = lab
        .until_instance("app", "failed", |one| {
            one.phase == Phase::Failed && one.message.is_some()
        })
        .await;
    assert_eq!(lab.marked(), [0; 0]);
    let archives = fs::read_dir(lab.state().join("archives")).unwrap();
    let left: Vec<_> = archives.flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    seen.message.unwrap()
}

#[tokio::test]
async fn an_archive_comes_over_https_from_a_server_that_the_machine_trusts() {
    let mut lab = Lab::new();
    let web = Web::https();
    let file = archive(&lab);
    web.body.lock().unwrap().bytes = fs::read(&file).unwrap();
    let trusted = lab.dir.path().join("web-ca.pem");
    fs::write(&trusted, &web.ca_pem).unwrap();
    lab.env.push(("SSL_CERT_FILE", trusted));
    lab.start().await;
    let url = format!("https://{}/app.tar.gz", web.address);
    lab.assign(one("app", from(url, digest(&file), "bin/run")))
        .await;
    lab.until_healthy("app").await;
}

#[tokio::test]
async fn an_archive_of_a_server_that_nobody_vouches_for_is_not_fetched() {
    let mut lab = Lab::running().await;
    let web = Web::https();
    let file = archive(&lab);
    web.body.lock().unwrap().bytes = fs::read(&file).unwrap();
    let url = format!("https://{}/app.tar.gz", web.address);
    lab.assign(one("app", from(url, digest(&file), "bin/run")))
        .await;
    let message = failed(&lab).await;
    assert!(message.contains("certificate"), "{message}");
    assert_eq!(web.answers.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_archive_that_is_another_cut_off_too_large_or_missing_is_not_run() {
    let mut lab = Lab::running().await;
    let web = Web::http();
    let file = archive(&lab);
    let good = fs::read(&file).unwrap();
    let whole = good.len() as u64;
    let url = format!("http://{}/app.tar.gz", web.address);
    let cut = good[..good.len() / 2].to_vec();
    for (status, bytes, claims, said) in [
        (
            200,
            b"something else".to_vec(),
            None,
            "is not the archive declared",
        ),
        (200, cut, Some(whole), "can't fetch"),
        (200, Vec::new(), Some(5 << 30), "is larger than"),
        (404, good.clone(), None, "404"),
    ] {
        web.status.store(status, Ordering::Relaxed);
        *web.body.lock().unwrap() = Body { bytes, claims };
        lab.assign(one("app", from(url.clone(), digest(&file), "bin/run")))
            .await;
        let message = failed(&lab).await;
        assert!(message.contains(said), "{said}: {message}");
        lab.assign(crate::lab::Instances::new()).await;
        lab.until_instance_gone("app").await;
    }
    web.status.store(200, Ordering::Relaxed);
    *web.body.lock().unwrap() = Body {
        bytes: good,
        claims: None,
    };
    lab.assign(one("app", from(url, digest(&file), "bin/run")))
        .await;
    lab.until_healthy("app").await;
}

#[tokio::test]
async fn a_file_larger_than_any_archive_is_not_copied() {
    let mut lab = Lab::running().await;
    let file = lab.dir.path().join("huge.tar.gz");
    // Nothing but a length: it takes no room.
    fs::File::create(&file)
        .unwrap()
        .set_len((4 << 30) + 1)
        .unwrap();
    let url = format!("file://{}", file.display());
    lab.assign(one("app", from(url, "0".repeat(64), "bin/run")))
        .await;
    let message = failed(&lab).await;
    assert!(message.contains("is larger than"), "{message}");
}
