// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;

use super::*;

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
