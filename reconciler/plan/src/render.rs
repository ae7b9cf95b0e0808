//! Plans as text, for `stead plan`, for logs and for goldens.

use stead_schemas::plan::{SitePlan, Wait};

/// A plan, a line a step and a line a hold.
#[must_use]
pub fn road(plan: &SitePlan) -> String {
    let mut lines = Vec::new();
    for step in &plan.steps {
        let waits: Vec<String> = step.waits.iter().map(wait).collect();
        let mark = if waits.is_empty() { "now  " } else { "later" };
        let mut line = format!("{mark} {}", step.id);
        if !waits.is_empty() {
            line.push_str(&format!("  <- {}", waits.join(", ")));
        }
        lines.push(line);
    }
    for hold in &plan.holds {
        lines.push(format!("held  {}: {}", hold.about, hold.reason));
    }
    lines.join("\n")
}

fn wait(wait: &Wait) -> String {
    match wait {
        Wait::Healthy(instance) => format!("{}@{} healthy", instance.group, instance.server),
        Wait::Gone(instance) => format!("{}@{} gone", instance.group, instance.server),
        Wait::Served(key) => format!("{key} served everywhere"),
        Wait::Step(id) => format!("[{id}]"),
        Wait::Until(_) => "the drain ends".to_owned(),
    }
}
