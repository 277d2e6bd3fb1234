#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Chromium and chromedriver, with which tests open the page that ipamd serves. The host's when it has both; else Debian's packages, with
# all the libraries and fonts that the host lacks of their dependencies, unpacked into a folder below the build folder; nothing is
# installed into the host, and nothing is started but `--version`. Prints the folder. Idempotent. ENID_BROWSER names another one:
#   chromium   chromedriver   both executable, of the same release
set -euo pipefail
source "$(dirname "$0")/debian.sh"

out=${ENID_BROWSER:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/browser}

fail() {
    echo "browser: $*" >&2
    echo "browser: install chromium and chromedriver by hand (Debian: chromium chromium-driver), or name a folder as the head of $0 says in ENID_BROWSER" >&2
    exit 1
}

release() { "$1" --version 2>/dev/null | sed -nE 's/^(Chromium|Google Chrome|ChromeDriver) ([0-9]+\.[0-9]+\.[0-9]+).*/\2/p'; }

# missing <folder>: what does not start there, in one line; nothing when both do and belong together.
missing() {
    local browser driver
    browser=$(release "$1/chromium") driver=$(release "$1/chromedriver")
    [ -n "$browser" ] || printf 'chromium '
    [ -n "$driver" ] || printf 'chromedriver '
    [ "$browser" = "$driver" ] || printf '(chromium %s with chromedriver %s) ' "${browser:-?}" "${driver:-?}"
}

lacking() { # the packages that the host lacks for a browser, dependencies included, one a line
    apt-get install -qq --print-uris --no-install-recommends chromium chromium-driver 2>>"$1" |
        sed -nE "s/^'[^']*' ([^_ ]+)_.*/\1/p"
}

# launcher <program> <path below root>: starts an unpacked program with the libraries and the fonts beside it, or the host's own where
# only the other one was lacking.
launcher() {
    if [ ! -x "$work/out/root/$2" ]; then
        ln -s "$(command -v "$1")" "$work/out/$1"
        return
    fi
    cat >"$work/out/$1" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
for folder in "\$root"/usr/lib/*-linux-gnu "\$root"/usr/lib/*-linux-gnu/pulseaudio "\$root"/lib/*-linux-gnu; do
    [ -d "\$folder" ] && LD_LIBRARY_PATH=\$folder\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH FONTCONFIG_FILE="\$root/fonts.conf"
exec "\$root/$2" "\$@"
END
    chmod +x "$work/out/$1"
}

fonts() { # fontconfig looks at absolute paths only; what the host has comes second
    cat <<END
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>$1/usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>$1/fontconfig</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
END
}

host() { # the host's programs, when it has both
    local program
    mkdir -p "$work/out"
    for program in chromium chromedriver; do
        command -v "$program" >/dev/null || return 1
        ln -s "$(command -v "$program")" "$work/out/$program"
    done
    [ -z "$(missing "$work/out")" ]
}

unpack() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "no apt-get to fetch chromium and chromedriver with"
    local packages
    packages=$(lacking "$work/log") || packages=
    if [ -z "$packages" ]; then
        # A new machine has no lists yet.
        apt_alone apt-get update -qq >>"$work/log" 2>&1 || true
        packages=$(lacking "$work/log") || fail "apt-get finds no chromium: $(tail -3 "$work/log")"
    fi
    # The packages are named by apt: a list, not one word. The fonts are there even where the host's are others.
    # shellcheck disable=SC2086
    debian_fetch "$work" - $packages fonts-dejavu-core || fail "apt-get failed: $(tail -3 "$work/log")"
    rm -rf "$work/out"
    mkdir "$work/out"
    mv "$work/-/root" "$work/out/root"
    # Languages, manuals and icons are half of the libraries' packages.
    rm -rf "$work/out/root/usr/share/"{doc,man,locale,icons,lintian}
    launcher chromium usr/lib/chromium/chromium
    launcher chromedriver usr/bin/chromedriver
    fonts "$out/root" >"$work/out/root/fonts.conf"
}

if [ -n "$(missing "$out")" ]; then
    [ ! -e "$out" ] || fail "$out is there, but not $(missing "$out")"
    mkdir -p "$(dirname "$out")"
    out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
    work=$(mktemp -d "$(dirname "$out")/browser.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    if ! host; then
        echo "browser: unpacking Debian's chromium and chromedriver into $out" >&2
        unpack
        [ -z "$(missing "$work/out")" ] || fail "Debian's packages do not start: $("$work/out/chromium" --version 2>&1 | tail -3)"
    fi
    mv "$work/out" "$out"
fi
cd "$out" && pwd
