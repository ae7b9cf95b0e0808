//! What a server lacks, asked of its real agent: named exactly, in time, and nothing is kept of it.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use serde_json::json;
use stead_schemas::names::IdentityKind;
use stead_schemas::prerequisite::{
    Check, CheckAnswer, CheckPeer, CheckQuestion, CheckRequest, Prerequisite,
};
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;
use stead_schemas::wire::{EnvValue, Program, SecretMaterial};
use stead_wire::peer::CallError;

use crate::lab::{Lab, free_address, peer, web};

const LIMIT: Duration = Duration::from_secs(20);

/// A question of P01 to p01-a: an embedded database at this port, no other voters.
fn question(store: u16) -> CheckQuestion {
    let mut instance = web();
    instance.role = Role::SiteServer;
    instance.program = Program::BuiltIn;
    instance.settings = json!({
        "site": "P01",
        "store": {"embedded": {"address": format!("127.0.0.1:{store}")}},
    });
    CheckQuestion {
        site: "P01".parse().unwrap(),
        server: "p01-a".parse().unwrap(),
        instance,
        peers: Default::default(),
        sync_within: DurationMs::seconds(60),
        content_library: None,
    }
}

fn request(question: CheckQuestion) -> CheckRequest {
    CheckRequest {
        question,
        secrets: Default::default(),
    }
}

async fn ask(lab: &Lab, request: &CheckRequest) -> Result<CheckAnswer, CallError> {
    lab.reconciler
        .post_json("/v1/preflight", request, LIMIT)
        .await
}

fn of(answer: &CheckAnswer, prerequisite: Prerequisite) -> &Check {
    let mut checks = answer.checks.iter();
    checks
        .find(|check| check.prerequisite == prerequisite)
        .unwrap()
}

#[tokio::test]
async fn sp_7_a_voter_that_is_not_reached_is_named_with_its_port() {
    let mut lab = Lab::new();
    lab.start().await;
    let closed = free_address();
    let mut asked = question(closed.port());
    let kind = IdentityKind::Server;
    for (name, address) in [("p01-a2", lab.listen), ("p01-w", closed)] {
        asked
            .peers
            .insert(name.parse().unwrap(), CheckPeer { kind, address });
    }
    let answer = ask(&lab, &request(asked)).await.unwrap();
    let ports = of(&answer, Prerequisite::Ports);
    let texts: Vec<&str> = ports.findings.iter().map(|f| f.text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{ports:#?}");
    assert!(
        texts[0].contains("does not reach voter p01-a2"),
        "another answers there: {texts:?}"
    );
    assert!(texts[1].starts_with(&format!("p01-a does not reach voter p01-w at {closed}:")));
    let remedy = format!("open TCP port {} of p01-w to p01-a", closed.port());
    assert_eq!(ports.findings[1].remedy, remedy);
    let mut asked = question(closed.port());
    let address = lab.listen;
    asked
        .peers
        .insert("p01-a".parse().unwrap(), CheckPeer { kind, address });
    let answer = ask(&lab, &request(asked)).await.unwrap();
    assert_eq!(of(&answer, Prerequisite::Ports).findings, []);
    assert_eq!(of(&answer, Prerequisite::Clock).findings, []);
    assert_eq!(of(&answer, Prerequisite::Disk).findings, []);
    let database = &of(&answer, Prerequisite::Database).findings[0];
    assert!(
        database.fatal && database.text.contains("the embedded database at"),
        "{database:?}"
    );
}

#[tokio::test]
async fn h30_nothing_is_kept_of_a_question_and_what_is_missing_of_it_is_said() {
    let mut lab = Lab::new();
    lab.start().await;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut asked = question(1);
    asked.instance.settings = json!({
        "site": "P01",
        "timeoutMs": 300,
        "store": {"postgresql": {
            "hosts": [silent.local_addr().unwrap().to_string()],
            "name": "cm_p01", "user": "cm", "tls": "disable",
        }},
    });
    let secret = "db-password".parse().unwrap();
    asked.instance.env.insert(
        "STEAD_DATABASE_PASSWORD".into(),
        EnvValue::Secret { secret },
    );
    let mut with = request(asked);
    let answer = ask(&lab, &with).await.unwrap();
    let text = &of(&answer, Prerequisite::Database).findings[0].text;
    assert_eq!(text, "the secret db-password was not sent");
    let material = SecretMaterial {
        version: "1".into(),
        value: "correct-horse".into(),
    };
    with.secrets
        .insert("db-password".parse().unwrap(), material);
    let answer = ask(&lab, &with).await.unwrap();
    let text = &of(&answer, Prerequisite::Database).findings[0].text;
    assert!(text.ends_with("no answer within 300 ms"), "{text}");
    let files = walk(&lab.state());
    assert!(!files.iter().any(|bytes| contains(bytes, b"correct-horse")));
    assert!(!lab.log().contains("correct-horse"));
    assert!(lab.report().await.unwrap().secrets.is_empty());
}

#[tokio::test]
async fn only_who_commands_asks_and_only_this_server() {
    let mut lab = Lab::new();
    lab.start().await;
    let request = request(question(1));
    let operator = peer(
        &lab.ca,
        IdentityKind::Operator,
        "alice",
        lab.listen,
        "p01-a",
    );
    let refused: Result<CheckAnswer, _> =
        operator.post_json("/v1/preflight", &request, LIMIT).await;
    assert!(matches!(refused, Err(CallError::Status { code: 403, .. })));
    let mut other = request.clone();
    other.question.server = "p01-b".parse().unwrap();
    let refused = ask(&lab, &other).await;
    assert!(matches!(refused, Err(CallError::Status { code: 421, .. })));
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

/// The content of every file below a folder.
fn walk(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.extend(std::fs::read(&path));
        }
    }
    files
}
