#!/usr/bin/env bash
# Keeps one MLflow server on this machine's loopback, port 5000: bash ~/lrcs/cluster/mlflow.sh [stop].
# Its database and its artifacts are in $LRCS_STORAGE/mlflow, or where LRCS_MLFLOW_DATABASE and LRCS_MLFLOW_ARTIFACTS say
# (cluster/README.md). Started twice it stays one; once it dies it is restarted.
set -euo pipefail
: "${LRCS_STORAGE:?"is not set: ~/lrcs.env has not been read"}"
host=127.0.0.1 port=5000
folder=$LRCS_STORAGE/mlflow log=$HOME/lrcs-mlflow.log lock=$HOME/.lrcs-mlflow.lock pidfile=$HOME/.lrcs-mlflow.pid
python=$HOME/lrcs-env/bin/python

if [ "${1:-start}" = stop ]; then
  # The loop leads a session of its own: the server and its workers are in its process group.
  if [ -f "$pidfile" ] && ! flock -n "$lock" true; then kill -- "-$(cat "$pidfile")" || true; fi
  rm -f "$pidfile"; exit 0
fi

mkdir -p "$folder/artifacts"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
# No arguments, which everybody on this machine sees: a database's address may hold a password.
export MLFLOW_BACKEND_STORE_URI=${LRCS_MLFLOW_DATABASE:-sqlite:///$folder/mlflow.db}
export MLFLOW_ARTIFACTS_DESTINATION=${LRCS_MLFLOW_ARTIFACTS:-$folder/artifacts}
# shellcheck disable=SC2016
setsid nohup bash -c '
  exec 9> "$1"; flock -n 9 || exit 0
  echo $$ > "$2"
  while true; do
    "$3" -m mlflow server --host "$4" --port "$5" --workers 1 9>&-
    echo "the server has ended ($?): it is started again in 5 seconds"; sleep 5 9>&-
  done' mlflow "$lock" "$pidfile" "$python" "$host" "$port" >> "$log" 2>&1 < /dev/null &

"$python" - "http://$host:$port/health" "$log" <<'END'
import sys, time, urllib.error, urllib.request
address, log = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for _ in range(90):
    try:
        if opener.open(address, timeout=5).status == 200:
            sys.exit(0)
    except (urllib.error.URLError, OSError):
        time.sleep(1)
sys.exit(f"MLflow does not answer at {address} after 90 seconds; its messages are in {log}")
END
