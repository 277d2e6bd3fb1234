// SPDX-License-Identifier: Apache-2.0
//! The VPC model: EC2, IMDS, subnets, limits and throttles as one pure machine.
//!
//! [`Vpc`] answers EC2 calls in the query protocol, byte for byte as a client of EC2 expects, and IMDS reads; it says what
//! the packet fabric has to do ([`FabricEvent`]). It has no clock (`now` is an argument), no sockets and no randomness but
//! its seed. It is strict where EC2 is strict: instance-type limits, reserved addresses, /28 fragmentation, request tokens,
//! idempotency, parameter names. It serves nothing itself; the emulator in crate `integration` does.
//!
//! ```
//! use std::time::Duration;
//! use vpc_model::{Caller, Vpc, VpcConfig};
//!
//! let config: VpcConfig = serde_json::from_str(r#"{
//!     "vpcs": [{"name": "v", "cidr_blocks": ["10.0.0.0/16"]}],
//!     "subnets": [{"name": "a", "vpc": "v", "cidr_block": "10.0.1.0/24"}],
//!     "instances": [{"name": "n1", "instance_type": "m5.large", "subnet": "a"}]
//! }"#)?;
//! let mut vpc = Vpc::new(config, 1)?;
//! let answer = vpc.ec2(&Caller::default(), "DescribeSubnets", &[], Duration::ZERO);
//! assert_eq!(answer.status, 200);
//! assert!(answer.body.contains("<availableIpAddressCount>250</availableIpAddressCount>"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod actions;
mod assign;
mod attach;
mod blind;
mod config;
mod control;
mod create;
mod describe;
mod efa;
mod enis;
mod error;
mod events;
mod faults;
mod history;
mod iam;
mod ids;
pub mod imds;
mod keys;
mod modify;
mod odd;
mod params;
mod reservations;
mod rights;
mod settings;
mod space;
mod state;
mod sts;
mod tags;
mod throttle;
mod timestamp;
mod topology;
mod vpc;
mod xml;

pub use assign::MoveError;
pub use blind::Hidden;
pub use config::{
    ConfigError, InstanceSpec, InterfaceSpec, ReservationSpec, SecurityGroupSpec, SubnetSpec, VpcConfig, VpcSpec,
};
pub use control::ControlError;
pub use error::{Ec2Error, http_status};
pub use events::{Assigned, AttachedEni, FabricEvent};
pub use faults::{AttachFault, AttachFaultKind, Delivery, Effect, Fault, ImdsFault};
pub use iam::{Policy, PolicyError};
pub use ids::{AttachmentId, BadMac, EniId, IdSource, InstanceId, MacAddr, SecurityGroupId, SubnetId, VpcId};
pub use keys::KeySettings;
pub use odd::Oddity;
pub use settings::{AddressChoice, Bucket, Lags, Latencies, Quotas, Settings, ThrottleSettings};
pub use state::{
    Attachment, AttachmentPhase, CidrReservation, Eni, EniState, Instance, InstanceState, InterfaceType, Link,
    ReservationType, SecurityGroup, Subnet, Tags, VpcRecord,
};
pub use timestamp::iso as iso_time;
pub use vpc::{API_VERSION, CallRecord, Caller, Response, Vpc};
pub use xml::NAMESPACE;
