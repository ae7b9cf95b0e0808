//! `site-agent role NAME`: one built-in role, in the foreground. Keepers start it; people may.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, builder::TypedValueParser};
use site_roles::{BuiltIn, RoleSettings};

/// Run one of the roles this program brings
///
/// `distributionPoint` serves a folder over HTTP. `database` is the small store of a site, for labs
/// and tests. `siteServer` does the site's own work when its agent orders it. `placeholder` stands for
/// a role that has no program yet: it answers /health and does nothing else.
#[derive(Debug, Args)]
pub(super) struct RoleArgs {
    /// Which
    #[arg(value_parser = PossibleValuesParser::new(BuiltIn::ALL.map(BuiltIn::name))
        .try_map(|name| name.parse::<BuiltIn>()))]
    name: BuiltIn,
    /// Address and port; default: STEAD_ADDRESS and STEAD_PORT, as an agent sets them
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// The folder that a distribution point serves
    #[arg(long, value_name = "DIR")]
    content: Option<PathBuf>,
}

pub(super) fn run(args: RoleArgs) -> Result<(), Box<dyn Error>> {
    let listen = match args.listen {
        Some(listen) => listen,
        None => from_environment()?,
    };
    let env = |name: &str| std::env::var(name).ok();
    let settings = RoleSettings {
        listen,
        content: args.content,
        data: site_roles::settings::data(&env).ok(),
        pair: match args.name {
            BuiltIn::SiteServer => site_roles::settings::pair(&env)?,
            BuiltIn::Database | BuiltIn::DistributionPoint | BuiltIn::Placeholder => None,
        },
    };
    super::runtime()?.block_on(site_roles::run(args.name, settings))?;
    Ok(())
}

fn from_environment() -> Result<SocketAddr, Box<dyn Error>> {
    let var = |name: &str| {
        std::env::var(name).map_err(|_| format!("say `--listen ADDR:PORT`, or set {name}"))
    };
    let address: IpAddr = var("STEAD_ADDRESS")?.parse()?;
    let port: u16 = var("STEAD_PORT")?.parse()?;
    Ok(SocketAddr::new(address, port))
}
