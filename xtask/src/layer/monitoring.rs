//! The metrics in a real Prometheus and the copies of the audit trail as a layer; a server's second provider is OpenBao, the
//! quicker to install.

use test_kit::Result;
use test_vault::PROGRAM_VARIABLE;

use super::{Report, Run, rust};
use crate::openbao;

pub(super) fn run(run: &Run) -> Result<Report> {
    let program = openbao::program()?;
    rust::suites_of(&["monitoring", "sinks"], run, &[(PROGRAM_VARIABLE, &program)])
}
