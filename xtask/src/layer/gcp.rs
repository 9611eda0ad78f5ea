//! Google Cloud KMS as a layer: our own suite on a server of our own, which Google's client drives, too.

use test_cloud::GOOGLE_VARIABLE;
use test_kit::Result;

use super::{Report, Run, rust};
use crate::python;

pub(super) fn run(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(GOOGLE_VARIABLE, &python::google()?)])
}
