//! The router as callers meet it: who may call, what is refused, what reaches the backend.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use stead_schemas::api::{
    ApiError, CommandAnswer, ConfirmLostRequest, DrainRequest, FailbackRequest, JournalEntry,
    ReplaceRequest, ResumeRequest, RevisionView, SecretView, SuspendRequest, SwitchoverRequest,
    UndrainRequest, WriterState,
};
use stead_schemas::generation::Epoch;
use stead_schemas::names::{Identity, IdentityKind, SecretName, SiteCode};
use stead_schemas::record::RecordKey;
use stead_wire::serve::Caller;
use tokio::sync::Semaphore;

use super::world::{served, snapshot};
use crate::api::{
    Access, Answer, Backend, DrainRefusal, Drained, LogRequest, LogStream, RecordsRead, Snapshot,
    Switched, SwitchoverRefusal, router,
};

/// Writes down what it is asked, with who asked.
pub(super) struct Recorder {
    pub(super) snapshot: Arc<Snapshot>,
    /// The one turn to plan.
    pub(super) turn: Arc<Semaphore>,
    /// Whether DNS servers answer, and that nothing is there.
    pub(super) dns_answers: bool,
    asked: Mutex<Vec<String>>,
}

impl Recorder {
    pub(super) fn new(snapshot: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            snapshot: Arc::new(snapshot),
            turn: Arc::new(Semaphore::new(1)),
            dns_answers: true,
            asked: Mutex::default(),
        })
    }

    fn note(&self, what: String) -> Answer<CommandAnswer> {
        self.asked.lock().unwrap().push(what.clone());
        let consequences = Vec::new();
        let text = what;
        Box::pin(async move { Ok(CommandAnswer { text, consequences }) })
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn nothing<T: Send + 'static>() -> Answer<Vec<T>> {
    Box::pin(async { Ok(Vec::new()) })
}

impl Backend for Recorder {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    fn history(
        &self,
        _: Option<SiteCode>,
        limit: u32,
        _: Option<i64>,
    ) -> Answer<Vec<JournalEntry>> {
        self.asked.lock().unwrap().push(format!("history {limit}"));
        nothing()
    }

    fn history_of(&self, about: String, _: u32) -> Answer<Vec<JournalEntry>> {
        self.asked
            .lock()
            .unwrap()
            .push(format!("history of {about}"));
        nothing()
    }

    fn revisions(&self) -> Answer<Vec<RevisionView>> {
        nothing()
    }

    fn secrets(&self) -> Answer<Vec<SecretView>> {
        nothing()
    }

    fn suspend(&self, request: SuspendRequest, by: String) -> Answer<CommandAnswer> {
        self.note(format!(
            "suspend {} by {by}",
            request.scope.unwrap_or_default()
        ))
    }

    fn resume(&self, request: ResumeRequest, by: String) -> Answer<CommandAnswer> {
        self.note(format!(
            "resume {} by {by}",
            request.scope.unwrap_or_default()
        ))
    }

    fn confirm_lost(&self, request: ConfirmLostRequest, by: String) -> Answer<CommandAnswer> {
        self.note(format!("confirm-lost {} by {by}", request.server))
    }

    fn replace(&self, request: ReplaceRequest, by: String) -> Answer<CommandAnswer> {
        self.note(format!("replace {} by {by}", request.server))
    }

    fn drain(&self, request: DrainRequest, by: String) -> Drained {
        let asked = format!("drain {} by {by}", request.server);
        self.asked.lock().unwrap().push(asked);
        let server = request.server;
        Box::pin(async move { Err(DrainRefusal::NoServer { server }) })
    }

    fn undrain(&self, request: UndrainRequest, by: String) -> Answer<CommandAnswer> {
        self.note(format!("undrain {} by {by}", request.server))
    }

    fn switchover(&self, request: SwitchoverRequest, by: String) -> Switched {
        let asked = format!("switchover {} by {by}", request.site);
        self.asked.lock().unwrap().push(asked);
        let site = request.site;
        Box::pin(async move { Err(SwitchoverRefusal::NoHolder { site }) })
    }

    fn failback(&self, request: FailbackRequest, by: String) -> Switched {
        let asked = format!("failback {} by {by}", request.site);
        self.asked.lock().unwrap().push(asked);
        let site = request.site;
        Box::pin(async move { Err(SwitchoverRefusal::NoLease { site }) })
    }

    fn logs(&self, request: LogRequest) -> Answer<LogStream> {
        let error = format!("{} has no log", request.instance);
        Box::pin(async move { Err(ApiError { error, hint: None }) })
    }

