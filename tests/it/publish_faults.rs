//! What networks, registries and people do in the middle of a push or a pull. Each ends
//! with the artifact complete, or with the tag as it was.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::artifact::{Artifact, REPOSITORY, TAG, log_in, sha256};
use crate::support::registry::{Auth, Fault, Lifetime, Options, Registry, Seen};
use crate::support::tool::run;

/// Two chunks, and more than goes up in one piece.
pub const LARGE: usize = 20 << 20;
const SMALL: usize = 100_000;

/// Faults after which a client that tries again gets through.
fn passing() -> Vec<Fault> {
    let mut faults = vec![
        Fault::Reset,
        Fault::ResetAfter(70_000),
        Fault::LoseAnswer,
        Fault::Truncate(3),
        Fault::too_many(0),
    ];
    faults.extend([500, 502, 503, 504, 408, 522].map(Fault::status));
    faults
}

/// How many requests an undisturbed publication makes.
fn requests_of_a_push(artifact: &Artifact, options: &Options) -> usize {
    let registry = Registry::with(options.clone());
    artifact.publish(&registry.host(), &[]).exits(0);
    assert!(registry.is_complete(REPOSITORY, TAG));
    registry.requests().len()
}

#[track_caller]
pub fn is_published(artifact: &Artifact, registry: &Registry, what: &str) {
    let lines: Vec<_> = registry.requests().iter().map(Seen::line).collect();
    assert!(registry.is_complete(REPOSITORY, TAG), "{what}: {lines:#?}");
    let tags = registry.tags(REPOSITORY);
    assert_eq!(tags[TAG], artifact.digest, "{what}");
    assert_eq!(tags.len(), 1, "{what}");
}

#[track_caller]
fn survives_in_each_request(artifact: &Artifact, options: &Options) {
    let clean = requests_of_a_push(artifact, options);
    for fault in passing() {
        for n in 0..clean {
            let what = format!("{fault:?} in request {n} of {clean}");
            let registry = Registry::with(options.clone());
            registry.nth(n, fault.clone());
            let done = artifact.publish(&registry.host(), &[]);
            assert_eq!(done.code, 0, "{what}: {}", done.stderr);
            assert_eq!(done.stdout, artifact.published(&registry.host()), "{what}");
            is_published(artifact, &registry, &what);
        }
    }
}

#[test]
fn a_fault_in_each_request_of_a_push() {
    survives_in_each_request(&Artifact::new(SMALL), &Options::default());
}

#[test]
fn a_fault_in_each_request_of_a_push_in_chunks() {
    survives_in_each_request(&Artifact::new(LARGE), &Options::default());
}

#[test]
fn a_fault_in_each_request_where_uploads_cannot_be_gone_on_with() {
    let options = Options {
        like_docker_2_8: true,
        ..Options::default()
    };
    survives_in_each_request(&Artifact::new(LARGE), &options);
}

fn with_referrers() -> (Artifact, [String; 2]) {
    let artifact = Artifact::new(SMALL);
    let referrers = ["application/vnd.cyclonedx+json", "application/spdx+json"]
        .map(|kind| artifact.attach(kind, kind.as_bytes()));
    (artifact, referrers)
}

/// With a signature and the like beside it, whether the registry lists them or not.
#[test]
fn a_fault_in_each_request_with_referrers() {
    let (artifact, referrers) = with_referrers();
    for referrers_api in [false, true] {
        let options = Options {
            referrers_api,
            ..Options::default()
        };
        let clean = requests_of_a_push(&artifact, &options);
        let faults = [
            Fault::Reset,
            Fault::LoseAnswer,
            Fault::Truncate(3),
            Fault::status(503),
        ];
        for fault in faults {
            for n in 0..clean {
                let what = format!("{fault:?} in request {n} of {clean}, {referrers_api}");
                let registry = Registry::with(options.clone());
                registry.nth(n, fault.clone());
                let done = artifact.publish(&registry.host(), &[]);
                assert_eq!(done.code, 0, "{what}: {}", done.stderr);
                assert!(registry.is_complete(REPOSITORY, TAG), "{what}");
                are_listed(&referrers, &artifact, &registry, &what);
            }
        }
    }
}

