# shellcheck shell=bash
# Finds or brings the executable: sourced by main.sh, which it gives `tool`.
#
# A release archive is used if its sha256 stands in checksums.txt, beside this file, and
# is what arrived. Nothing is ever run that was not checked.

# The platform as Rust names it; empty where there are no releases for it.
platform() {
    local system machine minor
    case "${RUNNER_OS:-$(uname -s)}" in
        Linux)
            # The static one runs anywhere; the other takes the glibc that it was linked with.
            system=unknown-linux-musl
            minor=$({ ldd --version 2>/dev/null || true; } | sed -n '1s/.* 2\.\([0-9][0-9]*\).*/\1/p')
            if [[ ${minor:-0} -ge 35 ]]; then
                system=unknown-linux-gnu
            fi
            ;;
        macOS | Darwin) system=apple-darwin ;;
        Windows | MINGW* | MSYS* | CYGWIN*) system=pc-windows-msvc ;;
        *) return 0 ;;
    esac
    case "${RUNNER_ARCH:-$(uname -m)}" in
        X64 | x86_64 | amd64) machine=x86_64 ;;
        ARM64 | aarch64 | arm64) machine=aarch64 ;;
        *) return 0 ;;
    esac
    printf '%s' "$machine-$system"
}

sha256_of() {
    if command -v sha256sum >/dev/null; then
        sha256sum <"$1" | cut -d ' ' -f 1
    else
        shasum -a 256 <"$1" | cut -d ' ' -f 1
    fi
}

# given_binary NAME: a path, or the name of a command.
given_binary() {
    case "$1" in
        */* | *\\*) tool=$(absolute "$1") ;;
        *) tool=$(command -v -- "$1" || absolute "$1") ;;
    esac
    [[ -f $tool ]] || fail "the input binary names no file: $1"
    if [[ ! -x $tool ]]; then
        fail "the input binary names a file that cannot be run: $1"
    fi
}

# release VERSION: downloads, checks and unpacks; returns 1 where there is none for this
# platform.
release() {
    local target name sum url archive folder got
    target=$(platform)
    name=cargo-edgepack-$1-$target.tar.gz
    sum=$(awk -v name="$name" '$2 == name { print $1; exit }' "${action:?}/checksums.txt")
    if [[ -z $target || -z $sum ]]; then
        return 1
    fi
    command -v curl >/dev/null || fail "curl is needed to download $name"
    folder=${RUNNER_TOOL_CACHE:-$temporary}/cargo-edgepack
    mkdir -p "$folder" || fail "$folder cannot be made"
    # As this shell writes it: C:\… is another machine's file for some tars.
    folder=$(cd -- "$folder" && pwd)
    archive=$folder/$name
    if [[ ! -f $archive || $(sha256_of "$archive") != "$sum" ]]; then
        url=${INPUT_DOWNLOAD_URL%/}
        if [[ -z $url ]]; then
            url=https://github.com/${ACTION_REPOSITORY:-OWNER/cargo-edgepack}/releases/download/v$1
        fi
        curl --fail --silent --show-error --location --retry 3 --max-time 300 \
            --output "$archive.$$" --url "$url/$name" ||
            fail "$name could not be downloaded; with the input binary nothing is"
        got=$(sha256_of "$archive.$$")
        if [[ $got != "$sum" ]]; then
            rm -f -- "$archive.$$"
            fail "$name has the sha256 $got, and not $sum, which the action knows: it is not used"
        fi
        mv -f -- "$archive.$$" "$archive" || fail "$archive cannot be written"
    fi
    # Into a folder of this job alone: what is run was checked in this step.
    # Owners are those of the machine that packed it, and not every user may set them.
    (cd -- "$temporary" && tar -xzf - --no-same-owner) <"$archive" || fail "$name cannot be unpacked"
    tool=$temporary/cargo-edgepack
    [[ -f $tool ]] || tool=$tool.exe
    [[ -f $tool ]] || fail "$name holds no cargo-edgepack"
}

# compile VERSION: the last resort.
compile() {
    local root=$temporary/cargo-install source=(cargo-edgepack --version "$1")
    command -v cargo >/dev/null ||
        fail "there is no release of $1 for this machine, and no cargo to compile it: use the input binary"
    if [[ $1 == "$own_version" && -f $action/../cargo-edgepack/Cargo.toml ]]; then
        source=(--path "$action/../cargo-edgepack")
        # A commit never means something else.
        if [[ ${ACTION_REF:-} =~ ^[0-9a-f]{40}$ && -n ${RUNNER_TOOL_CACHE:-} ]]; then
            root=$RUNNER_TOOL_CACHE/cargo-edgepack/$ACTION_REF
        fi
    fi
    tool=$root/bin/cargo-edgepack
    [[ ${RUNNER_OS:-} != Windows ]] || tool=$tool.exe
    if [[ ! -x $tool ]]; then
        say warning "there is no release of cargo-edgepack $1 for this machine: it is compiled, which takes about ten minutes"
        # Above the project: its toolchain file and cargo's settings are not for this.
        (cd "$temporary" && cargo install --locked --root "$root" "${source[@]}") >&2 ||
            fail "cargo-edgepack $1 could not be compiled" 1
    fi
}

install() {
    if [[ -n $INPUT_BINARY ]]; then
        given_binary "$INPUT_BINARY"
        return
    fi
    own_version=$(cat "$action/version")
    local version=${INPUT_VERSION:-$own_version}
    version=${version#v}
    if [[ ! $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]]; then
        fail "the input version is no version: $version"
    fi
    # On PATH already: an image that holds it, or a step before this one.
    tool=$(command -v cargo-edgepack || true)
    if [[ -n $tool && $("$tool" edgepack --version 2>/dev/null) == "cargo-edgepack $version" ]]; then
        return
    fi
    release "$version" || compile "$version"
}
