// SPDX-License-Identifier: Apache-2.0
//! `vpc-emulator`: the emulated VPC as a program of its own, EC2, IMDS and control API on loopback ports.
//!
//! Reads flags and a topology file, serves until it is told to stop, and prints what to export so that an unmodified AWS
//! SDK talks to it. It carries no packets; the crate's README says what it can be used for.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]
#![expect(clippy::disallowed_methods, reason = "a command line reads its file")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use integration::emulator::{Emulator, NoDataPlane, WallClock};
use lexopt::prelude::*;
use vpc_model::{InstanceId, VpcConfig};

const USAGE: &str = "\
Usage: vpc-emulator --topology FILE [--ec2-port N] [--control-port N] [--imds-port N] [--seed N]

  --topology FILE     JSON topology (integration/examples/topology.json is one)
  --ec2-port N        EC2 query API on 127.0.0.1:N (default 4599; 0: any free port)
  --control-port N    control API on 127.0.0.1:N (default 4598; 0: any free port)
  --imds-port N       IMDS of the first instance on 127.0.0.1:N, of the second on N+1, ... (default 4600; 0: any)
  --seed N            what ids, MACs and chosen addresses are drawn from (default 1)
  --help              this text

Stops on SIGINT or SIGTERM.";

/// Bad usage or a bad topology (sysexits.h, EX_USAGE).
const EX_USAGE: u8 = 64;

#[derive(Debug)]
struct Flags {
    topology: PathBuf,
    ec2_port: u16,
    control_port: u16,
    imds_port: u16,
    seed: u64,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let flags = match read_flags() {
        Ok(Some(flags)) => flags,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("vpc-emulator: {error}\n\n{USAGE}");
            return ExitCode::from(EX_USAGE);
        }
    };
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vpc-emulator: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn read_flags() -> Result<Option<Flags>, lexopt::Error> {
    let (mut topology, mut ec2_port, mut control_port, mut imds_port, mut seed) = (None, 4599, 4598, 4600, 1);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("topology") => topology = Some(PathBuf::from(parser.value()?)),
            Long("ec2-port") => ec2_port = parser.value()?.parse()?,
            Long("control-port") => control_port = parser.value()?.parse()?,
            Long("imds-port") => imds_port = parser.value()?.parse()?,
            Long("seed") => seed = parser.value()?.parse()?,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    let topology = topology.ok_or("--topology is missing")?;
    Ok(Some(Flags { topology, ec2_port, control_port, imds_port, seed }))
}

#[tokio::main]
async fn run(flags: &Flags) -> Result<(), Box<dyn std::error::Error>> {
    let path = flags.topology.display();
    let text = std::fs::read_to_string(&flags.topology).map_err(|error| format!("reading {path}: {error}"))?;
    let config: VpcConfig = serde_json::from_str(&text).map_err(|error| format!("parsing {path}: {error}"))?;
    let emulator = Emulator::start(config, flags.seed, WallClock::start(), Box::new(NoDataPlane))?;

    let ec2 = listen(flags.ec2_port)?;
    let control = listen(flags.control_port)?;
    println!("export AWS_ENDPOINT_URL_EC2=http://{}", ec2.local_addr()?);
    let region = emulator.with_model(|vpc, _| vpc.region().to_owned());
    println!("export AWS_REGION={region} AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test");
    println!("# control API: http://{}", control.local_addr()?);
    emulator.serve_ec2(ec2)?;
    emulator.serve_control(control)?;
    let instances: Vec<(InstanceId, String)> =
        emulator.with_model(|vpc, _| vpc.instances().map(|i| (i.id.clone(), i.name.clone())).collect());
    for (at, (id, name)) in (0u16..).zip(instances) {
        let port = if flags.imds_port == 0 { 0 } else { flags.imds_port.saturating_add(at) };
        let imds = listen(port)?;
        println!("# {name} ({id}): export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{}", imds.local_addr()?);
        emulator.serve_imds(imds, id)?;
    }
    println!("# ready");
    wait_for_the_end().await?;
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).map_err(|error| format!("listening on {address}: {error}"))
}

async fn wait_for_the_end() -> std::io::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome,
        _ = terminated.recv() => Ok(()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
