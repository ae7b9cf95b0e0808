//! Plans as the API shows them, and the topology somebody wants planned.
//!
//! A view leaves payloads out: they stay at the reconciler. Nothing is planned here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::SiteCode;
use crate::plan::{Hold, PlanCounts, SitePlan, Step};

/// Most bytes of the files of a [`PlanRequest`], their paths included; several times what the
/// largest supported hierarchy has (3.3 MiB, H23).
pub const PLAN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// `POST /v1/plan`: a topology to plan against what is observed, as if it were in force. It is
/// neither applied nor kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanRequest {
    /// The id of the folder's tree, which the plan's id begins with.
    pub tree: String,
    /// The YAML files: path within the folder, and content.
    pub files: BTreeMap<String, String>,
}

/// `GET /v1/plan`: the roads of all sites that have one. `POST /v1/plan`: those of the topology
/// that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// The plan's id; none where it is the running reconciler's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Counts over all sites.
    pub counts: PlanCounts,
    /// By site: steps and holds.
    pub sites: BTreeMap<SiteCode, SitePlanView>,
}

impl PlanView {
    /// The view of plans; sites with neither steps nor holds are left out.
    pub fn of<'a>(id: Option<String>, plans: impl IntoIterator<Item = &'a SitePlan>) -> Self {
        let mut counts = PlanCounts::default();
        let mut sites = BTreeMap::new();
        for plan in plans {
            counts = counts + plan.counts();
            if !plan.steps.is_empty() || !plan.holds.is_empty() {
                let view = SitePlanView {
                    steps: plan.steps.clone(),
                    holds: plan.holds.clone(),
                };
                sites.insert(plan.site.clone(), view);
            }
        }
        Self { id, counts, sites }
    }
}

/// One site's road.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SitePlanView {
    /// Steps.
    pub steps: Vec<Step>,
    /// Holds.
    pub holds: Vec<Hold>,
}
