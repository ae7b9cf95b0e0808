//! How servers join: tokens for people, certificates for whoever shows a good one.
//!
//! A stranger proves nothing but a token, so it learns nothing before: who is declared, and whether a
//! name is taken, is told to those alone who have one. The certificate is for the name that the token
//! was made for, whatever the request asks. What a token is worth is decided in `tokens`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use stead_schemas::api::{ApiError, JournalKind};
use stead_schemas::join::{JoinAnswer, JoinRequest, JoinToken, TokensAnswer, TokensRequest};
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::time::DurationMs;
use stead_wire::material::Material;
use stead_wire::pki::{self, Ca, LEAF_DAYS};
use stead_wire::{csr, pki_files};

use super::backend::of_store;
use super::core::Core;
use super::tokens;
use crate::api::By;
use crate::commands::chain;
use crate::site::changes::Happened;
use crate::store::{TokenMemory, Write};

/// Longest body of a person's.
const BODY_MAX: usize = 64 * 1024;
/// Most servers that one request may ask tokens for.
const SERVERS_MAX: usize = 1_000;
/// Shortest and longest life of a token.
const TTL_MIN: DurationMs = DurationMs::seconds(60);
const TTL_MAX: DurationMs = DurationMs::seconds(7 * 86_400);

type Refused = (StatusCode, ApiError);

/// For people; who may call is known from the access that is laid over it.
pub fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/v1/tokens", post(make_tokens))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(core)
}

/// For those without a certificate.
pub fn strangers(core: Arc<Core>) -> Router {
    Router::new().route("/v1/join", post(join)).with_state(core)
}

async fn make_tokens(
    By(by): By,
    State(core): State<Arc<Core>>,
    Json(request): Json<TokensRequest>,
) -> Response {
    respond(tokens_for(&core, &request, &by).await)
}

async fn join(State(core): State<Arc<Core>>, Json(request): Json<JoinRequest>) -> Response {
    respond(let_in(&core, &request).await)
}

fn respond<T: serde::Serialize>(done: Result<T, Refused>) -> Response {
    match done {
        Ok(answer) => Json(answer).into_response(),
        Err((status, error)) => (status, Json(error)).into_response(),
    }
}

fn refused(error: impl Into<String>, hint: Option<&str>) -> Refused {
    let hint = hint.map(str::to_owned);
    let error = error.into();
    (StatusCode::UNPROCESSABLE_ENTITY, ApiError { error, hint })
}

/// A server's site and where it listens, as declared in the revision in force.
fn declared(core: &Core, server: &ServerName) -> Option<(SiteCode, SocketAddr)> {
    let in_force = core.in_force()?;
    in_force.desired.sites.iter().find_map(|(code, site)| {
        let server = site.servers.get(server)?;
        Some((code.clone(), (server.address, server.agent_port).into()))
    })
}

/// The CA this reconciler signs with; read at each use, so that its key is not in memory for long.
fn load_ca(core: &Core) -> Result<Ca, Refused> {
    let Some(pki) = &core.config.spec.pki else {
        return Err(refused(
            "this reconciler has no CA to sign with",
            Some(
                "name its folder in `pki.dir` of its settings, or give the server a certificate of your own CA: stead pki issue",
            ),
        ));
    };
    pki_files::load_ca(&pki.dir).map_err(|error| refused(chain(&error), None))
}

/// Where servers find this reconciler: as declared, or where it listens.
fn reached_at(core: &Core) -> Result<SocketAddr, Refused> {
    let Some(listen) = core.config.spec.api.listen else {
        return Err(refused(
            "servers can't reach this reconciler: it listens on its socket only",
            Some("set `api.listen` in its settings, then start it again"),
        ));
    };
    let in_force = core.in_force();
    let own = in_force.and_then(|r| r.desired.reconcilers.get(&core.config.name).cloned());
    Ok(own.map_or(listen, |own| (own.address, own.port).into()))
}

