//! `site-agent purge`: data folders of instances that are gone, which nothing else removes.

use std::error::Error;
use std::fs;

use clap::Args;
use stead_schemas::names::GroupName;

use super::Place;
use crate::layout::Layout;
use crate::ledger::Ledger;

/// List what removed instances left behind, or remove it
#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    place: Place,
    /// Only this group's
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Remove it; without, it is only listed
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: &PurgeArgs) -> Result<(), Box<dyn Error>> {
    let layout = args.place.layout()?;
    let only: Option<GroupName> = args.group.as_deref().map(str::parse).transpose()?;
    let left = leftovers(&layout)?;
    if let Some(group) = &only
        && !left.contains(group)
    {
        return Err(format!(
            "{group} has no leftover data here; assigned or running instances are not purged"
        )
        .into());
    }
    for group in left {
        if only.as_ref().is_some_and(|only| *only != group) {
            continue;
        }
        let dir = layout.data(&group);
        if args.yes {
            fs::remove_dir_all(&dir)
                .map_err(|error| format!("can't remove {}: {error}", dir.display()))?;
            super::print(&format!("removed  {}\n", dir.display()))?;
        } else {
            super::print(&format!("{}\n", dir.display()))?;
        }
    }
    if !args.yes {
        eprintln!("hint: `--yes` removes what is listed");
    }
    Ok(())
}

/// Data folders of groups that are neither assigned nor still there.
fn leftovers(layout: &Layout) -> Result<Vec<GroupName>, Box<dyn Error>> {
    let ledger = Ledger::read(layout.root())?
        .ok_or("there is no ledger in this state folder: nothing is known to be left over")?;
    let here = Layout::groups_in(&layout.instances());
    let mut left = Layout::groups_in(&layout.data_root());
    left.retain(|group| {
        let assigned = ledger
            .assignment
            .as_ref()
            .is_some_and(|assignment| assignment.instances.contains_key(group));
        !assigned && !here.contains(group)
    });
    Ok(left)
}
