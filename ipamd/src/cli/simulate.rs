// SPDX-License-Identifier: Apache-2.0
//! `ipamd simulate`: what settings would cost on a trace of pods, before they are chosen. No AWS account, no kernel: the
//! real core against the VPC model, under a virtual clock (crate `ipamd-simulate`).
//!
//! A column is a set of settings as in the environment, for our daemon (`--with`) or for the model of the reference
//! (`--reference`). Nothing of this process's own environment counts.

#![expect(clippy::disallowed_methods, reason = "reads the trace and writes the plot")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use ipamd_core::Config;
use ipamd_core::config::{self, AddressMode, WarmTargets};
use ipamd_simulate::figures::{self, Column, ConfigError};
use ipamd_simulate::pods;
use ipamd_simulate::reference::{Mode, Settings, Targets};

/// What to simulate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// Type of the node.
    pub instance_type: String,
    /// The trace, CSV.
    pub pods: PathBuf,
    /// Columns in order: whose algorithm, and its settings as `NAME=value …`.
    pub columns: Vec<(Whose, String)>,
    /// Where the plot goes; `None`: nowhere.
    pub svg: Option<PathBuf>,
}

/// Variables that the model of the reference takes.
const KNOWN_TO_THE_REFERENCE: [&str; 9] = [
    "ENABLE_PREFIX_DELEGATION",
    "ENID_MAX_PODS",
    "HTTP_TIMEOUT",
    "IP_COOLDOWN_PERIOD",
    "MAX_ENI",
    "MINIMUM_IP_TARGET",
    "WARM_ENI_TARGET",
    "WARM_IP_TARGET",
    "WARM_PREFIX_TARGET",
];

/// Variables of ours that the simulated node does not follow: nobody else brings it ENIs, and its runtime waits as long as
/// containerd does.
const NOT_SIMULATED: [&str; 3] =
    ["DISABLE_NETWORK_RESOURCE_PROVISIONING", "ENABLE_IMDS_ONLY_MODE", "ENID_ADD_BUDGET_MS"];

/// Whose algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This daemon's.
    Ours,
    /// amazon-vpc-cni-k8s, as a model.
    Reference,
}

impl Simulation {
    /// The columns' configurations; defaults when there is none.
    ///
    /// # Errors
    /// Every mistake of every column.
    pub fn columns(&self) -> Result<Vec<Column>, Vec<String>> {
        let defaults = [(Whose::Ours, String::new())];
        let wanted = if self.columns.is_empty() { defaults.as_slice() } else { self.columns.as_slice() };
        let mut columns = Vec::new();
        let mut mistakes = Vec::new();
        for (whose, text) in wanted {
            match parse(*whose, text) {
                Ok(config) => columns.push(column(*whose, text, config)),
                Err(errors) => mistakes.extend(errors),
            }
        }
        if mistakes.is_empty() { Ok(columns) } else { Err(mistakes) }
    }
}

fn parse(whose: Whose, text: &str) -> Result<Config, Vec<String>> {
    let mut variables = BTreeMap::new();
    let mut mistakes = Vec::new();
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some((name, _)) if config::VARIABLES.iter().all(|variable| variable.name != name) => {
                mistakes.push(format!("{word}: no such variable"));
            }
            Some((name, _)) if whose == Whose::Reference && !KNOWN_TO_THE_REFERENCE.contains(&name) => {
                let known = KNOWN_TO_THE_REFERENCE.join(", ");
                mistakes.push(format!("{word}: the model of the reference takes only {known}"));
            }
            Some((name, _)) if NOT_SIMULATED.contains(&name) => {
                mistakes.push(format!("{word}: not simulated, its figures would be wrong"));
            }
            Some((name, value)) => {
                if variables.insert(name.to_owned(), value.to_owned()).is_some() {
                    mistakes.push(format!("{word}: {name} is given twice"));
                }
            }
            None => mistakes.push(format!("{word}: NAME=value is wanted")),
        }
    }
    match config::parse(&variables) {
        Ok((config, _)) if mistakes.is_empty() => Ok(config),
        Ok(_) => Err(mistakes),
        Err(errors) => Err(mistakes.into_iter().chain(errors.iter().map(ToString::to_string)).collect()),
    }
}

fn column(whose: Whose, text: &str, config: Config) -> Column {
    let settings = match (text.trim(), whose) {
        ("", Whose::Ours) => "adaptive (nothing set)",
        ("", Whose::Reference) => "nothing set",
        (settings, _) => settings,
    };
    match whose {
        Whose::Ours => Column::Ours(settings.to_owned(), Box::new(config)),
        Whose::Reference => Column::Reference(format!("reference: {settings}"), reference(&config)),
    }
}