#[track_caller]
fn are_listed(referrers: &[String], artifact: &Artifact, registry: &Registry, what: &str) {
    let mut listed = registry.referrers(REPOSITORY, &artifact.digest);
    listed.sort();
    let mut wanted = referrers.to_vec();
    wanted.sort();
    assert_eq!(listed, wanted, "{what}");
    for referrer in listed {
        assert!(registry.is_complete(REPOSITORY, &referrer), "{what}");
    }
}

#[test]
fn a_fault_in_each_request_of_a_pull() {
    for ignore_range in [false, true] {
        let artifact = Artifact::new(2 << 20);
        let registry = Registry::with(Options {
            ignore_range,
            ..Options::default()
        });
        artifact.publish(&registry.host(), &[]).exits(0);
        registry.clear_requests();
        artifact.pull(&registry.host()).exits(0);
        let clean = registry.requests().len();
        let mut faults = passing();
        faults.push(Fault::Truncate(1 << 20));
        for fault in faults {
            for n in 0..clean {
                let what = format!("{fault:?} in request {n} of {clean}");
                artifact.unpull();
                registry.nth(n, fault.clone());
                let done = artifact.pull(&registry.host());
                assert_eq!(done.code, 0, "{what}: {}", done.stderr);
                assert!(artifact.pulled().as_ref() == Some(&artifact.wasm), "{what}");
            }
        }
    }
}

/// The registry fails from some request on, and gets well again later.
#[test]
fn a_registry_that_stays_down() {
    let old = Artifact::seeded(SMALL, 2);
    let new = Artifact::new(SMALL);
    let clean = requests_of_a_push(&new, &Options::default());
    for fault in [Fault::Reset, Fault::status(500), Fault::status(403)] {
        for n in 0..clean {
            let what = format!("{fault:?} from request {n} of {clean}");
            let registry = Registry::start();
            old.publish(&registry.host(), &[]).exits(0);
            registry.fault({
                let fault = fault.clone();
                move |request| (request.n >= n).then(|| fault.clone())
            });
            let done = new.publish(&registry.host(), &["--force"]);
            assert_eq!(done.code, 6, "{what}: {}", done.stderr);
            assert_eq!(done.stdout, "", "{what}");
            assert!(done.stderr.contains("error: "), "{what}: {}", done.stderr);
            assert_eq!(registry.tags(REPOSITORY)[TAG], old.digest, "{what}");
            registry.heal();
            let host = registry.host();
            assert_eq!(
                new.publish(&host, &["--force"]).exits(0).stdout,
                new.published(&host)
            );
            is_published(&new, &registry, &what);

            // The same for a pull, which leaves no file.
            registry.fault({
                let fault = fault.clone();
                move |request| (request.n >= n).then(|| fault.clone())
            });
            new.unpull();
            let before = new.place.files();
            let done = new.pull(&registry.host());
            if done.code != 0 {
                assert_eq!(done.code, 6, "{what}: {}", done.stderr);
                assert_eq!(new.place.files(), before, "{what}");
            }
        }
    }
}

#[test]
fn the_registry_says_how_long_to_wait() {
    let clean = requests_of_a_push(&Artifact::new(SMALL), &Options::default());
    std::thread::scope(|scope| {
        for n in 0..clean {
            scope.spawn(move || {
                let what = format!("429 in request {n} of {clean}");
                let artifact = Artifact::new(SMALL);
                let registry = Registry::start();
                registry.nth(n, Fault::too_many(2));
                let started = Instant::now();
                artifact.publish(&registry.host(), &[]).exits(0);
                assert!(started.elapsed() >= Duration::from_secs(2), "{what}");
                is_published(&artifact, &registry, &what);
            });
        }
    });
}

