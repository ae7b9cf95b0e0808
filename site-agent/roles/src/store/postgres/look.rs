//! What a site server would lack at its database: each host, the account, each right, the standby.
//!
//! Asked as the site server itself would ask: same account, same settings, same TLS. Everything that is
//! wrong is named at once, with the statement that repairs it (G-10). Nothing is made or changed, and
//! whether the answer stops an installation is not decided here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::future::join_all;
use stead_schemas::prerequisite::{Check, Finding, Prerequisite};
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row};

use super::connect::{NoSession, config, dial};
use super::{Driver, Session};
use crate::settings::{HOSTS_MAX, PostgresSettings};
use crate::store::told;

/// The oldest that knows all that is asked of it.
const VERSION_MIN: i32 = 120_000;
const STATE: &str = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
    current_setting('transaction_read_only') = 'on', current_schema()::text, \
    to_regclass('stead_term') IS NOT NULL AND to_regclass('stead_entries') IS NOT NULL, \
    coalesce(has_schema_privilege(current_schema()::text, 'CREATE'), false), \
    current_setting('synchronous_standby_names') <> '', \
    current_setting('synchronous_commit') IN ('off', 'local')";
/// `FOR SHARE`, which every write takes, wants UPDATE.
const RIGHTS: &str = "SELECT needed.at, string_agg(needed.may, ', ' ORDER BY needed.may) \
    FROM (VALUES ('stead_term', 'SELECT'), ('stead_term', 'UPDATE'), \
    ('stead_entries', 'SELECT'), ('stead_entries', 'INSERT'), ('stead_entries', 'DELETE')) \
    AS needed (at, may) \
    WHERE NOT has_table_privilege(to_regclass(needed.at), needed.may) GROUP BY needed.at";

/// What one host said.
enum Host {
    Writes {
        measured: String,
        findings: Vec<Finding>,
    },
    Standby,
    Lacks(Finding),
}

/// What is asked, for whom.
struct Asked<'a> {
    settings: &'a PostgresSettings,
    session: &'a Session,
    secret: Option<&'a str>,
}

pub(super) async fn look(
    settings: &PostgresSettings,
    session: &Session,
    secret: Option<&str>,
) -> Check {
    let asked = Asked {
        settings,
        session,
        secret,
    };
    let hosts = settings.hosts.iter().take(HOSTS_MAX);
    let answers = hosts.clone().map(|host| asked.host(host));
    let answers = join_all(answers).await;
    let mut measured = None;
    let mut findings = Vec::new();
    let mut lacks = Vec::new();
    let mut standbys = Vec::new();
    for (host, answer) in hosts.zip(answers) {
        match answer {
            Host::Writes {
                measured: words,
                findings: found,
            } => {
                measured = Some(words);
                findings.extend(found);
            }
            Host::Standby => standbys.push(host.as_str()),
            Host::Lacks(finding) => lacks.push(finding),
        }
    }
    if measured.is_some() {
        // The database may fail over to the others; this server would not follow.
        let later = lacks.into_iter().map(|lack| Finding {
            fatal: false,
            ..lack
        });
        findings.extend(later);
    } else {
        findings.extend(lacks);
        if !standbys.is_empty() {
            findings.push(Finding::fatal(
                format!("no host is writable: {} in recovery", standbys.join(", ")),
                "promote one of them, or declare the host that is the primary",
            ));
        }
    }
    if settings.hosts.is_empty() {
        findings.push(Finding::fatal(
            "no host is declared",
            "declare database.host, or its members",
        ));
    }
    Check {
        prerequisite: Prerequisite::Database,
        measured,
        findings,
    }
}

