//! A key's whole life on a real server: rotated by policy under load, moved between key stores,
//! from one cipher to another, followed, undone, inspected and destroyed.

mod cipher;
mod drill;
mod erase;
mod follow;
mod inspect;
mod load;
mod moves;

use test_kit::{Result, files};
use test_mariadb::Site;

/// A path as an argument.
fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// Adds lines to the configuration.
fn configure(site: &Site, lines: &str) -> Result<()> {
    let before = files::text(&site.config())?;
    files::write(&site.config(), format!("{before}\n{lines}"))
}