#[test]
fn an_upload_goes_on_where_it_broke() {
    let artifact = Artifact::new(40 << 20);
    let registry = Registry::start();
    // The second chunk breaks off in its middle.
    let chunks = AtomicU32::new(0);
    registry.fault(move |request| {
        let patch = request.method == "PATCH";
        (patch && chunks.fetch_add(1, Ordering::SeqCst) == 1).then_some(Fault::ResetAfter(5 << 20))
    });
    artifact.publish(&registry.host(), &[]).exits(0);
    is_published(&artifact, &registry, "resumed");
    let sent: u64 = registry.requests().iter().map(|r| r.received).sum();
    let whole = artifact.wasm.len() as u64;
    assert!(sent < whole + (1 << 20), "{sent} bytes for {whole}");
}

#[test]
fn a_registry_that_loses_its_uploads() {
    let artifact = Artifact::new(40 << 20);
    let registry = Arc::new(Registry::start());
    let weak = Arc::downgrade(&registry);
    let patches = AtomicU32::new(0);
    registry.fault(move |request| {
        if request.method == "PATCH" && patches.fetch_add(1, Ordering::SeqCst) == 1 {
            weak.upgrade()?.restart_lost_uploads();
            return Some(Fault::Reset);
        }
        None
    });
    artifact.publish(&registry.host(), &[]).exits(0);
    is_published(&artifact, &registry, "lost uploads");
}

/// A registry that holds an upload which it will never take does not hold up the artifact.
#[test]
fn an_upload_that_is_not_taken_is_begun_anew() {
    let artifact = Artifact::new(LARGE);
    let registry = Registry::start();
    let refusal = || {
        let error = r#"{"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}"#;
        Some(Fault::Status(400, Vec::new(), error.to_owned()))
    };
    // Once: in the same run.
    let commits = AtomicU32::new(0);
    let layer = sha256(&artifact.wasm);
    registry.fault(move |request| {
        let commit = request.method == "PUT" && request.query.contains(&layer[7..]);
        let first = commit && commits.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(refusal)?
    });
    artifact.publish(&registry.host(), &[]).exits(0);
    is_published(&artifact, &registry, "the second upload");

    // Always: in the next.
    let registry = Registry::start();
    registry.fault(move |request| (request.method == "PUT").then(refusal)?);
    artifact
        .publish(&registry.host(), &[])
        .exits(6)
        .says("DIGEST_INVALID");
    let refused = registry.requests().into_iter().map(|r| r.path);
    let refused: Vec<String> = refused.filter(|p| p.contains("/uploads/")).collect();
    registry.fault(move |request| {
        let known = request.method == "PUT" && refused.contains(&request.path);
        known.then(refusal)?
    });
    artifact.publish(&registry.host(), &[]).exits(0);
    is_published(&artifact, &registry, "the next run");
}

#[test]
fn crumbs_are_no_progress() {
    let artifact = Artifact::new(LARGE);
    let registry = Registry::start();
    registry.fault(|request| (request.method == "PATCH").then_some(Fault::ResetAfter(1000)));
    artifact.publish(&registry.host(), &[]).exits(6);
    assert!(registry.tags(REPOSITORY).is_empty());
    let asked = registry.requests().len();
    assert!(asked < 200, "{asked} requests");
}

/// Tells the registry's fault whom to kill.
pub fn victim() -> (Arc<AtomicU32>, impl Fn(Signal) + Send + Sync + 'static) {
    let pid = Arc::new(AtomicU32::new(0));
    let of_hook = Arc::clone(&pid);
    let strike = move |signal| {
        let pid = loop {
            match of_hook.load(Ordering::SeqCst) {
                0 => std::thread::yield_now(),
                pid => break pid,
            }
        };
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        // It may be gone already.
        let _ = kill_process(pid, signal);
    };
    (pid, strike)
}

/// Publishes, and ends the client without a warning once the registry has a request,
/// which is done (`fault` is none) or not.
fn killed(artifact: &Artifact, registry: &Registry, n: usize, fault: Option<Fault>) {
    let (pid, strike) = victim();
    registry.fault(move |request| {
        if request.n != n {
            return None;
        }
        strike(Signal::KILL);
        fault.clone()
    });
    let mut child = artifact
        .publish_command(&registry.host(), &[])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    pid.store(child.id(), Ordering::SeqCst);
    let ended = child.wait().unwrap();
    assert!(!ended.success(), "killed in request {n}");
}

