// SPDX-License-Identifier: Apache-2.0
//! Tags.

use crate::common::{World, all};

#[test]
fn tags_are_made_found_and_deleted() {
    let mut world = World::new();
    let eni = world.primary("large");
    let on = ("ResourceId.1", eni.as_str());
    world.ok("CreateTags", &[on, ("Tag.1.Key", "a"), ("Tag.1.Value", "1"), ("Tag.2.Key", "b"), ("Tag.2.Value", "2")]);
    let of_eni = [("Filter.1.Name", "resource-id"), ("Filter.1.Value.1", eni.as_str())];
    assert_eq!(all(&world.ok("DescribeTags", &of_eni), "key"), ["a", "b"]);
    world.ok("DeleteTags", &[on, ("Tag.1.Key", "a"), ("Tag.1.Value", "other")]);
    world.ok("DeleteTags", &[on, ("Tag.1.Key", "b")]);
    let body = world.ok("DescribeTags", &of_eni);
    assert_eq!(all(&body, "key"), ["a"], "a value that is not the tag's own deletes nothing");
    assert_eq!(all(&body, "resourceType"), ["network-interface"]);
}

/// EC2 user guide, "Tag your resources": 50 tags, keys of at most 127 characters that do not start with `aws:`.
#[test]
fn tags_that_may_not_be_are_refused() {
    let mut world = World::new();
    let eni = world.primary("large");
    let on = ("ResourceId.1", eni.as_str());
    let long = "k".repeat(128);
    assert_eq!(
        world.refused("CreateTags", &[on, ("Tag.1.Key", "aws:x"), ("Tag.1.Value", "")]).0,
        "InvalidParameterValue"
    );
    assert_eq!(
        world.refused("CreateTags", &[on, ("Tag.1.Key", &long), ("Tag.1.Value", "")]).0,
        "InvalidParameterValue"
    );
    let keys: Vec<(String, String)> = (1..=51).map(|n| (format!("Tag.{n}.Key"), format!("k{n}"))).collect();
    let mut params = vec![on];
    params.extend(keys.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    assert_eq!(world.refused("CreateTags", &params).0, "TagLimitExceeded");
    params.pop();
    world.ok("CreateTags", &params);
    let nobody = [("ResourceId.1", "eni-0123456789abcdef0"), ("Tag.1.Key", "a")];
    assert_eq!(world.refused("CreateTags", &nobody).0, "InvalidNetworkInterfaceID.NotFound");
    let subnet = world.subnet("a");
    let wrong = [
        ("SubnetId", subnet.as_str()),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "a"),
    ];
    assert_eq!(world.refused("CreateNetworkInterface", &wrong).0, "InvalidParameterValue");
}
