//! Killed at every moment: no row unreadable, no key lost.

mod changes;
mod every_call;
mod under_load;

use mariadb_test::rows::Table;

const TABLES: &[Table] = &[
    Table { name: "one", options: "ENCRYPTED=YES", rows: 500 },
    Table { name: "three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 500 },
];

/// A site with keyward, a third key, and all encryption switched on.
fn site(name: &str) -> mariadb_test::Result<mariadb_test::Site> {
    let mut site = mariadb_test::Site::with_keyward(name)?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    site.encrypt_everything();
    Ok(site)
}
