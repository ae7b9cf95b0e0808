//! Join tokens: what is remembered of one, and whether one that is shown is good.
//!
//! Of a token only its digest is kept. One a server: a new one ends the one before. Who may ask for
//! one, and what a joining server is given, is `join`'s business.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use stead_schemas::join::{JoinRequest, TOKEN_PREFIX};
use stead_schemas::names::ServerName;
use stead_schemas::time::WallMs;
use thiserror::Error;

use crate::store::TokenMemory;

/// Random bytes in a token: nobody guesses them.
const BYTES: usize = 16;

/// Why a token does not let a server in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenRefusal {
    /// Not one of ours, or replaced by a later one.
    #[error("this token is not known; a later one may have replaced it")]
    Unknown,
    /// Made for another server.
    #[error("this token is for {0}")]
    Another(ServerName),
    /// Too late.
    #[error("this token has expired")]
    Expired,
    /// It let somebody in already, who has another key.
    #[error(
        "this token was used already, with another key: if that was not you, somebody else has it"
    )]
    Used,
}

impl TokenRefusal {
    /// Whether whoever shows it has a token of ours: worth the journal.
    pub(super) const fn is_of_ours(&self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

/// No random numbers to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// A new token, to be shown once.
pub(super) fn make() -> Result<String, NoRandomness> {
    let mut bytes = [0; BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(format!("{TOKEN_PREFIX}{}", hex(&bytes)))
}

/// What is kept of it.
pub(super) fn digest_of(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All tokens, by server.
#[derive(Default)]
pub struct Tokens(Mutex<BTreeMap<ServerName, TokenMemory>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.all().len())
    }
}

impl Tokens {
    /// Those remembered.
    #[must_use]
    pub fn new(remembered: BTreeMap<ServerName, TokenMemory>) -> Self {
        Self(Mutex::new(remembered))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ServerName, TokenMemory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, server: &ServerName, memory: TokenMemory) {
        self.all().insert(server.clone(), memory);
    }

    /// Whether this lets the server in with that key: what is to be remembered before it is answered.
    pub(super) fn redeem(
        &self,
        request: &JoinRequest,
        key: &str,
        now: WallMs,
    ) -> Result<TokenMemory, TokenRefusal> {
        let shown = digest_of(&request.token);
        let all = self.all();
        // Digests are compared, so how long that takes tells nothing about a token.
        let (server, memory) = all
            .iter()
            .find(|(_, memory)| memory.digest == shown)
            .ok_or(TokenRefusal::Unknown)?;
        if *server != request.server {
            return Err(TokenRefusal::Another(server.clone()));
        }
        if memory.used_for.as_deref().is_some_and(|used| used != key) {
            return Err(TokenRefusal::Used);
        }
        if memory.until < now {
            return Err(TokenRefusal::Expired);
        }
        Ok(TokenMemory {
            used_for: Some(key.to_owned()),
            ..memory.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(token: &str) -> TokenMemory {
        TokenMemory {
            digest: digest_of(token),
            by: "ann".to_owned(),
            made_at: WallMs(1_000),
            until: WallMs(5_000),
            used_for: None,
        }
    }

    fn shown(server: &str, token: &str) -> JoinRequest {
        JoinRequest {
            server: server.parse().unwrap(),
            token: token.to_owned(),
            request: String::new(),
        }
    }

    fn tokens() -> Tokens {
        let of = |server: &str, token| (server.parse().unwrap(), remembered(token));
        Tokens::new([of("fab-a", "st-a"), of("fab-b", "st-b")].into())
    }

    #[test]
    fn a_token_is_for_one_server_one_key_and_its_time() {
        let tokens = tokens();
        let now = WallMs(5_000);
        let redeem = |server, token, key, at| tokens.redeem(&shown(server, token), key, at);
        assert_eq!(
            redeem("fab-a", "st-x", "k1", now),
            Err(TokenRefusal::Unknown)
        );
        let another = TokenRefusal::Another("fab-b".parse().unwrap());
        assert_eq!(redeem("fab-a", "st-b", "k1", now), Err(another));
        let late = WallMs(5_001);
        assert_eq!(
            redeem("fab-a", "st-a", "k1", late),
            Err(TokenRefusal::Expired)
        );
        let used = redeem("fab-a", "st-a", "k1", now).unwrap();
        assert_eq!(used.used_for.as_deref(), Some("k1"));
        tokens.set(&"fab-a".parse().unwrap(), used);
        // An answer that was lost is given again; another key is another machine.
        assert!(redeem("fab-a", "st-a", "k1", now).is_ok());
        assert_eq!(redeem("fab-a", "st-a", "k2", now), Err(TokenRefusal::Used));
        // A new one ends the one before.
        tokens.set(&"fab-a".parse().unwrap(), remembered("st-c"));
        assert_eq!(
            redeem("fab-a", "st-a", "k1", now),
            Err(TokenRefusal::Unknown)
        );
    }

    #[test]
    fn tokens_are_long_different_and_not_kept() {
        let (one, other) = (make().unwrap(), make().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), TOKEN_PREFIX.len() + 2 * BYTES);
        assert!(!format!("{:?}", remembered(&one)).contains(&one));
    }
}
