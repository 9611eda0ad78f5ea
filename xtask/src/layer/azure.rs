//! Azure Key Vault and Managed HSM as a layer: our own suite on a server of our own, which Microsoft's client
//! drives, too.

use test_cloud::MICROSOFT_VARIABLE;
use test_kit::Result;

use super::{Report, Run, rust};
use crate::python;

pub(super) fn run(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(MICROSOFT_VARIABLE, &python::microsoft()?)])
}
