//! DNS records that Stead owns: keys, sets, and the ownership mark of H22.
//!
//! Names here are lower case and without the last dot. The file knows what a record is, not how
//! one gets to a server (`stead_dns`) nor which are wanted (`stead-plan`).

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::generation::Generation;
use crate::names::{NameError, ObjectName};

/// The record types Stead publishes; TXT only for its marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Service location, RFC 2782.
    Srv,
}

impl RecordType {
    /// The type as DNS writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        }
    }
}

/// A name and a type: what one update message is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordKey {
    /// Lower case, absolute, without the last dot.
    pub name: String,
    /// The record type.
    pub rtype: RecordType,
}

impl RecordKey {
    /// The name of the ownership mark (a TXT record) of this key, H22.
    #[must_use]
    pub fn mark_name(&self) -> String {
        format!(
            "_stead-{}.{}",
            self.rtype.as_str().to_ascii_lowercase(),
            self.name
        )
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.rtype.as_str())
    }
}

impl FromStr for RecordKey {
    type Err = NameError;
    /// Reads `NAME/TYPE`. Without a type, `_service` names are SRV and all others A.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError {
            text: text.to_owned(),
            kind: "DNS record",
            want: "NAME/TYPE with type A, AAAA or SRV, as in `p01.cm.contoso.example/A`",
        };
        let (name, rtype) = match text.split_once('/') {
            Some((name, "A" | "a")) => (name, RecordType::A),
            Some((name, "AAAA" | "aaaa")) => (name, RecordType::Aaaa),
            Some((name, "SRV" | "srv")) => (name, RecordType::Srv),
            Some(_) => return Err(wrong()),
            None if text.starts_with('_') => (text, RecordType::Srv),
            None => (text, RecordType::A),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() || name.len() > 253 {
            return Err(wrong());
        }
        Ok(Self { name, rtype })
    }
}

impl TryFrom<String> for RecordKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<RecordKey> for String {
    fn from(key: RecordKey) -> Self {
        key.to_string()
    }
}

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RecordData {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Service location.
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// Share among those of one priority.
        weight: u16,
        /// TCP port.
        port: u16,
        /// Lower case, without the last dot.
        target: String,
    },
}

impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Srv {
                priority,
                weight,
                port,
                target,
            } => {
                write!(f, "{priority} {weight} {port} {target}")
            }
        }
    }
}

/// All records of one key, with their common TTL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSet {
    /// Time to live in seconds.
    pub ttl_s: u32,
    /// Never empty: a key without values is not a set.
    pub values: BTreeSet<RecordData>,
}

/// The ownership mark beside a record: TXT at [`RecordKey::mark_name`] (H22).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The hierarchy that owns the record.
    pub hierarchy: ObjectName,
    /// The site it belongs to.
    pub site: String,
    /// The term of the writer; 0 for records that no lease governs.
    pub term: u64,
    /// The writing command's generation.
    pub generation: Generation,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "v=1 h={} s={} t={} g={}",
            self.hierarchy, self.site, self.term, self.generation
        )
    }
}

impl FromStr for Mark {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError {
            text: text.to_owned(),
            kind: "ownership mark",
            want: "v=1 h=HIERARCHY s=SITE t=TERM g=GENERATION",
        };
        let mut parts = text.split(' ');
        let mut field = |key: &str| {
            parts
                .next()
                .and_then(|part| part.strip_prefix(key))
                .map(str::to_owned)
                .ok_or_else(wrong)
        };
        if field("v=")? != "1" {
            return Err(wrong());
        }
        let mark = Self {
            hierarchy: field("h=")?.parse()?,
            site: field("s=")?,
            term: field("t=")?.parse().map_err(|_| wrong())?,
            generation: field("g=")?.parse()?,
        };
        if parts.next().is_some() {
            Err(wrong())
        } else {
            Ok(mark)
        }
    }
}
