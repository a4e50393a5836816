# Stands between a parent and its nats-server, so that the server never outlives the parent.
# $1 the server, $2 its configuration, $3 a directory to remove if the parent goes away (may be empty).
# Standard input is a pipe held open by the parent: a line on it is a signal to send, its end means stop.
exec 3<&0 </dev/null

"$1" --config "$2" 3<&- &
server=$!

alive() { kill -0 "$server" 2>/dev/null; }

# Waits for the server to go, up to $1 twentieths of a second.
gone_within() {
    left=$1
    while alive && [ "$left" -gt 0 ]; do
        sleep 0.05
        left=$((left - 1))
    done
    ! alive
}

(
    while read -r signal <&3; do
        kill -"$signal" "$server" 2>/dev/null
    done
    # The parent is gone. From here on the script's own end (below) must not cut the cleaning short.
    trap '' TERM
    kill -TERM "$server" 2>/dev/null
    gone_within 100 || kill -KILL "$server" 2>/dev/null
    gone_within 40
    if [ -n "$3" ]; then rm -rf "$3"; fi
) &
watcher=$!

wait "$server"
code=$?
kill -TERM "$watcher" 2>/dev/null
exit "$code"
