// SPDX-License-Identifier: Apache-2.0
//! The file that may change the lists of blocks while the daemon runs (`ENID_SNAT_FILE`): text to lists, or all mistakes.
//!
//! JSON, such as a key of a mounted ConfigMap. A list that is there takes the place of the variable's; one that is not there
//! leaves it. Reading the file, again and again, is the daemon's business.
//!
//! ```text
//! { "exclude": ["192.168.0.0/16"], "include": ["198.51.100.0/24"], "external_services": ["172.20.0.0/16"] }
//! ```

use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::NatBlocks;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    exclude: Option<Vec<String>>,
    include: Option<Vec<String>>,
    external_services: Option<Vec<String>>,
}

/// The lists, where the file has any, else those of `variables`.
///
/// # Errors
/// All mistakes in one text.
pub fn parse_nat_file(text: &str, variables: &NatBlocks) -> Result<NatBlocks, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut mistakes = Vec::new();
    if file.include.as_ref().is_some_and(Vec::is_empty) {
        mistakes.push(
            "include: an empty list would translate nothing; leave it out to translate everything outside the VPC, or \
             set AWS_VPC_K8S_CNI_EXTERNALSNAT"
                .to_owned(),
        );
    }
    let mut list = |name: &str, found: Option<Vec<String>>, default: &[Ipv4Net]| match found {
        Some(texts) => blocks(name, &texts, &mut mistakes),
        None => default.to_vec(),
    };
    let blocks = NatBlocks {
        exclude: list("exclude", file.exclude, &variables.exclude),
        include: list("include", file.include, &variables.include),
        external_services: list("external_services", file.external_services, &variables.external_services),
    };
    if mistakes.is_empty() { Ok(blocks) } else { Err(mistakes.join("; ")) }
}

fn blocks(name: &str, texts: &[String], mistakes: &mut Vec<String>) -> Vec<Ipv4Net> {
    let mut blocks = Vec::new();
    for text in texts {
        match Ipv4Net::from_str(text.trim()) {
            Ok(block) => blocks.push(block.trunc()),
            Err(_) => mistakes.push(format!("{name}: `{text}` is no IPv4 block such as 10.0.0.0/8")),
        }
    }
    blocks.sort();
    blocks.dedup();
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_list_of_the_file_takes_the_place_of_the_variable_s_and_no_other() {
        let variables =
            NatBlocks { exclude: nets(&["10.1.0.0/16"]), include: nets(&["10.2.0.0/16"]), ..NatBlocks::default() };
        assert_eq!(parse_nat_file("{}", &variables), Ok(variables.clone()));
        let wanted = NatBlocks { exclude: nets(&["10.0.0.0/8", "192.168.0.0/16"]), ..variables.clone() };
        let text = r#"{"exclude": ["192.168.7.1/16", " 10.0.0.0/8 ", "10.0.0.0/8"]}"#;
        assert_eq!(parse_nat_file(text, &variables), Ok(wanted));
        let none = NatBlocks { exclude: Vec::new(), ..variables.clone() };
        assert_eq!(parse_nat_file(r#"{"exclude": []}"#, &variables), Ok(none), "nothing is excluded any more");
    }

    #[test]
    fn all_mistakes_are_named_in_one_text() {
        let text = r#"{"exclude": ["fd00::/8"], "include": [], "external_services": ["10.0.0.0/33"]}"#;
        let error = parse_nat_file(text, &NatBlocks::default()).unwrap_err();
        for part in ["exclude: `fd00::/8`", "include: an empty list", "external_services: `10.0.0.0/33`"] {
            assert!(error.contains(part), "{error}");
        }
        for text in ["", "[]", r#"{"excluded": []}"#, r#"{"exclude": "10.0.0.0/8"}"#] {
            assert!(parse_nat_file(text, &NatBlocks::default()).is_err(), "{text}");
        }
    }
}
