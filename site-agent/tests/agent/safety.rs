//! Who may command, what must be durable, and what must never be seen.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use stead_schemas::names::IdentityKind;
use stead_schemas::wire::{
    AgentReport, ClaimRequest, EnvValue, ReachAnswer, ReachRequest, Refusal, SecretMaterial,
};
use stead_wire::clock::wall_now;
use stead_wire::peer::{CallError, Peer};
use stead_wire::pki::{self, Ca};

use crate::lab::{
    EXE, Instances, Lab, Secrets, command, generation, lives, number_in, one, peer, shell, until,
    web,
};

const CALL: Duration = Duration::from_secs(10);

fn refusal(answer: Result<AgentReport, CallError>) -> (u16, Refusal) {
    match answer {
        Err(CallError::Status { code, text, .. }) => {
            let refusal = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{code} {text}"));
            (code, refusal)
        }
        other => panic!("{other:?}"),
    }
}

fn forbidden<T: std::fmt::Debug>(answer: Result<T, CallError>) -> bool {
    matches!(answer, Err(CallError::Status { code: 403, .. }))
}

#[tokio::test]
async fn h7_stale_commands_are_refused_also_after_a_restart() {
    let mut lab = Lab::running().await;
    let old = lab.request(Instances::new(), Secrets::new());
    lab.assign(one("web", web())).await;
    lab.until_healthy("web").await;
    let (code, stale) = refusal(lab.put(&old).await);
    assert_eq!(code, 409);
    assert!(matches!(stale, Refusal::StaleGeneration { in_force: Some(g) } if g.number == 2));
    let claim = ClaimRequest {
        epoch: generation(9, 0).epoch,
    };
    let claimed: AgentReport = lab
        .reconciler
        .post_json("/v1/claim", &claim, CALL)
        .await
        .unwrap();
    assert_eq!(claimed.highest_epoch, Some(claim.epoch.clone()));
    lab.kill_agent();
    lab.start().await;
    let next = lab.request(Instances::new(), Secrets::new());
    let (code, stale) = refusal(lab.put(&next).await);
    assert_eq!(code, 409, "durable");
    assert!(matches!(stale, Refusal::StaleEpoch { highest } if highest == claim.epoch));
    assert_eq!(lab.report().await.unwrap().instances.len(), 1);
}

#[tokio::test]
async fn h7_the_same_assignment_again_changes_nothing() {
    let mut lab = Lab::running().await;
    let request = lab.request(one("web", web()), Secrets::new());
    lab.put(&request).await.unwrap();
    let pid = lab.until_healthy("web").await.pid;
    let before = lab.report().await.unwrap().sequence;
    lab.put(&request).await.unwrap();
    let after = lab.report().await.unwrap();
    assert_eq!(after.instances[&"web".parse().unwrap()].pid, pid);
    assert_eq!(after.sequence, before);
}

#[tokio::test]
async fn only_a_reconciler_commands_and_no_server_reads() {
    let mut lab = Lab::running().await;
    let request = lab.request(Instances::new(), Secrets::new());
    for kind in [IdentityKind::Operator, IdentityKind::Server] {
        let other = peer(&lab.ca, kind, "somebody", lab.listen, &lab.server);
        let put = other.put_json::<_, AgentReport>("/v1/assignment", &request, CALL);
        assert!(forbidden(put.await), "{kind:?}");
        let read = other.get_json::<AgentReport>("/v1/state", CALL).await;
        assert_eq!(forbidden(read), kind == IdentityKind::Server);
    }
    // Another CA, even with the right name in it, does not get past TLS.
    let made = pki::create_ca(&"contoso".parse().unwrap(), wall_now()).unwrap();
    let foreign = Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap();
    let stranger = peer(
        &foreign,
        IdentityKind::Reconciler,
        "stead-1",
        lab.listen,
        &lab.server,
    );
    let answer = stranger.get_json::<AgentReport>("/v1/state", CALL).await;
    assert!(matches!(answer, Err(CallError::Tls { .. })), "{answer:?}");
    assert_eq!(lab.report().await.unwrap().generation, None);
}

#[tokio::test]
async fn listed_reconcilers_only() {
    let mut lab = Lab::with(json!({ "reconcilers": ["stead-2"] }));
    lab.start().await;
    let request = lab.request(Instances::new(), Secrets::new());
    assert!(forbidden(lab.put(&request).await));
}

