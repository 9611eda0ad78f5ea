//! Key stores, one file or folder each. They know the nouns and the joint, and not one another.

pub mod file;
pub mod local;

use std::sync::Arc;

use crate::config::Section;
use crate::env::Rng;
use crate::error::Result;
use crate::provider::Provider;

/// The words that `type` may be.
const KINDS: &[&str] = &["file", "local"];

/// The provider that a `[[provider]]` section describes: the only place that chooses code by
/// vendor. The section is read to its end, so a misspelt option is an error; the key store itself is
/// not called yet, so one that is away cannot keep the others from opening.
pub fn open(section: &Section, rng: &Arc<dyn Rng>) -> Result<Provider> {
    let kind = section.required("type")?;
    let provider = match kind.as_str() {
        "file" => {
            Provider::Serves(Box::new(file::FileServer::new(file::Settings::read(section)?)?))
        }
        "local" => {
            let settings = local::Settings::read(section)?;
            Provider::Wraps(Box::new(local::LocalWrapper::new(settings, Arc::clone(rng))?))
        }
        _ => {
            let what = format!("there is no provider {kind:?}");
            return Err(section.wrong("type", &what).advise(format!("use {}", KINDS.join(" or "))));
        }
    };
    section.done()?;
    Ok(provider)
}