impl Asked<'_> {
    async fn host(&self, host: &str) -> Host {
        let within = self.session.within;
        match timeout(within, self.ask(host)).await {
            Ok(answer) => answer.unwrap_or_else(Host::Lacks),
            Err(_) => Host::Lacks(
                self.unreached(host, &format!("no answer within {} ms", within.as_millis())),
            ),
        }
    }

    async fn ask(&self, host: &str) -> Result<Host, Finding> {
        let (client, _driver) = self.connect(host).await?;
        let unanswered = |error: Error| self.refused(host, &error);
        let row = client.query_one(STATE, &[]).await.map_err(unanswered)?;
        let state = State::of(&row).map_err(unanswered)?;
        if state.in_recovery {
            return Ok(Host::Standby);
        }
        let mut findings = self.judge(host, &state);
        if state.has_tables {
            let rights = client.query(RIGHTS, &[]).await.map_err(unanswered)?;
            for row in rights {
                findings.push(self.right(&row).map_err(unanswered)?);
            }
        }
        Ok(Host::Writes {
            measured: format!("{host} writes, PostgreSQL {}", state.version / 10_000),
            findings,
        })
    }

    async fn connect(&self, host: &str) -> Result<(Client, Driver), Finding> {
        let wrong = |error: &dyn std::error::Error| {
            let text = format!("{host}: {error}");
            Finding::fatal(text, "correct `database` in the topology")
        };
        let config = config(self.settings, self.session, host);
        let mut config = config.map_err(|error| wrong(&error))?;
        config.target_session_attrs(TargetSessionAttrs::Any);
        let warned = Arc::new(AtomicBool::new(false));
        let dialled = dial(&config, self.settings, &warned).await;
        dialled.map_err(|error| match error {
            NoSession::Settings(error) => wrong(&error),
            NoSession::Server(error) => self.refused(host, &error),
        })
    }

    /// Why the server gave no session, or no answer.
    fn refused(&self, host: &str, error: &Error) -> Finding {
        let (role, database) = (&self.settings.user, &self.settings.name);
        let Some(refusal) = error.as_db_error() else {
            return self.no_session(host, error);
        };
        let said = refusal.message();
        let (text, remedy) = match refusal.code() {
            &SqlState::INVALID_PASSWORD => (
                format!(
                    "{host} refuses the password of role {role}{}",
                    self.of_secret()
                ),
                format!(
                    "put the right one into the reconciler's secretsDir, or ALTER ROLE {role} \
                     PASSWORD; the role has to exist"
                ),
            ),
            &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => (
                format!("{host} does not let role {role} in: {said}"),
                format!(
                    "the role has to exist and to have LOGIN, and pg_hba.conf to let it into \
                     {database} from {}",
                    self.session.holder
                ),
            ),
            &SqlState::INVALID_CATALOG_NAME => (
                format!("there is no database {database} at {host}"),
                format!("CREATE DATABASE {database} OWNER {role}"),
            ),
            &SqlState::INSUFFICIENT_PRIVILEGE => (
                format!("role {role} may not CONNECT to database {database} at {host}: {said}"),
                format!("GRANT CONNECT ON DATABASE {database} TO {role}"),
            ),
            &SqlState::TOO_MANY_CONNECTIONS => (
                format!("{host} has no session left for role {role}: {said}"),
                "raise max_connections, or the role's CONNECTION LIMIT".to_owned(),
            ),
            code => (
                format!("{host} refuses role {role}: {}: {said}", code.code()),
                "what the database's log says of it".to_owned(),
            ),
        };
        Finding::fatal(text, remedy)
    }

    fn no_session(&self, host: &str, error: &Error) -> Finding {
        let text = told("no session", error);
        if text.contains("password missing") {
            let role = &self.settings.user;
            return Finding::fatal(
                format!("{host} asks for a password of role {role}, and none is declared"),
                "declare database.password: {secret: NAME}, and put it into secretsDir",
            );
        }
        if is_network(error) {
            return self.unreached(host, &text);
        }
        Finding::fatal(
            format!("{host}: {text}"),
            "database.tls says how the connection is protected: the host has to offer that, with a \
             certificate that this server believes",
        )
    }

    fn unreached(&self, host: &str, why: &str) -> Finding {
        Finding::fatal(
            format!("{host} is not reached: {why}"),
            format!(
                "PostgreSQL has to run there and to listen, and {} has to reach it",
                self.session.holder
            ),
        )
    }

    fn of_secret(&self) -> String {
        self.secret
            .map_or_else(String::new, |secret| format!(" (secret {secret})"))
    }

    fn judge(&self, host: &str, state: &State) -> Vec<Finding> {
        let (role, database) = (&self.settings.user, &self.settings.name);
        let mut findings = Vec::new();
        if state.version < VERSION_MIN {
            findings.push(Finding::fatal(
                format!("{host} is PostgreSQL {}", state.version / 10_000),
                "12 or later is needed",
            ));
        }
        if state.read_only {
            findings.push(Finding::fatal(
                format!("sessions of role {role} at {host} are read only"),
                format!("ALTER ROLE {role} RESET default_transaction_read_only"),
            ));
        }
        match (&state.schema, state.has_tables, state.may_create) {
            (_, true, _) | (Some(_), _, true) => {}
            (Some(schema), false, false) => findings.push(Finding::fatal(
                format!("role {role} may not CREATE in database {database} (needed: term table)"),
                format!("GRANT CREATE ON SCHEMA {schema} TO {role}"),
            )),
            (None, false, _) => findings.push(Finding::fatal(
                format!(
                    "role {role} may use no schema of database {database} (needed: term table)"
                ),
                format!("GRANT USAGE, CREATE ON SCHEMA public TO {role}"),
            )),
        }
        if !state.has_standby || state.lax {
            findings.push(lax(host, state));
        }
        findings
    }

    fn right(&self, row: &Row) -> Result<Finding, Error> {
        let (table, rights): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (role, database) = (&self.settings.user, &self.settings.name);
        Ok(Finding::fatal(
            format!("role {role} may not {rights} {table} in database {database}"),
            format!("GRANT {rights} ON {table} TO {role}"),
        ))
    }
}

/// Commits are safe within one database primary only.
fn lax(host: &str, state: &State) -> Finding {
    let what = if state.has_standby {
        "commits don't wait for a standby (synchronous_commit)"
    } else {
        "no synchronous standby (synchronous_standby_names is empty)"
    };
    Finding::warning(
        format!(
            "{host} has {what}: when its database fails over, acknowledged writes and the newest \
             term may be gone (H5)"
        ),
        "set synchronous_standby_names there to a standby that streams, and synchronous_commit = on",
    )
}

/// What a writable host says of itself.
struct State {
    version: i32,
    in_recovery: bool,
    read_only: bool,
    schema: Option<String>,
    has_tables: bool,
    may_create: bool,
    has_standby: bool,
    lax: bool,
}

impl State {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            version: row.try_get(0)?,
            in_recovery: row.try_get(1)?,
            read_only: row.try_get(2)?,
            schema: row.try_get(3)?,
            has_tables: row.try_get(4)?,
            may_create: row.try_get(5)?,
            has_standby: row.try_get(6)?,
            lax: row.try_get(7)?,
        })
    }
}

/// Whether the host was not reached at all; TLS says what is wrong as an error of IO, too.
fn is_network(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() != std::io::ErrorKind::InvalidData;
        }
        cause = error.source();
    }
    false
}
