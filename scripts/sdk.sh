# SPDX-License-Identifier: Apache-2.0
# Sourced by bash, from anywhere: says with which aws-sdk-ec2 the workspace is compiled, and where. Sourced again, it says so anew.
#   SDK=slim (the default)   a copy cut down to the actions we call, which slim-sdk derives into the build folder
#   SDK=full                 the crate as published: minutes and 8 GB of memory
# Sets ENID_SDK, cargo's configuration for it, to be given with --config to each cargo command that compiles the daemon;
# CARGO_TARGET_DIR, a folder for this SDK alone; ENID_BUILD, the folder that all else is built into; and the programs the tests drive.
enid_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
# Sourced before, CARGO_TARGET_DIR is the folder of the SDK of then, and the build folder is known.
if [ "${ENID_SDK:-}" != "${CARGO_TARGET_DIR:-}/cargo.toml" ]; then
    export ENID_BUILD="${CARGO_TARGET_DIR:-$enid_root/target}"
fi
case "$ENID_BUILD" in
    /*) ;;
    *) ENID_BUILD=$PWD/$ENID_BUILD ;;
esac
case "${SDK:-slim}" in
    slim)
        enid_folder=$(
            cd "$enid_root"
            CARGO_TARGET_DIR=$ENID_BUILD cargo build --quiet -p slim-sdk &&
                "$ENID_BUILD/debug/slim-sdk" "${ENID_DERIVE:-derive}" . "$ENID_BUILD"
        ) || { echo "no slim SDK; SDK=full takes the full one" >&2; return 1; }
        # What is built once for all SDKs is found beside the programs, too.
        [ -e "$enid_folder/enid" ] || ln -sfn ../enid "$enid_folder/enid"
        export ENID_SDK=$enid_folder/cargo.toml CARGO_TARGET_DIR=$enid_folder
        ;;
    full)
        mkdir -p "$ENID_BUILD/enid"
        echo "# The SDK as published: nothing to configure." >"$ENID_BUILD/enid/full.toml"
        export ENID_SDK=$ENID_BUILD/enid/full.toml CARGO_TARGET_DIR=$ENID_BUILD
        ;;
    *) echo "SDK=$SDK: it is slim or full" >&2; return 1 ;;
esac
export ENID_IPAMD=$CARGO_TARGET_DIR/debug/ipamd
export ENID_CNI_PLUGIN=$ENID_BUILD/enid/aws-cni ENID_TOOLS=$ENID_BUILD/enid/tools
export ENID_LOCALSTACK=$ENID_BUILD/enid/localstack ENID_MOTO=$ENID_BUILD/enid/moto
export ENID_KUBE_PROXY=${ENID_KUBE_PROXY:-$ENID_BUILD/enid/kube-proxy}
export ENID_VM=${ENID_VM:-$ENID_BUILD/enid/vm}
export ENID_NETWORK_MANAGERS=${ENID_NETWORK_MANAGERS:-$ENID_BUILD/enid/network-managers}
export ENID_CHARTS=${ENID_CHARTS:-$ENID_BUILD/enid/charts}
export ENID_RUNTIMES=${ENID_RUNTIMES:-$ENID_BUILD/enid/runtimes}
export ENID_MONITORING=${ENID_MONITORING:-$ENID_BUILD/enid/monitoring}
export ENID_BROWSER=${ENID_BROWSER:-$ENID_BUILD/enid/browser}
export ENID_GO_CALLERS=${ENID_GO_CALLERS:-$ENID_BUILD/enid/go-callers}
export ENID_KUBERNETES=${ENID_KUBERNETES:-$ENID_BUILD/enid/kubernetes}
unset enid_root enid_folder
