//! Large blobs on their way: what has arrived is not sent again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::publish_faults::{LARGE, is_published, victim};
use crate::support::artifact::{Artifact, REPOSITORY, TAG};
use crate::support::registry::{Fault, Options, Registry, Seen};
use crate::support::signed::{PASSWORD, keygen, tool};
use crate::support::tool::run;

fn sent(registry: &Registry) -> u64 {
    registry.requests().iter().map(|r| r.received).sum()
}

/// Where the end of a blob is not taken with the request that closes an upload, it goes up
/// before that one.
#[test]
fn a_close_that_takes_no_bytes() {
    let artifact = Artifact::new(LARGE);
    let closes = |request: &Seen| request.method == "PUT" && request.is_upload();
    for answer in [
        Fault::status(400),
        Fault::status(403),
        Fault::status(405),
        Fault::status(413),
        Fault::status(500),
        Fault::status(501),
        Fault::status(201),
        Fault::Reset,
        Fault::ResetAfter(1 << 20),
    ] {
        let registry = Registry::start();
        let refused = answer.clone();
        registry.fault(move |request| {
            let large = request.length.is_some_and(|length| length > 1 << 20);
            (request.method == "PUT" && large).then(|| refused.clone())
        });
        artifact.publish(&registry.host(), &[]).exits(0);
        is_published(&artifact, &registry, &format!("{answer:?}"));
        // What had arrived counts.
        let sent = sent(&registry);
        let most = artifact.wasm.len() as u64 * 7 / 4;
        assert!(sent < most, "{answer:?}: {sent} bytes");
        let tried = registry.requests().iter().filter(|r| closes(r)).count();
        assert!(tried <= 3, "{answer:?}: {tried}");
    }
    // Where it is taken, one chunk goes before it, to see how fast it is.
    let registry = Registry::start();
    artifact.publish(&registry.host(), &[]).exits(0);
    let seen = registry.requests();
    let chunks = seen.iter().filter(|r| r.method == "PATCH").count();
    let large = seen.iter().filter(|r| closes(r) && r.received > 1 << 20);
    assert_eq!((chunks, large.count()), (1, 1));
}

/// Publishes until so many large bodies have come, and is interrupted in the next one.
fn interrupted(artifact: &Artifact, registry: &Registry, bodies: u32) {
    let (pid, strike) = victim();
    let seen = AtomicU32::new(0);
    registry.fault(move |request| {
        let large = request.length.is_some_and(|length| length > 1 << 20);
        if large && seen.fetch_add(1, Ordering::SeqCst) == bodies {
            strike(Signal::INT);
            return Some(Fault::Stall(Duration::from_secs(20)));
        }
        None
    });
    let mut child = artifact
        .publish_command(&registry.host(), &[])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    pid.store(child.id(), Ordering::SeqCst);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(registry.tags(REPOSITORY).is_empty());
    registry.heal();
    registry.clear_requests();
}

/// The next run does not send again what the registry has got, in whichever request the
/// one before was interrupted: the third chunk, and the one that closes the upload.
#[test]
fn the_next_run_goes_on() {
    let artifact = Artifact::new(100 << 20);
    for (bodies, most) in [(2, 70 << 20), (3, 45 << 20)] {
        let registry = Registry::start();
        interrupted(&artifact, &registry, bodies);
        let done = artifact.publish(&registry.host(), &["--message-format=json"]);
        is_published(&artifact, &registry, "gone on");
        let sent = sent(&registry);
        assert!(sent < most, "{sent} bytes were sent again");
        let said = done.exits(0).json()["published"][0]["sent"].as_u64();
        assert!(said.is_some_and(|said| said <= sent), "{said:?} of {sent}");
    }
}

/// What the run before had sent is lost after all: all of it goes again, and that is said.
#[test]
fn an_upload_that_is_lost_between_two_runs() {
    let artifact = Artifact::new(30 << 20);
    let registry = Registry::start();
    interrupted(&artifact, &registry, 1);
    let (tried, anew) = (AtomicBool::new(false), AtomicBool::new(false));
    registry.fault(move |request| {
        if !request.path.contains("/uploads/") {
            return None;
        }
        match request.method.as_str() {
            "PATCH" => tried.store(true, Ordering::SeqCst),
            "POST" if tried.load(Ordering::SeqCst) => anew.store(true, Ordering::SeqCst),
            _ => {}
        }
        let lost = tried.load(Ordering::SeqCst) && !anew.load(Ordering::SeqCst);
        lost.then(|| Fault::status(404))
    });
    let done = artifact.publish(&registry.host(), &["--message-format=json"]);
    is_published(&artifact, &registry, "begun anew");
    let said = done.exits(0).json()["published"][0]["sent"].as_u64();
    let whole = artifact.wasm.len() as u64;
    assert!(
        said.is_some_and(|said| said >= whole),
        "{said:?} of {whole}"
    );
}

