//! AWS KMS as layers: our own suites on LocalStack, and on fakecloud where IAM and STS matter.

use test_cloud::{PYTHON_VARIABLE, fakecloud::PROGRAM_VARIABLE};
use test_kit::Result;

use super::{Report, Run, rust};
use crate::{fakecloud, python};

pub(super) fn run(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(PYTHON_VARIABLE, &python::localstack()?)])
}

/// The suite of what LocalStack lets everybody do.
pub(super) fn iam(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(PROGRAM_VARIABLE, &fakecloud::program()?)])
}
