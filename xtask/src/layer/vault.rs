//! Vault as a layer: our own suite on a real one.

use mariadb_test::Result;
use vault_test::PROGRAM_VARIABLE;

use super::{Report, Run, rust};
use crate::vault;

pub(super) fn run(run: &Run) -> Result<Report> {
    rust::suite_of("vault-test", run, &[(PROGRAM_VARIABLE, &vault::program()?)])
}
