//! The integration tests: the tool as its users run it.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod cases;
mod corpus;
mod fixtures;
mod generated;
mod pack;
mod projects;
mod report;
