//! The agent's next certificate: asked for in good time, taken when it comes.
//!
//! With a third of its life left (H20) the agent makes a key and shows a request in its report; the
//! reconciler signs it and sends the certificate. The key is in memory until then: an agent that
//! starts again asks anew. What is taken is for this key and this server, and of a CA that comes with
//! it; all else changes nothing. Files that change are read by `certificates`, and by the guard.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stead_schemas::declared::settings::TlsFiles;
use stead_schemas::names::Identity;
use stead_schemas::time::WallMs;
use stead_schemas::wire::{CertificateReport, NewCertificate};
use stead_wire::csr::{self, Asking};
use stead_wire::dates::{Validity, is_due};
use stead_wire::material::{Material, MaterialError};
use stead_wire::pki::PkiError;
use stead_wire::pki_files::{self, PkiFileError};
use thiserror::Error;

/// Why a certificate was not taken; the one in use stays.
#[derive(Debug, Error)]
pub enum RenewalError {
    /// Nothing was asked for, or something else was taken meanwhile.
    #[error("no certificate was asked for")]
    NotAsked,
    /// It is not for the key that was made, or can't be used.
    #[error("it can't be used with the key that was made for it")]
    Material(#[source] MaterialError),
    /// It speaks for somebody else.
    #[error("it is {got}, and this is {want}")]
    NotMine {
        /// Whose it is.
        got: Box<Identity>,
        /// Whose it has to be.
        want: Box<Identity>,
    },
    /// Nothing that comes with it signed it.
    #[error("it is of no CA that comes with it")]
    OfNoCa,
    /// It can't be written.
    #[error("it can't be written")]
    Files(#[source] PkiFileError),
}

/// What one agent asks for and takes.
pub struct Renewal {
    files: TlsFiles,
    identity: Identity,
    asking: Mutex<Option<Asking>>,
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Renewal({})", self.identity)
    }
}

impl Renewal {
    /// Nothing is asked for yet.
    #[must_use]
    pub fn new(files: TlsFiles, identity: Identity) -> Self {
        Self {
            files,
            identity,
            asking: Mutex::default(),
        }
    }

    fn asking(&self) -> MutexGuard<'_, Option<Asking>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is reported of the certificate in use; with the request, once it is time.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn report(&self, own: Validity, now: WallMs) -> Result<CertificateReport, PkiError> {
        let mut report = CertificateReport {
            until: own.ends,
            request: None,
        };
        if is_due(own, now) {
            let mut asking = self.asking();
            let asked = match asking.take() {
                Some(asked) => asked,
                None => csr::ask(&self.identity)?,
            };
            report.request = Some(asking.insert(asked).request_pem.clone());
        }
        Ok(report)
    }

    /// Takes the certificate that was asked for.
    ///
    /// # Errors
    /// [`RenewalError`].
    pub fn take(&self, new: &NewCertificate) -> Result<(), RenewalError> {
        let mut asking = self.asking();
        let Some(asked) = asking.as_ref() else {
            return Err(RenewalError::NotAsked);
        };
        let material = Material::from_pem(&new.ca, &new.certificate, &asked.key_pem);
        let material = material.map_err(RenewalError::Material)?;
        if *material.identity() != self.identity {
            return Err(RenewalError::NotMine {
                got: Box::new(material.identity().clone()),
                want: Box::new(self.identity.clone()),
            });
        }
        if !material.is_of_a_trusted_ca() {
            return Err(RenewalError::OfNoCa);
        }
        let issued = (new.certificate.as_str(), asked.key_pem.as_str());
        pki_files::replace(&self.files, &new.ca, issued).map_err(RenewalError::Files)?;
        *asking = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stead_wire::pki::{self, Ca, Request};

    use super::*;

    const DAY: u64 = 86_400_000;
    const NOW: WallMs = WallMs(20_000 * DAY);

    fn ca() -> Ca {
        let made = pki::create_ca(&"contoso".parse().unwrap(), NOW).unwrap();
        Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap()
    }

    fn wanted(name: &str) -> Request {
        Request {
            identity: format!("stead://contoso/server/{name}").parse().unwrap(),
            addresses: Vec::new(),
            dns_names: Vec::new(),
            days: 90,
        }
    }

    struct Place {
        dir: tempfile::TempDir,
        renewal: Renewal,
        ca: Ca,
    }

    /// An agent with a certificate of a CA.
    fn place() -> Place {
        let (dir, ca) = (tempfile::tempdir().unwrap(), ca());
        let at = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            ca: at("ca.crt"),
            cert: at("own.crt"),
            key: at("own.key"),
        };
        let issued = pki::issue(&ca, &wanted("p01-a"), NOW).unwrap();
        std::fs::write(&files.ca, ca.certificate_pem()).unwrap();
        std::fs::write(&files.cert, &issued.certificate_pem).unwrap();
        std::fs::write(&files.key, &issued.key_pem).unwrap();
        let renewal = Renewal::new(files, wanted("p01-a").identity);
        Place { dir, renewal, ca }
    }

