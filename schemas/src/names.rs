//! Names: what things are called, checked once when they are read.
//!
//! Every name is a newtype, so that a server can't stand where a group is meant. The one address
//! grammar of plans, journal, metrics and commands is [`Thing`]. This file does not decide whether
//! a name exists; `declared::check` does.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::record::RecordKey;

/// Why a text is not a name of the wanted kind; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a {kind}: {want}")]
pub struct NameError {
    /// What was read.
    pub text: String,
    /// The kind of name wanted, in words.
    pub kind: &'static str,
    /// What a right one looks like.
    pub want: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $ty:ident, $kind:literal, $pattern:literal, $want:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $ty(String);

        impl $ty {
            /// Checks and takes the text.
            ///
            /// # Errors
            /// [`NameError`] when the text has another form.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(NameError { text, kind: $kind, want: $want })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $ty {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $ty {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$ty> for String {
            fn from(name: $ty) -> Self {
                name.0
            }
        }

        impl JsonSchema for $ty {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($ty).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "patternErrorMessage": concat!("not a ", $kind, ": ", $want)
                })
            }
        }
    };
}

fn is_label(text: &str, extra: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

name!(
    /// A site code: three characters, `P01`.
    SiteCode, "site code", "^[A-Z0-9]{3}$", "three characters, A-Z and 0-9, as in `P01`",
    |t| t.len() == 3 && t.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
);
name!(
    /// A server, also the first label of its DNS name; unique in the hierarchy.
    ServerName, "server name", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "a DNS label in lower case: a-z, 0-9 and `-`, at most 63 characters, as in `p01-a`",
    |t| is_label(t, "-") && !t.chars().any(|c| c.is_ascii_uppercase())
);
name!(
    /// A role group of a site; its DNS label is the name in lower case.
    GroupName, "role group name", "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$",
    "letters, digits and `-`, at most 63 characters, as in `managementPoint-internet`",
    |t| is_label(t, "-")
);
name!(
    /// A name of a hierarchy or a site set.
    ObjectName, "name", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "a-z, 0-9 and `-`, at most 63 characters, as in `contoso`",
    |t| is_label(t, "-") && !t.chars().any(|c| c.is_ascii_uppercase())
);
name!(
    /// A secret, looked up as `<site>/<name>`, then `<name>`. Never a path.
    SecretName, "secret name", "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$",
    "a-z, 0-9, `-`, `_` and `.`, at most 63 characters, as in `db-password`; a name, not a path",
    |t| is_label(t, "-._") && !t.starts_with('.') && !t.ends_with('.')
        && !t.contains("..") && !t.chars().any(|c| c.is_ascii_uppercase())
);
name!(
    /// A failure zone: a path whose prefixes are zones too, `seattle/room-1/rack-3`.
    ZonePath, "zone", "^[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9.-]*)*$",
    "lower-case words separated by `/`, as in `seattle/room-1`, at most 8 deep",
    |t| t.len() <= 255 && t.split('/').count() <= 8
        && t.split('/').all(|p| is_label(p, "-.") && !p.chars().any(|c| c.is_ascii_uppercase()))
);
name!(
    /// A DNS domain without the last dot.
    DomainName, "domain", "^[a-z0-9_]([a-z0-9_-]{0,62})(\\.[a-z0-9_]([a-z0-9_-]{0,62}))*$",
    "lower-case labels separated by dots, without the last dot, as in `cm.contoso.example`",
    |t| t.len() <= 200 && t.split('.').all(|l| is_label(l, "-_"))
        && !t.chars().any(|c| c.is_ascii_uppercase())
);

impl ZonePath {
    /// Whether this zone is `other` or lies within it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.as_bytes().get(other.0.len()) == Some(&b'/'))
    }
}

impl GroupName {
    /// The DNS label of the group: its name in lower case.
    #[must_use]
    pub fn dns_label(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl SiteCode {
    /// The DNS label of the site: its code in lower case.
    #[must_use]
    pub fn dns_label(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// One role on one server of a site, `P01/managementPoint@p01-f1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName {
    /// The site.
    pub site: SiteCode,
    /// The role group.
    pub group: GroupName,
    /// The server.
    pub server: ServerName,
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.site, self.group, self.server)
    }
}

impl FromStr for InstanceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError {
            text: text.to_owned(),
            kind: "role instance",
            want: "SITE/GROUP@SERVER, as in `P01/managementPoint@p01-f1`",
        };
        let (site, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (group, server) = rest.split_once('@').ok_or_else(wrong)?;
        Ok(Self {
            site: site.parse()?,
            group: group.parse()?,
            server: server.parse()?,
        })
    }
}

