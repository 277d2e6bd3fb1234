// SPDX-License-Identifier: Apache-2.0
//! The datapath's tests against Linux 6.1, in a virtual machine that qemu emulates: Debian's kernel for clouds, no network
//! device, a file system in memory; two machines, which share the tests. There they find links that the host's kernel may lack (VLAN, VRF,
//! dummy, ipvlan, netem): tests of these are `#[ignore]`d elsewhere, and must run there. Emulation is slow, so `make test` runs those
//! and a choice of the others ([`CHOSEN`]); `make test-vm`, by ENID_VM_TESTS=all, runs all that are not [`LEFT_OUT`].
//!
//! `scripts/vm.sh` makes the guest (`make test-vm`, `make test`), `scripts/vm-init.sh` runs the tests in it and says how each
//! ended; [`report`] reads that. A test that does not report has failed, whatever the reason.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "starts qemu, with a limit of time")]

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use integration::tools::built;
use report::Report;

/// Emulation is slow, and slower when others want the processors: a guest that is not done by then hangs.
const PATIENCE: Duration = Duration::from_mins(15);

/// Tests that say nothing there, or too late, by their full names, and why. One that is no test any more is an error.
const LEFT_OUT: [(&str, &str); 7] = [
    (
        "apply::netlink::tests::a_list_of_rules_read_beside_changes_is_whole_or_an_error",
        "a hundred lists of 1,500 rules: minutes in emulation",
    ),
    (
        "apply::netlink::tests::a_list_that_the_kernel_marks_as_interrupted_is_read_again",
        "passes on 6.1, in one and a half minutes of emulation",
    ),
    (
        "apply::tests::layouts::layouts_change_to_and_fro_under_traffic_without_a_packet_lost",
        "passes on 6.1, in a minute of emulation; the change of a mask under traffic stays",
    ),
    (
        "apply::tests::leftovers::the_table_is_installed_within_50_ms_whatever_others_have",
        "measures a real processor's time",
    ),
    (
        "apply::tests::notrack::short_flows_between_pods_and_into_the_vpc_take_nothing_of_the_table",
        "passes on 6.1; so many flows take half a minute of emulation",
    ),
    ("apply::tests::recycled::many_addresses_at_once_take_one_walk", "20,000 connections, made one by one"),
    (
        "apply::tests::pods::a_hundred_and_ten_pods_at_once_are_all_attached",
        "passes on 6.1; so many namespaces take 40 s of emulation",
    ),
];

/// What `make test` runs there beside the ignored ones: all that reads or writes links, addresses, rules and nft tables once, leads
/// answers by connection marks, and makes the kernel forget connections.
const CHOSEN: [&str; 7] = [
    "apply::tests::answers::",
    "apply::tests::cards::",
    "apply::tests::eni::",
    "apply::tests::families::",
    "apply::tests::host::",
    "apply::tests::recycled::",
    "apply::tests::undo::",
];

/// Whether all are run.
fn runs_all() -> bool {
    std::env::var("ENID_VM_TESTS").is_ok_and(|which| which == "all")
}

/// Where `scripts/vm.sh` has put the guest.
fn folder() -> PathBuf {
    let folder = built("ENID_VM", "enid/vm");
    assert!(folder.join("image.cpio").is_file(), "there is no image.cpio in {}: run `make test-vm`", folder.display());
    folder
}

/// The executable of the datapath's tests, which the guest has a copy of: one that was built since would say that old code is right.
fn program(folder: &Path) -> PathBuf {
    let text = fs::read_to_string(folder.join("tests")).unwrap();
    let (program, copied) = text.trim().split_once('\n').expect("`tests` has no digest beside the path: run `make vm`");
    let output = Command::new("sha256sum").arg("--").arg(program).output().unwrap();
    let now = String::from_utf8_lossy(&output.stdout);
    let now = now.split(' ').next().unwrap_or_default();
    assert!(output.status.success() && now == copied, "the guest's tests are not those of {program}: run `make vm`");
    PathBuf::from(program)
}

/// The names of its tests, of the kernel's half of the datapath: `--include-ignored` or `--ignored`.
fn tests(program: &Path, which: &str) -> BTreeSet<String> {
    let output = Command::new(program).args(["--list", which, "apply::"]).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}: run `make vm`", program.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// What the kernel reads of its command line (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h).
const COMMAND_LINE: usize = 2048;

/// Machines that share the tests, of one emulated processor each: two processors of one machine wait for each other.
const MACHINES: [usize; 2] = [0, 1];

