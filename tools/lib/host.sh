# shellcheck shell=sh disable=SC2154
# Shell functions shared by the scripts in tools/: messages, packages of the host, the build, the caches.
# A script sets `self` to its own name for messages and `top` to the top of the tree before it reads this file.

say() {
    printf '%s: %s\n' "$self" "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# Installs the Debian packages listed in tools/lib/packages/NAME... that are not installed yet.
install_packages() {
    missing=
    for list in "$@"; do
        while read -r package; do
            case $package in '' | '#'*) continue ;; esac
            case " $missing " in *" $package "*) continue ;; esac
            case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
                installed) ;;
                *) missing="$missing${missing:+ }$package" ;;
            esac
        done <"$top/tools/lib/packages/$list"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "this needs packages with Debian's names, and there is no apt-get: $missing"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "missing packages, and no sudo; as root: apt-get install $missing"
        as_root=sudo
    fi
    say "installing Debian packages: $missing"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update </dev/null >&2 || die "apt-get update failed"
    # The names are words to be split.
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $missing </dev/null >&2 ||
        die "apt-get install failed"
}

# Configures the build directory DIR if need be, with the meson options that follow, and builds it. All on stderr.
build_tree() {
    build=$1
    shift
    if [ ! -e "$build/build.ninja" ]; then
        say "configuring $build"
        meson setup "$@" "$build" "$top" </dev/null >&2 || die "meson setup failed"
    fi
    quiet=--quiet
    [ ! -t 2 ] || quiet=
    # An empty word must not reach ninja.
    # shellcheck disable=SC2086
    ninja $quiet -C "$build" </dev/null >&2 || die "the build failed"
}

# The folder for what is fetched and built once per user.
cache_dir() {
    if [ -n "${XDG_CACHE_HOME:-}" ]; then
        printf '%s\n' "$XDG_CACHE_HOME/cleave"
    elif [ -n "${HOME:-}" ]; then
        printf '%s\n' "$HOME/.cache/cleave"
    else
        printf '%s\n' "$top/build-cache"
    fi
}
