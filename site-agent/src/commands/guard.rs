//! `site-agent guard`: what kills when the agent can't. Started by the agent, or by a unit of its own.
//!
//! Settings are read first; then the program replaces itself by one that was told all it needs, so
//! that nothing of reading settings stays in memory (H24). SIGTERM ends it: at once with nothing
//! armed, otherwise after the kill.

use std::error::Error;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use serde::{Deserialize, Serialize};
use stead_schemas::declared::settings::{NetworkFence, TlsFiles};

use stead_wire::local::of_listener;

use crate::guard::{self, GROUP, Setting, network};
use crate::layout::Layout;
use crate::processes::cgroup::Cgroup;
use crate::processes::procfs::Mark;
use crate::service;

/// What goes before the settings that were read.
pub const TOLD: &str = "--told";

// No doc comment: clap would take it for the command's help.
#[derive(Debug, Args)]
pub(super) struct GuardArgs {
    /// The agent's settings (a document of kind AgentConfig)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    state: PathBuf,
    cgroup: Option<PathBuf>,
    #[serde(default)]
    table: Option<String>,
    instance: String,
    tls: TlsFiles,
    #[serde(default)]
    from: Option<IpAddr>,
}

pub(super) fn run(args: &GuardArgs) -> Result<(), Box<dyn Error>> {
    let told = serde_json::to_string(&read(&args.config)?)?;
    let mut command = Command::new(service::own_program()?);
    Err(command.args(["guard", TOLD, &told]).exec().into())
}

fn read(file: &Path) -> Result<Told, Box<dyn Error>> {
    let config = crate::config::load(file)?;
    let layout = Layout::make(&config.spec.state_dir)?;
    let cgroups = service::cgroups(&config, &layout);
    let cgroup = cgroups.map(|dir| dir.join(GROUP));
    let fenced = config.spec.network_fence == NetworkFence::Nftables;
    let table = cgroup.as_deref().filter(|_| fenced).map(network::table_of);
    Ok(Told {
        cgroup,
        table,
        instance: format!("{GROUP}@{}", config.server),
        state: layout.root().to_owned(),
        tls: config.spec.tls,
        from: of_listener(config.spec.listen),
    })
}

/// Guards, with settings that were read.
#[must_use]
pub fn run_told(told: &str) -> ExitCode {
    match guard_as(told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", crate::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn guard_as(told: &str) -> Result<(), Box<dyn Error>> {
    let told: Told = serde_json::from_str(told)?;
    let _journal = guard::start_journal()?;
    let layout = Layout::of(&told.state)?;
    guard::guard(Setting {
        cgroup: told.cgroup.map(Cgroup::at),
        mark: Mark {
            state: layout.root().to_owned(),
            instance: told.instance,
        },
        layout,
        table: told.table,
        tls: told.tls,
        from: told.from,
    })
}
