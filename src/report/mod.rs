//! The report for an auditor: what is known of the keys of one server or of many, judged by what standards ask
//! for, as a page, a table or JSON, and signed.
//!
//! [`Server`] is all that is known of one, collected once; the renderers and the judgement read nothing else.

#![forbid(unsafe_code)]

mod csv;
mod files;
mod html;
mod life;
mod model;
pub mod note;
mod rules;
#[cfg(test)]
mod sample;

pub use csv::{cell, csv};
pub use files::{MISSING, WRONG, data, in_the_clear};
pub use html::html;
pub use life::lanes;
pub use model::{
    Custodian, Data, DataNeed, Document, Ending, Finding, Judged, Key, KeyStore, Lane, Light, Mark,
    Period, PlainFile, Planned, PolicyFacts, Record, Server, Source, Step, Totals, TrailFacts,
    Unclear, Verdict, Version,
};
pub use rules::judge;