#[test]
fn a_client_that_is_killed() {
    let artifact = Artifact::new(LARGE);
    let clean = requests_of_a_push(&artifact, &Options::default());
    for point in 0..20_usize.max(clean * 2) {
        let n = point % clean;
        // Before anything is done, or with all that it has sent.
        let fault = (point < clean).then_some(Fault::Reset);
        let what = format!("killed in request {n} of {clean}, {fault:?}");
        let registry = Registry::start();
        killed(&artifact, &registry, n, fault);
        if registry.tags(REPOSITORY).contains_key(TAG) {
            is_published(&artifact, &registry, &what);
        }
        registry.heal();
        let done = artifact.publish(&registry.host(), &[]);
        assert_eq!(done.code, 0, "{what}: {}", done.stderr);
        is_published(&artifact, &registry, &what);
    }
}

/// A referrer may be there, and in no list yet.
#[test]
fn a_client_that_is_killed_with_referrers() {
    let (artifact, referrers) = with_referrers();
    for referrers_api in [false, true] {
        let options = Options {
            referrers_api,
            ..Options::default()
        };
        let clean = requests_of_a_push(&artifact, &options);
        for point in 0..clean * 2 {
            let n = point % clean;
            let fault = (point < clean).then_some(Fault::Reset);
            let what = format!("killed in request {n} of {clean}, {fault:?}, {referrers_api}");
            let registry = Registry::with(options.clone());
            killed(&artifact, &registry, n, fault);
            if registry.tags(REPOSITORY).contains_key(TAG) {
                are_listed(&referrers, &artifact, &registry, &what);
            }
            registry.heal();
            artifact.publish(&registry.host(), &[]).exits(0);
            assert!(registry.is_complete(REPOSITORY, TAG), "{what}");
            are_listed(&referrers, &artifact, &registry, &what);
        }
    }
}

#[test]
fn a_client_that_is_interrupted() {
    let artifact = Artifact::new(LARGE);
    let clean = requests_of_a_push(&artifact, &Options::default());
    for n in 0..clean {
        let what = format!("interrupted in request {n} of {clean}");
        let registry = Registry::start();
        let (pid, strike) = victim();
        registry.fault(move |request| {
            if request.n < n {
                return None;
            }
            strike(Signal::INT);
            Some(Fault::Stall(Duration::from_secs(20)))
        });
        let started = Instant::now();
        let mut child = artifact
            .publish_command(&registry.host(), &[])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        pid.store(child.id(), Ordering::SeqCst);
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(130), "{what}");
        assert!(started.elapsed() < Duration::from_secs(15), "{what}");
        if registry.tags(REPOSITORY).contains_key(TAG) {
            is_published(&artifact, &registry, &what);
        }
        registry.heal();
        artifact.publish(&registry.host(), &[]).exits(0);
        is_published(&artifact, &registry, &what);
    }
}

/// The answer to the first try is lost, and a tag that is there is not set again.
#[test]
fn a_registry_whose_tags_do_not_move() {
    let artifact = Artifact::new(SMALL);
    for first in [Fault::LoseAnswer, Fault::status(503)] {
        for refusal in [400, 403, 409, 412] {
            let what = format!("{first:?}, then {refusal}");
            let registry = Registry::start();
            let tried = AtomicU32::new(0);
            let lost = first.clone();
            registry.fault(move |request| {
                let tags = request.method == "PUT" && request.path.ends_with(TAG);
                tags.then(|| match tried.fetch_add(1, Ordering::SeqCst) {
                    0 => lost.clone(),
                    _ => Fault::status(refusal),
                })
            });
            let done = artifact.publish(&registry.host(), &[]);
            if matches!(first, Fault::LoseAnswer) {
                assert_eq!(done.code, 0, "{what}: {}", done.stderr);
                is_published(&artifact, &registry, &what);
            } else {
                // Nothing had been done.
                let refused = done.exits(6).says(&refusal.to_string());
                assert_eq!(refused.stdout, "", "{what}");
                assert!(registry.tags(REPOSITORY).is_empty(), "{what}");
            }
        }
    }
}

