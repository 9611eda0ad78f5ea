//! The life of a key, from its making to its end: on real keystore files, with key stores that
//! count their calls and can be told to fail, and through the command.

mod bench;
mod command;
mod moving;
mod policy;
mod states;
mod witness;
mod wrappings;
