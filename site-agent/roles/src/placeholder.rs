//! `placeholder`: stands where a role's own program will stand (H28). It answers `/health`, so that
//! everything around it (supervision, health, publishing, moving) is real, and does nothing else.

use axum::routing::get;
use axum::{Json, Router};

/// Its HTTP interface.
pub fn router() -> Router {
    let health = || async { Json(serde_json::json!({ "role": "placeholder" })) };
    Router::new().route("/health", get(health))
}
