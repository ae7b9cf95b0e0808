//! What a listener answers, and to whom: one set of routes for callers with valid certificates, and of
//! these the ones that go on for a caller outside its dates (H20).
//!
//! A plain router lets nobody in who is outside: a new route is strict until somebody says otherwise.
//! Which routes may be open is the program's to say; that a caller's name is good is the handshake's.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use stead_schemas::wire::MESSAGE_BYTES_MAX;

use crate::dates::Dates;
use crate::serve::Caller;

/// Longest body read of somebody who proved nothing.
const STRANGER_BYTES_MAX: usize = 32 * 1024;

/// Routers, chosen by the caller's dates at each request.
#[derive(Debug, Clone)]
pub struct Doors {
    pub(crate) within: Router,
    pub(crate) outside: Router,
    pub(crate) strangers: Router,
}

impl Doors {
    /// `strict` needs a valid certificate; `tolerant` asks for no dates and must command nothing.
    pub fn new(strict: Router, tolerant: Router) -> Self {
        let limit = DefaultBodyLimit::max(MESSAGE_BYTES_MAX);
        let outside = tolerant
            .clone()
            .fallback(refuse)
            .method_not_allowed_fallback(refuse);
        Self {
            within: strict.merge(tolerant).layer(limit),
            outside: outside.layer(limit),
            strangers: Router::new().fallback(unknown),
        }
    }

    /// What a caller without any certificate may ask: nothing, unless this says otherwise.
    #[must_use]
    pub fn strangers(self, routes: Router) -> Self {
        let routes = routes
            .fallback(unknown)
            .method_not_allowed_fallback(unknown);
        Self {
            strangers: routes.layer(DefaultBodyLimit::max(STRANGER_BYTES_MAX)),
            ..self
        }
    }
}

async fn unknown() -> (StatusCode, &'static str) {
    (
        StatusCode::UNAUTHORIZED,
        "a certificate is needed; a server gets one with: site-agent join",
    )
}

impl From<Router> for Doors {
    fn from(strict: Router) -> Self {
        let limit = DefaultBodyLimit::max(MESSAGE_BYTES_MAX);
        Self {
            within: strict.layer(limit),
            outside: Router::new().fallback(refuse),
            strangers: Router::new().fallback(unknown),
        }
    }
}

/// The same for routes that there are and routes that there aren't.
async fn refuse(Caller(caller): Caller, dates: Dates) -> (StatusCode, String) {
    let complaint = dates.complaint(&caller);
    (
        StatusCode::FORBIDDEN,
        complaint.unwrap_or_else(|| "the certificate is outside its dates".to_owned()),
    )
}
