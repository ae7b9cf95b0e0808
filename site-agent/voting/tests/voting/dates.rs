//! H20: certificates outside their dates, the CA gone: no failover, and none is kept from being made.

use std::time::Duration;

use stead_schemas::lease::{LeasePart, TakeoverCause};
use stead_schemas::time::WallMs;
use stead_wire::clock::wall_now;

use crate::site::Site;

const YEAR: u64 = 365 * 86_400_000;
/// Several leases; what must not happen has no event to wait for.
const LATE: Duration = Duration::from_secs(3);

fn a_year_ago() -> WallMs {
    WallMs(wall_now().0 - YEAR)
}

fn in_a_year() -> WallMs {
    WallMs(wall_now().0 + YEAR)
}

async fn holds_on_and_fails_over(mut site: Site) -> Site {
    assert_eq!(site.holder().await, "p01-a");
    let term = site.report("p01-a").term;
    tokio::time::sleep(LATE).await;
    let report = site.report("p01-a");
    assert_eq!((report.part, report.term), (LeasePart::Holding, term));
    site.stop("p01-a");
    site.until("p01-b", |report| report.part == LeasePart::Holding)
        .await;
    let takeover = site.report("p01-b").takeover.unwrap();
    assert_eq!(takeover.cause, TakeoverCause::Failover);
    site
}

#[tokio::test]
async fn h20_three_voters_whose_certificates_ended_a_year_ago_have_a_holder() {
    let site = Site::certified_at(|_| a_year_ago()).await;
    let site = holds_on_and_fails_over(site).await;
    assert_eq!(site.outdated("p01-b"), ["p01-a", "p01-w"]);
}

/// Every clock is a year behind.
#[tokio::test]
async fn h20_three_voters_whose_certificates_begin_in_a_year_have_a_holder() {
    let site = Site::certified_at(|_| in_a_year()).await;
    holds_on_and_fails_over(site).await;
}

#[tokio::test]
async fn h20_one_voter_outside_its_dates_is_heard_counted_and_named() {
    let old = |name: &str| match name {
        "p01-a" => a_year_ago(),
        _ => wall_now(),
    };
    let site = holds_on_and_fails_over(Site::certified_at(old).await).await;
    assert_eq!(site.outdated("p01-b"), ["p01-a"]);
    assert_eq!(site.outdated("p01-w"), ["p01-a"]);
}
