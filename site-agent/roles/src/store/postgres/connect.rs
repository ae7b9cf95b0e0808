//! Opening a session: all hosts are asked at once, and the first that is writable is kept.
//!
//! A host that is cut off, or takes the connection and never answers, must not keep the next from
//! being asked; the library would try them in turn. The tables are made here, once.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::select_ok;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use super::{Driver, INSERT, Postgres, SHARE, Session, failed, tls};
use crate::settings::{HOSTS_MAX, PostgresSettings};
use crate::store::StoreError;

const PORT: u16 = 5432;
/// Two servers that meet an empty database at once take turns.
const TABLES: &str = "BEGIN;
SELECT pg_advisory_xact_lock(7234017283807667300);
CREATE TABLE IF NOT EXISTS stead_term (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    term bigint NOT NULL,
    holder text NOT NULL
);
INSERT INTO stead_term (term, holder) VALUES (0, '') ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS stead_entries (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    term bigint NOT NULL,
    holder text NOT NULL,
    id text UNIQUE,
    text text NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMIT;";

pub(super) async fn connect(
    settings: &PostgresSettings,
    session: Session,
) -> Result<Postgres, StoreError> {
    let attempts = settings.hosts.iter().take(HOSTS_MAX).map(|host| {
        let opened = timeout(session.within, open(settings, &session, host));
        let late = session.within.as_millis();
        Box::pin(async move {
            match opened.await {
                Ok(Ok(open)) => Ok(open),
                Ok(Err(error)) => Err(format!("{host}: {error}")),
                Err(_) => Err(format!("{host}: no answer within {late} ms")),
            }
        })
    });
    let attempts: Vec<_> = attempts.collect();
    if attempts.is_empty() {
        return Err(StoreError::Broken("no host is declared".to_owned()));
    }
    let opened = select_ok(attempts).await;
    opened.map(|(open, _)| open).map_err(StoreError::Broken)
}

async fn open(
    settings: &PostgresSettings,
    session: &Session,
    host: &str,
) -> Result<Postgres, StoreError> {
    let config = config(settings, session, host)?;
    let warned = Arc::new(AtomicBool::new(false));
    let dialled = dial(&config, settings, &warned).await;
    let (client, driver) = dialled.map_err(|error| match error {
        NoSession::Settings(error) => error,
        NoSession::Server(error) => StoreError::broken("no session", &error),
    })?;
    make_tables(&client).await?;
    let mut open = Postgres {
        share: client.prepare(SHARE).await.map_err(failed)?,
        insert: client.prepare(INSERT).await.map_err(failed)?,
        client,
        session: session.clone(),
        warned,
        _driver: driver,
    };
    open.check().await?;
    Ok(open)
}

/// Why there is no session.
pub(super) enum NoSession {
    /// The settings don't lead to one.
    Settings(StoreError),
    /// The server refused, or was not reached.
    Server(tokio_postgres::Error),
}

/// A session; from here on its driver ends with it.
pub(super) async fn dial(
    config: &Config,
    settings: &PostgresSettings,
    warned: &Arc<AtomicBool>,
) -> Result<(Client, Driver), NoSession> {
    let (client, driver) = match tls::config(settings).map_err(NoSession::Settings)? {
        None => {
            let connected = config.connect(NoTls).await;
            let (client, connection) = connected.map_err(NoSession::Server)?;
            (client, drive(connection, warned))
        }
        Some(tls) => {
            let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls);
            let connected = config.connect(tls).await;
            let (client, connection) = connected.map_err(NoSession::Server)?;
            (client, drive(connection, warned))
        }
    };
    Ok((client, Driver(driver)))
}

pub(super) fn config(
    settings: &PostgresSettings,
    session: &Session,
    host: &str,
) -> Result<Config, StoreError> {
    let (host, port) = host_and_port(host)
        .ok_or_else(|| StoreError::Broken("a host is written `host:port`".to_owned()))?;
    let within = session.within;
    let ms = within.as_millis();
    let mut config = Config::new();
    config
        .host(host)
        .port(port)
        .dbname(&settings.name)
        .user(&settings.user)
        .application_name(session.application(0))
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(within)
        .tcp_user_timeout(within)
        // In whole seconds; none would be refused.
        .keepalives_idle(within.max(Duration::from_secs(1)))
        .keepalives_interval(Duration::from_secs(1))
        .keepalives_retries(2)
        .ssl_mode(if tls::wanted(settings) {
            SslMode::Require
        } else {
            SslMode::Disable
        })
        // The server's own ends of the same waits: a host that is cut off holds no lock (H5).
        .options(format!(
            "-c synchronous_commit=on -c statement_timeout={ms} -c lock_timeout={ms} \
             -c idle_in_transaction_session_timeout={ms} -c tcp_user_timeout={ms}"
        ));
    if let Some(password) = session.password.reveal() {
        config.password(password);
    }
    Ok(config)
}

/// `host`, `host:5432`, `[::1]:5432`.
fn host_and_port(text: &str) -> Option<(&str, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, PORT)),
            _ => Some((host, rest.strip_prefix(':')?.parse().ok()?)),
        };
    }
    match text.split_once(':') {
        None => Some((text, PORT)),
        Some((host, port)) => Some((host, port.parse().ok()?)),
    }
}

async fn make_tables(client: &Client) -> Result<(), StoreError> {
    let asked = "SELECT to_regclass('stead_term') IS NOT NULL \
        AND to_regclass('stead_entries') IS NOT NULL";
    let there = client.query_one(asked, &[]).await.map_err(failed)?;
    if there.try_get(0).map_err(failed)? {
        return Ok(());
    }
    client.batch_execute(TABLES).await.map_err(failed)
}

/// Carries the session's traffic, and notices warnings before the answers they came with.
fn drive<S, T>(mut connection: Connection<S, T>, warned: &Arc<AtomicBool>) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let warned = Arc::clone(warned);
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && notice.severity() == "WARNING"
            {
                warned.store(true, Ordering::Relaxed);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_a_port() {
        assert_eq!(host_and_port("db"), Some(("db", 5432)));
        assert_eq!(host_and_port("db:6000"), Some(("db", 6000)));
        assert_eq!(host_and_port("[::1]:6000"), Some(("::1", 6000)));
        assert_eq!(host_and_port("[::1]"), Some(("::1", 5432)));
        assert_eq!(host_and_port("db:x"), None);
    }
}