async fn tokens_for(
    core: &Core,
    request: &TokensRequest,
    by: &str,
) -> Result<TokensAnswer, Refused> {
    if request.servers.is_empty() || request.servers.len() > SERVERS_MAX {
        let error = format!("name 1 to {SERVERS_MAX} servers");
        return Err(refused(error, None));
    }
    if request.ttl < TTL_MIN || request.ttl > TTL_MAX {
        let error = format!(
            "a token is good for {TTL_MIN} to {TTL_MAX}, not {}",
            request.ttl
        );
        return Err(refused(error, None));
    }
    let ca = load_ca(core)?;
    let reconciler = reached_at(core)?;
    let material = Material::load(&core.config.spec.tls);
    let material = material.map_err(|error| refused(chain(&error), None))?;
    if !material.trusts(&ca.pin()) {
        return Err(refused(
            "the CA in `pki.dir` is not in `tls.ca`: no server could know this reconciler by it",
            Some("add pki.dir's ca.crt to the file that tls.ca names"),
        ));
    }
    let mut sites = Vec::new();
    for server in &request.servers {
        let Some((site, _)) = declared(core, server) else {
            let error = format!("{server} is not declared in the revision in force");
            return Err(refused(
                error,
                Some("push the commit that declares it first; stead list servers"),
            ));
        };
        sites.push(site);
    }
    let now = core.clock.now();
    let until = now.plus(request.ttl);
    let mut made = Vec::new();
    for (server, site) in request.servers.iter().zip(sites) {
        let token = tokens::make().map_err(|error| refused(error.to_string(), None))?;
        let memory = TokenMemory {
            digest: tokens::digest_of(&token),
            by: by.to_owned(),
            made_at: now,
            until,
            used_for: None,
        };
        keep(core, server, memory).await?;
        tell(
            core,
            &site,
            server,
            format!("{by} made a join token, good for {}", request.ttl),
        );
        made.push(JoinToken {
            server: server.clone(),
            token,
            until,
        });
    }
    Ok(TokensAnswer {
        reconciler,
        ca: ca.pin().to_string(),
        tokens: made,
    })
}

async fn let_in(core: &Core, request: &JoinRequest) -> Result<JoinAnswer, Refused> {
    let server = &request.server;
    let denied = |error: String| {
        let hint = format!("stead pki token {server}");
        let hint = Some(hint);
        (StatusCode::FORBIDDEN, ApiError { error, hint })
    };
    // The key is looked at first, but nothing is said of it before the token is good.
    let key = csr::key_fingerprint(&request.request);
    let now = core.clock.now();
    let shown = key.as_deref().unwrap_or_default();
    let memory = match core.tokens.redeem(request, shown, now) {
        Ok(memory) => memory,
        Err(refusal) => {
            tracing::warn!(%server, %refusal, "a server was not let in");
            if refusal.is_of_ours()
                && let Some((site, _)) = declared(core, server)
            {
                tell(core, &site, server, format!("was not let in: {refusal}"));
            }
            return Err(denied(refusal.to_string()));
        }
    };
    if let Err(error) = key {
        return Err(refused(chain(&error), None));
    }
    let Some((site, listen)) = declared(core, server) else {
        let error = format!("{server} is not declared in the revision in force any more");
        return Err(refused(error, None));
    };
    let ca = load_ca(core)?;
    let wanted = pki::Request {
        identity: core.agent_identity(server),
        addresses: vec![listen.ip()],
        dns_names: Vec::new(),
        days: LEAF_DAYS,
    };
    let trusted = std::fs::read_to_string(&core.config.spec.tls.ca);
    let trusted = trusted.map_err(|error| refused(format!("can't read tls.ca: {error}"), None))?;
    let signed = csr::sign(&ca, &request.request, &wanted, now);
    let signed = signed.map_err(|error| refused(chain(&error), None))?;
    let by = memory.by.clone();
    keep(core, server, memory).await?;
    let (print, until) = (&signed.fingerprint[..16], signed.not_after);
    tell(
        core,
        &site,
        server,
        format!("joined with {by}'s token: certificate sha256:{print}…"),
    );
    Ok(JoinAnswer {
        hierarchy: core.config.spec.hierarchy.clone(),
        site,
        listen,
        certificate: signed.certificate_pem,
        ca: trusted,
        until,
    })
}

/// Durable before anybody is told.
async fn keep(core: &Core, server: &ServerName, memory: TokenMemory) -> Result<(), Refused> {
    let write = Write::Token(server.clone(), memory.clone());
    let kept = core.store.commit(write).await;
    kept.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, of_store(error)))?;
    core.tokens.set(server, memory);
    Ok(())
}

fn tell(core: &Core, site: &SiteCode, server: &ServerName, text: String) {
    let about = format!("{site}/{server}");
    let happened = Happened::new(JournalKind::Command, about, text);
    core.journal(Some(site), vec![happened]);
}
