// SPDX-License-Identifier: Apache-2.0
//! The CSV brought up to date with answers of DescribeInstanceTypes. The files in `testdata` have the shape that the EC2 API
//! reference documents and the AWS CLI writes; `zz1.metal` does not exist.

use serde_json::{Value, json};

use super::describe::{Answer, update};
use super::generate;

const CSV: &str = include_str!("../../data/instance-limits.csv");
const PAGE_1: &str = include_str!("../../testdata/page-1.json");
const PAGE_2: &str = include_str!("../../testdata/page-2.json");

fn answers(files: &[(&str, &str)]) -> Vec<Answer> {
    files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

fn row<'a>(csv: &'a str, name: &str) -> &'a str {
    csv.lines().find(|line| line.split(',').next() == Some(name)).expect("a row of this type")
}

/// The first page with the value at `pointer` of its first type replaced; `None`: taken away.
fn with(pointer: &str, value: Option<Value>) -> String {
    let mut page: Value = serde_json::from_str(PAGE_1).expect("the page is JSON");
    let (parent, member) = pointer.rsplit_once('/').expect("a pointer");
    let parent = page.pointer_mut(&format!("/InstanceTypes/0{parent}")).expect("a parent").as_object_mut();
    let parent = parent.expect("an object");
    match value {
        Some(value) => drop(parent.insert(member.to_owned(), value)),
        None => drop(parent.remove(member).expect("a member")),
    }
    page.to_string()
}

#[test]
fn pages_of_several_regions_become_one_csv_that_the_table_is_made_of() {
    let files = [("us-1.json", PAGE_1), ("us-2.json", PAGE_2), ("eu-1.json", PAGE_1)];
    let merged = update(CSV, &answers(&files)).expect("the pages fit together");
    assert_eq!((merged.added, merged.changed, merged.confirmed), (1, 0, 2));
    assert_eq!(merged.kept, CSV.lines().count() - 1 - 2, "every other type is still there");
    assert_eq!(row(&merged.csv, "m5.large"), format!("{}E", row(CSV, "m5.large")));
    assert_eq!(row(&merged.csv, "t1.micro"), format!("{}E", row(CSV, "t1.micro")));
    assert_eq!(row(&merged.csv, "zz1.metal"), "zz1.metal,30,50,50,2,0:15;1:15,0,none,true,,,96,E");
    assert!(merged.csv.lines().skip(1).map(|line| line.split(',').next()).is_sorted());
    generate::table(&merged.csv).expect("the generator takes it");
    assert_eq!(update(&merged.csv, &answers(&files)).expect("once more").csv, merged.csv, "again changes nothing");
}

#[test]
fn another_number_of_ec2s_goes_before_the_csvs_and_trunking_stays() {
    let page = with("/NetworkInfo/Ipv4AddressesPerInterface", Some(json!(12)));
    let merged = update(CSV, &answers(&[("new.json", &page)])).expect("a number may change");
    assert_eq!((merged.added, merged.changed, merged.confirmed), (1, 1, 0));
    assert_eq!(row(&merged.csv, "m5.large"), row(CSV, "m5.large").replace("3,10,10,", "3,12,10,") + "E");
    assert!(row(&merged.csv, "m5.large").contains("nitro,false,true,9,2,"));
}

#[test]
fn two_answers_that_differ_are_refused_with_both_files_the_type_and_the_field() {
    let other = with("/NetworkInfo/Ipv4AddressesPerInterface", Some(json!(15)));
    let error = update(CSV, &answers(&[("us.json", PAGE_1), ("eu.json", &other)])).expect_err("they contradict");
    assert_eq!(error, "eu.json: m5.large: NetworkInfo.Ipv4AddressesPerInterface is 15, in us.json it is 10");
}

#[test]
fn a_file_that_is_no_answer_is_refused_by_its_name() {
    for (text, complaint) in [
        ("", "x.json: EOF"),
        (&PAGE_1[..PAGE_1.len() / 2], "x.json: EOF"),
        ("[]", "x.json: InstanceTypes is not a list with types in it"),
        ("{\"InstanceTypes\": []}", "x.json: InstanceTypes is not a list with types in it"),
        ("{\"Reservations\": []}", "x.json: InstanceTypes is not a list"),
        ("{\"InstanceTypes\": [{}]}", "x.json: InstanceTypes[0]: InstanceType is missing"),
        ("{\"InstanceTypes\": [{\"InstanceType\": \"m5,large\"}]}", "InstanceType `m5,large` is not family.size"),
        ("{\"InstanceTypes\": [{\"InstanceType\": \"m5.\"}]}", "InstanceType `m5.` is not family.size"),
    ] {
        let error = update(CSV, &answers(&[("x.json", text)])).expect_err(text);
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn nonsense_about_a_type_is_refused_with_file_type_and_field() {
    let one_card = |index: u16, enis: u16| json!([{"NetworkCardIndex": index, "MaximumNetworkInterfaces": enis}]);
    for (pointer, value, complaint) in [
        ("/NetworkInfo", None, "NetworkInfo.MaximumNetworkInterfaces is missing"),
        ("/NetworkInfo/Ipv4AddressesPerInterface", None, "NetworkInfo.Ipv4AddressesPerInterface is missing"),
        ("/NetworkInfo/Ipv4AddressesPerInterface", Some(json!("10")), "is \"10\", not a number from 0 to 65535"),
        ("/NetworkInfo/Ipv4AddressesPerInterface", Some(json!(-1)), "is -1, not a number"),
        ("/NetworkInfo/Ipv4AddressesPerInterface", Some(json!(65536)), "is 65536, not a number"),
        ("/NetworkInfo/Ipv4AddressesPerInterface", Some(json!(0)), "Ipv4AddressesPerInterface is 0"),
        ("/NetworkInfo/MaximumNetworkInterfaces", Some(json!(4)), "is 4, and the cards have 3"),
        ("/NetworkInfo/MaximumNetworkCards", Some(json!(2)), "is 2, and 1 cards are listed"),
        ("/NetworkInfo/NetworkCards", Some(one_card(1, 3)), "NetworkInfo.NetworkCards: the indexes are not 0 to 0"),
        ("/NetworkInfo/NetworkCards", Some(json!([{}])), "NetworkCards: NetworkCardIndex is missing"),
        ("/NetworkInfo/NetworkCards", Some(json!({})), "NetworkInfo.NetworkCards is not a list"),
        ("/NetworkInfo/DefaultNetworkCardIndex", Some(json!(1)), "is 1, and there are 1 cards"),
        ("/NetworkInfo/Ipv6Supported", Some(json!(false)), "Ipv6Supported is false, and Ipv6AddressesPerInterface 10"),
        ("/NetworkInfo/Ipv6AddressesPerInterface", Some(json!(0)), "Ipv6Supported is true"),
        ("/NetworkInfo/Ipv6Supported", Some(json!("yes")), "is \"yes\", not true or false"),
        ("/Hypervisor", None, "Hypervisor is missing, and the type is not bare metal"),
        ("/Hypervisor", Some(json!("kvm")), "Hypervisor is kvm"),
        ("/BareMetal", Some(json!(true)), "Hypervisor is nitro on a bare metal type"),
        ("/BareMetal", None, "BareMetal is missing"),
        ("/VCpuInfo/DefaultVCpus", Some(json!(null)), "VCpuInfo.DefaultVCpus is null"),
    ] {
        let page = with(pointer, value);
        let error = update(CSV, &answers(&[("x.json", &page)])).expect_err(pointer);
        assert!(error.starts_with("x.json: m5.large: ") && error.contains(complaint), "{pointer}: {error}");
    }
}
