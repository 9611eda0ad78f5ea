//! Killed at every moment: no row unreadable, no key lost.

mod changes;
mod every_call;
mod rescue;
mod root;
mod trail;
mod under_load;

use test_kit::Result;
use test_mariadb::Site;
use test_mariadb::rows::Table;

const TABLES: &[Table] = &[
    Table { name: "one", options: "ENCRYPTED=YES", rows: 500 },
    Table { name: "three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 500 },
];

/// A site with keyward, a third key, and all encryption switched on.
fn site(name: &str) -> Result<Site> {
    equipped(Site::new(name)?)
}

/// The same for a server that is killed.
fn site_on_disk(name: &str) -> Result<Site> {
    equipped(Site::on_disk(name)?)
}

fn equipped(mut site: Site) -> Result<Site> {
    site.init_keyward()?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    site.encrypt_everything();
    Ok(site)
}
