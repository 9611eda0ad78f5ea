//! A second KMIP server as a layer.

use test_kit::Result;
use test_kmip::cosmian::PROGRAM_VARIABLE;

use super::{Report, Run, rust};
use crate::cosmian;

pub(super) fn run(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(PROGRAM_VARIABLE, &cosmian::program()?)])
}
