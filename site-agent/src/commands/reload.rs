//! `site-agent reload`: the running agent replaces itself by the program installed now.

use std::error::Error;

use super::Place;
use super::local::Local;

pub(super) fn run(place: &Place) -> Result<(), Box<dyn Error>> {
    let local = Local::of(&place.layout()?)?;
    super::runtime()?.block_on(local.reload())?;
    eprintln!("reload    asked for; the agent keeps its pid and its instances");
    Ok(())
}
