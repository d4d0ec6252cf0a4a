#!/usr/bin/env bash
# The action: turns inputs into flags, runs cargo edgepack, and lets it tell the runner
# what came of it. Bash 3.2, which macOS has, has to do.
#
# Inputs are data: they come as INPUT_* variables, go into an array of words, and no word
# can turn into a flag that it is not.
set -euo pipefail

action=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=action/install.sh
source "$action/install.sh"
temporary=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/cargo-edgepack.XXXXXX")
# As this shell writes it, also on Windows.
temporary=$(cd -- "$temporary" && pwd)
trap 'rm -rf -- "$temporary"' EXIT

# Not in the environment of what is started from here: build scripts would see them.
password=${INPUT_PASSWORD:-}
token=${INPUT_TOKEN:-}
unset INPUT_PASSWORD INPUT_TOKEN

# In a container the checkout is another user's, and git would not say which commit it is.
if [[ -n ${GITHUB_WORKSPACE:-} ]]; then
    count=${GIT_CONFIG_COUNT:-0}
    export GIT_CONFIG_COUNT=$((count + 1)) "GIT_CONFIG_KEY_$count=safe.directory" \
        "GIT_CONFIG_VALUE_$count=$GITHUB_WORKSPACE"
fi

# say error|warning|notice TEXT
say() {
    local text=$2
    text=${text//'%'/%25}
    text=${text//$'\r'/%0D}
    text=${text//$'\n'/%0A}
    printf '::%s title=cargo edgepack::%s\n' "$1" "$text"
}

fail() {
    say error "$1"
    exit "${2:-2}"
}

absolute() {
    case "$1" in
        /* | [A-Za-z]:[\\/]*) printf '%s' "$1" ;;
        *) printf '%s' "$PWD/$1" ;;
    esac
}

# is NAME: whether a switch is on; anything but true and false is an error.
is() {
    local variable=INPUT_$1
    case "${!variable:-}" in
        true) return 0 ;;
        false | "") return 1 ;;
        *) fail "the input $(spelled "$1") is true or false, and not: ${!variable}" ;;
    esac
}

# As a workflow spells the input.
spelled() {
    printf '%s' "$1" | tr '[:upper:]_' '[:lower:]-'
}

# lines TEXT: one item a line, without white space around it.
lines() {
    printf '%s\n' "$1" | sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d'
}

# Where values are separated by commas too.
items() {
    lines "$(printf '%s' "$1" | tr ',' '\n')"
}

words=()

# flag NAME VALUE: with `=`, so that a value that begins with `-` stays a value.
flag() {
    [[ -z $2 ]] || words+=("--$1=$2")
}

# each NAME TEXT
each() {
    local item
    while IFS= read -r item; do
        flag "$1" "$item"
    done < <(lines "$2")
}

switch() {
    if is "$1"; then
        words+=("--$(spelled "$1")")
    fi
}

lock_file_is_there() {
    local folder
    folder=$PWD
    if [[ -n $INPUT_MANIFEST_PATH ]]; then
        folder=$(dirname -- "$(absolute "$INPUT_MANIFEST_PATH")")
    fi
    while :; do
        [[ ! -f $folder/Cargo.lock ]] || return 0
        [[ $folder != "$(dirname -- "$folder")" ]] || return 1
        folder=$(dirname -- "$folder")
    done
}

build_flags() {
    each package "$INPUT_PACKAGE"
    flag manifest-path "$INPUT_MANIFEST_PATH"
    flag profile "$INPUT_PROFILE"
    flag target "$INPUT_TARGET"
    flag features "$(printf '%s' "$INPUT_FEATURES" | tr '\r\n' '  ')"
    case "$INPUT_LOCKED" in
        auto | "")
            if [[ -z $INPUT_FILE ]] && lock_file_is_there; then
                words+=(--locked)
            fi
            ;;
        true) words+=(--locked) ;;
        false) ;;
        *) fail "the input locked is true, false or auto, and not: $INPUT_LOCKED" ;;
    esac
    switch OFFLINE
    flag budget-raw "$INPUT_BUDGET_RAW"
    flag budget-gzip "$INPUT_BUDGET_GZIP"
    flag compare-to "$INPUT_COMPARE_TO"
    case "$INPUT_SBOM" in
        true) words+=(--sbom) ;;
        false) words+=(--no-sbom) ;;
        "") ;;
        *) fail "the input sbom is true or false, and not: $INPUT_SBOM" ;;
    esac
}

publish_flags() {
    local repository=$INPUT_REPOSITORY item
    if [[ -n $INPUT_REGISTRY ]]; then
        [[ -n $repository ]] ||
            fail "the input registry goes before the input repository, which is empty: name that too"
        case "$repository" in
            "${INPUT_REGISTRY%/}"/*) ;;
            *) repository=${INPUT_REGISTRY%/}/$repository ;;
        esac
    fi
    # Registries know lower case alone, and the names of owners may have upper case.
    repository=$(printf '%s' "$repository" | tr '[:upper:]' '[:lower:]')
    flag repository "$repository"
    while IFS= read -r item; do
        flag tag "$item"
    done < <(items "$INPUT_TAGS")
    flag sign "$INPUT_SIGN"
    flag key "$INPUT_KEY"
    flag oci-layout "$INPUT_OCI_LAYOUT"
    switch DRY_RUN
    credentials "${repository:-$(configured_repository)}"
    words+=(${login[@]+"${login[@]}"})
}

# The repository that the project names, as far as the job's token has to know. Nothing
# where there may be another one too, which the token is not for.
configured_repository() {
    local words=(plan --message-format=json --color=never) word found
    [[ -z $password && -n $token && -z $INPUT_FILE && -z $INPUT_OCI_LAYOUT ]] || return 0
    while IFS= read -r word; do
        case "$word" in
            --repository* | --manifest-path* | -p* | --package* | --workspace* | --all*) return 0 ;;
        esac
    done < <(printf '%s\n' "$INPUT_ARGS")
    each package "$INPUT_PACKAGE"
    flag manifest-path "$INPUT_MANIFEST_PATH"
    # What is wrong, publish says as well.
    found=$("${tool:?}" edgepack "${words[@]}" 2>/dev/null </dev/null |
        grep -o '"repository": *"[^"]*"' | sed -e 's/^[^:]*: *"//' -e 's/"$//') || return 0
    if ! grep -qv '^ghcr\.io/' <<<"$found"; then
        printf '%s' "${found%%$'\n'*}"
    fi
}

# knows_ghcr: whether docker or podman were told who enters.
knows_ghcr() {
    local file
    for file in "${DOCKER_CONFIG:-${HOME:-/nowhere}/.docker}/config.json" "${REGISTRY_AUTH_FILE:-/nowhere}" \
        "${XDG_RUNTIME_DIR:-/nowhere}/containers/auth.json" "${XDG_CONFIG_HOME:-${HOME:-/nowhere}/.config}/containers/auth.json"; do
        ! grep -q '"ghcr.io' "$file" 2>/dev/null || return 0
    done
    return 1
}

# The words that announce a password, where there is one, and the host that it is for.
login=()
login_host=

credentials() {
    local username=$INPUT_USERNAME
    if [[ -z $password && $1 == ghcr.io/* && -n $token ]] && ! knows_ghcr; then
        username=${username:-${GITHUB_ACTOR:-token}}
        password=$token
    fi
    if [[ -n $password ]]; then
        [[ -n $username ]] || fail "there is a password and no username"
        login=("--username=$username" --password-stdin)
        login_host=${1%%/*}
    fi
}

# run WORD...: what it prints for people is not for the runner to obey, since compilers
# and build scripts print too; what it prints for the runner comes behind.
run() {
    local stop word input="" status=0
    for word in "$@"; do
        [[ $word != --password-stdin ]] || input=$password
    done
    stop=edgepack-$(od -An -N 16 -t x1 /dev/urandom | tr -d ' \n')
    printf '::stop-commands::%s\n' "$stop"
    if [[ $1 == plan ]]; then
        # It takes no time: what it says can be read before it is shown.
        "${tool:?}" edgepack "$@" >"$temporary/stdout" 2>"$temporary/stderr" </dev/null || status=$?
        cat "$temporary/stderr"
    else
        printf '%s' "$input" | "${tool:?}" edgepack "$@" >"$temporary/stdout" || status=$?
    fi
    # On a line of its own, whatever was printed last.
    printf '\n::%s::\n' "$stop"
    return "$status"
}

output() {
    local end
    end=edgepack-$(od -An -N 16 -t x1 /dev/urandom | tr -d ' \n')
    printf '%s<<%s\n%s\n%s\n' "$1" "$end" "$2" "$end" >>"$GITHUB_OUTPUT"
}

# The results of shrinking that other runners share. Without them it only takes longer.
share() {
    local flags=() password=$password
    # A password is for the host that it was given for, and for no other.
    if [[ ${INPUT_CACHE%%/*} == "$login_host" ]]; then
        flags=(${login[@]+"${login[@]}"})
    elif [[ $INPUT_CACHE == ghcr.io/* && -n $token ]] && ! knows_ghcr; then
        password=$token
        flags=("--username=${GITHUB_ACTOR:-token}" --password-stdin)
    fi
    run cache "--$1=oci:$INPUT_CACHE" ${flags[@]+"${flags[@]}"} ||
        say warning "results of shrinking could not be shared with $INPUT_CACHE"
}

plan() {
    local matrix why status=0 changed=true
    words=(plan --matrix=github --color=never)
    each package "$INPUT_PACKAGE"
    flag manifest-path "$INPUT_MANIFEST_PATH"
    flag since "$INPUT_SINCE"
    add_args
    run "${words[@]}" || status=$?
    if [[ $status != 0 ]]; then
        why=$(awk '/^Usage:|^For more/ { exit } found || sub(/^error: /, "") { found = 1; print }' \
            "$temporary/stderr" | head -n 20)
        fail "${why:-cargo edgepack plan failed with exit code $status: the log says why}" "$status"
    fi
    matrix=$(cat "$temporary/stdout")
    [[ $matrix != '{"include":[]}' ]] || changed=false
    output matrix "$matrix"
    output changed "$changed"
}

copy_to() {
    mkdir -p -- "$(dirname -- "$2")" && cp -- "$1" "$2"
}

add_args() {
    local word
    while IFS= read -r word; do
        word=${word%$'\r'}
        [[ -z $word ]] || words+=("$word")
    done < <(printf '%s\n' "$INPUT_ARGS")
}

main() {
    local command=$INPUT_COMMAND file line status=0
    while IFS= read -r line; do
        # A line of its own can be hidden, a text of several cannot.
        [[ -z ${line//[[:space:]]/} ]] || printf '::add-mask::%s\n' "${line//'%'/%25}"
    done < <(printf '%s\n' "$password")
    install
    cd -- "$INPUT_WORKING_DIRECTORY" || fail "there is no folder $INPUT_WORKING_DIRECTORY"
    if is PUBLISH && [[ $command == build ]]; then
        command=publish
    fi
    # For what is shared and compared too.
    if [[ -n $INPUT_INSECURE_REGISTRIES ]]; then
        EDGEPACK_PUBLISH_PLAIN_HTTP=$(items "$INPUT_INSECURE_REGISTRIES" | paste -sd , -)
        export EDGEPACK_PUBLISH_PLAIN_HTTP
    fi
    words=("$command" --message-format=github)
    case "$command" in
        build)
            build_flags
            # There is no registry but for what is shared and compared.
            [[ -z $INPUT_CACHE$INPUT_COMPARE_TO ]] || credentials "${INPUT_CACHE:-$INPUT_COMPARE_TO}"
            if [[ -n $INPUT_COMPARE_TO && ${INPUT_COMPARE_TO%%/*} == "$login_host" ]]; then
                words+=(${login[@]+"${login[@]}"})
            fi
            ;;
        publish)
            build_flags
            publish_flags
            ;;
        check)
            flag budget-raw "$INPUT_BUDGET_RAW"
            flag budget-gzip "$INPUT_BUDGET_GZIP"
            ;;
        plan)
            plan
            return
            ;;
        *) fail "the input command is build, publish, check or plan, and not: $command" ;;
    esac
    while IFS= read -r file; do
        # A path and no flag, whatever it begins with.
        case "$file" in
            -*) words+=("./$file") ;;
            *) words+=("$file") ;;
        esac
    done < <(lines "$INPUT_FILE")
    add_args
    is SUMMARY || unset GITHUB_STEP_SUMMARY
    if [[ -n $INPUT_CACHE ]]; then
        [[ $command != check ]] || credentials "$INPUT_CACHE"
        share from
    fi
    run "${words[@]}" || status=$?
    if is ANNOTATE; then
        cat "$temporary/stdout"
        # Where it was ended from outside, it told nobody.
        if [[ $status != 0 ]] && ! grep -q '^::error' "$temporary/stdout"; then
            say error "cargo edgepack $command failed with exit code $status: the log says why"
        fi
    fi
    # Changes of strangers take from what is shared, and add nothing.
    case "${GITHUB_EVENT_NAME:-}" in
        pull_request*) ;;
        *) [[ -z $INPUT_CACHE || $status != 0 ]] || share to ;;
    esac
    if [[ -n $INPUT_SARIF ]]; then
        file=$(awk '/^sarif<</ { getline; print; exit }' "$GITHUB_OUTPUT")
        if [[ -f $file ]]; then
            copy_to "$file" "$(absolute "$INPUT_SARIF")" || {
                say error "the findings could not be copied to $INPUT_SARIF"
                [[ $status != 0 ]] || status=1
            }
        fi
    fi
    return "$status"
}

main
