//! AWS KMS as a layer: our own suite on LocalStack.

use aws_test::PYTHON_VARIABLE;
use mariadb_test::Result;

use super::{Report, Run, rust};
use crate::localstack;

pub(super) fn run(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(PYTHON_VARIABLE, &localstack::python()?)])
}
