// SPDX-License-Identifier: Apache-2.0
use serde_json::json;

use super::*;

fn traits(instance_type: &str, labels: &[(&str, &str)]) -> NodeTraits {
    NodeTraits {
        instance_type: Some(instance_type.to_owned()),
        zone: Some("us-east-1a".to_owned()),
        labels: Some(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()),
    }
}

fn selector(value: &Value) -> Selector {
    let file = json!({ "classes": [{ "name": "c", "selector": value, "settings": {} }] });
    read_settings(&file).unwrap().remove(0).selector
}

fn mistakes(classes: Value) -> Vec<String> {
    let mistakes = read_settings(&json!({ "classes": classes })).expect_err(&classes_text(&classes));
    mistakes.iter().map(ToString::to_string).collect()
}

fn classes_text(classes: &Value) -> String {
    classes.to_string()
}

#[test]
fn a_file_is_read_in_its_order_with_values_of_every_type() {
    let file = json!({ "classes": [
        { "name": "large", "selector": { "instanceTypes": ["m5.24xlarge", "c5.*"] },
          "settings": { "WARM_IP_TARGET": 20, "ENABLE_PREFIX_DELEGATION": false, "WARM_ENI_TARGET": "" } },
        { "name": "all", "settings": {
            "ADDITIONAL_ENI_TAGS": { "team": "a" }, "ENID_SNAT_INCLUDE_CIDRS": ["10.0.0.0/8", "11.0.0.0/8"], "MAX_ENI": "3" } },
    ] });
    let classes = read_settings(&file).unwrap();
    let settings = |class: &Class| class.settings.clone().into_iter().collect::<Vec<_>>();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        settings(&classes[0]),
        [pair("ENABLE_PREFIX_DELEGATION", "false"), pair("WARM_ENI_TARGET", ""), pair("WARM_IP_TARGET", "20")]
    );
    assert_eq!(
        settings(&classes[1]),
        [
            pair("ADDITIONAL_ENI_TAGS", "{\"team\":\"a\"}"),
            pair("ENID_SNAT_INCLUDE_CIDRS", "10.0.0.0/8,11.0.0.0/8"),
            pair("MAX_ENI", "3"),
        ]
    );
    assert_eq!(classes[1].selector, Selector::default());
    assert_eq!(read_settings(&json!({ "classes": [] })), Ok(Vec::new()));
}

#[test]
fn a_node_is_of_a_class_when_all_that_is_named_fits() {
    let types = json!({ "instanceTypes": ["m5.24xlarge", "c5*.large"] });
    for (instance_type, fits) in [
        ("m5.24xlarge", Fit::Yes),
        ("m5.2xlarge", Fit::No),
        ("c5.large", Fit::Yes),
        ("c5n.large", Fit::Yes),
        ("c5.xlarge", Fit::No),
    ] {
        assert_eq!(selector(&types).fit(&traits(instance_type, &[])), fits, "{instance_type}");
    }
    let all =
        selector(&json!({ "instanceTypes": ["m5.*"], "zones": ["us-east-1*"], "labels": { "a": "b", "c": "d" } }));
    assert_eq!(all.fit(&traits("m5.large", &[("a", "b"), ("c", "d"), ("e", "f")])), Fit::Yes);
    assert_eq!(all.fit(&traits("m5.large", &[("a", "b")])), Fit::No);
    assert_eq!(all.fit(&traits("m5.large", &[("a", "b"), ("c", "x")])), Fit::No);
    assert_eq!(
        all.fit(&NodeTraits { zone: Some("us-east-2a".to_owned()), ..traits("m5.large", &[("a", "b"), ("c", "d")]) }),
        Fit::No
    );
    assert_eq!(Selector::default().fit(&NodeTraits::default()), Fit::Yes, "nothing is named");
}

#[test]
fn what_is_not_known_of_a_node_is_no_reason_to_take_it_for_fitting() {
    let both = selector(&json!({ "instanceTypes": ["m5.*"], "labels": { "a": "b" } }));
    let unlabelled = |instance_type: &str| NodeTraits { labels: None, ..traits(instance_type, &[]) };
    assert_eq!(both.fit(&NodeTraits::default()), Fit::Unknown);
    assert_eq!(both.fit(&unlabelled("m5.large")), Fit::Unknown);
    assert_eq!(both.fit(&unlabelled("c5.large")), Fit::No, "whatever its labels are");
}

#[test]
fn all_mistakes_of_a_file_are_named_with_their_class_also_in_classes_of_other_nodes() {
    let found = mistakes(json!([
        { "name": "one", "selectors": {}, "settings": { "WARM_IP_TARGETS": 5, "ENID_LAYOUT": "classic", "MAX_ENI": 0 } },
        { "name": "one", "selector": { "instanceTypes": [], "zones": "a", "labels": {} }, "settings": { "WARM_IP_TARGET": null } },
        { "selector": { "instanceType": ["m5.large"], "labels": { "large": true } }, "settings": [] },
        "x",
    ]));
    let wanted = [
        "class `one`: no such key `selectors`; there are name, selector, settings",
        "class `one`: ENID_LAYOUT takes effect only from the environment, at a start",
        "class `one`: MAX_ENI=`0`: a whole number from 1 to 1000 is allowed",
        "class `one`: no such variable `WARM_IP_TARGETS`; there are WARM_ENI_TARGET, ",
        "class `one`, selector: labels: names with their values are allowed, one at least",
        "class `one`, selector: instanceTypes: an empty list selects no node",
        "class `one`, selector: zones: a list of texts such as",
        "class `one`: WARM_IP_TARGET: a number, true, false or a text is allowed",
        "class `one`: another class before it has the same name",
        "class 3: name: a text that is not empty is needed",
        "class 3, selector: no such key `instanceType`; there are instanceTypes, zones, labels",
        "class 3, selector: labels: large: a text is allowed; put the value into quotes",
        "class 3: settings: variables with their values are allowed",
        "class 4: a map with name, selector, settings is allowed",
    ];
    for wanted in wanted {
        assert!(found.iter().any(|mistake| mistake.starts_with(wanted)), "{wanted}: {found:#?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
}

#[test]
fn a_file_of_another_shape_is_a_mistake_of_the_file() {
    for (file, named) in [
        (json!(null), "a map with classes"),
        (json!([]), "a map with classes"),
        (json!({}), "classes is missing"),
        (json!({ "classes": {} }), "a list of classes"),
        (json!({ "classes": [], "class": [] }), "no such key `class`"),
    ] {
        let mistakes = read_settings(&file).expect_err(&file.to_string());
        assert!(mistakes.len() == 1 && mistakes[0].to_string().starts_with("the file: "), "{mistakes:?}");
        assert!(mistakes[0].problem.contains(named), "{mistakes:?}");
    }
}

#[test]
fn a_star_is_any_text_and_many_of_them_take_no_time() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("**", "a", true),
        ("c5*.large", "c5n.large", true),
        ("c5*.large", "c5.large.large", true),
        ("c5*.large", "c5.large.", false),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("*ab*ab", "ab", false),
        ("*ab*ab", "abab", true),
        ("*a*b*", "xbxaxb", true),
        ("*b*a*", "xaxb", false),
        ("é*é", "éxé", true),
        ("c5", "c5.large", false),
    ] {
        assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
    }
    // With a try for every place this is 10^20 tries.
    assert!(!matches(&"*a".repeat(40), &format!("{}b", "a".repeat(200))));
}