#[tokio::test]
async fn nonsense_is_answered_with_its_place_and_not_its_content() {
    let lab = Lab::running().await;
    let body = json!({"assignment": {"hierarchy": "contoso"}, "secrets": {"k": {"version": "1", "value": 12_345_678}}});
    let answer = lab
        .reconciler
        .put_json::<_, AgentReport>("/v1/assignment", &body, CALL)
        .await;
    let (code, refusal) = refusal(answer);
    let Refusal::Invalid { reason } = refusal else {
        panic!("{refusal:?}");
    };
    assert_eq!(code, 400);
    assert!(
        reason.contains("assignment") && !reason.contains("12345678"),
        "{reason}"
    );
}

const SECRET: &str = "correct-horse-battery";

fn secrets(version: &str, value: &str) -> Secrets {
    let material = SecretMaterial {
        version: version.to_owned(),
        value: value.to_owned(),
    };
    Secrets::from([("db-password".parse().unwrap(), material)])
}

/// Every file below a folder that holds the secret.
fn files_with_secret(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_with_secret(&path, found);
        } else if fs::read(&path)
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(SECRET))
        {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test]
async fn h30_a_secret_is_where_it_must_be_and_nowhere_else() {
    let mut lab = Lab::running().await;
    let mut spec = shell(
        "echo password is $DB_PASSWORD; echo $DB_PASSWORD | wc -c > size; echo $$ > pid; exec sleep 1000",
    );
    let secret = "db-password".parse().unwrap();
    spec.env
        .insert("DB_PASSWORD".to_owned(), EnvValue::Secret { secret });
    lab.assign_with(one("app", spec.clone()), secrets("v1", SECRET))
        .await;
    let data = lab.state().join("data/app");
    let pid = number_in(&data.join("pid")).await;
    assert_eq!(
        number_in(&data.join("size")).await as usize,
        SECRET.len() + 1,
        "it has it"
    );
    let report = lab.report().await.unwrap();
    assert_eq!(report.secrets.values().collect::<Vec<_>>(), ["v1"]);
    assert!(!serde_json::to_string(&report).unwrap().contains(SECRET));
    assert!(!lab.log().contains(SECRET));
    let mut found = Vec::new();
    files_with_secret(lab.dir.path(), &mut found);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with("secrets/db-password/v1"));
    for marked in lab.marked() {
        let line = fs::read(format!("/proc/{marked}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(SECRET));
    }
    // After a power cut without a reconciler it is still there; a new version replaces both.
    lab.kill_agent();
    lab.start().await;
    assert!(lives(pid));
    lab.assign_with(one("app", spec), secrets("v2", "another-long-secret"))
        .await;
    until("replaced", || !lives(pid)).await;
    until("the old version gone", || {
        !lab.state().join("secrets/db-password/v1").exists()
    })
    .await;
    lab.assign(Instances::new()).await;
    until("no secret left", || {
        !lab.state().join("secrets/db-password").exists()
    })
    .await;
}

async fn does_not_start(lab: &mut Lab) -> String {
    lab.spawn();
    assert!(!lab.agent_ended().await.success());
    lab.log()
}

#[tokio::test]
async fn a_torn_ledger_is_refused_and_instances_go_on() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let pid = lab.until_healthy("web").await.pid.unwrap();
    lab.kill_agent();
    let ledger = lab.state().join("ledger.json");
    let whole = fs::read(&ledger).unwrap();
    fs::write(&ledger, &whole[..whole.len() / 2]).unwrap();
    let log = does_not_start(&mut lab).await;
    assert!(
        log.contains("is damaged") && log.contains("ledger.json"),
        "{log}"
    );
    assert!(lives(pid));
    fs::write(&ledger, whole).unwrap();
    lab.start().await;
    assert_eq!(lab.until_healthy("web").await.pid, Some(pid));
}

#[tokio::test]
async fn h4_a_copied_state_folder_is_refused() {
    let mut lab = Lab::running().await;
    lab.assign(Instances::new()).await;
    lab.kill_agent();
    lab.server = "p01-b".to_owned();
    let issued = crate::lab::issue(&lab.ca, IdentityKind::Server, "p01-b");
    fs::write(lab.dir.path().join("server.crt"), issued.certificate_pem).unwrap();
    fs::write(lab.dir.path().join("server.key"), issued.key_pem).unwrap();
    lab.write_config(json!({}));
    let log = does_not_start(&mut lab).await;
    assert!(
        log.contains("p01-a") && log.contains("disk copied"),
        "{log}"
    );
}

