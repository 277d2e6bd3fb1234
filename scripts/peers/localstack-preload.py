# SPDX-License-Identifier: Apache-2.0
"""Runs inside LocalStack once it serves: makes the VPC, subnet, group and instance that the test's node is, and writes
their ids to preload.json below the state folder."""

import json
import os

import boto3

PORT = os.environ["GATEWAY_LISTEN"].split(":")[1]
SUBNET = "10.0.1.0/24"
NODE = "10.0.1.10"

ec2 = boto3.client(
    "ec2",
    endpoint_url=f"http://127.0.0.1:{PORT}",
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=SUBNET, AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
group = ec2.create_security_group(GroupName="node", Description="node", VpcId=vpc)["GroupId"]
instance = ec2.run_instances(
    ImageId="ami-12345678",
    InstanceType="m5.large",
    MinCount=1,
    MaxCount=1,
    SubnetId=subnet,
    SecurityGroupIds=[group],
    PrivateIpAddress=NODE,
)["Instances"][0]["InstanceId"]

path = os.environ["FILESYSTEM_ROOT"] + "/preload.json"
with open(path + ".tmp", "w", encoding="utf-8") as file:
    json.dump({"vpc": vpc, "subnet": subnet, "group": group, "instance": instance}, file)
os.rename(path + ".tmp", path)
