//! The builder of a step on one record: what it does and why, then what else is known of it.
//!
//! Every publishing and withdrawing step is made here, with the deadline of the policy. Which
//! steps there are is decided in `records` and `server_names`.

use stead_schemas::desired::Place;
use stead_schemas::plan::{Action, Move, Step, StepId, Wait};
use stead_schemas::record::RecordKey;

use crate::road::Draft;
use crate::world::World;

/// A step on one record, not drafted yet.
#[must_use = "it is on the road once it is drafted"]
pub(crate) struct RecordStep(Step);

impl RecordStep {
    pub(crate) fn publish(world: &World<'_>, key: &RecordKey, id: StepId, because: String) -> Self {
        let record = key.clone();
        Self::new(world, Action::Publish { record }, id, because)
    }

    pub(crate) fn withdraw(
        world: &World<'_>,
        key: &RecordKey,
        id: StepId,
        because: String,
    ) -> Self {
        let record = key.clone();
        Self::new(world, Action::Withdraw { record }, id, because)
    }

    fn new(world: &World<'_>, action: Action, id: StepId, because: String) -> Self {
        Self(Step {
            id,
            action,
            waits: Vec::new(),
            part_of: None,
            because,
            place: None,
            deadline: world.policy.record_step,
        })
    }

    /// It can be taken once these are so.
    pub(crate) fn after(mut self, waits: Vec<Wait>) -> Self {
        self.0.waits = waits;
        self
    }

    /// It is a part of this move, if of any.
    pub(crate) fn of(mut self, part_of: Option<Move>) -> Self {
        self.0.part_of = part_of;
        self
    }

    /// What declares it.
    pub(crate) fn at(mut self, place: Option<&Place>) -> Self {
        self.0.place = place.cloned();
        self
    }

    /// Puts it on the road; answers its id.
    pub(crate) fn draft(self, draft: &mut Draft) -> StepId {
        let id = self.0.id.clone();
        draft.push(self.0);
        id
    }
}