/// The limit on file sizes acts like a full disk: a write stops in the middle.
#[test]
fn a_full_disk_in_a_pull() {
    let artifact = Artifact::new(2 << 20);
    let registry = Registry::start();
    artifact.publish(&registry.host(), &[]).exits(0);
    let before = artifact.place.files();
    let tool = env!("CARGO_BIN_EXE_cargo-edgepack");
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec {tool} pull {}/{REPOSITORY}:{TAG} -o out.wasm",
        registry.host()
    );
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", &script])
        .current_dir(artifact.place.path());
    artifact.place.at_home(&mut command);
    command.env("EDGEPACK_CACHE_DIR", artifact.place.join(".cache"));
    let done = run(&mut command);
    assert!(done.code == 1 || done.code == 6, "{done:?}");
    let done = done.says("error: ");
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    assert_eq!(artifact.place.files(), before);

    // What was there before stays.
    fs::write(artifact.place.join("out.wasm"), "before").unwrap();
    assert_ne!(run(&mut command).code, 0);
    assert_eq!(artifact.pulled().unwrap(), b"before");
}

#[test]
fn tokens_that_expire_in_the_middle() {
    // With chunks of 1 MiB there are many more of them than tokens last.
    for (size, chunk_max) in [(LARGE, None), (40 << 20, Some(1 << 20))] {
        for lifetime in [1, 2, 3, 5] {
            let what = format!("{chunk_max:?}, {lifetime} requests");
            let artifact = Artifact::new(size);
            let registry = Registry::with(Options {
                auth: Auth::bearer("me", "secret", Lifetime::Requests(lifetime)),
                chunk_max,
                ..Options::default()
            });
            log_in(&artifact.place, &registry.host(), "me", "secret");
            let done = artifact.publish(&registry.host(), &[]);
            // A token for one request lets no upload be asked about and gone on with.
            if lifetime > 1 || done.code == 0 {
                assert_eq!(done.code, 0, "{what}: {}", done.stderr);
                is_published(&artifact, &registry, &what);
                artifact.pull(&registry.host()).exits(0);
                assert!(artifact.pulled().as_ref() == Some(&artifact.wasm), "{what}");
            } else {
                assert_eq!(done.code, 6, "{what}: {}", done.stderr);
                assert!(registry.tags(REPOSITORY).is_empty());
            }
            assert!(!done.stderr.contains("secret"), "{}", done.stderr);
        }
    }
}

#[test]
fn two_clients_and_one_tag() {
    let artifacts = [Artifact::seeded(LARGE, 3), Artifact::seeded(LARGE, 4)];
    let both = |host: &str, more: &[&str]| -> Vec<i32> {
        std::thread::scope(|scope| {
            let running: Vec<_> = artifacts
                .iter()
                .map(|artifact| scope.spawn(|| artifact.publish(host, more).code))
                .collect();
            running.into_iter().map(|r| r.join().unwrap()).collect()
        })
    };
    for _ in 0..5 {
        let registry = Registry::start();
        let host = registry.host();
        let codes = both(&host, &["--force"]);
        assert!(codes.iter().all(|c| *c == 0), "{codes:?}");
        assert!(registry.is_complete(REPOSITORY, TAG));
        let named = &registry.tags(REPOSITORY)[TAG];
        assert!(artifacts.iter().any(|a| a.digest == *named));
        for artifact in &artifacts {
            assert!(registry.is_complete(REPOSITORY, &artifact.digest));
        }

        // Without `--force` the one that is late may be refused, and both never are.
        let registry = Registry::start();
        let host = registry.host();
        let codes = both(&host, &[]);
        assert!(codes.contains(&0), "{codes:?}");
        assert!(registry.is_complete(REPOSITORY, TAG));
    }
}

#[test]
fn two_clients_and_the_same_artifact() {
    let artifact = Artifact::new(LARGE);
    for _ in 0..5 {
        let registry = Registry::start();
        let host = registry.host();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| artifact.publish(&host, &[]).exits(0));
            }
        });
        is_published(&artifact, &registry, "twice at once");
    }
}
