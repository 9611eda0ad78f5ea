//! What several commands need. A helper knows no command.

pub(super) mod arguments;
pub(super) mod belongs;
pub(super) mod confine;
pub(super) mod examine;
pub(super) mod exit;
pub(super) mod facts;
pub(super) mod follow;
pub(super) mod keeper;
pub(super) mod open;
pub(super) mod outcome;
pub(super) mod outlet;
pub(super) mod print;
pub(super) mod privilege;
pub(super) mod proven;
pub(super) mod reach;
pub(super) mod running;
pub(super) mod scan;
pub(super) mod server;
pub(super) mod standing;
pub(super) mod trail;
