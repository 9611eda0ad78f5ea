//! What can be found in the server's memory, and what is left of it at the end.

mod core_file;
mod valgrind;
