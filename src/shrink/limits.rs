//! (IO) What a process that optimises may take: it sets its own limits, before the
//! work begins.

/// Limits this process to `memory` bytes of address space and `time` seconds for
/// each processor, and has it end with the one that started it, where the system
/// knows such things. A program that takes this one's place keeps the limits.
#[cfg(unix)]
pub fn limit(memory: u64, time: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let lower = |resource, to: u64| {
        let hard = getrlimit(resource).maximum;
        let to = hard.map_or(to, |hard| hard.min(to));
        // Best effort: where the system refuses, the parent's clock still holds.
        let _ = setrlimit(
            resource,
            Rlimit {
                current: Some(to),
                maximum: hard,
            },
        );
    };
    if cfg!(target_os = "linux") {
        lower(Resource::As, memory);
    }
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    lower(Resource::Cpu, time.saturating_mul(processors).max(1));
    lower(Resource::Core, 0);
    // Should the process that wants the result be killed, nobody does any more.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

/// Nothing: the parent's clock is the only limit.
#[cfg(not(unix))]
pub fn limit(_: u64, _: u64) {}