    impl Place {
        fn own(&self) -> Validity {
            Material::load(&self.renewal.files).unwrap().validity()
        }

        fn request(&self, day: u64) -> Option<String> {
            let now = WallMs(NOW.0 + day * DAY);
            self.renewal.report(self.own(), now).unwrap().request
        }

        fn sign(&self, ca: &Ca, request: &str, name: &str) -> NewCertificate {
            let later = WallMs(NOW.0 + 60 * DAY);
            let signed = csr::sign(ca, request, &wanted(name), later).unwrap();
            NewCertificate {
                certificate: signed.certificate_pem,
                ca: ca.certificate_pem().to_owned(),
            }
        }

        fn contents(&self) -> Vec<(std::ffi::OsString, Vec<u8>)> {
            let entries = self.dir.path().read_dir().unwrap().map(Result::unwrap);
            let mut all: Vec<_> = entries
                .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
                .collect();
            all.sort();
            all
        }
    }

    #[test]
    fn h20_it_asks_with_a_third_left_the_same_again_and_takes_what_was_asked_for() {
        let place = place();
        assert_eq!(place.request(59), None, "31 of 91 days left");
        let request = place.request(60).unwrap();
        assert_eq!(place.request(61).as_ref(), Some(&request));
        let before = place.own();
        place
            .renewal
            .take(&place.sign(&place.ca, &request, "p01-a"))
            .unwrap();
        assert_eq!(place.own().ends, WallMs(before.ends.0 + 60 * DAY));
        assert_eq!(place.request(61), None);
        assert_eq!(place.contents().len(), 3, "nothing else is left");
        let again = place
            .renewal
            .take(&place.sign(&place.ca, &request, "p01-a"));
        assert!(matches!(again, Err(RenewalError::NotAsked)));
    }

    #[test]
    fn what_was_not_asked_for_changes_nothing() {
        let place = place();
        let before = place.contents();
        let request = place.request(60).unwrap();
        let foreign = csr::ask(&wanted("p01-a").identity).unwrap().request_pem;
        let other = ca();
        let mut unsigned = place.sign(&place.ca, &request, "p01-a");
        other.certificate_pem().clone_into(&mut unsigned.ca);
        let mut garbage = unsigned.clone();
        garbage.ca = "garbage".to_owned();
        for wrong in [
            place.sign(&place.ca, &foreign, "p01-a"),
            place.sign(&place.ca, &request, "p01-b"),
            unsigned,
            garbage,
        ] {
            assert!(place.renewal.take(&wrong).is_err());
            assert_eq!(place.contents(), before);
        }
        // It is still good for what it asked.
        place
            .renewal
            .take(&place.sign(&other, &request, "p01-a"))
            .unwrap();
    }
}
