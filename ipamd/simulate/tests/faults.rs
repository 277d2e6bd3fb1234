// SPDX-License-Identifier: Apache-2.0
//! The simulation finds what it is meant to find: six mistakes that pool engines made in production, each put back into the
//! real core by one switch, break an invariant within a stated number of seeds, and the one that names them.

#![expect(clippy::print_stdout, reason = "what is printed is what the run is for")]

use ipamd_core::faults::Fault;
use ipamd_simulate::check::Invariant;
use ipamd_simulate::seed;

/// The seeds from 0 to `most` break one of these invariants, and the first that is broken is one of them.
fn is_found(fault: Fault, most: u64, expected: &[Invariant]) {
    for seed in 0..most {
        let report = seed::live(seed, Some(fault));
        let Some(violation) = report.violation else { continue };
        println!("{fault:?} is found by seed {seed}: {violation}");
        assert!(expected.contains(&violation.invariant), "{}", seed::account(seed, Some(fault)));
        return;
    }
    panic!("{fault:?} is not found by {most} seeds");
}

#[test]
fn cooling_counted_as_free_refuses_adds_in_vain() {
    is_found(Fault::CoolingIsFree, 200, &[Invariant::InVain, Invariant::Target]);
}

#[test]
fn absence_from_a_lagging_read_taken_as_detached_leaks() {
    // The first to notice may be the journal, which has no place for addresses of an ENI that is said to be gone.
    is_found(
        Fault::AbsenceIsDetached,
        200,
        &[Invariant::Leak, Invariant::Limits, Invariant::Target, Invariant::Journal],
    );
}

#[test]
fn an_assign_by_count_repeated_after_a_lost_answer_is_blind() {
    is_found(Fault::RepeatsAssign, 500, &[Invariant::Blindly]);
}

#[test]
fn calls_under_way_that_are_not_counted_ask_for_too_much() {
    is_found(Fault::ForgetsInFlight, 200, &[Invariant::AskedTwice, Invariant::Limits]);
}

#[test]
fn a_release_by_a_stale_view_takes_an_address_in_use() {
    is_found(Fault::ReleasesByStaleView, 500, &[Invariant::InUse, Invariant::Cooling]);
}

#[test]
fn an_infeasible_target_asked_for_for_ever_is_a_storm() {
    is_found(Fault::IgnoresExhaustion, 500, &[Invariant::Storm]);
}
