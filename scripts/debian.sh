# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts that unpack Debian's packages, of the host's release or of another.

# apt_alone <command>…: of the host's apt, whose lists and dpkg's database have one lock each, for which apt does not wait. Scripts that
# run beside each other (scripts/beside.sh) take turns.
apt_lock=$(realpath -m "${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/apt.lock")
apt_alone() {
    mkdir -p "$(dirname "$apt_lock")"
    (flock 9 && "$@") 9>"$apt_lock"
}

# apt_fetch <log> <command>…: one that fetches packages of the host's release; again with new lists where it finds none, as on a new
# machine, or old ones.
apt_fetch() {
    local log=$1
    shift
    apt_alone apt_fetch_now "$log" "$@"
}

apt_fetch_now() {
    local log=$1
    shift
    "$@" >>"$log" 2>&1 || { apt-get update -qq >>"$log" 2>&1 && "$@" >>"$log" 2>&1; }
}

debian_uri() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -1; }

# debian_of <release> <folder>: what apt reads in its sources' place, in a folder of its own: name its apt.conf in APT_CONFIG. The
# packages come from where the host's own Debian packages come from.
debian_of() {
    local uri key=/usr/share/keyrings/debian-archive-keyring.gpg
    uri=$(debian_uri)
    # Whose sources are Debian's apt knows by their lists, which a new machine has not.
    [ -n "$uri" ] || { apt_alone apt-get update -qq >&2 && uri=$(debian_uri); }
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

# debian_fetch <folder> <release or -> <package>…: unpacked into <folder>/<release>/root; -: of the host's own release. What went wrong
# is in <folder>/log.
debian_fetch() {
    local folder=$1 release=$2 package
    shift 2
    mkdir -p "$folder/$release/packages"
    (
        cd "$folder/$release/packages"
        if [ "$release" = - ]; then
            # As root apt would switch to a user that cannot write here.
            apt_fetch "$folder/log" apt-get download -qq -o APT::Sandbox::User=root "$@"
        else
            debian_of "$release" "$folder/$release/apt" 2>>"$folder/log" || exit 1
            export APT_CONFIG="$folder/$release/apt/apt.conf"
            apt-get update -qq >>"$folder/log" 2>&1
            apt-get download -qq "$@" >>"$folder/log" 2>&1
        fi
    ) || return 1
    for package in "$folder/$release"/packages/*.deb; do dpkg -x "$package" "$folder/$release/root"; done
}
