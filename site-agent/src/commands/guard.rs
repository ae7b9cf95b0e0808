//! `site-agent guard`: what kills when the agent can't. Started by the agent, or by a unit of its own.
//!
//! SIGTERM ends it: at once with nothing armed, otherwise after the kill.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use crate::guard::{self, GROUP, Setting};
use crate::layout::Layout;
use crate::processes::cgroup::Cgroup;
use crate::processes::procfs::Mark;
use crate::service;

// No doc comment: clap would take it for the command's help.
#[derive(Debug, Args)]
pub(super) struct GuardArgs {
    /// The agent's settings (a document of kind AgentConfig)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &GuardArgs) -> Result<(), Box<dyn Error>> {
    let _journal = guard::start_journal()?;
    let config = crate::config::load(&args.config)?;
    let layout = Layout::make(&config.spec.state_dir)?;
    let cgroups = service::cgroups(&config, &layout);
    guard::guard(Setting {
        cgroup: cgroups.map(|dir| Cgroup::at(dir.join(GROUP))),
        mark: Mark {
            state: layout.root().to_owned(),
            instance: format!("{GROUP}@{}", config.server),
        },
        layout,
        tls: config.spec.tls,
    })
}
