//! Uploads over lines that break, to the registries of others.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::artifact::Artifact;
use crate::support::line::{Line, Quality};
use crate::support::peers::{Peers, Server};
use crate::support::tool::run;

const MIB: u64 = 1 << 20;

fn servers(peers: &Peers) -> [(&'static str, Server); 2] {
    [
        ("docker-registry", Server::docker(peers)),
        ("crane", Server::crane(peers)),
    ]
}

fn is_there(artifact: &Artifact, server: &Server, what: &str) {
    let reference = server.reference("acme/app:1.0.0");
    let mut pull = artifact
        .place
        .command(["pull", &reference, "-o", "out.wasm"]);
    run(&mut pull).exits(0);
    let pulled = std::fs::read(artifact.place.join("out.wasm")).unwrap();
    assert!(pulled == artifact.wasm, "{what}");
}

fn start(artifact: &Artifact, host: &str) -> Child {
    let mut command = artifact.publish_command(host, &[]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// docker-registry refuses to go on from the middle of a chunk: an interrupted run ends
/// between two of them.
#[test]
fn the_run_after_an_interruption_goes_on() {
    let Some(peers) = Peers::find() else { return };
    let artifact = Artifact::new(96 << 20);
    let whole = artifact.wasm.len() as u64;
    for (what, server) in servers(&peers) {
        let slow = Quality {
            rate: Some(48 * MIB),
            ..Quality::default()
        };
        let line = Line::to(&server.host(), slow);
        let mut child = start(&artifact, &line.host());
        line.wait_for(50 * MIB);
        signal(&child, Signal::INT);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{what}");
        let before = line.sent();
        assert!(before < whole, "{what}: {before} bytes of {whole}");
        artifact.publish(&line.host(), &[]).exits(0);
        let after = line.sent();
        assert!(
            before + after < whole + MIB,
            "{what}: {before} and {after} bytes of {whole}"
        );
        is_there(&artifact, &server, what);
    }
}

/// Whoever asks twice does not wait.
#[test]
fn a_second_interruption_ends_it_at_once() {
    let Some(peers) = Peers::find() else { return };
    let artifact = Artifact::new(32 << 20);
    let server = Server::docker(&peers);
    let slow = Quality {
        rate: Some(MIB),
        ..Quality::default()
    };
    let line = Line::to(&server.host(), slow);
    let mut child = start(&artifact, &line.host());
    line.wait_for(MIB);
    let started = std::time::Instant::now();
    signal(&child, Signal::INT);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(
        child.try_wait().unwrap().is_none(),
        "it waits for the chunk"
    );
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(started.elapsed() < std::time::Duration::from_secs(4));
}

/// A killed one may begin anew, where the registry keeps no part of a chunk; but it ends.
#[test]
fn the_run_after_a_kill_ends_well() {
    let Some(peers) = Peers::find() else { return };
    let artifact = Artifact::new(48 << 20);
    for (what, server) in servers(&peers) {
        let slow = Quality {
            rate: Some(48 * MIB),
            ..Quality::default()
        };
        let line = Line::to(&server.host(), slow);
        let mut child = start(&artifact, &line.host());
        line.wait_for(30 * MIB);
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        artifact.publish(&server.host(), &[]).exits(0);
        is_there(&artifact, &server, what);
    }
}

#[test]
fn a_line_that_breaks_each_connection() {
    let Some(peers) = Peers::find() else { return };
    let artifact = Artifact::new(96 << 20);
    let whole = artifact.wasm.len() as u64;
    for (what, server) in servers(&peers) {
        let breaking = Quality {
            breaks_after: Some(40 * MIB),
            ..Quality::default()
        };
        let line = Line::to(&server.host(), breaking);
        artifact.publish(&line.host(), &[]).exits(0);
        let sent = line.sent();
        // One, and one more where the registry takes what we ask it by before it has noticed
        // the first. None costs more than its connection has carried.
        let breaks = line.broken();
        assert!((1..=2).contains(&breaks), "{what}: {breaks} breaks");
        assert!(
            sent < whole + (breaks * 40 + 20) * MIB,
            "{what}: {sent} bytes of {whole}, {breaks} breaks"
        );
        is_there(&artifact, &server, what);
    }
}
