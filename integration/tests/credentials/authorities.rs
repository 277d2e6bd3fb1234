// SPDX-License-Identifier: Apache-2.0
//! A host without any certificate authority, as a container of static programs alone is, or with a bundle that is not there yet.

use std::fs;
use std::path::{Path, PathBuf};

use integration::eventually::eventually;
use integration::topology::READY;

use crate::bed::{Bed, LONG, Source};
use crate::tls::Front;

/// What certificates are below, on the distributions that rustls-native-certs knows.
const PLACES: [&str; 3] = ["/etc/ssl", "/etc/pki", "/etc/security"];
const EC2: &str = "ec2.us-east-1.example.test";
const CODE: &str = "NoCertificateAuthorities";

/// A node with pods, on a host without authorities. EC2, metadata and STS are reached in plain HTTP, which needs none.
fn without_authorities() -> Bed {
    let mut bed = Bed::new();
    for place in PLACES.iter().map(Path::new).filter(|place| place.exists()) {
        bed.topology.world.small_disk(place, 1 << 20).unwrap();
    }
    bed.offer(Source::WebIdentity, LONG);
    bed.start();
    bed.churn();
    bed
}

/// EC2 behind TLS from the next start on.
fn behind_tls(bed: &mut Bed) -> Front {
    let plain = bed.node().variable("AWS_ENDPOINT_URL_EC2").unwrap().rsplit('/').next().unwrap().parse().unwrap();
    let front = Front::serve(&bed.topology.runtime, &bed.node().netns, EC2, plain);
    let hosts = bed.topology.world.folder("hosts").unwrap().join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost {EC2}\n")).unwrap();
    bed.topology.world.show_file(&hosts, Path::new("/etc/hosts")).unwrap();
    bed.node_mut().set("AWS_EC2_ENDPOINT", &format!("https://{EC2}:{}", front.port));
    front
}

/// The daemon is there, serves from its journal, and says why it asks nobody; so does the doctor. Then `file` gets the authority.
fn is_told_and_found_without_a_restart(bed: &mut Bed, signs: &[&str], file: &Path) {
    let front = behind_tls(bed);
    bed.restart();
    bed.churn();
    bed.names(&[&[CODE], signs].concat());
    let doctor = bed.node().ask(&["doctor"]).unwrap_err().to_string();
    assert!(doctor.contains("FAIL  ec2: ") && doctor.contains(CODE), "{doctor}");
    assert!(signs.iter().all(|sign| doctor.contains(sign)), "{doctor}");
    assert_eq!(front.served(), 0);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, &front.authority).unwrap();
    let asked = eventually("EC2 is asked", 2 * READY, || match front.served() {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    asked.unwrap_or_else(|error| panic!("{error}: {}", bed.log()));
    bed.churn();
    assert!(!bed.log().contains("panicked"), "{}", bed.log());
}

#[test]
fn a_host_without_authorities_is_served_told_what_to_install_and_needs_no_restart_then() {
    let mut bed = without_authorities();
    let signs = ["no CA certificates found", "install ca-certificates", "AWS_CA_BUNDLE"];
    is_told_and_found_without_a_restart(&mut bed, &signs, Path::new("/etc/ssl/certs/ca-certificates.crt"));
}

#[test]
fn a_bundle_that_comes_later_needs_no_restart() {
    let mut bed = without_authorities();
    let bundle: PathBuf = bed.topology.world.folder("ca").unwrap().join("authority.pem");
    bed.node_mut().set("AWS_CA_BUNDLE", bundle.to_str().unwrap());
    let sign = format!("AWS_CA_BUNDLE {}: No such file", bundle.display());
    is_told_and_found_without_a_restart(&mut bed, &[&sign], &bundle);
}

/// Keys of STS come over TLS before any call to EC2 does.
#[test]
fn keys_that_need_tls_name_the_same_cause() {
    let mut bed = without_authorities();
    bed.node_mut().set("AWS_ENDPOINT_URL_STS", "https://sts.example.test");
    bed.restart();
    bed.churn();
    bed.names(&[CODE, "web identity", "install ca-certificates"]);
}
