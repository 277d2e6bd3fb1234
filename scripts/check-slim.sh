#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compares the slim aws-sdk-ec2 with the full one, and records that they were compared: the same public items for the actions
# we call, and the EC2 edge's tests pass with either. Due once for each change of what the edge is built from.
set -euo pipefail
cd "$(dirname "$0")/.."

edge_tests() { # edge_tests <slim|full>: in a shell of its own, because sdk.sh sets where cargo builds
    (
        export SDK=$1 ENID_DERIVE=derive-unchecked
        source scripts/sdk.sh
        echo "== the EC2 edge's tests with the $1 SDK"
        # Both packages, so that the features are those of every other build and nothing is compiled twice.
        scripts/nextest.sh run --config "$ENID_SDK" -p ipamd -p ipamd-aws --all-targets -E 'package(ipamd-aws)'
    )
}

edge_tests slim
edge_tests full
cargo run --quiet -p slim-sdk -- record .
