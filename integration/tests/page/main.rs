// SPDX-License-Identifier: Apache-2.0
//! The page that the daemon serves, in a real Chromium on the node: real daemon, real plugin, real pods.
//!
//! Pictures of what it looked like are kept below the build folder; each test says where.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed; pictures are named"
)]

mod bed;
mod calls;
mod following;
mod keys;
mod large;

use std::sync::atomic::AtomicUsize;

use integration::browser::Key;
use integration::pods;
use integration::sandbox::NetnsPath;
use integration::topology::READY;

use bed::{Bed, PAGE};

#[test]
fn a_pod_appears_and_cools_on_the_page_that_is_not_loaded_again() {
    let bed = Bed::new("m5.large", &[]);
    bed.shows_every_address();
    assert!(bed.says("facts").contains(" · m5.large · us-east-1a · 10.0.1.11"), "{}", bed.says("facts"));
    bed.browser.run("window.loadedOnce = true").unwrap();
    let sandbox = bed.node().sandbox("web-1").unwrap();
    let address = bed.node().runtime.add(&sandbox).unwrap().address.to_string();

    let expected = format!("{address}, used, default/web-1");
    let label = format!("document.querySelector('[data-address=\"{address}\"]')?.getAttribute('aria-label')");
    bed.shows("the pod at its address", &format!("{label} === '{expected}'"));
    bed.shows("the pod in the list", "document.getElementById('pod-list').textContent.includes('default/web-1')");
    bed.shows("its record", "document.getElementById('log').textContent.includes('default/web-1')");
    let short = &sandbox.container_id[..12];
    let whole = bed.text("document.documentElement.textContent");
    assert!(whole.contains(short), "container ids are as short as runtimes print them");
    assert!(!whole.contains(&sandbox.container_id), "and no longer");

    bed.node().runtime.del(&sandbox, NetnsPath::Given).unwrap();
    bed.shows("that it cools", &format!("{label} === '{address}, cooling'"));
    bed.shows("that nobody has it", "!document.getElementById('pod-list').textContent.includes('default/web-1')");
    assert!(bed.value("window.loadedOnce").as_bool().unwrap(), "it was not loaded again");
    bed.is_sound();
    bed.picture("pod");
}

#[test]
fn search_and_keys_lead_to_an_address_and_its_details() {
    // 6 pods and 12 more addresses are two ENIs of nine.
    let bed = Bed::new("m5.large", &[("WARM_IP_TARGET", "12")]);
    let pods = pods::start(bed.node(), 5, 2, &AtomicUsize::new(0)).unwrap();
    let sandbox = bed.node().sandbox("needle").unwrap();
    let address = bed.node().runtime.add(&sandbox).unwrap().address.to_string();
    bed.shows("all six", "document.querySelectorAll('.slot.is-allocated').length === 6");

    bed.browser.type_text("/NEEDLE").unwrap();
    bed.shows("what is searched", "document.querySelectorAll('.slot:not(.dim)').length === 1");
    assert!(bed.says("matches").starts_with("1 of "), "{}", bed.says("matches"));
    assert_eq!(bed.says("pods-count"), "1 of 6");
    assert_eq!(bed.value("document.querySelectorAll('#pod-list li').length"), 1);

    let focus = "document.activeElement.dataset.address ?? document.activeElement.id";
    bed.browser.press(&[Key::Enter]).unwrap();
    assert_eq!(bed.text(focus), address, "Enter goes to the first that matches");
    bed.browser.press(&[Key::Enter]).unwrap();
    assert_eq!(bed.text(focus), "details");
    for part in ["default/needle", &sandbox.container_id[..12], "eth0", "eni-"] {
        assert!(bed.says("about").contains(part), "{part}: {}", bed.says("about"));
    }
    bed.browser.press(&[Key::Escape]).unwrap();
    assert_eq!(bed.text(focus), address, "Escape goes back");

    bed.shows("two ENIs", "document.querySelectorAll('.eni .slot').length === 18");
    bed.browser.type_text("/").unwrap();
    bed.browser.press(&[Key::Escape, Key::Enter]).unwrap();
    let all = "[...document.querySelectorAll('.slot')].map(slot => slot.dataset.address)";
    let order: Vec<String> = serde_json::from_value(bed.value(all)).unwrap();
    assert_eq!(bed.text(focus), order[0]);
    bed.browser.press(&[Key::Right, Key::Right, Key::Left]).unwrap();
    assert_eq!(bed.text(focus), order[1]);
    assert_eq!(bed.says("details-title"), order[1], "details follow");
    bed.browser.press(&[Key::PageDown]).unwrap();
    assert_eq!(
        bed.text(focus),
        bed.text("document.querySelectorAll('.eni')[1].querySelector('.slot').dataset.address")
    );
    bed.browser.press(&[Key::Up, Key::Home]).unwrap();
    assert_eq!(bed.text(focus), order[0], "up from the second ENI is the first");
    assert_eq!(
        bed.value("document.querySelectorAll('.slot[tabindex=\"0\"]').length"),
        1,
        "the grid is one stop for Tab"
    );
    bed.is_sound();
    bed.picture("search");
    pods::end(bed.node(), pods, 2).unwrap();
}

