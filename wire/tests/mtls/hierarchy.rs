//! A hierarchy's CA in memory, servers and peers made from it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stead_schemas::names::Identity;
use stead_schemas::time::{DurationMs, WallMs};
use stead_wire::doors::Doors;
use stead_wire::material::Material;
use stead_wire::peer::Peer;
use stead_wire::pki::{Ca, Issued, LEAF_DAYS, Request, create_ca, issue};
use stead_wire::serve::{Limits, serve};
use stead_wire::tls::{ClientTls, ServerTls};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Long enough that only something stuck reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const DAY: u64 = 86_400_000;

pub(crate) fn id(text: &str) -> Identity {
    format!("stead://contoso/{text}").parse().unwrap()
}

pub(crate) fn now() -> WallMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    WallMs(u64::try_from(since.as_millis()).unwrap())
}

pub(crate) struct Hierarchy(pub(crate) Ca);

impl Hierarchy {
    pub(crate) fn new() -> Self {
        Self::named("contoso")
    }

    pub(crate) fn named(name: &str) -> Self {
        // Made long ago, so that certificates of last year are within the CA's time.
        let then = WallMs(now().0 - 400 * DAY);
        let made = create_ca(&name.parse().unwrap(), then).unwrap();
        Self(Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap())
    }

    pub(crate) fn issued(&self, identity: &Identity, at: WallMs) -> Issued {
        let request = Request {
            identity: identity.clone(),
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            dns_names: vec!["p01-a.test".to_owned()],
            days: LEAF_DAYS,
        };
        issue(&self.0, &request, at).unwrap()
    }

    pub(crate) fn material(&self, identity: &Identity) -> Material {
        self.material_at(identity, now())
    }

    pub(crate) fn material_at(&self, identity: &Identity, at: WallMs) -> Material {
        let issued = self.issued(identity, at);
        Material::from_pem(
            self.0.certificate_pem(),
            &issued.certificate_pem,
            &issued.key_pem,
        )
        .unwrap()
    }

    /// A reconciler that calls `server/p01-a` at `addr`.
    pub(crate) fn peer(&self, addr: SocketAddr) -> Peer {
        let tls = ClientTls::new(&self.material(&id("reconciler/stead-1"))).unwrap();
        Peer::new(addr, id("server/p01-a"), tls)
    }

    pub(crate) async fn server(&self, doors: impl Into<Doors> + Send + 'static) -> Server {
        self.server_with(doors, Limits::default()).await
    }

    pub(crate) async fn server_with(
        &self,
        doors: impl Into<Doors> + Send + 'static,
        limits: Limits,
    ) -> Server {
        let material = self.material(&id("server/p01-a"));
        Server::start(&material, doors, limits).await
    }
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Arc<ServerTls>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(
        material: &Material,
        doors: impl Into<Doors> + Send + 'static,
        limits: Limits,
    ) -> Self {
        let tls = ServerTls::new(material).unwrap();
        Self::start_with(tls, doors, limits).await
    }

    pub(crate) async fn start_with(
        tls: Arc<ServerTls>,
        doors: impl Into<Doors> + Send + 'static,
        limits: Limits,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            drop(stopped.await);
        };
        let task = tokio::spawn(serve(listener, Arc::clone(&tls), doors, limits, shutdown));
        let stop = Some(stop);
        Self {
            addr,
            tls,
            stop,
            task,
        }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, &mut self.task)
            .await
            .expect("serve ends after shutdown")
            .unwrap();
    }
}

pub(crate) const fn short() -> Duration {
    DurationMs(300).std()
}
