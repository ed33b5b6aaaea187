#!/usr/bin/env bash
# Makes $LRCS_STORAGE one folder for all nodes: bash ~/lrcs/cluster/storage.sh head|worker.
# The variable LRCS_SHARE says from where:
#   (empty)             nothing to do: it is shared already, or there is one node only
#   head                a folder on the head's disk, exported to the workers by NFS; ends with the head
#   HOST:/PATH          an NFS export that outlives the cluster (EFS, Filestore, Azure Files NFS, your own server)
#   s3://… or gs://…    as `head`, and copied to that bucket every five minutes
# A bucket cannot be the folder itself: a study appends to its ledger, syncs it to disk and locks its folder (append,
# fsync, flock), and a mounted bucket (mount-s3, gcsfuse) does not do all of these.
set -euo pipefail
role=${1:?"say which node this is: head or worker"}
: "${LRCS_STORAGE:?"is not set: ~/lrcs.env has not been read"}"
share=${LRCS_SHARE:-}

packages() {
  sudo apt-get -o DPkg::Lock::Timeout=300 update -q
  sudo apt-get -o DPkg::Lock::Timeout=300 install -qy "$@"
}
mount_nfs() {
  if mountpoint -q "$LRCS_STORAGE"; then return 0; fi
  command -v mount.nfs4 > /dev/null || packages nfs-common
  sudo mkdir -p "$LRCS_STORAGE"
  # hard: a server that is away for a while holds writers up, it does not lose what they wrote.
  local how=hard,timeo=600,retrans=2
  # As AWS wants it for EFS; a kernel's NFS server refuses it.
  case $1 in *.efs.*) how=$how,noresvport ;; esac
  sudo mount -t nfs4 -o "$how" "$1" "$LRCS_STORAGE"
}
serve() {
  command -v exportfs > /dev/null || packages nfs-kernel-server
  local ids="anonuid=$(id -u),anongid=$(id -g)"
  local how="rw,sync,no_subtree_check,all_squash,$ids"
  # Private networks only; a cloud's cluster file keeps everything but ssh closed towards the internet. On machines of
  # your own whoever is in such a network can read and write the folder.
  printf '%s 10.0.0.0/8(%s) 172.16.0.0/12(%s) 192.168.0.0/16(%s)\n' "$LRCS_STORAGE" "$how" "$how" "$how" \
    | sudo tee /etc/exports.d/lrcs.exports > /dev/null
  sudo exportfs -ra
}
refuse() {
  echo "LRCS_SHARE must be empty, head, HOST:/PATH, s3://… or gs://…, but got $share" >&2; exit 1
}
copy_to_bucket() {
  local copy
  case $share in
    s3://*) copy='aws s3 sync --only-show-errors --no-follow-symlinks' ;;
    gs://*) copy='gcloud storage rsync --recursive --no-ignore-symlinks' ;;
  esac
  command -v "${copy%% *}" > /dev/null || { echo "LRCS_SHARE=$share needs ${copy%% *} on the head" >&2; exit 1; }
  setsid nohup flock -n "$HOME/.lrcs-copy.lock" bash -c \
    'while true; do '"$copy"' "$1" "$2"; sleep 300; done' copy "$LRCS_STORAGE" "${share%/}" \
    > "$HOME/lrcs-copy.log" 2>&1 < /dev/null &
}

case "$share:$role" in
  :*) ;;
  head:head | s3://*:head | gs://*:head)
    sudo mkdir -p "$LRCS_STORAGE" /etc/exports.d; sudo chown "$(id -u):$(id -g)" "$LRCS_STORAGE"
    serve
    if [ "$share" != head ]; then copy_to_bucket; fi ;;
  head:worker | s3://*:worker | gs://*:worker)
    mount_nfs "${RAY_HEAD_IP:?"is not set: only the start commands of a worker know it"}:$LRCS_STORAGE" ;;
  *://*) refuse ;;
  *:/*:*) mount_nfs "$share" ;;
  *) refuse ;;
esac
mkdir -p "$LRCS_STORAGE/studies"
if [ ! -w "$LRCS_STORAGE/studies" ]; then echo "$LRCS_STORAGE/studies cannot be written by $(id -un)" >&2; exit 1; fi