impl TryFrom<String> for InstanceName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> Self {
        name.to_string()
    }
}

/// Anything an operator can point at (design section 8): one grammar for plans, journal, metrics,
/// `why` and `logs`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    /// `dns:NAME/TYPE`; the type may be left out.
    Dns(RecordKey),
    /// `hold:ID`.
    Hold(String),
    /// `P01/managementPoint@p01-f1`.
    Instance(InstanceName),
    /// `plan:ID`.
    Plan(String),
    /// `rev:SHA`.
    Revision(String),
    /// `P01/p01-a`.
    Server(SiteCode, ServerName),
    /// `P01`.
    Site(SiteCode),
    /// `P01/siteServer`: who is active.
    SiteServer(SiteCode),
}

/// The group of every site's site servers.
const SITE_SERVER: &str = "siteServer";

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(key) => write!(f, "dns:{key}"),
            Self::Hold(id) => write!(f, "hold:{id}"),
            Self::Instance(name) => write!(f, "{name}"),
            Self::Plan(id) => write!(f, "plan:{id}"),
            Self::Revision(sha) => write!(f, "rev:{sha}"),
            Self::Server(site, server) => write!(f, "{site}/{server}"),
            Self::Site(site) => write!(f, "{site}"),
            Self::SiteServer(site) => write!(f, "{site}/{SITE_SERVER}"),
        }
    }
}

impl FromStr for Thing {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(rest) = text.strip_prefix("dns:") {
            return Ok(Self::Dns(rest.parse()?));
        }
        if let Some(id) = text.strip_prefix("hold:") {
            return Ok(Self::Hold(id.to_owned()));
        }
        if let Some(id) = text.strip_prefix("plan:") {
            return Ok(Self::Plan(id.to_owned()));
        }
        if let Some(sha) = text.strip_prefix("rev:") {
            return Ok(Self::Revision(sha.to_owned()));
        }
        match text.split_once('/') {
            Some((_, rest)) if rest.contains('@') => Ok(Self::Instance(text.parse()?)),
            Some((site, SITE_SERVER)) => Ok(Self::SiteServer(site.parse()?)),
            Some((site, server)) => Ok(Self::Server(site.parse()?, server.parse()?)),
            None => Ok(Self::Site(text.parse()?)),
        }
    }
}

/// Who a certificate speaks for: URI SAN `stead://<hierarchy>/<kind>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The hierarchy.
    pub hierarchy: ObjectName,
    /// What it is.
    pub kind: IdentityKind,
    /// Its name: a server, a reconciler or a person.
    pub name: String,
}

/// What a certificate is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum IdentityKind {
    /// A person with a client certificate.
    Operator,
    /// A reconciler.
    Reconciler,
    /// A server's site agent.
    Server,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            IdentityKind::Operator => "operator",
            IdentityKind::Reconciler => "reconciler",
            IdentityKind::Server => "server",
        };
        write!(f, "stead://{}/{kind}/{}", self.hierarchy, self.name)
    }
}

impl FromStr for Identity {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError {
            text: text.to_owned(),
            kind: "certificate identity",
            want: "stead://HIERARCHY/server|reconciler|operator/NAME",
        };
        let mut parts = text.strip_prefix("stead://").ok_or_else(wrong)?.split('/');
        let (Some(hierarchy), Some(kind), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let kind = match kind {
            "operator" => IdentityKind::Operator,
            "reconciler" => IdentityKind::Reconciler,
            "server" => IdentityKind::Server,
            _ => return Err(wrong()),
        };
        let name = ServerName::new(name).map_err(|_| wrong())?.to_string();
        Ok(Self {
            hierarchy: hierarchy.parse()?,
            kind,
            name,
        })
    }
}

/// The JSON Schema of an IP address; no validator knows schemars' own `ip` format.
pub(crate) fn ip_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "description": "An IPv4 or IPv6 address.",
        "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }]
    })
}

/// The DNS record type that holds an address.
#[must_use]
pub fn address_type(address: IpAddr) -> crate::record::RecordType {
    match address {
        IpAddr::V4(_) => crate::record::RecordType::A,
        IpAddr::V6(_) => crate::record::RecordType::Aaaa,
    }
}
