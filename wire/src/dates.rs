//! The dates of certificates, apart from everything else that is checked of them (H20).
//!
//! A wrong clock or a forgotten renewal must not stop a site, so the handshake lets a certificate in of
//! which nothing but the date is wrong, and says so: [`Dates`] comes with every request, and [`Outdated`]
//! remembers who was seen outside of them. What such a caller may still do is decided by
//! [`crate::doors`]: nothing, unless a route says otherwise. Roots have no dates here, as in webpki.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use rustls::pki_types::CertificateDer;
use stead_schemas::names::{Identity, IdentityKind};
use stead_schemas::time::WallMs;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock::wall_now;

/// Names remembered; somebody who makes up more needs our CA's key for it.
const NAMES_MAX: usize = 32;
/// The log hears of one name at most this often.
const TOLD_EVERY: Duration = Duration::from_secs(3_600);
/// A name that was not seen for this long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

/// First and last instant at which a certificate, and what signed it, is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first.
    pub begins: WallMs,
    /// The last.
    pub ends: WallMs,
}

/// Where an instant lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    /// The certificate is valid.
    Within,
    /// Not yet; it will be from then on.
    Before(WallMs),
    /// Not any more; it was until then.
    After(WallMs),
}

impl Validity {
    /// That of a certificate and those between it and the CA. A CA's own among them is left out, and
    /// so is what can't be read, which no handshake accepts.
    pub(crate) fn of_chain(leaf: &[u8], above: &[CertificateDer<'_>]) -> Self {
        let own = Self::of(leaf, true);
        let above = above.iter().map(|der| Self::of(der, false));
        std::iter::once(own).chain(above).flatten().fold(
            Self {
                begins: WallMs(0),
                ends: WallMs(u64::MAX),
            },
            |all, one| Self {
                begins: all.begins.max(one.begins),
                ends: all.ends.min(one.ends),
            },
        )
    }

    fn of(der: &[u8], even_of_itself: bool) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        if !even_of_itself && certificate.issuer() == certificate.subject() {
            return None;
        }
        let ms = |seconds: i64| WallMs(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000));
        let validity = certificate.validity();
        Some(Self {
            begins: ms(validity.not_before.timestamp()),
            ends: ms(validity.not_after.timestamp()),
        })
    }

    /// Whether that is within it.
    #[must_use]
    pub const fn at(self, now: WallMs) -> Dates {
        if now.0 < self.begins.0 {
            Dates::Before(self.begins)
        } else if now.0 / 1_000 > self.ends.0 / 1_000 {
            Dates::After(self.ends)
        } else {
            Dates::Within
        }
    }
}

/// Whether it is time to renew: a third of its life is left, or less (H20).
#[must_use]
pub const fn is_due(own: Validity, now: WallMs) -> bool {
    let life = own.ends.since(own.begins).0;
    own.ends.since(now).0 <= life / 3
}

impl Dates {
    /// What is wrong with the certificate of `whose`, and what to do; nothing while it is valid.
    #[must_use]
    pub fn complaint(self, whose: &Identity) -> Option<String> {
        let what = match self {
            Self::Within => return None,
            Self::Before(begins) => format!("is not valid before {}", Day(begins)),
            Self::After(ends) => format!("ended {}", Day(ends)),
        };
        let (kind, name) = (word(whose.kind), &whose.name);
        Some(format!(
            "{kind} {name}'s certificate {what}, by a clock that says {}; \
             renew it: stead pki issue {kind} {name}, or set the clock",
            Day(wall_now())
        ))
    }
}

/// As in names and in `stead pki issue`.
const fn word(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Operator => "operator",
        IdentityKind::Reconciler => "reconciler",
        IdentityKind::Server => "server",
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Dates {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().copied().ok_or((
            StatusCode::UNAUTHORIZED,
            "this request came without a certificate",
        ))
    }
}

/// An instant, as its day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day(pub WallMs);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.0 / 1_000).unwrap_or(i64::MAX);
        match OffsetDateTime::from_unix_timestamp(seconds) {
            Ok(at) => write!(f, "{}", at.date()),
            Err(_) => f.write_str("a day beyond all calendars"),
        }
    }
}

/// Who was last seen with a certificate outside its dates, counted, and told to the log now and then.
#[derive(Debug, Default)]
pub struct Outdated {
    seen: Mutex<BTreeMap<Identity, Seen>>,
}

#[derive(Debug)]
struct Seen {
    dates: Dates,
    times: u64,
    last: Instant,
    told: Instant,
}

impl Outdated {
    /// Everybody's last complaint, by name.
    #[must_use]
    pub fn complaints(&self) -> BTreeMap<Identity, String> {
        let mut seen = self.lock();
        seen.retain(|_, one| one.last.elapsed() < FORGOTTEN_AFTER);
        seen.iter()
            .filter_map(|(whose, one)| Some((whose.clone(), one.dates.complaint(whose)?)))
            .collect()
    }

    /// How often it was seen outside its dates since it was last seen within.
    #[must_use]
    pub fn times(&self, whose: &Identity) -> u64 {
        self.lock().get(whose).map_or(0, |one| one.times)
    }

    /// Somebody was seen with a certificate of such dates.
    pub(crate) fn note(&self, whose: &Identity, dates: Dates) {
        let mut seen = self.lock();
        if dates == Dates::Within {
            seen.remove(whose);
            return;
        }
        let now = Instant::now();
        if let Some(one) = seen.get_mut(whose) {
            one.dates = dates;
            one.times += 1;
            one.last = now;
            if one.told.elapsed() < TOLD_EVERY {
                return;
            }
            one.told = now;
        } else if seen.len() < NAMES_MAX {
            let first = Seen {
                dates,
                times: 1,
                last: now,
                told: now,
            };
            seen.insert(whose.clone(), first);
        } else {
            return;
        }
        let times = seen.get(whose).map_or(0, |one| one.times);
        drop(seen);
        tracing::warn!(times, "{}", dates.complaint(whose).unwrap_or_default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Identity, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Identity {
        format!("stead://contoso/server/{name}").parse().unwrap()
    }

    #[test]
    fn the_last_second_counts_and_the_first_does() {
        let validity = Validity {
            begins: WallMs(5_000),
            ends: WallMs(9_000),
        };
        for (now, want) in [
            (4_999, Dates::Before(WallMs(5_000))),
            (5_000, Dates::Within),
            (9_999, Dates::Within),
            (10_000, Dates::After(WallMs(9_000))),
        ] {
            assert_eq!(validity.at(WallMs(now)), want, "{now}");
        }
    }

    #[test]
    fn complaints_name_day_and_remedy_are_bounded_and_go_with_a_good_one() {
        let outdated = Outdated::default();
        let over = Dates::After(WallMs(1_700_000_000_000));
        for number in 0..100 {
            outdated.note(&id(&format!("p{number}")), over);
        }
        outdated.note(&id("p7"), over);
        assert_eq!(outdated.times(&id("p7")), 2);
        let complaints = outdated.complaints();
        assert_eq!(complaints.len(), NAMES_MAX);
        let text = &complaints[&id("p7")];
        assert!(text.starts_with("server p7's certificate ended 2023-11-14"));
        assert!(text.contains("stead pki issue server p7"), "{text}");
        outdated.note(&id("p7"), Dates::Within);
        assert_eq!(outdated.times(&id("p7")), 0);
        assert!(!outdated.complaints().contains_key(&id("p7")));
    }
}
