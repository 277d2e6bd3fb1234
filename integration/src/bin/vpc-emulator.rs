// SPDX-License-Identifier: Apache-2.0
//! `vpc-emulator`: the emulated VPC as a program of its own, EC2, IMDS and control API on loopback ports.
//!
//! Reads flags and a topology file, serves until it is told to stop, and prints what to export so that an unmodified AWS
//! SDK talks to it. With `--foreign-ec2` it serves IMDS only, of an instance of an EC2 that somebody else runs. Both carry no
//! packets; with `--fabric` it runs a command inside the whole VPC (`integration::standalone`). The crate's README says what
//! each can be used for.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]
#![expect(clippy::disallowed_methods, reason = "a command line reads its file")]

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use integration::emulator::{Emulator, NoDataPlane, WallClock, serve};
use integration::imds_http::{ForeignEc2, QueryClient, router};
use integration::node::RpFilter;
use integration::running_vpc::Choices;
use integration::standalone::{self, Session};
use lexopt::prelude::*;
use vpc_model::{InstanceId, VpcConfig};

const USAGE: &str = "\
Usage: vpc-emulator --topology FILE [--ec2-port N] [--control-port N] [--imds-port N] [--seed N]
       vpc-emulator --topology FILE --fabric [--rp-filter N] [the ports and the seed] [-- COMMAND [ARGUMENT ...]]
       vpc-emulator --foreign-ec2 ADDRESS:PORT --instance ID [--region NAME] [--imds-port N] [--poll-ms N]

  --topology FILE     JSON topology (integration/examples/topology.json is one)
  --ec2-port N        EC2 query API on 127.0.0.1:N (default 4599; 0: any free port)
  --control-port N    control API on 127.0.0.1:N (default 4598; 0: any free port)
  --imds-port N       IMDS of the first instance on 127.0.0.1:N, of the second on N+1, ... (default 4600; 0: any)
  --seed N            what ids, MACs and chosen addresses are drawn from (default 1)

  --fabric            run COMMAND ($SHELL or /bin/bash when there is none) in a world of its own, with a network namespace
                      for each instance and a router between them that carries packets as a VPC does; needs root. EC2 and
                      IMDS are at the same ports on every instance. Ends with COMMAND, with its exit code
  --rp-filter N       rp_filter of the instances at their start: 0, 1 or 2 (default 2, systemd's)

  --foreign-ec2 A:P   serve IMDS only, fed from the Describe calls of this EC2 (LocalStack, for one)
  --instance ID       of this instance there
  --region NAME       its Region (default us-east-1)
  --poll-ms N         how often to look (default 500)

  --help              this text

Stops on SIGINT or SIGTERM.";

/// Bad usage or a bad topology (sysexits.h, EX_USAGE).
const EX_USAGE: u8 = 64;

/// The command line, as given.
#[derive(Debug)]
struct Flags {
    topology: Option<PathBuf>,
    ec2_port: u16,
    control_port: u16,
    imds_port: u16,
    seed: u64,
    fabric: bool,
    rp_filter: Option<RpFilter>,
    command: Vec<OsString>,
    foreign_ec2: Option<SocketAddr>,
    instance: Option<String>,
    region: String,
    poll_ms: u64,
}

/// What to serve.
#[derive(Debug)]
enum Mode<'a> {
    Emulator(&'a Path),
    Fabric(&'a Path),
    Foreign { ec2: SocketAddr, instance: &'a str },
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
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("vpc-emulator: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn read_flags() -> Result<Option<Flags>, lexopt::Error> {
    let mut flags = Flags {
        topology: None,
        ec2_port: 4599,
        control_port: 4598,
        imds_port: 4600,
        seed: 1,
        fabric: false,
        rp_filter: None,
        command: Vec::new(),
        foreign_ec2: None,
        instance: None,
        region: "us-east-1".to_owned(),
        poll_ms: 500,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("topology") => flags.topology = Some(PathBuf::from(parser.value()?)),
            Long("ec2-port") => flags.ec2_port = parser.value()?.parse()?,
            Long("control-port") => flags.control_port = parser.value()?.parse()?,
            Long("imds-port") => flags.imds_port = parser.value()?.parse()?,
            Long("seed") => flags.seed = parser.value()?.parse()?,
            Long("fabric") => flags.fabric = true,
            Long("rp-filter") => flags.rp_filter = Some(parser.value()?.parse()?),
            Value(program) if flags.fabric => {
                flags.command = std::iter::once(program).chain(parser.raw_args()?).collect();
            }
            Long("foreign-ec2") => flags.foreign_ec2 = Some(parser.value()?.parse()?),
            Long("instance") => flags.instance = Some(parser.value()?.string()?),
            Long("region") => flags.region = parser.value()?.string()?,
            Long("poll-ms") => flags.poll_ms = parser.value()?.parse()?,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    flags.mode()?;
    Ok(Some(flags))
}

impl Flags {
    fn mode(&self) -> Result<Mode<'_>, lexopt::Error> {
        match (&self.topology, self.foreign_ec2, &self.instance) {
            (Some(topology), None, None) if self.fabric => {
                if [self.ec2_port, self.control_port, self.imds_port].contains(&0) {
                    return Err("--fabric has the same ports on every instance: none can be 0".into());
                }
                Ok(Mode::Fabric(topology))
            }
            _ if self.rp_filter.is_some() && !self.fabric => Err("--rp-filter needs --fabric".into()),
            (Some(topology), None, None) => Ok(Mode::Emulator(topology)),
            (None, Some(_), _) if self.fabric => Err("--fabric does not go with --foreign-ec2".into()),
            (None, Some(ec2), Some(instance)) => Ok(Mode::Foreign { ec2, instance }),
            (None, Some(_), None) => Err("--foreign-ec2 needs --instance".into()),
            (None, None, _) => Err("--topology is missing".into()),
            (Some(_), _, _) => Err("--topology does not go with --foreign-ec2 and --instance".into()),
        }
    }

    fn session(&self, config: &VpcConfig) -> Session {
        let rp_filter = self.rp_filter.unwrap_or_default();
        let rp_filter = config.instances.iter().map(|instance| (instance.name.clone(), rp_filter)).collect();
        let choices = Choices { seed: self.seed, rp_filter, ec2_port: self.ec2_port, imds_port: self.imds_port };
        Session { choices, control_port: self.control_port, command: self.command.clone() }
    }
}

fn run(flags: &Flags) -> Result<u8, Box<dyn std::error::Error>> {
    let threads = tokio::runtime::Runtime::new;
    match flags.mode()? {
        // Makes its threads itself, in the world that it enters first.
        Mode::Fabric(topology) => {
            let config = read_topology(topology)?;
            let session = flags.session(&config);
            return Ok(standalone::run(config, &session)?);
        }
        Mode::Emulator(topology) => threads()?.block_on(emulate(flags, read_topology(topology)?))?,
        Mode::Foreign { ec2, instance } => threads()?.block_on(serve_foreign(flags, ec2, instance))?,
    }
    Ok(0)
}

fn read_topology(path: &Path) -> Result<VpcConfig, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("reading {shown}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("parsing {shown}: {error}"))
}

async fn serve_foreign(flags: &Flags, ec2: SocketAddr, instance: &str) -> Result<(), Box<dyn std::error::Error>> {
    let foreign = Arc::new(ForeignEc2::new(QueryClient::new(ec2, &flags.region), instance));
    foreign.refresh().await?;
    let imds = listen(flags.imds_port)?;
    println!("export AWS_ENDPOINT_URL_EC2=http://{ec2}");
    println!("export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{}", imds.local_addr()?);
    let service = serve(imds, router(foreign.clone()))?;
    let poll = foreign.poll(Duration::from_millis(flags.poll_ms), Box::new(NoDataPlane));
    println!("# ready");
    wait_for_the_end().await?;
    poll.abort();
    service.abort();
    Ok(())
}

async fn emulate(flags: &Flags, config: VpcConfig) -> Result<(), Box<dyn std::error::Error>> {
    let emulator = Emulator::start(config, flags.seed, WallClock::start(), Box::new(NoDataPlane))?;

    let ec2 = listen(flags.ec2_port)?;
    let control = listen(flags.control_port)?;
    println!("export AWS_ENDPOINT_URL_EC2=http://{}", ec2.local_addr()?);
    let region = emulator.with_model(|vpc, _| vpc.region().to_owned());
    println!("export AWS_REGION={region} AWS_DEFAULT_REGION={region}");
    println!("export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test");
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
