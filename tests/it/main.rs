//! The integration tests: the tool as its users run it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and makes its own files"
)]

#[path = "../support/mod.rs"]
mod support;

mod action;
mod action_script;
mod any_registry;
mod attest;
mod attest_attacks;
mod attest_keyless;
mod attest_peers;
mod bad_input;
mod cache;
mod candidates;
mod cases;
mod ci_files;
mod ci_lint;
mod compare;
mod corpus;
mod describe;
mod external;
mod fixtures;
mod generated;
mod gitlab;
mod hostile_registry;
mod init;
mod interface;
mod logins;
mod lowering;
mod made_by_others;
mod min_size;
mod pack;
mod peers;
mod plan;
mod projects;
mod publish;
mod publish_faults;
mod publish_layout;
mod publish_lines;
mod publish_uploads;
mod pull_faults;
mod pull_refusals;
mod registry_itself;
mod registry_peers;
mod report;
mod sbom;
mod share;
mod sign;
mod sign_attacks;
mod sign_embed;
mod sign_file;
mod sign_keyless;
mod sign_keyless_attacks;
mod sign_keyless_authorities;
mod sign_peers;
mod similar;
mod spec;
mod variants;
mod versions;
