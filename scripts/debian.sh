# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts that unpack packages of another Debian release than the host's.

debian_uri() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -1; }

# debian_of <release> <folder>: what apt reads in its sources' place, in a folder of its own: name its apt.conf in APT_CONFIG. The
# packages come from where the host's own Debian packages come from.
debian_of() {
    local uri key=/usr/share/keyrings/debian-archive-keyring.gpg
    uri=$(debian_uri)
    # Whose sources are Debian's apt knows by their lists, which a new machine has not.
    [ -n "$uri" ] || { apt-get update -qq >&2 && uri=$(debian_uri); }
    [ -n "$uri" ] || { echo "no Debian archive among apt's sources" >&2; return 1; }
    mkdir -p "$2"/lists/partial "$2"/cache/archives/partial
    echo "deb [signed-by=$key] $uri $1 main" >"$2/sources.list"
    cat >"$2/apt.conf" <<END
Dir::Etc::sourcelist "$2/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$2/lists";
Dir::Cache "$2/cache";
APT::Sandbox::User "root";
END
}
