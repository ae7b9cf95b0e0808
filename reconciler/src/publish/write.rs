//! One record written: sent to the first server, read back at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stead_schemas::api::JournalKind;
use stead_schemas::observed::Served;
use stead_schemas::plan::PlannedRecord;
use stead_schemas::record::{Mark, RecordKey};

use super::{Live, read};
use crate::act::backoff::random;
use crate::commands::chain;
use crate::daemon::core::Core;
use crate::site::changes::Happened;
use crate::site::{Order, Site, Target};
use stead_dns::client::{
    Expected, NotOurs, PublishError, RecordChange, Unreadable, Verified, ZoneState,
};

/// How long a write waits to be seen at all servers before others may follow; readers go on
/// looking after that.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// Writes a record, its key reserved in `writing`; the outcome wakes the site.
pub(crate) fn write(core: &Arc<Core>, site: &Arc<Site>, order: Order<RecordKey, PlannedRecord>) {
    let (core, site) = (Arc::clone(core), Arc::clone(site));
    tokio::spawn(async move {
        let outcome = match core.publisher.live() {
            Some(live) => change(&core, &site, &live, &order).await,
            None => Ok(()),
        };
        settle(&core, &site, &order, outcome);
        site.wake();
    });
}

async fn change(
    core: &Core,
    site: &Site,
    live: &Live,
    order: &Order<RecordKey, PlannedRecord>,
) -> Result<(), PublishError> {
    let change = RecordChange {
        key: order.target.clone(),
        want: order.planned.want.clone(),
        mark: mark_over(
            Mark {
                hierarchy: core.config.spec.hierarchy.clone(),
                site: site.code.to_string(),
                term: 0,
                generation: order.generation.clone(),
            },
            order.planned.expect_mark.as_deref(),
        ),
        expect: order.planned.expect_mark.clone(),
    };
    live.client.change(&change).await?;
    let expected = Expected {
        key: change.key.clone(),
        set: change.want.clone(),
        mark: change.want.as_ref().map(|_| change.mark.to_string()),
    };
    // The first server alone decides what may follow; a slow second one must not hold that up.
    let seen = live.client.verify(&expected, SEEN_WITHIN).await;
    let mut world = site.world();
    for (index, verified) in seen.into_iter().enumerate() {
        let answer = answer_of(verified, &expected);
        let one = BTreeMap::from([(change.key.clone(), answer)]);
        read::take_in(core, &mut world, live, index, one, true);
    }
    Ok(())
}

/// The mark to set over the one read. An alias that agents wrote, of a site that has no lease any
/// more or goes, keeps its term, so that a holder of then stays refused (H22); agents count on from
/// the number read, so the reconciler does as well.
fn mark_over(mut own: Mark, read: Option<&str>) -> Mark {
    let Some(read) = read.and_then(|text| text.parse::<Mark>().ok()) else {
        return own;
    };
    own.term = read.term;
    if read.term > 0 && read.generation.epoch == own.generation.epoch {
        let next = read.generation.number.saturating_add(1);
        own.generation.number = own.generation.number.max(next);
    }
    own
}

fn answer_of(verified: Verified, expected: &Expected) -> Result<Served, Unreadable> {
    match verified.state {
        ZoneState::InStep => Ok(Served {
            set: expected.set.clone(),
            mark: expected.mark.clone(),
        }),
        ZoneState::Differs(served) => Ok(served),
        ZoneState::Unknown(error) => Err(error),
    }
}

fn settle(
    core: &Core,
    site: &Site,
    order: &Order<RecordKey, PlannedRecord>,
    outcome: Result<(), PublishError>,
) {
    let key = &order.target;
    let target = Target::Record(key.clone());
    let about = format!("dns:{key}");
    let mut overtaken = None;
    let mut world = site.world();
    world.writing.remove(key);
    match outcome {
        Ok(()) => {
            world.retries.succeeded(&target);
            world
                .written
                .insert(key.clone(), order.planned.want.clone());
            let text = order.words();
            world.tell([Happened::new(JournalKind::Taken, about, text)]);
            order
                .steps
                .iter()
                .for_each(|step| core.metrics.step(&step.action));
        }
        Err(error) => {
            let text = chain(&error);
            if let PublishError::NotOurs(NotOurs::Superseded { found, .. }) = &error {
                overtaken = Some(found.to_string());
            }
            let now = core.clock.now();
            if world.retries.failed(&target, &text, now, random()) {
                let text = format!("{}: {text}", order.words());
                world.tell([Happened::new(JournalKind::Failed, about, text)]);
            }
            order
                .steps
                .iter()
                .for_each(|step| core.metrics.failure(&step.action));
        }
    }
    drop(world);
    if let Some(mark) = overtaken.and_then(|mark| mark.parse::<Mark>().ok())
        && let Err(lie) = core.meet(&mark.generation.epoch)
    {
        tracing::warn!(%key, %lie, "ownership mark not believed");
    }
    core.publisher.need(&site.code);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(own: &str, read: Option<&str>) -> String {
        mark_over(own.parse().unwrap(), read).to_string()
    }

    #[test]
    fn h22_what_agents_wrote_keeps_its_term_and_everything_else_has_none() {
        let own = "v=1 h=contoso s=P01 t=0 g=3:stead-1:b.41";
        let mark =
            |term: u64, generation: &str| format!("v=1 h=contoso s=P01 t={term} g={generation}");
        assert_eq!(over(own, None), own);
        assert_eq!(over(own, Some("no mark")), own);
        assert_eq!(over(own, Some(&mark(0, "3:stead-1:b.99"))), own);
        let counted_on = over(own, Some(&mark(8, "3:stead-1:b.99")));
        assert_eq!(counted_on, mark(8, "3:stead-1:b.100"));
        let later = over(own, Some(&mark(8, "2:stead-1:a.99")));
        assert_eq!(later, mark(8, "3:stead-1:b.41"));
        // Of a newer reconciler: refused by the client, as ever (H7).
        let newer = over(own, Some(&mark(8, "4:stead-2:c.1")));
        assert_eq!(newer, mark(8, "3:stead-1:b.41"));
    }
}
