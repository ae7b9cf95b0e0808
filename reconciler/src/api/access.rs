//! Who may call: the same user over the socket, operators over mutual TLS.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use stead_schemas::names::IdentityKind;
use stead_wire::serve::Caller;

/// How a router is reached; set as a request extension by whoever serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// The unix socket; its mode keeps other users out.
    Socket,
    /// Mutual TLS; the certificate says who calls.
    Tls,
}

/// The person or program behind a request, as the journal names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct By(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        if parts.extensions.get::<Access>() == Some(&Access::Socket) {
            return Ok(Self("local user".to_owned()));
        }
        let Caller(identity) = Caller::from_request_parts(parts, state)
            .await
            .map_err(|_| (StatusCode::UNAUTHORIZED, "a client certificate is needed"))?;
        match identity.kind {
            IdentityKind::Operator => Ok(Self(identity.name)),
            IdentityKind::Reconciler | IdentityKind::Server => {
                Err((StatusCode::FORBIDDEN, "an operator's certificate is needed"))
            }
        }
    }
}
