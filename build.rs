//! Reads the server headers of the distribution.

fn main() {}
