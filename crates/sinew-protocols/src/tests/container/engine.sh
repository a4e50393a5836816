#!/bin/sh
# Stands in for docker: keeps containers as directories beside itself, and runs what they start as processes of this
# machine, which outlive whoever asked for them. `asked` is what it was told, one line each.
here=$(dirname "$0")
containers=$here/containers
mkdir -p "$containers"
echo "$*" >>"$here/asked"

fail() {
    echo "Error response from daemon: $1" >&2
    exit 1
}

find() {
    container=$containers/$1
    [ -d "$container" ] || fail "No such container: $1"
}

# Runs what a container starts; its process leads a session of its own, as one of an engine would.
run() {
    while IFS= read -r line || [ -n "$line" ]; do set -- "$@" "$line"; done <"$1/environment"
    container=$1
    shift
    setsid sh -c '
        container=$1
        shift
        echo $$ >"$container/pid"
        env -i PATH="$PATH" "$@" <"$container/stdin" >"$container/stdout" 2>"$container/stderr" &
        wait $!
        code=$?
        date -u +%Y-%m-%dT%H:%M:%SZ >"$container/finished"
        echo $code >"$container/code.part" && mv "$container/code.part" "$container/code"
    ' sh "$container" "$@" sh "$container/start" </dev/null >/dev/null 2>&1 &
}

ended() {
    while [ ! -f "$container/code" ]; do
        # why: another process writes the file.
        [ -d "$container" ] || exit 137
        sleep 0.02
    done
}

# Kills the session of a container; it has ended then.
stop() {
    [ -f "$container/code" ] && return
    [ -f "$container/pid" ] || return
    kill -9 -- "-$(cat "$container/pid")" 2>/dev/null
    date -u +%Y-%m-%dT%H:%M:%SZ >"$container/finished"
    echo 137 >"$container/code"
}

create() {
    name= entry= file= keep= call= self_removing= interactive=
    while :; do
        case $1 in
            --name=*) name=${1#*=} ;;
            --label=io.sinew.call=*) call=${1#--label=io.sinew.call=} ;;
            --label=io.sinew.keep-ms=*) keep=${1#--label=io.sinew.keep-ms=} ;;
            --env-file=*) file=${1#*=} ;;
            --entrypoint=*) entry=${1#*=} ;;
            --interactive) interactive=1 ;;
            --rm) self_removing=1 ;;
            --pull=* | --publish=* | --volume=*) ;;
            -*) echo "unknown flag: $1" >&2 && exit 125 ;;
            *) break ;;
        esac
        shift
    done
    image=$1
    shift
    [ "$image" = no-such-image ] && fail "pull access denied for $image"
    container=$containers/$name
    mkdir "$container" 2>/dev/null || fail "Conflict. The container name \"/$name\" is already in use"
    echo "$call" >"$container/call"
    [ -n "$keep" ] && echo "$keep" >"$container/keep"
    [ -n "$interactive" ] && touch "$container/interactive"
    [ -n "$self_removing" ] && touch "$container/rm"
    cp "${file:-/dev/null}" "$container/environment"
    : >"$container/stdin"
    # What it starts, as a script: hello-world speaks for itself, others run their entry point or `true`.
    if [ "$image" = hello-world ]; then
        echo 'echo Hello from Docker!; echo and goodbye >&2' >"$container/start"
    else
        {
            printf 'exec %s' "${entry:-true}"
            for word; do printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")"; done
        } >"$container/start"
    fi
    echo "id-of-$name"
}

start() {
    attach=
    while :; do
        case $1 in
            --attach) attach=1 ;;
            --interactive) feeds=1 ;;
            *) break ;;
        esac
        shift
    done
    find "$1"
    grep -q 'exec no-such-program' "$container/start" && fail 'exec: "no-such-program": executable file not found'
    [ -n "$feeds" ] && [ -f "$container/interactive" ] && cat >"$container/stdin"
    touch "$container/begun"
    run "$container"
    [ -n "$attach" ] || return 0
    ended
    cat "$container/stdout"
    cat "$container/stderr" >&2
    exit_code=$(cat "$container/code")
    [ -f "$container/rm" ] && rm -rf "$container"
    exit "$exit_code"
}

inspect() {
    format=$1
    shift
    for one; do
        find "${one#id-of-}"
        case $format in
            *FinishedAt*) echo "$one $(cat "$container/keep") \"$(cat "$container/finished")\"" ;;
            *)
                status=created
                [ -f "$container/begun" ] && status=running
                [ -f "$container/code" ] && status=exited
                echo "$status $(cat "$container/call")"
                ;;
        esac
    done
}

verb=$1
shift
case $verb in
    create | start) "$verb" "$@" ;;
    container) shift && inspect "$@" ;;
    wait) find "$1" && ended && cat "$container/code" ;;
    logs) find "$1" && cat "$container/stdout" && cat "$container/stderr" >&2 ;;
    kill) find "$1" && stop ;;
    rm) shift && find "${1#id-of-}" && { stop; rm -rf "$container"; } ;;
    ps)
        for container in "$containers"/*; do
            if [ -f "$container/keep" ] && [ -f "$container/code" ]; then echo "id-of-$(basename "$container")"; fi
        done
        ;;
    *) echo "unknown command: $verb" >&2 && exit 125 ;;
esac
