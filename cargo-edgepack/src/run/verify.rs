//! Glue for what must hold of artifacts before they are used.

use std::path::{Path, PathBuf};

use edgepack::environment;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::oci::Digest;
use edgepack::output;
use edgepack::plan::CargoFlags;
use edgepack::policy::{self, Policy};
use edgepack::project::Project;
use edgepack::pull::Source;
use edgepack::registry::http::{Client, block_on};
use edgepack::registry::reference::{LAYOUT_PREFIX, Reference};
use edgepack::sign::attestation::Kind;
use edgepack::sign::source::KeySource;
use edgepack::sign::trust::Spec;
use edgepack::sign::verify::{self, Outcome};

use super::App;
pub(super) use super::sign_file::file;
use crate::cli::{self, Verify};

/// A policy is no larger.
const MAX_POLICY: u64 = 1 << 20;

/// What must hold.
pub(super) struct Demands {
    spec: Spec,
    require: Vec<Kind>,
    policy: Option<Policy>,
}

/// `--policy` takes a file, and need not: what follows it may as well be the artifact.
pub(super) fn is_reference(value: &str) -> bool {
    let file = Path::new(value);
    let artifact = value.starts_with(LAYOUT_PREFIX) || Reference::parse(value).is_ok();
    // Whatever files there are: a folder of somebody else's decides nothing.
    artifact && file.extension().is_none_or(|e| e != "toml")
}

impl App {
    /// Reads what flags say, and the policy.
    pub(super) fn demands(&self, flags: &cli::Demands) -> Result<Demands, Error> {
        let spec = spec(&flags.trust)?;
        let policy = match &flags.policy {
            Some(_) if spec.is_some() => {
                return Err(Error::usage(
                    "it is either --policy that says who must have signed, or other flags, not both",
                ));
            }
            Some(file) if is_reference(file) && Path::new(file).is_file() => {
                return Err(Error::Usage {
                    message: format!(
                        "`--policy {file}`: there is such a file, and it reads as an artifact too"
                    ),
                    hint: Some(format!(
                        "write --policy ./{file} for the file; for the artifact, --policy {} before it",
                        policy::FILE
                    )),
                });
            }
            Some(file) if file.is_empty() || is_reference(file) => Some(self.own_policy()?),
            Some(file) => Some(read_policy(Path::new(file))?),
            None => None,
        };
        let policy = match (policy, environment::trusted_root()?) {
            (Some(policy), Some(root)) => Some(policy.trusting(&root)),
            (policy, _) => policy,
        };
        if policy.is_none() && !spec.is_some() && !flags.require.is_empty() {
            return Err(Error::Usage {
                message: "--require says what must be attested, and nothing says by whom".into(),
                hint: Some("name a public key with --key, or a policy with --policy".into()),
            });
        }
        Ok(Demands {
            spec,
            require: flags.require.clone(),
            policy,
        })
    }

    /// The policy of the current folder: a file, else a table of the project.
    fn own_policy(&self) -> Result<Policy, Error> {
        let file = Path::new(policy::FILE);
        // A link that leads nowhere is no reason to ask somebody else.
        if file.symlink_metadata().is_ok() {
            return read_policy(file);
        }
        let none = || Error::Usage {
            message: format!(
                "there is no policy: neither {} in this folder nor verify.rules in Cargo.toml",
                policy::FILE
            ),
            hint: Some("name its file with --policy FILE; docs/policy.md has examples".into()),
        };
        let here = std::env::current_dir().map_err(Error::io("resolve", "."))?;
        if !here.ancestors().any(|dir| dir.join("Cargo.toml").is_file()) {
            return Err(none());
        }
        let project = Project::load(&CargoFlags::default(), &self.cancel)?;
        let config = match project.default[..] {
            [only] => project.config_of(&project.metadata.packages[only])?,
            _ => project.config,
        };
        let policy = Policy {
            rules: config.verify.rules.ok_or_else(none)?,
        };
        policy.check_files(Path::new("verify.rules"))?;
        Ok(policy)
    }