/// The same settings as the reference understands them.
fn reference(config: &Config) -> Settings {
    let mut targets = Targets::default();
    match config.warm {
        // The reference's own defaults.
        WarmTargets::Adaptive => {}
        WarmTargets::Enis(enis) => targets.warm_enis = enis,
        WarmTargets::Prefixes(prefixes) => targets.warm_prefixes = prefixes,
        WarmTargets::Addresses { warm, minimum } => {
            targets.warm_addresses = warm;
            targets.minimum_addresses = minimum;
        }
    }
    let mode = match config.address_mode {
        AddressMode::SecondaryIps => Mode::Addresses,
        AddressMode::Prefixes { warm_prefixes } => {
            targets.warm_prefixes = warm_prefixes.unwrap_or(targets.warm_prefixes);
            Mode::Prefixes
        }
    };
    Settings {
        mode,
        targets,
        max_enis: config.max_enis,
        max_pods: config.max_pods,
        cooldown: config.cooldown,
        http_timeout: config.http_timeout,
        ..Settings::default()
    }
}

/// Runs every column and prints the table; writes the plot.
///
/// # Errors
/// The trace cannot be read, the type is not known, the plot cannot be written.
pub fn run(simulation: &Simulation, columns: &[Column], out: &mut dyn Write) -> Result<(), String> {
    let name = simulation.pods.display();
    let text = std::fs::read_to_string(&simulation.pods).map_err(|error| format!("reading {name}: {error}"))?;
    let pods = pods::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    let measured = columns
        .iter()
        .map(|column| figures::run(&simulation.instance_type, &pods, column))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| match error {
            ConfigError::InstanceType { instance_type, .. } => {
                format!("{instance_type}: no such instance type is known")
            }
            other => other.to_string(),
        })?;
    let title = format!("{}: {} pods of {name}", simulation.instance_type, pods.len());
    let table = format!("{title}\n\n{}", figures::table(&measured));
    out.write_all(table.as_bytes()).map_err(|error| format!("writing the table: {error}"))?;
    if let Some(path) = &simulation.svg {
        std::fs::write(path, figures::svg(&title, &measured))
            .map_err(|error| format!("writing {}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_settings_as_in_the_environment_and_every_mistake_is_told() {
        let mut simulation = Simulation {
            columns: vec![
                (Whose::Ours, "WARM_IP_TARGET=5 MINIMUM_IP_TARGET=10".to_owned()),
                (Whose::Reference, String::new()),
            ],
            ..Simulation::default()
        };
        let columns = simulation.columns().unwrap();
        let Column::Ours(name, config) = &columns[0] else { panic!("{columns:?}") };
        assert_eq!(name, "WARM_IP_TARGET=5 MINIMUM_IP_TARGET=10");
        assert_eq!(config.warm, WarmTargets::Addresses { warm: 5, minimum: 10 });
        assert!(matches!(&columns[1], Column::Reference(name, _) if name == "reference: nothing set"));
        simulation.columns = vec![(Whose::Ours, "WARM_IP_TARGET=x NONSENSE=1 alone".to_owned())];
        assert_eq!(simulation.columns().unwrap_err().len(), 3);
        simulation.columns = vec![(Whose::Ours, "MAX_ENI=2 MAX_ENI=3 ENABLE_IMDS_ONLY_MODE=true".to_owned())];
        let mistakes = simulation.columns().unwrap_err();
        assert!(mistakes.len() == 2 && mistakes[0].ends_with("given twice"), "{mistakes:?}");
        simulation.columns = vec![(Whose::Reference, "MAX_ENI=2 ENABLE_SUBNET_DISCOVERY=false".to_owned())];
        let mistakes = simulation.columns().unwrap_err();
        assert!(
            matches!(mistakes.as_slice(), [one] if one.starts_with("ENABLE_SUBNET_DISCOVERY=false: ")),
            "{mistakes:?}"
        );
    }

    #[test]
    fn a_type_that_nobody_knows_and_a_trace_that_is_none_are_told_in_the_users_words() {
        let folder = std::env::temp_dir().join(format!("enid-simulate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let pods = folder.join("pods.csv");
        let told = |instance_type: &str, text: &str| {
            std::fs::write(&pods, text).unwrap();
            let simulation =
                Simulation { instance_type: instance_type.to_owned(), pods: pods.clone(), ..Simulation::default() };
            run(&simulation, &simulation.columns().unwrap(), &mut Vec::new()).unwrap_err()
        };
        let name = pods.display().to_string();
        assert_eq!(told("m5.nonsense", "name,starts,ends\na,1,\n"), "m5.nonsense: no such instance type is known");
        assert_eq!(told("m5.large", "name,starts,ends\n"), format!("{name}: line 1: no pod follows the header"));
        assert_eq!(
            told("m5.large", "name,starts,ends\na,1,x\n"),
            format!("{name}: line 2: `x` is no time in seconds (empty: the pod stays)")
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
