//! Where the action for GitHub and the component for GitLab are to be had. A release
//! says so when it is compiled; other builds have a placeholder, which the commands
//! that write it down tell the user about.

/// What stands for the owner in builds that are no release.
pub const PLACEHOLDER: &str = "OWNER/";

/// The version that is written beside what is pinned.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The action, as `uses` names it. `EDGEPACK_ACTION` sets it when the tool is compiled:
/// pinned to a commit, or without one, which [`pin`](super::pin) looks up then.
pub const ACTION: &str = match option_env!("EDGEPACK_ACTION") {
    Some(action) => action,
    None => "OWNER/cargo-edgepack/action@0000000000000000000000000000000000000000",
};

/// The component, as `include: component` names it.
/// `EDGEPACK_COMPONENT` sets it when the tool is compiled.
pub const COMPONENT: &str = match option_env!("EDGEPACK_COMPONENT") {
    Some(component) => component,
    None => concat!(
        "$CI_SERVER_FQDN/OWNER/edgepack/edgepack@",
        env!("CARGO_PKG_VERSION")
    ),
};
