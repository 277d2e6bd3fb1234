// SPDX-License-Identifier: Apache-2.0
//! From a source of variables to the configuration, or all mistakes at once.

use std::time::Duration;

use super::read::{Reader, parse_bool};
use super::variable::{Support, Variable, Verdict};
use super::variables::VARIABLES;
use super::{Config, ConfigError, Note, Source, UntaggedEnis, fields, kubernetes, proxy};

/// Longest cooldown that is taken: a day. More is a mistake of unit.
const LONGEST_COOLDOWN_SECONDS: u32 = 86_400;
/// Longest time limit of one request: an hour.
const LONGEST_HTTP_TIMEOUT_SECONDS: u32 = 3_600;

/// Reads every variable. `Ok`: the configuration and what the operator should know about accepted settings without effect.
///
/// # Errors
/// Every mistake of the source, in the order of [`VARIABLES`]' reading; never empty.
pub fn parse(source: &dyn Source) -> Result<(Config, Vec<Note>), Vec<ConfigError>> {
    let mut reader = Reader::new(source);
    let config = read_config(&mut reader);
    fields::note_idle(&mut reader, &config);
    fields::refuse_clashes(&mut reader, &config);
    for variable in VARIABLES {
        judge(&mut reader, variable);
    }
    refuse_unknown(&mut reader, source);
    if reader.errors.is_empty() { Ok((config, reader.notes)) } else { Err(reader.errors) }
}

fn read_config(reader: &mut Reader<'_>) -> Config {
    let default = Config::default();
    let warm = fields::warm_targets(reader);
    let snat = fields::snat(reader);
    let eni_mtu = reader.number("AWS_VPC_ENI_MTU", 576, 9001).unwrap_or(default.eni_mtu);
    let (pod_mtu, external_mtu) = fields::mtus(reader, eni_mtu);
    let seconds = |number: u32| Duration::from_secs(u64::from(number));
    let imds_endpoint = fields::url(reader, &["AWS_EC2_METADATA_SERVICE_ENDPOINT"]);
    Config {
        address_mode: fields::address_mode(reader, warm),
        warm,
        max_enis: fields::max_enis(reader),
        max_pods: fields::max_pods(reader),
        cooldown: reader.number("IP_COOLDOWN_PERIOD", 0, LONGEST_COOLDOWN_SECONDS).map_or(default.cooldown, seconds),
        untagged_enis: if reader.boolean("MANAGE_UNTAGGED_ENI", true) {
            UntaggedEnis::Used
        } else {
            UntaggedEnis::LeftAlone
        },
        cluster_name: reader.text("CLUSTER_NAME"),
        additional_eni_tags: fields::additional_tags(reader),
        subnets: fields::subnets(reader),
        provisioning: fields::provisioning(reader),
        provisions_when_cordoned: reader.boolean("AWS_MANAGE_ENIS_NON_SCHEDULABLE", false),
        leaked_eni_age: fields::leaked_eni_age(reader, default.leaked_eni_age),
        keeps_trunk_slot: reader.boolean("ENABLE_POD_ENI", false),
        layout: fields::layout(reader, default.layout),
        eni_mark_mask: fields::eni_mark_mask(reader, default.eni_mark_mask, snat.connmark),
        snat,
        eni_mtu,
        pod_mtu,
        external_mtu,
        v6_egress: reader.boolean("ENABLE_V6_EGRESS", false),
        disables_early_demux: reader.boolean("DISABLE_TCP_EARLY_DEMUX", false),
        notrack: reader.boolean("ENID_NOTRACK", false),
        service_host: reader.text("KUBERNETES_SERVICE_HOST"),
        runtime: fields::runtime(reader),
        settings_file: fields::optional_path(reader, "ENID_SETTINGS_FILE"),
        kubernetes: kubernetes::read(reader),
        veth_prefix: fields::veth_prefix(reader, &default.veth_prefix),
        journal: fields::path(reader, "AWS_VPC_K8S_CNI_BACKING_STORE", default.journal),
        socket: fields::path(reader, "ENID_SOCKET", default.socket),
        log: fields::log(reader, default.log),
        introspection: fields::introspection(reader, default.introspection),
        page: reader.boolean("ENID_PAGE", true),
        metrics: fields::metrics(reader, default.metrics),
        http_timeout: reader
            .number("HTTP_TIMEOUT", 10, LONGEST_HTTP_TIMEOUT_SECONDS)
            .map_or(default.http_timeout, seconds),
        ec2_endpoint: fields::url(reader, &["AWS_EC2_ENDPOINT", "AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"]),
        proxies: proxy::read(reader, imds_endpoint.as_deref()),
        imds_endpoint,
        ca_bundle: fields::optional_path(reader, "AWS_CA_BUNDLE"),
        cni: fields::cni_files(reader, default.cni),
        policy_mode: fields::policy_mode(reader),
    }
}

/// The verdict on a variable that is not honoured yet.
fn judge(reader: &mut Reader<'_>, variable: &'static Variable) {
    let Support::ByValue(cases) = variable.support else { return };
    let Some(text) = reader.text(variable.name) else { return };
    let value = if variable.kind == "boolean" {
        match parse_bool(&text) {
            Some(flag) => flag.to_string(),
            None => {
                reader.error(variable.name, &text, "not a boolean: true or false");
                return;
            }
        }
    } else {
        text.to_ascii_lowercase()
    };
    let verdict = cases.iter().find(|(case, _)| *case == "*" || *case == value).map(|(_, verdict)| *verdict);
    match verdict {
        Some(Verdict::Same) | None => {}
        Some(Verdict::Noted(note)) => reader.note(variable.name, format!("{text} is accepted, but {note}")),
        Some(Verdict::Refused(problem)) => reader.error(variable.name, &text, problem),
    }
}

/// A variable in our own name space that we do not know is a typing mistake.
fn refuse_unknown(reader: &mut Reader<'_>, source: &dyn Source) {
    let mut unknown: Vec<String> = source
        .names()
        .into_iter()
        .filter(|name| name.starts_with("ENID_") && VARIABLES.iter().all(|variable| variable.name != name))
        .collect();
    unknown.sort();
    for name in unknown {
        let value = source.get(&name).unwrap_or_default();
        let known: Vec<&str> =
            VARIABLES.iter().map(|variable| variable.name).filter(|known| known.starts_with("ENID_")).collect();
        reader.error(&name, &value, format!("no such variable; there are {}", known.join(", ")));
    }
}
