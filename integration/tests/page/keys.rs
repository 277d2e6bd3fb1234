// SPDX-License-Identifier: Apache-2.0
//! Where Escape leads, and a chart that is read by keys.

use std::sync::atomic::AtomicUsize;

use integration::browser::Key;
use integration::pods;

use crate::bed::Bed;

const FOCUS: &str = "document.activeElement.closest('#pod-list') ? 'list' : document.activeElement.dataset.address ?? document.activeElement.id";

#[test]
fn escape_leads_back_to_where_the_details_were_opened() {
    let bed = Bed::new("m5.large", &[]);
    let _pods = pods::start(bed.node(), 2, 1, &AtomicUsize::new(0)).unwrap();
    bed.shows("both", "document.querySelectorAll('#pod-list button').length === 2");
    let open = || bed.value("document.getElementById('details').classList.contains('open')").as_bool().unwrap();

    // Of a phone they cover half, and what was touched has the focus.
    bed.browser.resize(360, 740).unwrap();
    bed.browser.run("document.querySelector('.slot').click()").unwrap();
    let slot = bed.text("document.querySelector('.slot').dataset.address");
    assert_eq!((open(), bed.text(FOCUS)), (true, slot.clone()));
    bed.browser.press(&[Key::Escape]).unwrap();
    assert_eq!((open(), bed.text(FOCUS)), (false, slot));

    let button = "const button = document.querySelector('#pod-list button'); button.focus(); button.click()";
    bed.browser.run(button).unwrap();
    assert_eq!((open(), bed.text(FOCUS)), (true, "details".to_owned()));
    bed.browser.press(&[Key::Escape]).unwrap();
    assert_eq!((open(), bed.text(FOCUS)), (false, "list".to_owned()));
    // Without one to go back to: the address.
    bed.browser.run(button).unwrap();
    let chosen = bed.says("details-title");
    bed.browser.type_text("/nowhere").unwrap();
    bed.shows("no pod", "document.querySelectorAll('#pod-list button').length === 0");
    bed.browser.press(&[Key::Escape]).unwrap();
    bed.browser.run("document.getElementById('close').click()").unwrap();
    assert_eq!((open(), bed.text(FOCUS)), (false, chosen));
    bed.is_sound();
}

#[test]
fn the_chart_says_the_minute_that_keys_go_to() {
    let bed = Bed::new("m5.large", &[]);
    let said = |name: &str| bed.text(&format!("document.getElementById('plot').getAttribute('{name}')"));
    bed.shows("a sample", "document.getElementById('readout').textContent.includes('used')");
    assert_eq!((said("role"), said("aria-valuenow")), ("slider".to_owned(), "0".to_owned()));
    assert!(said("aria-valuetext").starts_with("now, used 0, "), "{}", said("aria-valuetext"));
    bed.browser.run("document.getElementById('plot').focus()").unwrap();
    bed.browser.press(&[Key::Left, Key::Left]).unwrap();
    assert_eq!(said("aria-valuenow"), "-2");
    assert!(!said("aria-valuetext").starts_with("now"), "{}", said("aria-valuetext"));
    bed.browser.press(&[Key::Home]).unwrap();
    assert_eq!(said("aria-valuenow"), said("aria-valuemin"));
    bed.is_sound();
}
