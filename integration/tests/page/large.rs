// SPDX-License-Identifier: Apache-2.0
//! 750 addresses, and a phone.
#![expect(clippy::disallowed_methods, reason = "how long a page takes is measured")]

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::browser::Key;
use integration::eventually::eventually;
use integration::pods;

use crate::bed::{Bed, PAGE, PATIENCE};

/// 47 prefixes are 752 addresses, all on the primary ENI of an m5.24xlarge, which takes 49.
const LARGE: &[(&str, &str)] = &[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "47")];

#[test]
fn seven_hundred_and_fifty_addresses_are_shown_and_kept_up_to_date_on_a_desk_and_on_a_phone() {
    let bed = Bed::unopened("m5.24xlarge", LARGE);
    let filled = eventually("the node has 750 addresses", Duration::from_secs(60), || match bed.addresses() {
        addresses if addresses >= 750 => Ok(addresses),
        addresses => Err(format!("{addresses}")),
    });
    filled.unwrap();
    let mut pods = pods::start(bed.node(), 150, 4, &AtomicUsize::new(0)).unwrap();

    let begin = Instant::now();
    bed.browser.open(PAGE).unwrap();
    let slots = bed.shows_every_address();
    let loaded = begin.elapsed();
    assert!(slots >= 750, "{slots}");
    assert!(loaded < PATIENCE, "{slots} addresses were there after {loaded:?}");
    let drawn = bed.value(
        "new Promise(done => { const began = performance.now(); document.getElementById('search').dispatchEvent(new Event('input')); \
         requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began))); })",
    );
    let drawn = Duration::from_secs_f64(drawn.as_f64().unwrap() / 1_000.0);
    assert!(drawn < PATIENCE, "a key is followed by a picture after {drawn:?}");
    println!(
        "{slots} addresses are there {loaded:?} after the page was asked for; a key is followed by a picture in {drawn:?}"
    );

    let kept = "document.querySelector('.slot')";
    bed.browser.run(&format!("window.kept = {kept}")).unwrap();
    let sandbox = bed.node().sandbox("late").unwrap();
    let address = bed.node().runtime.add(&sandbox).unwrap().address.to_string();
    let begin = Instant::now();
    let shown = eventually("the pod is shown", PATIENCE, || match bed.slot(&address) {
        label if label.ends_with("default/late") => Ok(()),
        label => Err(label),
    });
    shown.unwrap();
    println!("a pod is shown {:?} after its ADD", begin.elapsed());
    assert!(bed.value(&format!("window.kept === {kept}")).as_bool().unwrap(), "slots are kept, not made anew");

    // Down and up by shape: the row below begins with the ninth address of the same /28.
    bed.browser.type_text("/").unwrap();
    bed.browser.press(&[Key::Enter, Key::Down]).unwrap();
    let order = "[...document.querySelectorAll('.slot')].indexOf(document.activeElement)";
    assert_eq!(bed.value(order), 8);
    bed.browser.press(&[Key::Up]).unwrap();
    assert_eq!(bed.value(order), 0);
    bed.is_sound();
    pods::end(bed.node(), pods.split_off(130), 4).unwrap();
    bed.shows("what was given back", "document.querySelectorAll('.slot.is-cooling').length > 9");
    bed.browser.resize(1280, 1400).unwrap();
    bed.picture("750-addresses");

    bed.browser.resize(360, 740).unwrap();
    bed.is_sound();
    bed.picture("phone");
    bed.browser.press(&[Key::Enter]).unwrap();
    bed.is_sound();
    bed.picture("phone-details");
    bed.browser.resize(320, 568).unwrap();
    bed.is_sound();
    pods::end(bed.node(), pods, 4).unwrap();
}
