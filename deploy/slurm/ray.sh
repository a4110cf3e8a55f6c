#!/bin/bash
#SBATCH --job-name=winnow
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@900
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
#
# A Ray cluster for one command: sbatch [options] deploy/slurm/ray.sh winnow train RUN.toml ... --resume auto
#
# The head starts on the first node, a worker on each other one, and the command runs on the first node. It hears of the
# time limit 15 minutes ahead (--signal, in seconds), writes its checkpoint, and the job is queued again; so it is where
# the command fails, three times. A job that is cancelled, or whose command is done, stays ended.
set -euo pipefail

readonly TRIES=3                                # more, after a failure
readonly PORT=$((20000 + SLURM_JOB_ID % 10000)) # of the cluster, its own for each job
readonly WAIT=${WAIT:-600}                      # seconds for the head to start
# A line for each failure, beside the job's output.
readonly FAILURES="${SLURM_JOB_NAME:-winnow}-$SLURM_JOB_ID.failures"

# The token is the one in ~/.ray/auth_token, which is made where there is none, for this user alone. It goes to the nodes
# in the environment, which srun hands over, and stands on no command line.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(umask 077 && ray get-auth-token --generate)}
export RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0

mapfile -t HOSTS < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# The address of the first node that all others reach: by default its first one. Set HEAD_IP where that is another.
HEAD_IP=${HEAD_IP:-$(srun --overlap --nodes=1 --ntasks=1 --nodelist="${HOSTS[0]}" hostname -I | awk '{print $1}')}
export HEAD_IP PORT WAIT
export RAY_ADDRESS="$HEAD_IP:$PORT"

# One task on each node. SLURM_CPUS_ON_NODE is that of the node where the task runs; Ray would count all CPUs there are.
# shellcheck disable=SC2016 # the variables are those of the node
readonly NODE='
ulimit -n "$(ulimit -Hn)"
start=(ray start --block --num-cpus="$SLURM_CPUS_ON_NODE" --temp-dir="/tmp/ray-$SLURM_JOB_ID")
if [ "$SLURM_PROCID" = 0 ]; then
  exec "${start[@]}" --head --node-ip-address="$HEAD_IP" --port="$PORT" --dashboard-host="$HEAD_IP"
fi
until ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1; do
  if [ "$SECONDS" -gt "$WAIT" ]; then echo "ray.sh: no head at $RAY_ADDRESS after $WAIT s" >&2; exit 1; fi
  sleep 0.5
done
exec "${start[@]}" --address="$RAY_ADDRESS"
'
srun --overlap --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=0 --no-kill \
  bash -c "$NODE" &
readonly NODES=$!

# Ends what holds the nodes, and with it Ray.
# shellcheck disable=SC2317 # it is called by the trap
finish() {
  kill -TERM "$NODES" 2>/dev/null || true
  wait "$NODES" || true
}
trap finish EXIT

# Hands on that the command is to end; before it has started, that is the end.
# shellcheck disable=SC2317 # it is called by the traps
stop() {
  if [ -z "$command" ]; then exit 143; fi
  kill -TERM "$command" 2>/dev/null || true
}
command=
limit=no
trap 'limit=yes; stop' USR1
trap stop TERM INT

until ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1; do
  if ! kill -0 "$NODES" 2>/dev/null; then echo "ray.sh: Ray did not start" >&2; exit 1; fi
  sleep 0.5
done

(trap - INT && exec "$@") & # a shell has what it starts in the background ignore SIGINT
command=$!
status=0
wait "$command" || status=$?
while kill -0 "$command" 2>/dev/null; do # it was a signal that ended the wait: the command is writing its checkpoint
  status=0
  wait "$command" || status=$?
done

again=no
if [ "$limit" = yes ] && [ "$status" != 0 ]; then
  again=yes
elif [ "$status" = 1 ] || [ "$status" = 137 ]; then # 2: a mistake; 3: starved; both would come again
  # Slurm's own count has in it what came back after the time limit, a preemption or a lost node.
  echo "$(date) status $status" >> "$FAILURES" || exit "$status"
  if [ "$(wc -l < "$FAILURES")" -le "$TRIES" ]; then again=yes; fi
fi
if [ "$again" = yes ]; then
  echo "ray.sh: status $status, queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
