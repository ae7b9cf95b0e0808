//! Letters that are forged, for somebody else, of nobody known, or of an old copy.

use site_lease::{Body, Epoch, Memory, Message, Term};
use site_voting::{Letter, LetterRefusal};
use stead_schemas::lease::LeasePart;

use crate::site::Site;

fn letter(site: &Site, from: &str, to: &str) -> Letter {
    Letter {
        site: "P01".parse().unwrap(),
        from: site.voter(from),
        to: site.voter(to),
        votes: 1,
        seen: 0,
        message: Message {
            epoch: Epoch::default(),
            memory: Memory::default(),
            body: Body::PreAsk { term: Term(99) },
        },
    }
}

#[tokio::test]
async fn forged_misdirected_and_unknown_letters_have_no_effect_and_are_counted() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    let before = site.report("p01-w");
    let good = letter(&site, "p01-b", "p01-w");
    let voting = site.voting("p01-w");
    let forged = voting.receive("p01-a", good.clone()).await.unwrap_err();
    assert!(matches!(forged, LetterRefusal::Forged { .. }));
    let mut elsewhere = good.clone();
    elsewhere.site = "P02".parse().unwrap();
    let mut another_life = good.clone();
    another_life.to.incarnation.0 ^= 1;
    for wrong in [elsewhere, another_life] {
        let refusal = voting.receive("p01-b", wrong).await.unwrap_err();
        assert!(
            matches!(refusal, LetterRefusal::NotForMe { .. }),
            "{refusal}"
        );
    }
    let mut stranger = good.clone();
    stranger.from.name = "p02-a".parse().unwrap();
    let refusal = voting.receive("p02-a", stranger).await.unwrap_err();
    assert!(refusal.to_string().contains("no voter"), "{refusal}");
    let snapshot = voting.snapshot();
    assert_eq!(snapshot.borrow().refused, 3);
    assert_eq!(site.report("p01-w").term, before.term);
}

#[tokio::test]
async fn h4_a_voter_that_is_told_of_votes_it_does_not_remember_votes_no_more() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    let mut told = letter(&site, "p01-b", "p01-w");
    told.seen = 1_000;
    let voting = site.voting("p01-w");
    let refusal = voting.receive("p01-b", told).await.unwrap_err();
    assert!(
        refusal.to_string().contains("stead replace p01-w"),
        "{refusal}"
    );
    site.until("p01-w", |report| report.part == LeasePart::Out)
        .await;
    // The other two are a majority.
    assert_eq!(site.report("p01-a").part, LeasePart::Holding);
}

#[tokio::test]
async fn h4_a_voter_that_hears_its_own_name_stops() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    let own = letter(&site, "p01-w", "p01-w");
    let voting = site.voting("p01-w");
    assert!(voting.receive("p01-w", own).await.is_err());
    site.until("p01-w", |report| {
        report.part == LeasePart::Out && report.problem.as_ref().is_some_and(|p| p.contains("copy"))
    })
    .await;
}

#[test]
fn letters_with_unknown_fields_or_wrong_types_are_not_read() {
    for text in [
        r#"{}"#,
        r#"{"site":"P01"}"#,
        r#"{"site":"P01","from":{"name":"a","incarnation":-1}}"#,
        r#"[]"#,
        "\u{0}",
    ] {
        assert!(serde_json::from_str::<Letter>(text).is_err(), "{text}");
    }
}
