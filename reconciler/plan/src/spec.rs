//! From a declared group to the spec an agent is given, and back: is what runs what is declared?
//!
//! Comparison goes field by field and allocates nothing: a pass with nothing to do compares every
//! instance of the hierarchy (design section 10, `plan`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use stead_schemas::desired::{GroupDesired, ServiceDesired, SiteServerDesired};
use stead_schemas::plan::HoldReason;
use stead_schemas::role::Role;
use stead_schemas::wire::{InstanceSpec, Program, StopRule};

/// What declares an instance.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// A role group in git.
    Declared(&'a GroupDesired),
    /// Nothing any more.
    Gone,
    /// The site server in git.
    SiteServer(&'a SiteServerDesired),
}

impl<'a> Source<'a> {
    fn service(self) -> Option<&'a ServiceDesired> {
        match self {
            Self::Declared(group) => group.service.as_ref(),
            Self::SiteServer(site_server) => site_server.service.as_ref(),
            Self::Gone => None,
        }
    }

    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Declared(group) => group.port,
            Self::SiteServer(site_server) => site_server.port,
            Self::Gone => 0,
        }
    }

    fn settings(self) -> &'a serde_json::Value {
        match self {
            Self::Declared(group) => &group.settings,
            Self::SiteServer(site_server) => &site_server.settings,
            Self::Gone => &serde_json::Value::Null,
        }
    }

    /// Why no instance of it can be run (H28).
    pub(crate) fn unrunnable(self, role: Role) -> Option<HoldReason> {
        match self.service().map(|service| &service.program) {
            Some(Program::Systemd { .. }) => Some(HoldReason::NotSupported {
                what: "a systemd unit".to_owned(),
            }),
            Some(_) => None,
            None if role.rules().built_in || role == Role::SiteServer => None,
            None => Some(HoldReason::NoProgram { role }),
        }
    }

    /// The spec of an instance of it on a server with this address.
    pub(crate) fn spec(self, role: Role, address: IpAddr) -> InstanceSpec {
        let service = self.service();
        InstanceSpec {
            role,
            program: service.map_or(Program::BuiltIn, |s| s.program.clone()),
            env: service.map_or_else(BTreeMap::new, |s| s.env.clone()),
            health: service.and_then(|s| s.health.clone()),
            stop: service.map_or_else(StopRule::default, |s| s.stop.clone()),
            address,
            port: self.port(),
            settings: self.settings().clone(),
        }
    }

    /// Whether `spec` is what [`Self::spec`] would make.
    pub(crate) fn matches(self, role: Role, address: IpAddr, spec: &InstanceSpec) -> bool {
        let InstanceSpec {
            role: spec_role,
            program,
            env,
            health,
            stop,
            address: spec_address,
            port,
            settings,
        } = spec;
        *spec_role == role
            && *spec_address == address
            && *port == self.port()
            && settings == self.settings()
            && match self.service() {
                Some(s) => {
                    *program == s.program && *env == s.env && *health == s.health && *stop == s.stop
                }
                None => {
                    *program == Program::BuiltIn
                        && env.is_empty()
                        && health.is_none()
                        && *stop == StopRule::default()
                }
            }
    }
}
