//! The metrics in a real Prometheus as a layer, of a server with a second provider: OpenBao, the quicker to install.

use test_kit::Result;
use test_vault::PROGRAM_VARIABLE;

use super::{Report, Run, rust};
use crate::openbao;

pub(super) fn run(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(PROGRAM_VARIABLE, &openbao::program()?)])
}
