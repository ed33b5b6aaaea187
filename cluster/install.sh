#!/usr/bin/env bash
# Installs the project of ~/lrcs with exactly the versions of a lock into ~/lrcs-env and puts it on PATH of login
# shells: bash ~/lrcs/cluster/install.sh cpu|cuda [EXTRA ...]. Does nothing where that has been done already.
set -euo pipefail
lock=${1:?"say which lock: cpu or cuda"}; shift
project=$HOME/lrcs environment=$HOME/lrcs-env
constraints=$project/cluster/constraints-$lock.txt
extras=$(IFS=,; echo "study${*:+,$*}")

# The first command of every cluster file has written ~/lrcs.env. Login shells read the one or the other.
line='if [ -f ~/lrcs.env ]; then . ~/lrcs.env; fi  # cluster/install.sh'
for file in ~/.profile ~/.bash_profile ~/.bash_login ~/.bashrc; do
  if [ "$file" = ~/.profile ] || [ "$file" = ~/.bashrc ] || [ -f "$file" ]; then
    touch "$file"
    # In front: Debian's ~/.bashrc stops early in a shell that is not interactive.
    grep -qF 'cluster/install.sh' "$file" || printf '%s\n%s\n' "$line" "$(cat "$file")" > "$file.lrcs"
    if [ -f "$file.lrcs" ]; then cat "$file.lrcs" > "$file"; rm "$file.lrcs"; fi
  fi
done

stamp=$(echo "$extras" | cat - "$constraints" "$project/pyproject.toml" | cksum)
if [ "$(cat "$environment/.lrcs-stamp" 2>/dev/null)" = "$stamp" ]; then echo "$environment is up to date"; exit 0; fi

# The locks are made for Python 3.11, and Ray wants the same one on all nodes.
suitable() { "$1" -c 'import sys, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; }
if [ ! -x "$environment/bin/python" ]; then
  python=${LRCS_PYTHON:-$(command -v python3.11 || command -v python3 || true)}
  if [ -z "$python" ] || ! suitable "$python"; then
    echo "no Python 3.11 with venv here (LRCS_PYTHON may name one): uv fetches it"
    if ! python3 -m venv ~/.lrcs-uv > /dev/null 2>&1; then
      # Ubuntu keeps venv in a package of its own.
      sudo apt-get -o DPkg::Lock::Timeout=300 update -q
      sudo apt-get -o DPkg::Lock::Timeout=300 install -qy python3-venv
      python3 -m venv --clear ~/.lrcs-uv
    fi
    ~/.lrcs-uv/bin/python -m pip install -q uv
    ~/.lrcs-uv/bin/uv python install 3.11 || {
      echo "Python 3.11 could not be fetched: install it with venv, or name one in LRCS_PYTHON in ~/lrcs.env" >&2
      exit 1
    }
    python=$(~/.lrcs-uv/bin/uv python find --managed-python 3.11)
  fi
  "$python" -m venv "$environment"
fi
"$environment/bin/python" -m pip install --disable-pip-version-check -q -c "$constraints" -e "$project[$extras]"
echo "$stamp" > "$environment/.lrcs-stamp"