/// qemu's command line for one of the machines: no device but the serial console. `only`: a regular expression, none for all.
fn machine(folder: &Path, number: usize, only: Option<&str>) -> Command {
    let mut files = fs::read_dir(folder.join("boot")).unwrap().map(|entry| entry.unwrap().path());
    let kernel = files.find(|path| path.to_string_lossy().contains("/vmlinuz-")).unwrap();
    let left_out: Vec<&str> = LEFT_OUT.iter().map(|(name, _)| *name).collect();
    // What a node has no need of here, and emulation would pay for: mitigations, five levels of pages, grace periods at leisure.
    // A processor that stood still did so because the host gave it no time: no watchdogs.
    // Of what the kernel says, warnings and worse come to the console (level 5 and above do not): [`report`] looks for them.
    let line = format!(
        "console=ttyS0 loglevel=5 panic=-1 mitigations=off no5lvl nosmap nosmep rcupdate.rcu_expedited=1 \
         nowatchdog rcupdate.rcu_cpu_stall_suppress=1 enid.part={number}/{} enid.not=^({})$",
        MACHINES.len(),
        left_out.join("|")
    );
    let line = only.map_or(line.clone(), |only| format!("{line} enid.only={only}"));
    assert!(line.len() < COMMAND_LINE, "{} bytes are more than the kernel reads: {line}", line.len());
    let libraries = ["usr/lib", "lib"].map(|path| folder.join(path).join("x86_64-linux-gnu"));
    let mut command = Command::new(folder.join("usr/bin/qemu-system-x86_64"));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    for firmware in ["usr/share/seabios", "usr/share/qemu"] {
        command.arg("-L").arg(folder.join(firmware));
    }
    command.args("-nodefaults -no-user-config -machine q35 -accel tcg,thread=multi -cpu max -smp 1 -m 1024".split(' '));
    command.args("-nic none -serial stdio -display none -monitor none -no-reboot".split(' '));
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(folder.join("image.cpio")).args(["-append", &line]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the guest and qemu said until the machine was off, or time was up.
fn run(mut machine: Command) -> String {
    let mut child = machine.spawn().unwrap_or_else(|error| panic!("{machine:?}: {error}: run `make test-vm`"));
    let (told, lines) = mpsc::channel();
    let readers: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for reader in readers {
        let told = told.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                // The receiver is gone: time was up.
                let _ = told.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
    }
    drop(told);
    let (end, mut text) = (Instant::now() + PATIENCE, String::new());
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => text.extend([line.as_str(), "\n"]),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                text.push_str("no end of it: stopped by the host\n");
                break;
            }
        }
    }
    // Off already, or not any more of use.
    let _ = child.kill();
    child.wait().unwrap();
    text
}

#[test]
fn the_datapath_s_tests_pass_on_linux_6_1() {
    let folder = folder();
    let program = program(&folder);
    let known = tests(&program, "--include-ignored");
    let left_out: BTreeMap<_, _> = LEFT_OUT.into_iter().collect();
    let stale: Vec<_> = left_out.keys().filter(|name| !known.contains(**name)).collect();
    assert!(stale.is_empty(), "LEFT_OUT names what is no test of the datapath: {stale:?}");
    let is_known = |chosen: &&str| known.iter().any(|name| name.starts_with(*chosen));
    assert!(CHOSEN.iter().all(is_known), "CHOSEN names what is no module of tests of the datapath");
    let (ignored, all) = (tests(&program, "--ignored"), runs_all());
    assert!(!ignored.is_empty(), "no test is for this machine alone: is it the datapath's executable?");
    let is_meant =
        |name: &String| all || ignored.contains(name) || CHOSEN.iter().any(|chosen| name.starts_with(chosen));
    let runnable: BTreeSet<_> = known.into_iter().filter(|name| !left_out.contains_key(name.as_str())).collect();
    let expected: BTreeSet<_> = runnable.iter().filter(|name| is_meant(name)).cloned().collect();
    assert!(expected.len() > if all { 100 } else { 20 }, "only {} tests", expected.len());
    let words = CHOSEN.into_iter().map(str::to_owned).chain(ignored.iter().map(|name| format!("{name}$")));
    let only = (!all).then(|| format!("^({})", words.collect::<Vec<_>>().join("|")));
    let started = Instant::now();
    let reports = std::thread::scope(|scope| {
        let runs = MACHINES.map(|number| {
            let machine = machine(&folder, number, only.as_deref());
            scope.spawn(|| run(machine))
        });
        runs.map(|run| Report::read(&run.join().unwrap()))
    });
    let [one, other] = reports;
    let report = one.and(other);
    println!("{} in {:.0} s; not run there:", report.summary(), started.elapsed().as_secs_f32());
    let others = runnable.len() - expected.len();
    if others > 0 {
        println!("  {others} that are not chosen for `make test` (`make test-vm` runs them)");
    }
    left_out.iter().for_each(|(name, why)| println!("  {name}: {why}"));
    for (name, said) in report.starved() {
        println!("  {name}: failed beside others, was run again alone; it had said\n{said}");
    }
    report.slowest(8).for_each(|(name, seconds)| println!("  {seconds:5.1} s {name}"));
    assert!(report.kernel().starts_with("6.1."), "the guest's kernel is {}", report.kernel());
    if let Err(problem) = report.judge(&expected) {
        panic!("{problem}");
    }
}
