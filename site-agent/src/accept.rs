//! Whether an assignment is taken: pure, from the ledger, the request and who sent it.
//!
//! Order matters: who may speak at all, for whom, in which life of a reconciler (H7), against
//! which assignment, and only then whether it can be carried out. Nothing is changed here.

use stead_schemas::generation::Epoch;
use stead_schemas::names::{GroupName, ObjectName, SecretName, ServerName, SiteCode};
use stead_schemas::wire::{AssignRequest, InstanceSpec, Program, Refusal};

use crate::ledger::Ledger;
use crate::secrets::{self, Versions};

/// Most instances on one server.
pub const INSTANCES_MAX: usize = 200;
/// Longest text of a command or a variable.
const TEXT_MAX: usize = 32 * 1024;

/// Who this agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// Its hierarchy.
    pub hierarchy: ObjectName,
    /// Its site, where it is told.
    pub site: Option<SiteCode>,
    /// Its server.
    pub server: ServerName,
}

/// What follows from a request that is not refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is in force already.
    Same,
    /// Save this, then apply it.
    Save(Box<Ledger>),
}

/// Judges an assignment that the reconciler named `sender` sent.
///
/// # Errors
/// [`Refusal`], for the sender.
pub fn judge(
    ledger: &Ledger,
    me: &Me,
    sender: &str,
    request: &AssignRequest,
) -> Result<Decision, Refusal> {
    let assignment = &request.assignment;
    if assignment.hierarchy != me.hierarchy
        || assignment.server != me.server
        || me
            .site
            .as_ref()
            .is_some_and(|site| *site != assignment.site)
    {
        return Err(Refusal::NotForMe {
            server: me.server.clone(),
        });
    }
    let epoch = &assignment.generation.epoch;
    may_command(ledger, sender, epoch)?;
    let versions = versions(request);
    let in_force = ledger.generation();
    if in_force == Some(&assignment.generation)
        && ledger.assignment.as_ref() == Some(assignment)
        && ledger.secrets == versions
    {
        return Ok(Decision::Same);
    }
    let newer = in_force.is_none_or(|now| assignment.generation > *now);
    if !newer || in_force != request.based_on.as_ref() {
        return Err(Refusal::StaleGeneration {
            in_force: in_force.cloned(),
        });
    }
    check(request).map_err(|reason| Refusal::Invalid { reason })?;
    let mut next = ledger.clone();
    next.highest_epoch = Some(epoch.clone());
    next.assignment = Some(assignment.clone());
    next.secrets = versions;
    Ok(Decision::Save(Box::new(next)))
}

/// Judges the claim of a reconciler's new life. `None`: it is known already.
///
/// # Errors
/// [`Refusal`], for the sender.
pub fn judge_claim(
    ledger: &Ledger,
    sender: &str,
    epoch: &Epoch,
) -> Result<Option<Ledger>, Refusal> {
    may_command(ledger, sender, epoch)?;
    if ledger.highest_epoch.as_ref() == Some(epoch) {
        return Ok(None);
    }
    let mut next = ledger.clone();
    next.highest_epoch = Some(epoch.clone());
    Ok(Some(next))
}

fn may_command(ledger: &Ledger, sender: &str, epoch: &Epoch) -> Result<(), Refusal> {
    if epoch.reconciler != sender {
        return Err(Refusal::Invalid {
            reason: format!(
                "the epoch names reconciler {:?}, the certificate {sender:?}",
                epoch.reconciler
            ),
        });
    }
    match &ledger.highest_epoch {
        Some(highest) if epoch < highest => Err(Refusal::StaleEpoch {
            highest: highest.clone(),
        }),
        _ => Ok(()),
    }
}

fn versions(request: &AssignRequest) -> Versions {
    request
        .secrets
        .iter()
        .map(|(name, material)| (name.clone(), material.version.clone()))
        .collect()
}

/// Whether all of it can be taken; all or nothing.
fn check(request: &AssignRequest) -> Result<(), String> {
    let instances = &request.assignment.instances;
    if instances.len() > INSTANCES_MAX {
        return Err(format!(
            "{} instances are more than the {INSTANCES_MAX} an agent runs",
            instances.len()
        ));
    }
    for (name, material) in &request.secrets {
        secrets::check(name, material)?;
        if !instances
            .values()
            .flat_map(|spec| spec.secrets())
            .chain(of_lease(request))
            .any(|n| n == name)
        {
            return Err(format!(
                "secret {name} is sent and not named by any instance or lease"
            ));
        }
    }
    if let Some(name) = of_lease(request).find(|name| !request.secrets.contains_key(*name)) {
        return Err(format!("the lease: secret {name} is named and not sent"));
    }
    for (group, spec) in instances {
        check_instance(group, spec)?;
        for name in spec.secrets() {
            if !request.secrets.contains_key(name) {
                return Err(format!("{group}: secret {name} is named and not sent"));
            }
        }
    }
    Ok(())
}

fn of_lease(request: &AssignRequest) -> impl Iterator<Item = &SecretName> {
    let lease = request.assignment.lease.iter();
    lease.flat_map(|lease| lease.secrets())
}

fn check_instance(group: &GroupName, spec: &InstanceSpec) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{group}: {what}"));
    match &spec.program {
        Program::Archive {
            sha256, command, ..
        } => {
            if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return wrong("sha256 is not 64 hexadecimal digits");
            }
            check_command(group, command)?;
        }
        Program::Command(command) => check_command(group, command)?,
        Program::BuiltIn | Program::Systemd { .. } => {}
    }
    for name in spec.env.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return wrong(&format!("{name:?} is no name of a variable"));
        }
    }
    let mut values = spec.env.values().filter_map(|value| match value {
        stead_schemas::wire::EnvValue::Plain(text) => Some(text),
        stead_schemas::wire::EnvValue::Secret { .. } => None,
    });
    if values.any(|text| text.len() > TEXT_MAX || text.contains('\0')) {
        return wrong("the value of a variable is too long or holds a NUL byte");
    }
    if let Some(check) = &spec.health
        && let stead_schemas::wire::Probe::Command(command) = &check.probe
    {
        check_command(group, command)?;
    }
    Ok(())
}

fn check_command(group: &GroupName, command: &[String]) -> Result<(), String> {
    if command.first().is_none_or(String::is_empty) {
        return Err(format!("{group}: a command needs a program"));
    }
    let size: usize = command.iter().map(String::len).sum();
    if size > TEXT_MAX || command.iter().any(|word| word.contains('\0')) {
        return Err(format!(
            "{group}: a command is too long or holds a NUL byte"
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
