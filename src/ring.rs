//! The in-memory table of keys that the server's threads read.
