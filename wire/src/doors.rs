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

/// Two routers, chosen by the caller's dates at each request.
#[derive(Debug, Clone)]
pub struct Doors {
    pub(crate) within: Router,
    pub(crate) outside: Router,
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
        }
    }
}

impl From<Router> for Doors {
    fn from(strict: Router) -> Self {
        let limit = DefaultBodyLimit::max(MESSAGE_BYTES_MAX);
        Self {
            within: strict.layer(limit),
            outside: Router::new().fallback(refuse),
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
