//! `service`: exactly one program, exactly one probe, an environment that can be set.

use super::super::problem::Findings;
use super::super::resolve::{active_of, program_of, role_of, service_desired};
use super::super::typed::ReadSite;
use super::super::types::{HealthSpec, ServiceSpec};
use super::super::words::list;
use super::Notices;
use crate::role::Role;
use crate::time::DurationMs;

pub(super) fn check(site: &ReadSite<'_>, findings: &mut Findings, notices: &mut Notices) {
    check_site_server(site, findings, notices);
    for (name, group) in &site.spec().roles {
        let Some(role) = role_of(name, group) else {
            continue;
        };
        if matches!(role, Role::SiteServer | Role::Database) {
            continue;
        }
        let path = ["roles", name.as_str()];
        if let Some(service) = &group.service {
            let path = ["roles", name.as_str(), "service"];
            check_service(site, service, role, &path, findings);
            if group.drain.is_some() && service.drain.is_some() {
                let message = "`drain` stands here and in `service`: keep one";
                let spot = site.key_spot(&["roles", name.as_str(), "drain"]);
                findings.add(site.error("exclusive", spot, message));
            }
        }
        if program_of(group, role).is_some() {
            continue;
        }
        if role == Role::Custom {
            let message = format!("`{name}` is a program of your own and needs a `service`");
            let finding = site.error("service", site.key_spot(&path), message);
            findings.add(finding.hint("write `service: {command: [/opt/proxy/bin/proxy]}`"));
        } else {
            no_program(site, role, &path, notices);
        }
    }
}

fn check_site_server(site: &ReadSite<'_>, findings: &mut Findings, notices: &mut Notices) {
    let declared = site.spec().site_server.as_ref();
    let service = declared.and_then(|site_server| site_server.service.as_ref());
    if let Some(service) = service {
        let path = ["siteServer", "service"];
        check_service(site, service, Role::SiteServer, &path, findings);
    }
    let runs = service.is_none_or(|s| service_desired(s, Role::SiteServer).is_some());
    if !runs && active_of(site).is_some() && site.damage.intact(&["siteServer"]) {
        no_program(site, Role::SiteServer, &["siteServer"], notices);
    }
}

/// H28: a role without a program is planned as a hold.
fn no_program(site: &ReadSite<'_>, role: Role, path: &[&str], notices: &mut Notices) {
    let message =
        format!("no program for {role}: it is planned as a hold, neither installed nor published");
    let notice = site
        .warning("no-program", site.key_spot(path), message)
        .tag("H28");
    let hint = "say how it runs by `service`, as in `service: {command: [/opt/role/bin/role]}`";
    notices.add("no-program", role.name(), notice.hint(hint));
}

fn check_service(
    site: &ReadSite<'_>,
    service: &ServiceSpec,
    role: Role,
    path: &[&str],
    findings: &mut Findings,
) {
    let below = |key| -> Vec<&str> { path.iter().copied().chain([key]).collect() };
    let given = [
        ("archive", service.archive.is_some()),
        ("builtIn", service.built_in == Some(true)),
        ("command", service.command.is_some()),
        ("systemd", service.systemd.is_some()),
    ];
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, is)| *is)
        .map(|(key, _)| *key)
        .collect();
    if let [_, second, ..] = given.as_slice() {
        let message = format!("{} exclude each other: keep one", list(&given));
        findings.add(site.error("exclusive", site.key_spot(&below(second)), message));
    }
    if service.built_in == Some(true) && !role.rules().built_in {
        let message = format!("site-agent brings no program for {role}");
        let finding = site.error("built-in", site.key_spot(&below("builtIn")), message);
        findings.add(
            finding
                .tag("H28")
                .hint("write `command`, `archive` or `systemd`"),
        );
    }
    for name in service.env.keys() {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(plain)
        {
            let message = format!("`{name}` is no name of a variable: letters, digits and `_`");
            let path: Vec<&str> = path.iter().copied().chain(["env", name]).collect();
            findings.add(site.error("env", site.key_spot(&path), message));
        }
    }
    check_commands(site, service, &below, findings);
    if let Some(health) = &service.health {
        check_health(site, health, &below("health"), findings);
    }
}

fn check_commands<'p>(
    site: &ReadSite<'_>,
    service: &ServiceSpec,
    below: &dyn Fn(&'p str) -> Vec<&'p str>,
    findings: &mut Findings,
) {
    let program = service.command.as_ref().and_then(|command| command.first());
    if program.is_some_and(String::is_empty) {
        let message = "the program's name is empty";
        findings.add(site.error("command", site.key_spot(&below("command")), message));
    }
    let Some(archive) = &service.archive else {
        return;
    };
    let program = archive.command.first().map_or("", String::as_str);
    if program.is_empty() || program.starts_with('/') || program.split('/').any(|p| p == "..") {
        let message = format!("`{program}` has to be a program within the archive");
        findings.add(site.error("command", site.key_spot(&below("archive")), message));
    }
}

fn check_health(site: &ReadSite<'_>, health: &HealthSpec, path: &[&str], findings: &mut Findings) {
    let given = [
        ("command", health.command.is_some()),
        ("http", health.http.is_some()),
        ("https", health.https.is_some()),
        ("tcp", health.tcp.is_some()),
    ];
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, is)| *is)
        .map(|(key, _)| *key)
        .collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            let message = "`health` doesn't say what is tried: `http`, `https`, `tcp` or `command`";
            findings.add(site.error("health", site.key_spot(path), message));
        }
        _ => {
            let message = format!("{} exclude each other: keep one", list(&given));
            findings.add(site.error("exclusive", site.key_spot(path), message));
        }
    }
    let interval = health.interval.unwrap_or(DurationMs::seconds(5));
    let timeout = health.timeout.unwrap_or(DurationMs::seconds(2));
    let least = DurationMs(100);
    if interval < least || timeout < least || timeout > interval {
        let message = format!(
            "a check every {interval} that may take {timeout}: both are at least {least}, and the \
             timeout is no longer than the interval"
        );
        findings.add(site.error("health", site.key_spot(path), message));
    }
}
