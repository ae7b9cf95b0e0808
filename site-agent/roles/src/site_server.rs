//! `siteServer`, until the failover lease gives it work: a process that answers `/health` and writes
//! nothing anywhere. `active` says that it runs on the declared active server, where alone it is
//! assigned (H14); it holds no lease and fences nobody.

use axum::routing::get;
use axum::{Json, Router};

/// Its HTTP interface.
pub fn router() -> Router {
    let health = || async { Json(serde_json::json!({ "role": "siteServer", "active": true })) };
    Router::new().route("/health", get(health))
}