#[test]
fn a_refusal_is_shown_with_its_code_and_text_and_a_pods_name_is_text_whatever_it_is() {
    // t3.nano: 2 ENIs of one address for pods each.
    let bed = Bed::new("t3.nano", &[]);
    let _full = pods::start(bed.node(), 2, 1, &AtomicUsize::new(0)).unwrap();
    let sandbox = bed.node().sandbox("<img/src/onerror><script>window.bad()</script>").unwrap();
    let error = bed.node().runtime.add(&sandbox).unwrap_err();
    let refused = error.refusal().unwrap().to_string();
    assert!(refused.contains("NodeFull"), "{refused}");

    bed.shows("the code", "document.getElementById('bound').textContent === 'NodeFull'");
    assert_eq!(bed.text("document.getElementById('verdict').dataset.is"), "bad");
    assert!(bed.says("headline").contains("No address for the next pod"), "{}", bed.says("headline"));
    bed.shows("its numbers", "document.getElementById('cause').textContent.includes('2 of 2 addresses in use')");
    let remedy = bed.says("remedy");
    assert!(remedy.starts_with("What to do: ") && remedy.contains("max-pods"), "{remedy}");
    bed.shows("the refusal", "document.getElementById('refused').textContent.includes('NodeFull')");
    let said = bed.says("refused");
    assert!(said.contains("default/<img/src/onerror><script>window.bad()</script>"), "{said}");
    assert!(said.contains("2 of 2 addresses in use"), "{said}");
    assert_eq!(bed.value("document.querySelectorAll('main img, main script').length"), 0);
    assert!(bed.text("document.title").contains("NodeFull"), "{}", bed.text("document.title"));
    bed.is_sound();
    bed.browser.darken().unwrap();
    bed.picture("refused");
}

#[test]
fn a_daemon_that_stops_is_said_so_with_the_time_and_one_that_comes_back_is_followed_again() {
    let mut bed = Bed::new("m5.large", &[]);
    let _pods = pods::start(bed.node(), 2, 1, &AtomicUsize::new(0)).unwrap();
    bed.shows("both", "document.querySelectorAll('.slot.is-allocated').length === 2");
    bed.is_sound();
    bed.browser.run("window.loadedOnce = true").unwrap();
    assert!(bed.topology.node_mut("n1").stop());
    bed.shows("that it is gone", "document.getElementById('headline').textContent === 'The daemon does not answer'");
    let since =
        bed.value("/Since \\d\\d:\\d\\d:\\d\\d, for [\\d.]+ m?s/.test(document.getElementById('cause').textContent)");
    assert!(since.as_bool().unwrap(), "{}", bed.says("cause"));
    assert!(bed.says("linked").contains("gone since"), "{}", bed.says("linked"));
    bed.picture("gone");

    bed.topology.node_mut("n1").start().unwrap();
    bed.topology.node("n1").wait_ready(READY).unwrap();
    bed.shows("that it is back", "document.getElementById('link').dataset.is === 'live'");
    let sandbox = bed.node().sandbox("after").unwrap();
    bed.node().runtime.add(&sandbox).unwrap();
    bed.shows("what comes then", "document.getElementById('pod-list').textContent.includes('default/after')");
    bed.shows("its record", "document.getElementById('log').textContent.includes('default/after')");
    assert!(bed.value("window.loadedOnce").as_bool().unwrap(), "it was not loaded again");
}

#[test]
fn the_page_can_be_turned_off_and_the_paths_stay() {
    let bed = Bed::unopened("m5.large", &[("ENID_PAGE", "false")]);
    bed.browser.open(PAGE).unwrap();
    assert_eq!(bed.text("document.contentType"), "application/json");
    assert!(bed.text("document.body.textContent").contains("AvailableCommands"));
    bed.browser.open(&format!("{PAGE}v1/status")).unwrap();
    assert_eq!(bed.text("document.contentType"), "application/json");
    assert!(bed.text("document.body.textContent").contains("\"serving\":true"));
}
