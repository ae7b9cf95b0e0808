//! How a server gets its first certificate: a token that a person asks for, and the server's own request.
//!
//! A token is for one server and one use, and ends. The key never leaves the server; the reconciler
//! signs what it asks for and says the rest that its settings need. Nothing here is checked by this file.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{ObjectName, ServerName, SiteCode};
use crate::time::{DurationMs, WallMs};

/// What every token begins with, so that a leaked one is recognised.
pub const TOKEN_PREFIX: &str = "st-";

/// `POST /v1/tokens`: tokens for these servers, each replacing an unused one of the same server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokensRequest {
    /// The servers, declared in the revision in force.
    pub servers: Vec<ServerName>,
    /// How long each is good for.
    pub ttl: DurationMs,
}

/// The answer: the only time that a token is seen.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokensAnswer {
    /// Where a server finds this reconciler.
    pub reconciler: SocketAddr,
    /// Digest of the hierarchy's CA, `sha256:...`.
    pub ca: String,
    /// In the order asked for.
    pub tokens: Vec<JoinToken>,
}

/// One token. Secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// The server it is for.
    pub server: ServerName,
    /// The token.
    pub token: String,
    /// Its last instant.
    pub until: WallMs,
}

/// `POST /v1/join`: a server that has no certificate asks for one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    /// Who it is.
    pub server: ServerName,
    /// The token made for it. Secret.
    pub token: String,
    /// Its certificate request, PEM. The same one again, with the same token, is answered again.
    pub request: String,
}

/// What a server needs to be one of the hierarchy's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    /// The hierarchy.
    pub hierarchy: ObjectName,
    /// Its site.
    pub site: SiteCode,
    /// Where it is to listen, as declared.
    pub listen: SocketAddr,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The hierarchy's CA, PEM.
    pub ca: String,
    /// Last instant of the certificate.
    pub until: WallMs,
}

impl std::fmt::Debug for TokensAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokensAnswer({:?})", self.tokens)
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({})", self.server)
    }
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest({})", self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_show_in_debug() {
        let server: ServerName = "p01-a".parse().unwrap();
        let until = WallMs(1);
        let token = JoinToken {
            server: server.clone(),
            token: "st-secret".to_owned(),
            until,
        };
        let answer = TokensAnswer {
            reconciler: "10.0.0.5:7444".parse().unwrap(),
            ca: "sha256:9c".to_owned(),
            tokens: vec![token.clone()],
        };
        let request = JoinRequest {
            server,
            token: token.token.clone(),
            request: String::new(),
        };
        for shown in [
            format!("{token:?}"),
            format!("{answer:?}"),
            format!("{request:?}"),
        ] {
            assert!(
                shown.contains("p01-a") && !shown.contains("secret"),
                "{shown}"
            );
        }
    }
}
