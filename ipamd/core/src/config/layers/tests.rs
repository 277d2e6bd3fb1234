// SPDX-License-Identifier: Apache-2.0
use serde_json::json;

use super::super::settings_file::read_settings;
use super::super::{AddressMode, WarmTargets};
use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn layers(classes: serde_json::Value, instance_type: &str, annotations: &[(&str, &str)]) -> Layers {
    Layers {
        classes: read_settings(&json!({ "classes": classes })).unwrap(),
        node: NodeTraits { instance_type: Some(instance_type.to_owned()), ..NodeTraits::default() },
        annotations: map(annotations),
    }
}

#[test]
fn the_worked_example_of_the_head_holds() {
    let classes = json!([
        { "name": "large", "selector": { "instanceTypes": ["m5.24xlarge"] }, "settings": { "WARM_IP_TARGET": 20 } },
    ]);
    let environment = map(&[("WARM_IP_TARGET", "2"), ("MAX_ENI", "4")]);
    for (instance_type, warm, origin) in
        [("m5.large", 2, Origin::Environment), ("m5.24xlarge", 20, Origin::Class("large".to_owned()))]
    {
        let resolved = layers(classes.clone(), instance_type, &[("MAX_ENI", "8")]).resolve(&environment).unwrap();
        assert_eq!(resolved.config.warm, WarmTargets::Addresses { warm, minimum: 0 });
        assert_eq!(resolved.config.max_enis, Some(8));
        let text = warm.to_string();
        assert_eq!(resolved.value("WARM_IP_TARGET"), (Some(text.as_str()), origin));
        assert_eq!(resolved.value("MAX_ENI"), (Some("8"), Origin::Node));
        assert_eq!(resolved.value("IP_COOLDOWN_PERIOD"), (Some("30"), Origin::Default));
        assert_eq!(resolved.value("ENID_MAX_PODS"), (None, Origin::Default));
    }
}

#[test]
fn of_two_classes_that_fit_the_later_one_holds_for_what_it_sets_and_an_empty_text_takes_a_value_away() {
    let classes = json!([
        { "name": "a", "settings": { "WARM_IP_TARGET": 5, "MAX_ENI": 2 } },
        { "name": "b", "settings": { "WARM_IP_TARGET": 7, "IP_COOLDOWN_PERIOD": "" } },
        { "name": "c", "selector": { "zones": ["us-east-1a"] }, "settings": { "WARM_IP_TARGET": 9 } },
    ]);
    let resolved = layers(classes, "m5.large", &[]).resolve(&map(&[("IP_COOLDOWN_PERIOD", "60")])).unwrap();
    assert_eq!(resolved.config.warm, WarmTargets::Addresses { warm: 7, minimum: 0 }, "the zone is not known");
    assert_eq!(resolved.config.cooldown, Config::default().cooldown);
    assert_eq!(resolved.value("IP_COOLDOWN_PERIOD"), (Some(""), Origin::Class("b".to_owned())));
    assert_eq!(resolved.value("MAX_ENI"), (Some("2"), Origin::Class("a".to_owned())));
}

#[test]
fn a_clash_that_only_the_layers_together_have_is_a_mistake_with_the_layer_it_comes_from() {
    let classes = json!([{ "name": "none", "settings": { "WARM_PREFIX_TARGET": 0 } }]);
    let alone = layers(classes.clone(), "m5.large", &[]).resolve(&map(&[])).unwrap();
    assert_eq!(alone.config.address_mode, AddressMode::SecondaryIps);
    let clashing = layers(classes, "m5.large", &[]).resolve(&map(&[("ENABLE_PREFIX_DELEGATION", "true")]));
    let mistakes = clashing.unwrap_err();
    let text = mistakes[0].to_string();
    assert!(
        text.starts_with("all layers together: WARM_PREFIX_TARGET=`0`: ") && text.ends_with("(from: class none)"),
        "{text}"
    );
}

#[test]
fn without_layers_the_environment_holds_as_it_is_parsed() {
    let environment = map(&[("WARM_ENI_TARGET", "1"), ("ENID_LAYOUT", "classic"), ("METRICS_BIND_ADDRESS", ":61678")]);
    let resolved = Layers::default().resolve(&environment).unwrap();
    let (config, notes) = parse(&environment).unwrap();
    assert_eq!((resolved.config.clone(), resolved.notes.clone()), (config, notes));
    assert_eq!(resolved.value("ENID_LAYOUT"), (Some("classic"), Origin::Environment));
}

#[test]
fn annotations_that_are_settings_are_read_and_all_their_mistakes_named() {
    let read = read_annotations(&map(&[("setting.enid.dev/MAX_ENI", "3"), ("other.dev/MAX_ENI", "x"), ("a", "b")]));
    assert_eq!(read, Ok(map(&[("MAX_ENI", "3")])));
    let mistakes = read_annotations(&map(&[
        ("setting.enid.dev/MAX_ENI", "many"),
        ("setting.enid.dev/ENID_SOCKET", "/run/x"),
        ("setting.enid.dev/MAX_ENIS", "3"),
    ]))
    .unwrap_err();
    let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    for (index, wanted) in [
        "annotation `setting.enid.dev/ENID_SOCKET`: ENID_SOCKET takes effect only from the environment, at a start",
        "annotation `setting.enid.dev/MAX_ENI`: MAX_ENI=`many`: a whole number from 1 to 1000 is allowed",
        "annotation `setting.enid.dev/MAX_ENIS`: no such variable `MAX_ENIS`",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(texts[index].starts_with(wanted), "{texts:#?}");
    }
}
