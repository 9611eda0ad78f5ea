//! A second KMIP server as a layer.

use kmip_test::cosmian::PROGRAM_VARIABLE;
use mariadb_test::Result;

use super::{Report, Run, rust};
use crate::cosmian;

pub(super) fn run(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(PROGRAM_VARIABLE, &cosmian::program()?)])
}
