//! The way through all key stores as a layer.

use test_cloud::PYTHON_VARIABLE;
use test_kit::Result;
use test_vault::PROGRAM_VARIABLE;

use super::{Report, Run, rust};
use crate::{localstack, vault};

pub(super) fn run(run: &Run) -> Result<Report> {
    let (python, program) = (localstack::python()?, vault::program()?);
    let places = [(PYTHON_VARIABLE, &*python), (PROGRAM_VARIABLE, &*program)];
    rust::suite_of(run, &places)
}