#[tokio::test]
async fn another_servers_certificate_is_refused_at_start() {
    let mut lab = Lab::new();
    lab.server = "p01-b".to_owned();
    lab.write_config(json!({}));
    let log = does_not_start(&mut lab).await;
    assert!(log.contains("stead pki issue"), "{log}");
}

#[tokio::test]
async fn two_agents_never_share_a_folder() {
    let lab = Lab::running().await;
    let second = Command::new(EXE)
        .args(["run", "--config"])
        .arg(lab.config())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another site-agent uses"), "{said}");
    assert!(lab.report().await.is_ok());
}

/// A file system that is full after this many bytes; needs root, like the cgroup tests' machine.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(path: std::path::PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "none"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "this test mounts a small tmpfs and must run as root: {done:?}"
        );
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let small = Small::mount(dir.path().join("small"));
    let mut lab = Lab::with(json!({ "stateDir": small.0.join("state") }));
    lab.start().await;
    lab.assign(one("web", web())).await;
    let pid = lab.until_healthy("web").await.pid;
    let filler = small.0.join("filler");
    // Until nothing more fits.
    drop(fs::write(&filler, vec![b'x'; 1024 * 1024]));
    let mut both = one("web", web());
    both.insert(
        "more".parse().unwrap(),
        Box::new(command(&["sleep", "1000"])),
    );
    let request = lab.request(both, Secrets::new());
    let (code, refused) = refusal(lab.put(&request).await);
    assert_eq!(code, 507);
    assert!(matches!(refused, Refusal::NotDurable { .. }), "{refused:?}");
    let report = lab.report().await.unwrap();
    assert_eq!(report.generation.unwrap().number, 1, "nothing changed");
    assert_eq!(report.instances[&"web".parse().unwrap()].pid, pid);
    assert!(report.problems.iter().any(|one| one.starts_with("ledger")));
    fs::remove_file(filler).unwrap();
    let report = lab.put(&request).await.unwrap();
    assert_eq!(report.generation.unwrap().number, 2);
    assert_eq!(report.problems, [""; 0]);
    // Before the file system goes away.
    let stopped = lab.run(&["stop-all", "--config", lab.config().to_str().unwrap()]);
    assert!(stopped.status.success(), "{stopped:?}");
}

#[tokio::test]
async fn h8_reach_tells_a_living_agent_from_a_dead_one() {
    let lab = Lab::running().await;
    let ask = |address, server: &str| {
        let asked = ReachRequest {
            server: server.parse().unwrap(),
            address,
        };
        let reconciler = &lab.reconciler;
        async move {
            reconciler
                .post_json::<_, ReachAnswer>("/v1/reach", &asked, CALL)
                .await
                .unwrap()
        }
    };
    assert!(ask(lab.listen, "p01-a").await.reached);
    let nobody = ask(crate::lab::free_address(), "p01-a").await;
    assert!(!nobody.reached && nobody.cause.is_some());
    let other = ask(lab.listen, "p01-b").await;
    assert!(!other.reached, "somebody else answers there");
    // It accepts and says nothing.
    let silent = std::net::TcpListener::bind(crate::lab::free_address()).unwrap();
    assert!(!ask(silent.local_addr().unwrap(), "p01-a").await.reached);
}

#[tokio::test]
async fn certificates_are_taken_when_their_files_change() {
    let lab = Lab::running().await;
    let serial = |peer: &Peer| peer.expected().to_string();
    assert!(serial(&lab.reconciler).ends_with("p01-a"));
    // A new CA beside the old: its reconciler is heard once the files are read again.
    let made = pki::create_ca(&"contoso".parse().unwrap(), wall_now()).unwrap();
    let second = Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap();
    let both = format!("{}{}", lab.ca.certificate_pem(), made.certificate_pem);
    fs::write(lab.dir.path().join("ca.crt"), both).unwrap();
    let issued = crate::lab::issue(&second, IdentityKind::Server, &lab.server);
    fs::write(lab.dir.path().join("server.key"), issued.key_pem).unwrap();
    fs::write(lab.dir.path().join("server.crt"), issued.certificate_pem).unwrap();
    let newcomer = peer(
        &second,
        IdentityKind::Reconciler,
        "stead-1",
        lab.listen,
        &lab.server,
    );
    let end = std::time::Instant::now() + crate::lab::DEADLINE;
    while newcomer
        .get_json::<AgentReport>("/v1/state", CALL)
        .await
        .is_err()
    {
        assert!(std::time::Instant::now() < end, "{}", lab.log());
        crate::lab::pause().await;
    }
}
