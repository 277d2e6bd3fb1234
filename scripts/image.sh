#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the image for this machine's architecture with buildah, and writes it as an archive that `docker load`, `podman load`,
# `ctr images import` and `skopeo copy docker-archive:` take. Needs root; no registry is asked, and nothing runs in the image.
# buildah is unpacked from Debian's packages below the build folder where the host has none; the certificate authorities are those of
# Debian's ca-certificates. Beside the archive lies what is in it: <archive without .tar>.cdx.json, the bill of materials (CycloneDX).
# The last line of standard output is the path of the archive.
# usage: image.sh [release|dev]     dev: with the daemon's debug build, for tests of the image. SDK=full for a release.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-release}
source scripts/sdk.sh
source scripts/debian.sh
out=$ENID_BUILD/enid/image
limit=25000000

fail() { echo "image: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "needs root: buildah keeps the image's files with their owner"

case $(uname -m) in
    x86_64) arch=amd64 other=arm64 ;;
    aarch64) arch=arm64 other=amd64 ;;
    *) fail "AWS has no nodes of $(uname -m)" ;;
esac

debian() { # debian <folder> <package>…: unpacked into the folder, once
    local folder=$1 work
    shift
    [ ! -d "$folder" ] || return 0
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "no apt-get to fetch $* with"
    mkdir -p "$out"
    work=$(mktemp -d "$out/debian.XXXXXX")
    debian_fetch "$work" - "$@" || fail "apt-get failed: $(tail -3 "$work/log")"
    mv "$work/-/root" "$folder"
    rm -rf "$work"
}

buildah() { # with images and state of its own
    local program=buildah path=${LD_LIBRARY_PATH:-}
    if ! type -P buildah >/dev/null; then
        # And of the libraries that it links, what a slim Debian may lack.
        debian "$out/buildah" buildah libgpgme11 libassuan0 libgpg-error0 libdevmapper1.02.1 libseccomp2
        program=$out/buildah/usr/bin/buildah
        path=$(printf '%s:' "$out"/buildah/usr/lib/*-linux-gnu "$out"/buildah/lib/*-linux-gnu)
    fi
    LD_LIBRARY_PATH=${path%:} command "$program" --root "$store/root" --runroot "$store/run" --storage-driver vfs "$@"
}

CARGO_TARGET_DIR=$ENID_BUILD scripts/build-plugin.sh "$ENID_CNI_PLUGIN" >&2
daemon=$(CARGO_TARGET_DIR=$ENID_BUILD ENID_SDK= scripts/build-daemon.sh "$profile" | tail -1)
debian "$out/authorities" ca-certificates

context=$out/context
rm -rf "$context"
mkdir -p "$context/$arch"
install -m 0755 "$daemon" "$context/$arch/ipamd"
install -m 0755 "$ENID_CNI_PLUGIN" "$context/$arch/aws-cni"
cat "$out"/authorities/usr/share/ca-certificates/mozilla/*.crt >"$context/ca-certificates.crt"
# Without it glibc asks DNS first and /etc/hosts, with a pod's host aliases, only where there is no DNS.
echo 'hosts: files dns' >"$context/nsswitch.conf"
chmod 0644 "$context"/{ca-certificates.crt,nsswitch.conf}

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=localhost/enid:$version
archive=$out/enid-$version-$arch-$profile.tar
store=$(mktemp -d "$out/store.XXXXXX")
trap 'rm -rf "$store"' EXIT
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$store/policy.json"
# The same files give the same image: its time is the last commit's.
buildah bud --quiet --isolation chroot --signature-policy "$store/policy.json" --timestamp "$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
    --platform "linux/$arch" --build-arg TARGETARCH="$arch" --label org.opencontainers.image.version="$version" \
    --label org.opencontainers.image.licenses=Apache-2.0 --tag "$name" --file deploy/Dockerfile "$context" >&2
rm -f "$archive"
buildah push --quiet --signature-policy "$store/policy.json" "$name" "docker-archive:$archive:$name" >&2

# What is in it: the crates that cargo links, by its own word, and what of the compiler's and of Debian's is linked with them.
package() { # package <Debian package> <name> <licence>: version and package URL, with tabs between
    local version
    if version=$(dpkg-query --showformat='${source:Version}' --show "$1" 2>/dev/null); then
        printf '%s\tpkg:deb/debian/%s@%s?arch=source\t%s' "$version" "$2" "${version//+/%2B}" "$3"
    else
        version=$(ldd --version | sed -n '1s/.* //p')
        printf '%s\tpkg:generic/%s@%s\t%s' "$version" "$2" "$version" "$3"
    fi
}

bill=${archive%.tar}.cdx.json
facts=$store/facts
target=$(basename "$(dirname "$(dirname "$daemon")")")
rust=$(rustc --version | cut -d' ' -f2)
authorities=$(zcat "$out"/authorities/usr/share/doc/ca-certificates/changelog*.gz | sed -n '1s/.*(\(.*\)).*/\1/p')
for program in ipamd=ipamd cni-plugin=aws-cni; do
    cargo tree --locked --edges normal --prefix depth --format '{p}|{l}' --target "$target" -p "${program%=*}" >"$store/${program#*=}.tree"
done
{
    printf 'image\tenid\t%s\t%s\t%s\n' "$version" "$arch" "$(date --utc --date="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" +%FT%TZ)"
    printf 'lock\tCargo.lock\n'
    for program in ipamd aws-cni; do
        printf 'program\t%s\t%s\t%s\n' $program "$(sha256sum <"$context/$arch/$program" | cut -d' ' -f1)" "$store/$program.tree"
    done
    printf 'library\trust-std\t%s\tpkg:generic/rust-std@%s\tMIT OR Apache-2.0\tipamd aws-cni\n' "$rust" "$rust"
    case $target in
        # The target's own files; rustc's version says which musl.
        *-musl) printf 'library\tmusl\t%s\tpkg:generic/musl@rust-%s\tMIT\tipamd aws-cni\n' "rust-$rust" "$rust" ;;
        *)
            printf 'library\tglibc\t%s\tipamd aws-cni\n' "$(package libc6-dev glibc LGPL-2.1-or-later)"
            gcc=libgcc-$(gcc -dumpversion)-dev
            printf 'library\tlibgcc\t%s\tipamd aws-cni\n' "$(package "$gcc" gcc 'GPL-3.0-or-later WITH GCC-exception-3.1')"
            ;;
    esac
    printf 'file\tca-certificates\t%s\tpkg:deb/debian/ca-certificates@%s\tMPL-2.0\n' "$authorities" "${authorities//+/%2B}"
} >"$facts"
CARGO_TARGET_DIR=$ENID_BUILD cargo run --quiet --locked -p sbom -- "$facts" >"$bill.new"
mv "$bill.new" "$bill"
echo "image: its bill of materials is $bill, $(grep -c '"type": "library"' "$bill") libraries" >&2

size=$(stat --format=%s "$archive")
echo "image: $name for $arch, $profile, $size bytes$([ "$profile" = dev ] || echo ", limit $limit"); not built: $other, which needs a machine of its own" >&2
[ "$profile" = dev ] || [ "$size" -le "$limit" ] || fail "the image is over its limit"
echo "$archive"
