//! keyward on a real server, as an operator meets it.

mod backup;
mod binlog;
mod continuity;
mod doctor;
mod drill;
mod dropin;
mod encrypts;
mod fork;
mod functions;
mod kernels;
mod loading;
mod outage;
mod planted;
mod recovery;
mod report;
mod rescue;
mod rotation;
mod trail;
mod unit;

use test_mariadb::rows::Table;

/// Tables under three keys and the default one, in the formats that InnoDB encrypts differently.
const TABLES: &[Table] = &[
    Table { name: "plain_key", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "key_three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
    Table { name: "key_four", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=4", rows: 2000 },
    Table { name: "packed", options: "ENCRYPTED=YES PAGE_COMPRESSED=1", rows: 2000 },
    Table { name: "zipped", options: "ENCRYPTED=YES ROW_FORMAT=COMPRESSED", rows: 500 },
];

/// A site with keyward, the keys of [`TABLES`], and all encryption switched on.
fn site(name: &str) -> test_kit::Result<test_mariadb::Site> {
    let mut site = test_mariadb::Site::with_keyward(name)?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    site.keyward(&["keys", "create", "4", "--cipher", "aes-128-cbc"])?.ok()?;
    site.encrypt_everything();
    Ok(site)
}