    pub(super) fn verify(&self, flags: &Verify) -> Result<u8, Error> {
        if flags.embedded {
            return self.verify_embedded(flags);
        }
        let demands = self.demands(&flags.demands)?;
        let swallowed = flags
            .demands
            .policy
            .iter()
            .filter(|value| is_reference(value));
        let references: Vec<&String> = swallowed.chain(&flags.references).collect();
        if references.is_empty() {
            return Err(Error::Usage {
                message: "there is no artifact to verify".into(),
                hint: Some("name it: cargo edgepack verify --policy HOST/PATH:TAG".into()),
            });
        }
        if flags.bundle.is_some() && references.len() > 1 {
            return Err(Error::usage("--bundle goes with one file"));
        }
        let several = references.len() > 1;
        let mut code = exit_code::OK;
        for reference in references {
            let one = self.verify_one(reference, &demands, flags);
            match one {
                Ok(_) => {}
                // The others are looked at too; the first failure decides.
                Err(error) if several && !matches!(error, Error::Interrupted) => {
                    self.printer.error(&error);
                    if code == exit_code::OK {
                        code = error.exit_code();
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(code)
    }

    fn verify_one(&self, reference: &str, demands: &Demands, flags: &Verify) -> Result<u8, Error> {
        if let Some(file) = file(reference) {
            if demands.policy.is_some() || !demands.require.is_empty() {
                return Err(Error::Usage {
                    message: "--policy and --require are about artifacts, not about files".into(),
                    hint: Some(
                        "pull --policy writes nothing that the policy does not allow".into(),
                    ),
                });
            }
            let client = self.client(self.options(&flags.access)?)?;
            let trust = block_on(&self.cancel, demands.spec.open(&client))?;
            return self.verify_file(file, &trust, flags);
        }
        if flags.bundle.is_some() {
            return Err(Error::usage("--bundle goes with a file"));
        }
        let client = self.client_for(reference, &flags.access)?;
        let (name, digest, outcome) = block_on(&self.cancel, async {
            let mut source = Source::parse(reference, &client)?;
            let Some((digest, outcome)) = demands.check(&mut source, &client).await? else {
                // Says what is missing.
                let missing = demands.spec.open(&client).await.err();
                let other = || Error::usage("nothing says who must have signed");
                return Err(missing.unwrap_or_else(other));
            };
            Ok((source.name(&digest), digest, outcome))
        })?;
        self.printer.verified(&name, &outcome);
        if flags.json {
            self.printer.json(&serde_json::json!({
                "reference": name,
                "digest": digest,
                "signature": outcome.signature,
                "attestations": attestations(&outcome),
            }))?;
        } else {
            self.printer.data(format!("{name}\n").as_bytes())?;
        }
        Ok(exit_code::OK)
    }
}

impl Demands {
    /// The files that say what must hold.
    pub(super) fn files(&self, flags: &cli::Demands) -> Vec<PathBuf> {
        let rules = || self.policy.iter().flat_map(|policy| &policy.rules);
        let keys = rules().flat_map(|rule| rule.key.iter().chain(rule.keys.iter().flatten()));
        let keys = keys.chain(&self.spec.key).map(|key| KeySource::parse(key));
        let keys = keys.filter_map(|key| Some(key.ok()?.file()?.to_owned()));
        let roots = rules().filter_map(|rule| rule.trusted_root.clone());
        let roots = roots.chain(self.spec.trusted_root.clone());
        let policy = flags.policy.as_ref().map(|named| {
            let own = named.is_empty() || is_reference(named);
            PathBuf::from(if own { policy::FILE } else { named })
        });
        keys.chain(roots).chain(policy).collect()
    }

    /// Checks what a source stands for, which names a digest afterwards; nothing where
    /// nothing is demanded.
    pub(super) async fn check(
        &self,
        source: &mut Source,
        client: &Client,
    ) -> Result<Option<(Digest, Outcome)>, Error> {
        let mut require = self.require.clone();
        let trusted = match &self.policy {
            Some(policy) => {
                let rule = policy.rule_for(&source.place().name())?;
                require.extend(rule.require.iter().flatten());
                rule.open(client).await?
            }
            None if self.spec.is_some() => vec![self.spec.open(client).await?],
            None => return Ok(None),
        };
        require.sort_unstable();
        require.dedup();
        let (manifest, bytes) = source.pin().await?;
        let place = source.place();
        let checked = verify::verify_all(place, &manifest.digest, &bytes, &require, &trusted);
        Ok(Some((manifest.digest.clone(), checked.await?)))
    }
}

/// Whose signatures shall count: flags over variables.
fn spec(flags: &cli::TrustFlags) -> Result<Spec, Error> {
    let mut spec = flags.spec();
    if spec.is_some() && spec.key.is_none() && spec.trusted_root.is_none() {
        spec.trusted_root = environment::trusted_root()?;
    }
    Ok(spec)
}

/// What was found, for machines.
pub(super) fn attestations(outcome: &Outcome) -> serde_json::Value {
    let entry = |(kind, verified): &(Kind, verify::Verified)| {
        let mut entry = serde_json::json!({
            "kind": kind,
            "predicate_type": kind.predicate_type(),
        });
        if let (Some(all), Ok(serde_json::Value::Object(verified_json))) =
            (entry.as_object_mut(), serde_json::to_value(verified))
        {
            all.extend(verified_json);
            for (name, value) in kind.facts(&verified.predicate) {
                all.insert(name.to_owned(), value);
            }
        }
        entry
    };
    outcome.attestations.iter().map(entry).collect()
}

fn read_policy(file: &Path) -> Result<Policy, Error> {
    let bytes = output::read_small(file, MAX_POLICY)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Config {
        manifest: file.to_owned(),
        message: "it is no UTF-8".into(),
        hint: None,
    })?;
    let path: PathBuf = std::path::absolute(file).map_err(Error::io("resolve", file))?;
    let policy = Policy::parse(&text, &path)?;
    policy.check_files(&path)?;
    Ok(policy)
}
