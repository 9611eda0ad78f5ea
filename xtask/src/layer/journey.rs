//! The way through all key stores as a layer.

use test_cloud::PYTHON_VARIABLE;
use test_kit::Result;
use test_vault::PROGRAM_VARIABLE;

use super::{Report, Run, rust};
use crate::{python, vault};

pub(super) fn run(run: &Run) -> Result<Report> {
    let (python, program) = (python::localstack()?, vault::program()?);
    let places = [(PYTHON_VARIABLE, &*python), (PROGRAM_VARIABLE, &*program)];
    rust::suite_of(run, &places)
}
