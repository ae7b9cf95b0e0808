//! The agent's certificates while it runs: new files are taken, and dates that need a person are told.
//!
//! A certificate outside its dates stops no lease (H20), so it has to be heard of: that of another, in
//! either direction, until a good one is seen; the own one some time before its end.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use stead_schemas::declared::settings::TlsFiles;
use stead_schemas::names::Identity;
use stead_schemas::time::WallMs;
use stead_wire::clock::wall_now;
use stead_wire::dates::{Dates, Day, Validity};
use stead_wire::material::Material;
use stead_wire::tls::{ClientTls, ServerTls};
use tokio::time::sleep;

use crate::board::Board;
use crate::chain;
use crate::renewal::Renewal;

/// How often files and dates are looked at.
const EVERY: Duration = Duration::from_secs(5);
/// So long before its end a certificate is told of, or in the last third of a short life.
const SOON: u64 = 14 * 86_400_000;
/// What begins such a problem.
const ABOUT: &str = "certificate";

/// What is looked after.
#[derive(Debug)]
pub struct Certificates {
    /// Where they are.
    pub files: TlsFiles,
    /// What the agent answers with.
    pub server: Arc<ServerTls>,
    /// What it calls with.
    pub client: Arc<ClientTls>,
    /// Where it is told.
    pub board: Board,
    /// What asks for the next one.
    pub renewal: Arc<Renewal>,
}

impl Certificates {
    /// Takes new certificates when their files change, and tells of dates, until it is ended. Bad
    /// files are told of in the log, and not taken. `current` is in use.
    pub async fn attend(self, mut current: Material) {
        let mut seen = changed_at(&self.files);
        loop {
            self.tell(&current);
            sleep(EVERY).await;
            let now = changed_at(&self.files);
            if now == seen {
                continue;
            }
            match self.take() {
                Ok(material) => {
                    tracing::info!("took new certificates");
                    current = material;
                }
                // Half-written files are whole the next time.
                Err(error) => tracing::error!("new certificates are not taken: {error}"),
            }
            seen = now;
        }
    }

    fn take(&self) -> Result<Material, String> {
        let material = Material::load(&self.files).map_err(|error| chain(&error))?;
        self.server
            .reload(&material)
            .map_err(|error| chain(&error))?;
        self.client
            .reload(&material)
            .map_err(|error| chain(&error))?;
        Ok(material)
    }

    fn tell(&self, own: &Material) {
        match self.renewal.report(own.validity(), wall_now()) {
            Ok(report) => self
                .board
                .change(|shown| shown.certificate = Some(Box::new(report))),
            Err(error) => tracing::error!("no request for the next certificate: {}", chain(&error)),
        }
        // One that is outside for both directions is told of once.
        let mut complaints = self.server.outdated().complaints();
        complaints.extend(self.client.outdated().complaints());
        complaints.remove(own.identity());
        let own = complaint(own.identity(), own.validity(), wall_now());
        self.board
            .problems(ABOUT, own.into_iter().chain(complaints.into_values()));
    }
}

/// What is to be said of the own certificate; nothing while it has time.
fn complaint(whose: &Identity, validity: Validity, now: WallMs) -> Option<String> {
    let life = validity.ends.since(validity.begins).0;
    let left = validity.ends.since(now).0;
    match validity.at(now) {
        Dates::Within if left < SOON.min(life / 3) => Some(format!(
            "this server's own ends {}; renew it before: stead pki issue server {}",
            Day(validity.ends),
            whose.name
        )),
        dates => dates.complaint(whose),
    }
}

/// When the certificate files were last written.
pub(crate) type Changed = [Option<SystemTime>; 3];

pub(crate) fn changed_at(files: &TlsFiles) -> Changed {
    [&files.ca, &files.cert, &files.key].map(|path| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn h20_the_own_certificate_is_told_of_before_and_after_its_end() {
        let whose: Identity = "stead://contoso/server/p01-a".parse().unwrap();
        let validity = |days: u64| Validity {
            begins: WallMs(10 * DAY),
            ends: WallMs((10 + days) * DAY),
        };
        let said = |days, now| complaint(&whose, validity(days), WallMs(now * DAY));
        assert_eq!(said(90, 80), None);
        let soon = said(90, 87).unwrap();
        assert!(soon.contains("ends 1970-04-11"), "{soon}");
        assert!(soon.contains("stead pki issue server p01-a"), "{soon}");
        assert!(said(90, 101).unwrap().contains("ended 1970-04-11"));
        assert!(said(90, 9).unwrap().contains("not valid before 1970-01-11"));
        // A short life is told of in its last third only.
        assert_eq!(said(3, 11), None);
        assert!(said(6, 15).is_some());
    }
}
