//! Glue for finding the place of each artifact that is published: known before anything
//! is built, so that two which would meet cost nobody minutes of building.

use edgepack::config::{PublishConfig, SignConfig};
use edgepack::destination::{
    Artifact, Destination, Need, Overrides, Place, name_entries, refuse_collisions,
};
use edgepack::error::Error;
use edgepack::pack::{Variant, Variants};
use edgepack::plan::{CargoFlags, PackagePlan};
use edgepack::registry::reference::LAYOUT_PREFIX;

use crate::cli::Publish;

/// A package, or a file, before anything is compiled.
pub(super) struct Asked<'a> {
    pub publish: &'a PublishConfig,
    pub sign: &'a SignConfig,
    /// What is sure to be made of it, as far as that is looked at package by package.
    pub artifacts: Vec<Foreseen>,
}

impl<'a> Asked<'a> {
    /// A package, and the names of what is sure to be made of it.
    pub fn of_package(package: &'a PackagePlan, names: &[String]) -> Self {
        let version = Some(package.metadata.version.as_str());
        let variants = &package.settings.variants;
        Asked {
            publish: &package.publish,
            sign: &package.sign,
            artifacts: names
                .iter()
                .flat_map(|name| Foreseen::all(name, version, variants))
                .collect(),
        }
    }
}

/// What decides where an artifact goes, whether it is there already or not.
#[derive(Clone, Debug)]
pub(super) struct Foreseen {
    pub name: String,
    pub version: Option<String>,
    pub variant: Option<Variant>,
    /// Whether the same run publishes it in other forms too.
    pub one_of_several: bool,
    /// Whether its version is the name of a tag that moves.
    pub moves: bool,
}

impl Foreseen {
    /// What is going to be made under a name: one artifact for each variant.
    pub fn all<'a>(
        name: &'a str,
        version: Option<&'a str>,
        variants: &'a Variants,
    ) -> impl Iterator<Item = Foreseen> + use<'a> {
        let variants = variants.as_slice();
        variants.iter().map(move |&variant| Foreseen {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            variant: Some(variant),
            one_of_several: variants.len() > 1,
            moves: false,
        })
    }

    fn artifact(&self) -> Artifact<'_> {
        Artifact {
            name: &self.name,
            version: self.version.as_deref(),
            variant: self.variant,
            one_of_several: self.one_of_several,
            moves: self.moves,
        }
    }
}

/// Finds the places of all artifacts of a run.
pub(super) struct Placing {
    pub overrides: Overrides,
    pub need: Need,
}

impl Placing {
    pub fn destination(&self, config: &PublishConfig) -> Result<Destination, Error> {
        Destination::new(&self.overrides, config, self.need)
    }

    /// The places, in the order of the artifacts. Each comes with what tells it from
    /// others: two that differ in it must not meet.
    pub fn place<T: PartialEq + Clone>(
        &self,
        artifacts: &[(&Foreseen, &PublishConfig, T)],
    ) -> Result<Vec<Place>, Error> {
        let mut places = Vec::with_capacity(artifacts.len());
        for (artifact, config, _) in artifacts {
            places.push(self.destination(config)?.place(artifact.artifact())?);
        }
        if self.need == Need::None {
            let names = artifacts.iter().map(|(a, ..)| a.artifact());
            name_entries(names.zip(&mut places));
        }
        let all = artifacts.iter().zip(&places);
        refuse_collisions(all.map(|((a, _, this), place)| (a.name.as_str(), place, this.clone())))?;
        Ok(places)
    }

    /// Says of packages that are going to be built what would go wrong later.
    pub fn foresee(&self, packages: &[Asked<'_>]) -> Result<(), Error> {
        let all = packages
            .iter()
            .flat_map(|p| p.artifacts.iter().map(|a| (a, p.publish)));
        let all: Vec<_> = all
            .enumerate()
            .map(|(n, (a, config))| (a, config, n))
            .collect();
        self.place(&all).map(drop)
    }
}

/// Where a repository may be named for what is published.
pub(super) fn need(flags: &Publish, cargo: &CargoFlags) -> Need {
    let is_layout = |source: &String| source.starts_with(LAYOUT_PREFIX);
    if flags.publishing.oci_layout.is_some() {
        Need::None
    } else if flags.sources.iter().any(is_layout) {
        Need::Layout
    } else if flags.sources.is_empty() || cargo.manifest_path.is_some() {
        Need::Configured
    } else {
        Need::File
    }
}
