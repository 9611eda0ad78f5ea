//! `cargo xtask demo`.
use mariadb_test::Result;

pub(crate) fn task(_words: &[String]) -> Result<()> {
    Ok(())
}
