// SPDX-License-Identifier: Apache-2.0
//! The whole derivation on a miniature SDK, and what each kind of damage to it looks like.

use super::*;
use crate::build::compare;
use crate::miniature::sdk;
use crate::ours::{catalog, wanted};
use crate::reach::{Wanted, reach};

fn called() -> (Wanted, Wanted) {
    let ours = Source::from([("ec2.rs".to_owned(), "fn f() {\n    client.describe_tags().send();\n}\n".to_owned())]);
    let all = catalog(&sdk()).unwrap();
    (wanted(&ours, &all), all)
}

fn slim() -> Source {
    let full = sdk();
    trim(&full, &reach(&full, &called().0).unwrap()).unwrap()
}

#[test]
fn what_the_action_refers_to_stays_word_for_word_and_the_rest_goes() {
    let (full, slim) = (sdk(), slim());
    for path in [
        "operation/describe_tags.rs",
        "operation/describe_tags/builders.rs",
        "client/describe_tags.rs",
        "types/_tag.rs",
        "types/_filter.rs",
        "protocol_serde/shape_tag.rs",
        "config.rs",
        "client/customize.rs",
    ] {
        assert_eq!(slim.get(path), full.get(path), "{path}");
    }
    for path in [
        "operation/stop_things.rs",
        "client/stop_things.rs",
        "types/_thing.rs",
        "protocol_serde/shape_thing.rs",
        "waiters.rs",
        "waiters/stopped.rs",
    ] {
        assert!(!slim.contains_key(path), "{path}");
    }
}

#[test]
fn indexes_keep_exactly_the_items_of_what_stays() {
    let slim = slim();
    for (path, kept, gone) in [
        ("lib.rs", "pub mod types;", "pub mod waiters;"),
        ("client.rs", "mod describe_tags;", "Waiters"),
        ("client.rs", "pub mod customize;", "mod stop_things;"),
        ("error_meta.rs", "DescribeTagsError", "StopThingsError"),
        ("lens.rs", "reflens_describe_tags", "reflens_stop_things"),
        ("operation.rs", "pub mod describe_tags;", "stop_things"),
        ("operation.rs", "RequestId", "StopThings"),
        ("protocol_serde.rs", "fn type_erase", "shape_thing"),
        ("serde_util.rs", "tag_correct_errors", "thing_correct_errors"),
        ("types.rs", "mod _filter;", "_thing"),
        ("types.rs", "pub mod builders;", "_thing"),
        ("types/builders.rs", "TagBuilder", "ThingBuilder"),
    ] {
        assert!(slim[path].contains(kept), "{path} lacks {kept}:\n{}", slim[path]);
        assert!(!slim[path].contains(gone), "{path} has {gone}:\n{}", slim[path]);
    }
    assert!(slim["lib.rs"].starts_with("// A copy of aws-sdk-ec2"), "a changed file says so");
}

#[test]
fn to_its_callers_the_copy_is_the_full_crate() {
    let (wanted, all) = called();
    compare(&sdk(), &slim(), &wanted, &all).unwrap();
}

#[test]
fn a_copy_that_lacks_or_adds_anything_public_is_found_out() {
    let (wanted, all) = called();
    for (path, from, to, tells) in [
        ("types.rs", "pub use crate::types::_filter::Filter;\n", "", "no export of Filter"),
        ("types/_filter.rs", "    pub name: u8,\n", "", "- types/_filter.rs: pub name: u8,"),
        ("types/_tag.rs", "pub key: u8", "pub key: u16", "+ types/_tag.rs: pub key: u16,"),
        (
            "error_meta.rs",
            "impl From<crate::operation::describe_tags::DescribeTagsError> for Error {",
            "impl Error {",
            "DescribeTagsError",
        ),
        ("operation.rs", "pub mod describe_tags;\n", "", "- operation.rs: pub mod describe_tags;"),
        ("client.rs", "pub fn from_conf", "fn from_conf", "from_conf"),
    ] {
        let mut slim = slim();
        let text = slim.get_mut(path).unwrap();
        assert!(text.contains(from), "{path} has no {from}");
        *text = text.replace(from, to);
        let error = compare(&sdk(), &slim, &wanted, &all).unwrap_err().to_string();
        assert!(error.contains(tells), "{path} without {from}: {error}");
    }
}

#[test]
fn a_copy_with_a_word_of_its_own_is_found_out() {
    is_word_for_word(&sdk(), &slim()).unwrap();
    for (path, from, to) in [
        ("config.rs", "struct Config", "struct Config2"),
        ("types/_tag.rs", "pub key: u8", "key: u8"),
        ("protocol_serde/shape_tag.rs", "default()", "new()"),
        ("lens.rs", "input: &crate", "input: crate"),
        ("lib.rs", "deprecated", "dead_code"),
        ("client.rs", "mod describe_tags;\n", "mod describe_tags;\nmod other;\n"),
        ("operation/describe_tags.rs", "pub mod builders;\n", ""),
    ] {
        let mut slim = slim();
        let text = slim.get_mut(path).unwrap();
        assert!(text.contains(from), "{path} has no {from}");
        *text = text.replace(from, to);
        let error = is_word_for_word(&sdk(), &slim).unwrap_err().to_string();
        assert!(error.contains(path), "{path} with {to}: {error}");
    }
}

#[test]
fn a_layout_that_is_not_known_is_refused() {
    let (wanted, _) = called();
    for (path, text, tells) in [
        ("auth_plugin.rs", "pub struct Auth;\n", "auth_plugin.rs"),
        ("operation/describe_tags.rs", "use crate::paging::Pager;\n", "crate::paging::Pager"),
        ("operation/describe_tags.rs", "use crate::{types::Tag};\n", "a path of no known kind"),
        ("operation/describe_tags.rs", "fn f(x: crate::types::Absent) {}\n", "crate::types::Absent"),
        ("operation/describe_tags.rs", "fn f(x: crate::operation::stop_things::StopThingsOutput) {}\n", "not called"),
        ("types.rs", "pub use crate::types::_tag::{\n", "without an end"),
        ("config.rs", "use crate::waiters::stopped::Builder;\n", "waiter"),
    ] {
        let mut sdk = sdk();
        sdk.insert(path.into(), text.into());
        let error = reach(&sdk, &wanted).unwrap_err().to_string();
        assert!(error.contains(tells) && error.contains("SDK=full"), "{path}: {error}");
    }
}
