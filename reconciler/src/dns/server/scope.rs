//! What a key may write: the whole zone, or one site's alias and its mark (H22).

use std::sync::Arc;

use hickory_proto::ProtoError;
use hickory_proto::rr::{Name, RecordType};

use stead_dns::convert;

/// The names and types one TSIG key may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Zone,
    Site(Arc<SiteNames>),
}

#[derive(Debug, PartialEq, Eq)]
struct SiteNames {
    alias: Name,
    marks: [Name; 2],
}

impl Scope {
    /// Everything in the zone: the reconciler's key. Only such keys may ask for a transfer.
    #[must_use]
    pub const fn zone() -> Self {
        Self(Kind::Zone)
    }

    /// Exactly one alias, as A and AAAA, and the marks of both: a site's key.
    ///
    /// # Errors
    /// When the alias is not a DNS name.
    pub fn alias(alias: &str) -> Result<Self, ProtoError> {
        let mark = |rtype: &str| convert::name(&format!("_stead-{rtype}.{alias}"));
        Ok(Self(Kind::Site(Arc::new(SiteNames {
            alias: convert::name(alias)?,
            marks: [mark("a")?, mark("aaaa")?],
        }))))
    }

    /// Whether an update of this name and type is allowed.
    pub(super) fn allows(&self, name: &Name, rtype: RecordType) -> bool {
        match &self.0 {
            Kind::Zone => true,
            Kind::Site(names) => match rtype {
                RecordType::A | RecordType::AAAA => *name == names.alias,
                RecordType::TXT => names.marks.contains(name),
                _ => false,
            },
        }
    }

    /// Whether the key may read the zone as a whole.
    pub(super) const fn allows_transfer(&self) -> bool {
        matches!(self.0, Kind::Zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h22_a_site_key_reaches_its_alias_and_its_mark_and_nothing_else() {
        let scope = Scope::alias("p01.cm.lab.example").unwrap();
        let allows = |name: &str, rtype| scope.allows(&convert::name(name).unwrap(), rtype);
        assert!(allows("P01.cm.lab.example", RecordType::A));
        assert!(allows("p01.cm.lab.example", RecordType::AAAA));
        assert!(allows("_stead-a.p01.cm.lab.example", RecordType::TXT));
        for (name, rtype) in [
            ("p01.cm.lab.example", RecordType::CNAME),
            ("p01.cm.lab.example", RecordType::TXT),
            ("p01.cm.lab.example", RecordType::ANY),
            ("p02.cm.lab.example", RecordType::A),
            ("x.p01.cm.lab.example", RecordType::A),
            ("_stead-a.p02.cm.lab.example", RecordType::TXT),
            ("_stead-srv.p01.cm.lab.example", RecordType::TXT),
        ] {
            assert!(!allows(name, rtype), "{name} {rtype}");
        }
        assert!(!scope.allows_transfer() && Scope::zone().allows_transfer());
    }
}
