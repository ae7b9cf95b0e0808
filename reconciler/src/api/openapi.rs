//! The API's OpenAPI 3.1 description, from the table of endpoints and the types of the requests.
//! `docs/reference/openapi.json` is its checked-in copy.

use schemars::{Schema, schema_for};
use serde_json::{Map, Value, json};
use stead_schemas::api::{
    ConfirmLostRequest, DrainRequest, FailbackRequest, PlanRequest, PromotionRequest,
    ReplaceRequest, ResumeRequest, SuspendRequest, SwitchoverRequest, UndrainRequest,
};
use stead_schemas::join::TokensRequest;

/// Path, summary, query parameters (name, required), name of the answer's type.
type Read = (
    &'static str,
    &'static str,
    &'static [(&'static str, bool)],
    &'static str,
);

const READS: [Read; 11] = [
    (
        "/v1/status",
        "Sites, servers, instances, holds; what needs a person first",
        &[("site", false)],
        "StatusView",
    ),
    (
        "/v1/plan",
        "The roads of all sites that have one",
        &[],
        "PlanView",
    ),
    (
        "/v1/records",
        "DNS records: wanted, served, owner, state",
        &[("site", false)],
        "RecordView[]",
    ),
    (
        "/v1/revisions",
        "Revisions and what became of them",
        &[],
        "RevisionView[]",
    ),
    (
        "/v1/history",
        "The journal, newest first",
        &[("site", false), ("limit", false), ("before", false)],
        "JournalEntry[]",
    ),
    (
        "/v1/takeovers",
        "How leases were taken up, a line a term, newest first",
        &[("site", false)],
        "TakeoverView[]",
    ),
    (
        "/v1/why",
        "Why a thing is as it is, down to file, line and commit",
        &[("thing", true)],
        "WhyView",
    ),
    (
        "/v1/secrets",
        "Secrets by name; never a value",
        &[],
        "SecretView[]",
    ),
    (
        "/v1/logs",
        "An instance's log, from its agent",
        &[("instance", true), ("lines", false), ("follow", false)],
        "text/plain",
    ),
    ("/healthz", "The process answers", &[], "text/plain"),
    (
        "/readyz",
        "It acts, and has judged every agent once",
        &[],
        "text/plain",
    ),
];

/// The description.
#[must_use]
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for (path, summary, query, answer) in READS {
        let parameters: Vec<Value> = query
            .iter()
            .map(|(name, required)| {
                json!({"name": name, "in": "query", "required": required, "schema": {"type": "string"}})
            })
            .collect();
        let get = json!({
            "get": {"summary": summary, "parameters": parameters, "responses": responses(answer)}
        });
        paths.insert(path.to_owned(), get);
    }
    for (path, summary, body, answer) in posts() {
        let post = json!({
            "summary": summary,
            "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
            "responses": responses(answer)
        });
        match paths.get_mut(path) {
            Some(read) => read["post"] = post,
            None => drop(paths.insert(path.to_owned(), json!({"post": post}))),
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stead reconciler",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Over the unix socket for the same user, over mutual TLS with an operator's certificate for others."
        },
        "paths": paths
    })
}

/// Path, summary, the body's schema, name of the answer's type.
type Post = (&'static str, &'static str, Schema, &'static str);

fn posts() -> [Post; 11] {
    [
        (
            "/v1/plan",
            "What a topology would do as things are; it is neither applied nor kept",
            schema_for!(PlanRequest),
            "PlanView",
        ),
        (
            "/v1/tokens",
            "Make tokens with which servers join",
            schema_for!(TokensRequest),
            "TokensAnswer",
        ),
        (
            "/v1/suspend",
            "Stop changes of a site, a server or all",
            schema_for!(SuspendRequest),
            "CommandAnswer",
        ),
        (
            "/v1/resume",
            "End a suspension",
            schema_for!(ResumeRequest),
            "CommandAnswer",
        ),
        (
            "/v1/confirm-lost",
            "Say that a server is gone for good",
            schema_for!(ConfirmLostRequest),
            "CommandAnswer",
        ),
        (
            "/v1/drain",
            "Take a server out of service for a while; answered once its site has another active",
            schema_for!(DrainRequest),
            "DrainPlanView",
        ),
        (
            "/v1/undrain",
            "Put a server back into service",
            schema_for!(UndrainRequest),
            "CommandAnswer",
        ),
        (
            "/v1/promote",
            "Let a server go on alone: a majority of its site's voters is gone for good",
            schema_for!(PromotionRequest),
            "CommandAnswer",
        ),
        (
            "/v1/switchover",
            "Change the active site server; answered once the successor works, or is refused",
            schema_for!(SwitchoverRequest),
            "SwitchoverView",
        ),
        (
            "/v1/failback",
            "Change the active site server to the one that git declares",
            schema_for!(FailbackRequest),
            "SwitchoverView",
        ),
        (
            "/v1/replace",
            "Let in a voter whose vote ledger is new",
            schema_for!(ReplaceRequest),
            "CommandAnswer",
        ),
    ]
}

fn responses(answer: &str) -> Value {
    json!({
        "200": {"description": answer},
        "default": {"description": "ApiError: {error, hint}"}
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_checked_in_is_the_one_served() {
        let file =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/openapi.json");
        let mut text = serde_json::to_string_pretty(&openapi()).unwrap();
        text.push('\n');
        if std::env::var_os("STEAD_UPDATE").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        let stored = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            stored == text,
            "{} is stale: STEAD_UPDATE=1 cargo nextest run -p stead openapi",
            file.display()
        );
    }

    #[test]
    fn every_endpoint_of_the_router_is_described_and_no_other() {
        let sources = [
            include_str!("endpoints.rs"),
            include_str!("../daemon/by_hand.rs"),
            include_str!("../daemon/join.rs"),
        ];
        let routes = sources
            .iter()
            .flat_map(|source| source.lines())
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split('"').next());
        let served: std::collections::BTreeSet<&str> = routes
            // Joining is servers' business, not people's.
            .filter(|path| !matches!(*path, "/openapi.json" | "/metrics" | "/v1/join"))
            .collect();
        let described = openapi();
        let paths = described["paths"].as_object().unwrap();
        assert_eq!(served, paths.keys().map(String::as_str).collect());
    }
}
