# Sourced by run and nightly: commands beside each other, in a temporary folder of their own.

# Short: the paths of Ray's sockets may have 107 bytes at most.
place=$(mktemp -d /tmp/ci.XXXXXX)
mkdir "$place/tmp" "$place/home"
# A process group for each lane, so that an interrupted run ends all of them.
set -m
made=()
trap 'for lane in $(jobs -p); do kill -- "-$lane" 2>/dev/null || true; done; rm -rf "$place" "${made[@]}"' EXIT
lanes=()
failed=0

# environment FOLDER: a virtual environment with the locked versions, unless it is there already.
environment() {
    bin="$1/bin"
    [ ! -x "$bin/pytest" ] || return 0
    "${PYTHON:-python3}" -m venv "$1"
    # What is imported is compiled then; all of it would take three quarters of a minute.
    "$bin/pip" install --quiet --no-compile -c cluster/constraints-cpu.txt -e ".[study,dev]"
}

# Tests start Ray and MLflow: they must find no settings of this machine's user, and leave none.
private() {
    export HOME="$place/home" TMPDIR="$place/tmp"
    export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
    # Here the installed versions must be those of the lock, neither more nor fewer.
    export EXACT_LOCK=1
}

# lane NAME COMMAND...: starts a command, whose output is printed in one piece when it ends.
lane() {
    local name=$1
    shift
    (
        code=0
        SECONDS=0
        "$@" >"$place/$name.log" 2>&1 </dev/null || code=$?
        line="== $name: $SECONDS s, exit code $code"
        echo "$line" >>"$place/times"
        flock "$place/times" sed "1i $line" "$place/$name.log"
        exit "$code"
    ) &
    lanes+=($!)
}

# Waits for the lanes that were started.
finish() {
    local lane
    for lane in "${lanes[@]}"; do
        wait "$lane" || failed=1
    done
    lanes=()
}

# How many tests were skipped for want of a program or a right of this machine.
wanting() {
    cat "$place"/*.log | awk '/^SKIPPED .*for want of/ {gsub(/[][]/, "", $2); n += $2} END {print n + 0}'
}