/// Who is not let in is told by which request.
#[test]
fn a_request_that_is_not_let_in() {
    let artifact = Artifact::new(LARGE);
    for method in ["POST", "PATCH", "PUT"] {
        let registry = Registry::start();
        registry.fault(move |request| {
            let this = request.method == method && request.path.contains("/uploads/");
            this.then(|| Fault::status(401))
        });
        let done = artifact.publish(&registry.host(), &[]);
        done.exits(6).says(&format!("{method} http://"));
        assert!(registry.tags(REPOSITORY).is_empty());
    }
}

/// An upload is closed, and the answer says something else, or nothing.
#[test]
fn a_close_whose_answer_is_lost() {
    for size in [1 << 20, LARGE] {
        let artifact = Artifact::new(size);
        for fault in [Fault::LoseAnswer, Fault::Truncate(0)] {
            let registry = Registry::start();
            let once = AtomicU32::new(0);
            let lost = fault.clone();
            registry.fault(move |request| {
                let closes = request.method == "PUT" && request.path.contains("/uploads/");
                let large = request.length.is_some_and(|length| length > 500_000);
                let first = closes && large && once.fetch_add(1, Ordering::SeqCst) == 0;
                first.then(|| lost.clone())
            });
            artifact.publish(&registry.host(), &[]).exits(0);
            is_published(&artifact, &registry, &format!("{fault:?}"));
            let sent = sent(&registry);
            let whole = artifact.wasm.len() as u64;
            assert!(sent < whole + 100_000, "{fault:?}: {sent} of {whole}");
        }
    }
}

/// The specification has them say where, and some say which one alone.
#[test]
fn uploads_that_are_known_by_their_id() {
    let artifact = Artifact::new(LARGE);
    for breaks in ["PATCH", "PUT"] {
        let registry = Registry::with(Options {
            uploads_by_id: true,
            ..Options::default()
        });
        let once = AtomicU32::new(0);
        registry.fault(move |request| {
            let large = request.length.is_some_and(|length| length > 1 << 20);
            let first =
                large && request.method == breaks && once.fetch_add(1, Ordering::SeqCst) == 0;
            first.then_some(Fault::ResetAfter(2 << 20))
        });
        artifact.publish(&registry.host(), &[]).exits(0);
        is_published(&artifact, &registry, breaks);
        let sent = sent(&registry);
        let whole = artifact.wasm.len() as u64;
        assert!(sent < whole + (3 << 20), "{breaks}: {sent} of {whole}");
    }
}

/// What is small and made on the way, too: signatures and what is attested. What holds for
/// large blobs holds for them.
#[test]
fn a_fault_in_each_request_with_signatures() {
    let artifact = Artifact::new(1000);
    keygen(&artifact.place, "k");
    let publish = |registry: &Registry| {
        let mut publish = artifact.publish_command(&registry.host(), &["--key", "k.key"]);
        run(publish.env("COSIGN_PASSWORD", PASSWORD))
    };
    let good = |registry: &Registry, what: &str| {
        publish(registry).exits(0);
        let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
        let verify = ["verify", &reference, "--key", "k.pub"];
        assert_eq!(tool(&artifact.place, &verify).code, 0, "{what}");
        assert_eq!(registry.tags(REPOSITORY)[TAG], artifact.digest, "{what}");
    };
    let clean = Registry::start();
    good(&clean, "no fault");
    for fault in [Fault::LoseAnswer, Fault::Reset, Fault::status(503)] {
        for n in 0..clean.requests().len() {
            let what = format!("{fault:?} in request {n}");
            let registry = Registry::start();
            registry.nth(n, fault.clone());
            good(&registry, &what);
        }
    }
    for closes_with in [200, 204] {
        let registry = Registry::with(Options {
            closes_with,
            ..Options::default()
        });
        good(&registry, &closes_with.to_string());
    }
}

