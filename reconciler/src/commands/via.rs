//! `stead --via SERVER`: what can be done where no reconciler answers, at a server's own agent with an
//! operator's certificate (task 12, H31).
//!
//! A command line of its own: of all commands it knows those that an agent can answer. The server
//! proves by its certificate who it is; its name is looked up only to find it.

use std::ffi::OsString;
use std::net::ToSocketAddrs as _;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stead_schemas::lease::{HandoverRequest, LeasePart, PromoteAnswer, PromoteRequest};
use stead_schemas::names::{IdentityKind, ServerName, SiteCode};
use stead_schemas::wire::{AGENT_PORT, AgentReport};
use stead_wire::peer::{CallError, Peer};

use super::promote::{PromoteArgs, confirmed};
use super::suspend::tell;
use super::{CommandError, CommandResult, Outcome};
use crate::api_client::ApiArgs;
use crate::daemon::by_hand::in_words;
use crate::output::{Format, FormatArg, Ui, when};

/// The flag.
const FLAG: &str = "--via";
/// How long a question may take.
const ASK: Duration = Duration::from_secs(10);
/// How long a command may take: a promotion waits a promise.
const COMMAND: Duration = Duration::from_secs(30);
/// How long a handover may take until its target holds, and how often it is looked for.
const TAKEN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// Asks a server's own agent, where no reconciler answers.
#[derive(Debug, Parser)]
#[command(name = "stead --via", disable_help_subcommand = true)]
pub(super) struct ViaCli {
    /// The server: NAME, where that is its host name too, else NAME@HOST or NAME@HOST:PORT
    #[arg(long, global = true, value_name = "SERVER")]
    via: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the server's agent knows: term, holder, voters, instances
    Status(StatusArgs),
    /// Ask the active site server, which the server knows, to hand over
    Switchover(SwitchoverArgs),
    Promote(PromoteArgs),
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// The site, to be sure
    site: Option<SiteCode>,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
struct SwitchoverArgs {
    /// The site
    site: SiteCode,
    /// The server that shall be active
    #[arg(long, value_name = "SERVER")]
    to: ServerName,
    #[command(flatten)]
    api: ApiArgs,
}

/// Whether a command line is one of these.
pub(super) fn is_meant(mut args: impl Iterator<Item = OsString>) -> bool {
    args.any(|arg| {
        let text = arg.to_string_lossy();
        text == FLAG
            || text
                .strip_prefix(FLAG)
                .is_some_and(|rest| rest.starts_with('='))
    })
}

pub(super) async fn run(ui: &Ui, cli: ViaCli) -> CommandResult {
    let via = cli.via.unwrap_or_default();
    match cli.command {
        Command::Status(args) => {
            let agent = agent(&args.api, &via)?;
            status(ui, &agent, args.site.as_ref(), args.format.output).await
        }
        Command::Switchover(args) => switch_over(ui, &args, &via).await,
        Command::Promote(args) => promote(ui, args, &via).await,
    }
}

/// An agent to talk to.
struct Agent {
    name: ServerName,
    peer: Peer,
}

fn agent(api: &ApiArgs, via: &str) -> Result<Agent, CommandError> {
    let wrong = |what: String| {
        CommandError::failed(format!("--via {via}: {what}"))
            .hinted("write NAME, NAME@HOST or NAME@HOST:PORT, NAME as in git")
    };
    let (name, host) = via.split_once('@').unwrap_or((via, via));
    let name: ServerName = name
        .parse()
        .map_err(|error| wrong(format!("`{name}` is no server's name ({error})")))?;
    let found = match host.to_socket_addrs() {
        Ok(found) => Ok(found),
        Err(_) => (host.trim_matches(['[', ']']), AGENT_PORT).to_socket_addrs(),
    };
    let address = found
        .map_err(|error| wrong(format!("`{host}` can't be looked up ({error})")))?
        .next()
        .ok_or_else(|| wrong(format!("`{host}` has no address")))?;
    let peer = api.peer_of(IdentityKind::Server, &name, address)?;
    Ok(Agent { name, peer })
}

impl Agent {
    async fn report(&self) -> Result<AgentReport, CommandError> {
        self.peer.get_json("/v1/state", ASK).await.map_err(said)
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CommandError> {
        // Once: what is done may be done though no answer came.
        self.peer
            .post_json_once(path, body, COMMAND)
            .await
            .map_err(said)
    }
}

fn said(error: CallError) -> CommandError {
    match error {
        CallError::Status { text, .. } => CommandError::failed(text),
        error => CommandError::unobserved(error)
            .hinted("on the server itself, `site-agent status` needs no certificate"),
    }
}

async fn status(ui: &Ui, agent: &Agent, site: Option<&SiteCode>, format: Format) -> CommandResult {
    let report = agent.report().await?;
    let other = report.instances.values().next().is_none() && report.lease.is_none();
    if let Some(site) = site.filter(|_| other) {
        ui.note(&format!(
            "{} runs nothing, of {site} or of any other site",
            agent.name
        ));
    }
    if format == Format::Json {
        ui.json(&report)?;
        return Ok(Outcome::Done);
    }
    let row = |name: &str, text: &str| ui.line(&format!("{name:<12}{text}"));
    row(
        "server",
        &format!("{}, agent {}", report.server, report.version),
    )?;
    match &report.generation {
        Some(generation) => row("assignment", &generation.to_string())?,
        None => row("assignment", "none yet")?,
    }
    for (name, text) in report
        .lease
        .iter()
        .flat_map(|lease| lease.lines(when::now()))
    {
        row(name, &text)?;
    }
    for problem in &report.problems {
        row("problem", problem)?;
    }
    for (group, one) in &report.instances {
        let word = |value: serde_json::Result<serde_json::Value>| {
            let value = value.ok();
            value
                .and_then(|value| Some(value.as_str()?.to_owned()))
                .unwrap_or_default()
        };
        let phase = word(serde_json::to_value(one.phase));
        let health = word(serde_json::to_value(one.health));
        row("instance", &format!("{group} {phase}, {health}"))?;
    }
    Ok(Outcome::Done)
}

async fn switch_over(ui: &Ui, args: &SwitchoverArgs, via: &str) -> CommandResult {
    let agent = agent(&args.api, via)?;
    let agent = holder(&args.api, agent).await?;
    let request = HandoverRequest {
        to: args.to.clone(),
    };
    let _: Option<()> = agent.post("/v1/handover", &request).await?;
    let end = tokio::time::Instant::now() + TAKEN;
    let mut last = None;
    while tokio::time::Instant::now() < end {
        let report = agent.report().await?;
        let lease = report.lease.as_deref();
        last = lease.and_then(|lease| Some((lease.term, lease.holder.clone()?)));
        if let Some((term, holder)) = &last
            && *holder == args.to
        {
            ui.line(&format!(
                "{holder} holds term {term}; {} follows",
                agent.name
            ))?;
            ui.line("  git's `active` is parked until it changes (H21)")?;
            return Ok(Outcome::Done);
        }
        tokio::time::sleep(LOOK).await;
    }
    let now = last.map_or_else(String::new, |(term, holder)| {
        format!("; the last known is term {term} at {holder}")
    });
    let error = format!("{} did not take over in time{now}", args.to);
    Err(CommandError::failed(error))
}

/// The agent of the active: this one, or the one that it knows to hold the lease.
async fn holder(api: &ApiArgs, agent: Agent) -> Result<Agent, CommandError> {
    let report = agent.report().await?;
    let lease = report.lease.as_deref();
    if lease.is_some_and(|lease| lease.part == LeasePart::Holding) {
        return Ok(agent);
    }
    let name = lease.and_then(|lease| lease.holder.clone());
    let voters = report.assigned_lease.as_ref().map(|spec| &spec.voters);
    let found = name.and_then(|name| Some((voters?.get(&name)?.address, name)));
    let Some((address, name)) = found.filter(|(_, name)| *name != agent.name) else {
        let error = CommandError::failed(format!("{} knows of no active site server", agent.name));
        return Err(error.hinted("`stead --via SERVER status` says why"));
    };
    let peer = api.peer_of(IdentityKind::Server, &name, address)?;
    Ok(Agent { name, peer })
}

async fn promote(ui: &Ui, args: PromoteArgs, via: &str) -> CommandResult {
    let agent = agent(&args.api, via)?;
    if agent.name != args.server {
        let error = format!("a promotion is asked of {} itself", args.server);
        return Err(CommandError::failed(error).hinted(format!("--via {}", args.server)));
    }
    let report = agent.report().await?;
    let voters = report
        .lease
        .as_ref()
        .and_then(|lease| lease.voters.as_ref());
    if let Some(solo) = voters.and_then(|voters| voters.solo())
        && args.lost.contains(solo)
    {
        ui.warning(&format!(
            "the last known voter is {solo} alone: it may go on without hearing anybody, and waiting \
             proves nothing. Only its power being off, or the token, protects."
        ));
    }
    let site_code = confirmed(ui, &args)?;
    let lost: Vec<&str> = args.lost.iter().map(ServerName::as_str).collect();
    let lost = lost.join(",");
    let request = PromoteRequest {
        lost: args.lost,
        reason: args.reason,
        site_code,
    };
    let answer: PromoteAnswer = agent.post("/v1/promote", &request).await?;
    tell(ui, &in_words(&answer, &lost))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flag_is_found_before_and_after_the_command() {
        let meant = |line: &str| is_meant(line.split(' ').map(OsString::from));
        assert!(meant("--via p01-b status P01"));
        assert!(meant("status P01 --via=p01-b@10.0.0.1"));
        assert!(!meant("status P01 --viable"));
        ViaCli::command().debug_assert();
        let line = [
            "stead",
            "--via",
            "p01-b",
            "switchover",
            "P01",
            "--to",
            "p01-b",
        ];
        assert_eq!(
            ViaCli::try_parse_from(line).unwrap().via.as_deref(),
            Some("p01-b")
        );
    }
}
