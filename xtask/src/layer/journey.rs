//! The way through all key stores as a layer.

use aws_test::PYTHON_VARIABLE;
use mariadb_test::Result;
use vault_test::PROGRAM_VARIABLE;

use super::{Report, Run, rust};
use crate::{localstack, vault};

pub(super) fn run(run: &Run) -> Result<Report> {
    let (python, program) = (localstack::python()?, vault::program()?);
    let places = [(PYTHON_VARIABLE, &*python), (PROGRAM_VARIABLE, &*program)];
    rust::suite_of(run, &places)
}