    fn plan_turn(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turn)
    }

    fn read_records(&self, keys: BTreeSet<RecordKey>) -> RecordsRead {
        let answered = keys.into_iter().filter(|_| self.dns_answers);
        let read = answered.map(|key| (key, served(None, None)));
        let read = read.collect();
        Box::pin(async move { read })
    }

    fn has_secret(&self, _: &SiteCode, _: &SecretName) -> bool {
        false
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}

pub(super) fn identity(kind: IdentityKind) -> Caller {
    Caller(Identity {
        hierarchy: "contoso".parse().unwrap(),
        kind,
        name: "alice".to_owned(),
    })
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

pub(super) fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

pub(super) fn with(mut request: Request<Body>, caller: Caller) -> Request<Body> {
    request.extensions_mut().insert(caller);
    request
}

pub(super) async fn call(
    backend: &Arc<Recorder>,
    access: Access,
    request: Request<Body>,
) -> (StatusCode, Value) {
    let backend: Arc<dyn Backend> = Arc::clone(backend) as Arc<dyn Backend>;
    let service = TowerToHyperService::new(router(backend, access));
    let answer = service.call(request).await.unwrap();
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

#[tokio::test]
async fn who_may_call_over_tls_is_an_operator_only() {
    use IdentityKind::{Operator, Reconciler, Server};
    let backend = Recorder::new(snapshot());
    for path in [
        "/v1/status",
        "/v1/plan",
        "/v1/records",
        "/v1/revisions",
        "/v1/history",
        "/v1/why?thing=P01",
        "/v1/secrets",
        "/v1/logs?instance=P01/managementPoint@p01-f1",
    ] {
        let (status, said) = call(&backend, Access::Tls, get(path)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {said}");
        for kind in [Server, Reconciler] {
            let (status, said) = call(&backend, Access::Tls, with(get(path), identity(kind))).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path} {kind:?} {said}");
            assert!(
                said["error"].as_str().unwrap().contains("operator"),
                "{said}"
            );
        }
        let (status, _) = call(&backend, Access::Tls, with(get(path), identity(Operator))).await;
        assert!(!matches!(status.as_u16(), 401 | 403), "{path} {status}");
    }
}

#[tokio::test]
async fn commands_are_refused_before_the_backend_hears_of_them() {
    let backend = Recorder::new(snapshot());
    let body = r#"{"reason": "CHG-1"}"#;
    for path in [
        "/v1/plan",
        "/v1/suspend",
        "/v1/resume",
        "/v1/confirm-lost",
        "/v1/drain",
        "/v1/undrain",
        "/v1/switchover",
        "/v1/failback",
        "/v1/replace",
    ] {
        let (status, _) = call(&backend, Access::Tls, post(path, body)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        let server = with(post(path, body), identity(IdentityKind::Server));
        assert_eq!(
            call(&backend, Access::Tls, server).await.0,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    assert!(backend.asked().is_empty(), "{:?}", backend.asked());
}

#[tokio::test]
async fn the_socket_needs_no_certificate_and_the_journal_learns_who_asked() {
    let backend = Recorder::new(snapshot());
    let body = r#"{"scope": "P01", "reason": "CHG-1"}"#;
    let (status, _) = call(&backend, Access::Socket, post("/v1/suspend", body)).await;
    assert_eq!(status, StatusCode::OK);
    let operator = with(post("/v1/suspend", body), identity(IdentityKind::Operator));
    assert_eq!(
        call(&backend, Access::Tls, operator).await.0,
        StatusCode::OK
    );
    assert_eq!(
        backend.asked(),
        ["suspend P01 by local user", "suspend P01 by alice"]
    );
}

#[tokio::test]
async fn a_command_without_a_reason_is_refused() {
    let backend = Recorder::new(snapshot());
    for (path, body) in [
        ("/v1/suspend", r#"{"scope": "P01", "reason": "  "}"#),
        ("/v1/confirm-lost", r#"{"server": "p01-f1", "reason": ""}"#),
        ("/v1/replace", r#"{"server": "p01-f1", "reason": " "}"#),
        (
            "/v1/drain",
            r#"{"server": "p01-f1", "lasts": "2h", "reason": " "}"#,
        ),
    ] {
        let (status, said) = call(&backend, Access::Socket, post(path, body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(said["error"].as_str().unwrap().contains("reason"), "{said}");
    }
    assert!(backend.asked().is_empty());
}

#[tokio::test]
async fn what_is_refused_is_refused_in_words() {
    let backend = Recorder::new(snapshot());
    let large = format!(r#"{{"reason": "{}"}}"#, "x".repeat(70_000));
    for (request, status, words) in [
        (
            post("/v1/suspend", large),
            StatusCode::PAYLOAD_TOO_LARGE,
            "limit",
        ),
        (post("/v1/suspend", "{"), StatusCode::BAD_REQUEST, "JSON"),
        (
            post("/v1/suspend", r#"{"reason": "a", "why": 1}"#),
            StatusCode::UNPROCESSABLE_ENTITY,
            "why",
        ),
        (
            post("/v1/confirm-lost", r#"{"server": "A_B", "reason": "a"}"#),
            StatusCode::UNPROCESSABLE_ENTITY,
            "server",
        ),
        (get("/v1/suspend"), StatusCode::METHOD_NOT_ALLOWED, "405"),
        (get("/v1/why"), StatusCode::BAD_REQUEST, "thing"),
        (
            get("/v1/why?thing=no%20thing"),
            StatusCode::BAD_REQUEST,
            "no thing",
        ),
        (
            get("/v1/why?thing=P01/p01-z"),
            StatusCode::NOT_FOUND,
            "p01-z",
        ),
        (get("/v1/status?site=X01"), StatusCode::NOT_FOUND, "X01"),
        (get("/v1/records?site=X01"), StatusCode::NOT_FOUND, "X01"),
        (
            get("/v1/logs?instance=P01/managementPoint@p01-f1"),
            StatusCode::NOT_FOUND,
            "no log",
        ),
    ] {
        let asked = format!("{} {}", request.method(), request.uri());
        let (got, said) = call(&backend, Access::Socket, request).await;
        assert_eq!(got, status, "{asked}: {said}");
        let error: ApiError = serde_json::from_value(said.clone())
            .unwrap_or_else(|error| panic!("{asked}: {error}: {said}"));
        assert!(error.error.contains(words), "{asked}: {said}");
    }
    assert!(backend.asked().is_empty(), "{:?}", backend.asked());
}

#[tokio::test]
async fn answers_are_bounded_and_why_brings_the_history_of_the_thing() {
    let backend = Recorder::new(snapshot());
    call(
        &backend,
        Access::Socket,
        get("/v1/history?limit=4000000000"),
    )
    .await;
    let (status, said) = call(
        &backend,
        Access::Socket,
        get("/v1/why?thing=dns:_mssms_mp_P01._tcp"),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{said}");
    assert_eq!(
        backend.asked(),
        [
            "history 10000",
            "history of dns:_mssms_mp_p01._tcp.cm.example/SRV"
        ]
    );
}

#[tokio::test]
async fn ready_is_who_acts_or_rightly_stands_by_and_has_judged_every_agent() {
    let epoch = Epoch {
        counter: 9,
        reconciler: "stead-2".to_owned(),
        start: "x".to_owned(),
    };
    for (writer, ready, status) in [
        (WriterState::Writing, true, StatusCode::OK),
        (WriterState::Standby, true, StatusCode::OK),
        (WriterState::Writing, false, StatusCode::SERVICE_UNAVAILABLE),
        (WriterState::Starting, true, StatusCode::SERVICE_UNAVAILABLE),
        (
            WriterState::Fenced { by: epoch },
            true,
            StatusCode::SERVICE_UNAVAILABLE,
        ),
    ] {
        let mut moment = snapshot();
        moment.reconciler.writer = writer.clone();
        moment.ready = ready;
        let backend = Recorder::new(moment);
        // No certificate: a load balancer asks.
        let (got, said) = call(&backend, Access::Tls, get("/readyz")).await;
        assert_eq!(got, status, "{writer:?} {said}");
        assert_eq!(
            call(&backend, Access::Tls, get("/healthz")).await.0,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn a_switchover_that_can_not_be_judged_is_no_refusal() {
    let backend = Recorder::new(snapshot());
    for (path, status) in [
        ("/v1/switchover", StatusCode::SERVICE_UNAVAILABLE),
        ("/v1/failback", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let request = post(path, r#"{"site": "P01"}"#);
        let (got, said) = call(&backend, Access::Socket, request).await;
        assert_eq!(got, status, "{path}");
        assert!(said["hint"].is_string(), "{said}");
    }
    let asked = ["switchover P01 by local user", "failback P01 by local user"];
    assert_eq!(backend.asked(), asked);
}