/// A registry that stops in the middle of an upload, and answers nothing any more, is not
/// waited for without an end.
#[test]
fn a_registry_that_falls_silent() {
    let artifact = Artifact::new(LARGE);
    let registry = Registry::start();
    let (seen, stopped) = (AtomicU32::new(0), AtomicBool::new(false));
    registry.fault(move |request| {
        let large = request.length.is_some_and(|length| length > 1 << 20);
        if large && seen.fetch_add(1, Ordering::SeqCst) == 1 {
            stopped.store(true, Ordering::SeqCst);
        }
        let stopped = stopped.load(Ordering::SeqCst);
        stopped.then_some(Fault::Stall(Duration::from_secs(60)))
    });
    let mut publish = artifact.publish_command(&registry.host(), &[]);
    let done = run(publish.env("EDGEPACK_REGISTRY_TIMEOUT", "1"));
    done.exits(6);
    assert!(registry.tags(REPOSITORY).is_empty());
    let tried = registry.requests().len();
    assert!(tried < 20, "{tried} requests");
}

/// A registry that says when to come again is taken at its word, in the request that
/// closes an upload, too.
#[test]
fn a_close_that_has_to_wait() {
    let artifact = Artifact::new(LARGE);
    let registry = Registry::start();
    let once = AtomicU32::new(0);
    registry.fault(move |request| {
        let close = request.method == "PUT" && request.path.contains("/uploads/");
        let first = close && once.fetch_add(1, Ordering::SeqCst) == 0;
        let busy = Fault::Status(503, vec![("Retry-After", "2".into())], String::new());
        first.then_some(busy)
    });
    let done = artifact.publish(&registry.host(), &[]);
    done.exits(0).says("in 2.00 s");
    is_published(&artifact, &registry, "after a while");
}

/// A registry that takes no chunks, behind something that takes nothing large: there is no
/// way, and that is said.
#[test]
fn a_registry_that_refuses_both_ways() {
    for size in [3 << 20, LARGE] {
        let artifact = Artifact::new(size);
        let registry = Registry::start();
        registry.fault(|request| {
            let large = request.length.is_some_and(|length| length > 500_000);
            match request.method.as_str() {
                "PATCH" => Some(Fault::status(405)),
                "PUT" if large => Some(Fault::status(413)),
                _ => None,
            }
        });
        let done = artifact.publish(&registry.host(), &[]);
        done.exits(6).says("413");
        assert!(registry.tags(REPOSITORY).is_empty());
        let tried = registry.requests().len();
        assert!(tried < 20, "{size}: {tried} requests");
    }
}

/// What the run before has sent is not given up because one question has no answer; where
/// none ever comes, all goes up again.
#[test]
fn a_silence_before_an_upload_goes_on() {
    let artifact = Artifact::new(100 << 20);
    for (silences, least, most) in [(1, 0, 45 << 20), (99, 100 << 20, 101 << 20)] {
        let registry = Registry::start();
        interrupted(&artifact, &registry, 3);
        let asked = AtomicU32::new(0);
        registry.fault(move |request| {
            let silent =
                request.gets("/uploads/") && asked.fetch_add(1, Ordering::SeqCst) < silences;
            silent.then_some(Fault::Stall(Duration::from_secs(5)))
        });
        let mut publish = artifact.publish_command(&registry.host(), &[]);
        run(publish.env("EDGEPACK_REGISTRY_TIMEOUT", "1")).exits(0);
        is_published(&artifact, &registry, "gone on");
        let sent = sent(&registry);
        assert!(
            (least..most).contains(&sent),
            "{silences}: {sent} bytes were sent again"
        );
    }
}

/// One refusal of a chunk that passes is no reason to give up where only chunks are taken.
#[test]
fn a_chunk_that_is_refused_once() {
    for (size, limit) in [(3 << 20, 2 << 20), (LARGE, 9 << 20)] {
        for status in [400, 404] {
            let artifact = Artifact::new(size);
            let registry = Registry::start();
            let once = AtomicU32::new(0);
            registry.fault(move |request| {
                let large = request.length.is_some_and(|length| length > limit);
                if request.method == "PUT" && large {
                    return Some(Fault::status(413));
                }
                let first = request.method == "PATCH" && once.fetch_add(1, Ordering::SeqCst) == 0;
                first.then(|| Fault::status(status))
            });
            artifact.publish(&registry.host(), &[]).exits(0);
            is_published(&artifact, &registry, &format!("{status}"));
        }
    }
}
