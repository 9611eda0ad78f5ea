//! Vault as a layer: our own suites on a real one.

use mariadb_test::Result;
use vault_test::PROGRAM_VARIABLE;

use super::{Report, Run, rust};
use crate::vault;

pub(super) fn run(run: &Run) -> Result<Report> {
    let program = vault::program()?;
    rust::suites_of("vault-test", &["vault", "outage"], run, &[(PROGRAM_VARIABLE, &program)])
}
