#!/usr/bin/env bash
# Ends Ray on the head and on all workers of cluster/onprem.yaml, and MLflow. From where `ray up` was run:
#   ray exec cluster/onprem.yaml 'bash ~/lrcs/cluster/stop.sh' && ray down cluster/onprem.yaml
# `ray down` by itself ends Ray on the head alone; workers notice that after a minute and leave a process behind.
set -euo pipefail
. ~/lrcs.env
# The head first: its autoscaler would start the workers again.
ray stop --force
bash ~/lrcs/cluster/mlflow.sh stop
"$HOME/lrcs-env/bin/python" - <<'END'
import subprocess, sys, yaml
from pathlib import Path
config = yaml.safe_load(Path("~/ray_bootstrap_config.yaml").expanduser().read_text(encoding="utf-8"))
key = str(Path(config["auth"]["ssh_private_key"]).expanduser())
options = "BatchMode=yes ConnectTimeout=15 StrictHostKeyChecking=no UserKnownHostsFile=/dev/null LogLevel=ERROR".split()
ssh = ["ssh", "-n", "-i", key, *(word for one in options for word in ("-o", one))]
user, hosts = config["auth"]["ssh_user"], config["provider"].get("worker_ips", [])
running = [subprocess.Popen([*ssh, f"{user}@{one}", ". ~/lrcs.env; ray stop --force"]) for one in hosts]
left = [host for host, process in zip(hosts, running) if process.wait() != 0]
if left:
    sys.exit(f"Ray could not be ended on {', '.join(left)}: see the messages above")
END
