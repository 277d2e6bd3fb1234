// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;

use super::*;
use crate::core::Purpose;
use crate::event::{Failure, FailureClass};

#[test]
fn every_code_has_its_own_entry_with_all_that_an_operator_needs() {
    let mut meanings = BTreeSet::new();
    for code in ReasonCode::ALL {
        let entry = code.entry();
        assert_eq!(entry.code, *code);
        assert_eq!(entry.meaning, code.meaning());
        assert!(entry.meaning.ends_with('.') && !entry.meaning.contains("  "), "{code}: {}", entry.meaning);
        assert!(!entry.meaning.trim_end_matches('.').contains(". "), "{code}: one sentence: {}", entry.meaning);
        assert!(meanings.insert(entry.meaning), "{code} means what another does");
        assert!(!entry.numbers.is_empty() && !entry.numbers.ends_with('.'), "{code}: {}", entry.numbers);
        assert!(entry.remedy.ends_with('.'), "{code}: {}", entry.remedy);
        let works_on_nothing =
            matches!(entry.kind, ReasonKind::Refusal | ReasonKind::Degraded) && entry.remedy == "Nothing.";
        assert!(!works_on_nothing, "{code} says nothing to do");
        let between = [ReasonCode::Stopping, ReasonCode::UnknownCode];
        assert_eq!(entry.shows.is_empty(), between.contains(code), "{code} shows where?");
    }
}

#[test]
fn a_code_is_written_and_read_by_its_name() {
    for code in ReasonCode::ALL {
        assert_eq!(code.to_string().parse::<ReasonCode>(), Ok(*code));
        let json = serde_json::to_string(code).unwrap();
        assert_eq!(json, format!("\"{code}\""));
        assert_eq!(serde_json::from_str::<ReasonCode>(&json).unwrap(), *code);
    }
    assert_eq!(format!("{:<10}|", ReasonCode::NodeFull), "NodeFull  |");
    assert_eq!("nodefull".parse::<ReasonCode>().unwrap_err().to_string(), "there is no reason code \"nodefull\"");
}

/// `ipamd status` of an older version asks a newer daemon.
#[test]
fn a_code_of_another_version_is_read_as_unknown() {
    assert_eq!(serde_json::from_str::<ReasonCode>("\"OfNextYear\"").unwrap(), ReasonCode::UnknownCode);
    assert_eq!(serde_json::from_value::<ReasonCode>("OfNextYear".into()).unwrap(), ReasonCode::UnknownCode);
    assert!(serde_json::from_str::<ReasonCode>("7").is_err());
}

fn failure(class: FailureClass, code: &str) -> Failure {
    Failure { class, code: code.to_owned(), message: "m".to_owned(), retry_after: None }
}

#[test]
fn every_class_of_failure_has_a_code_of_its_own() {
    use FailureClass::{Transient, Unknown};
    let classes: Vec<_> = FailureClass::ALL.into_iter().filter(|class| *class != Unknown).collect();
    let codes: BTreeSet<ReasonCode> = classes.iter().map(|class| reason_of(&failure(*class, "EC2's"), None)).collect();
    assert_eq!(codes.len(), classes.len(), "{codes:?}");
    // No answer, and one that says no more than that it could not: the same cause.
    assert_eq!(reason_of(&failure(Unknown, ""), None), reason_of(&failure(Transient, ""), None));
}

#[test]
fn what_fails_on_the_node_is_told_apart_by_what_was_to_be_done() {
    let kernel = failure(FailureClass::Kernel, "EINVAL");
    let of = |what: &Purpose| reason_of(&kernel, Some(what));
    assert_eq!(of(&Purpose::Host), ReasonCode::HostSetupFailed);
    assert_eq!(of(&Purpose::Repair), ReasonCode::RepairFailed);
    assert_eq!(of(&Purpose::Observe), ReasonCode::KernelUnreadable);
    assert_eq!(of(&Purpose::Flush { addresses: 1 }), ReasonCode::FlushFailed);
    assert_eq!(of(&Purpose::Configure { eni_id: "eni-1".into() }), ReasonCode::EniStuck);
    assert_eq!(of(&Purpose::Deconfigure { eni_id: "eni-1".into() }), ReasonCode::KernelRefused);
    let silent = failure(FailureClass::Transient, "Unavailable");
    assert_eq!(reason_of(&silent, Some(&Purpose::Sandboxes)), ReasonCode::RuntimeUnavailable);
    let missing = failure(FailureClass::LinkMissing, "");
    assert_eq!(reason_of(&missing, Some(&Purpose::Configure { eni_id: "eni-1".into() })), ReasonCode::EniPending);
}

/// Metadata in EC2's place, a journal that could not be written: the edge knows the cause by name.
#[test]
fn an_edge_that_names_a_code_is_believed() {
    for code in [ReasonCode::ImdsUnavailable, ReasonCode::StateNotDurable] {
        assert_eq!(reason_of(&failure(FailureClass::Transient, code.name()), Some(&Purpose::Describe)), code);
    }
}
