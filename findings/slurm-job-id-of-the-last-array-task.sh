#!/usr/bin/env bash
# `scontrol requeue $SLURM_JOB_ID` in a task of a job array may requeue all tasks of the array.
#
# Expected: SLURM_JOB_ID is the id of this task, and `scontrol requeue` with it requeues this task.
# Happens:  Each task gets an id of its own when it is split off the array, except the last one,
#           which keeps the id of the array. With that id scontrol means the array: in the last
#           task, the same line kills and requeues every other running task too.
# Versions: Slurm 22.05.8 (Debian 12, slurm-wlm).
# Matters:  a task that puts itself back into the queue before its time limit, as is usual with
#           `#SBATCH --signal=B:USR1@120`, throws away the work of its neighbours since their last
#           checkpoint. With one task, or on a test of the first one, nothing is seen.
# Our code: requeues ${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID} (unlearnable_bench/executors/slurm.py).
#
# Needs root or an ordinary user, slurm-wlm and munge; everything listens on 127.0.0.1 only.
set -euo pipefail
PATH=$PATH:/usr/sbin
folder=$(mktemp -d)
daemons=()
finish() {
  for daemon in "${daemons[@]}"; do kill "$daemon" 2>/dev/null || true; done
  wait
  rm -rf "$folder"
}
trap finish EXIT
mkdir -p "$folder"/{state,spool/n1,log} && mkdir -m 755 "$folder/munge"
head -c 128 /dev/urandom >"$folder/munge/key" && chmod 600 "$folder/munge/key"
cat >"$folder/slurm.conf" <<CONF
ClusterName=show
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=26817
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/ctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/ctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SlurmdParameters=config_overrides
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=localhost Port=26818 CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$folder/slurm.conf
munged --force -F --socket="$folder/munge/sock" --key-file="$folder/munge/key" \
  --pid-file= --log-file= --seed-file= 2>/dev/null & daemons+=($!)
slurmctld -D -c -f "$SLURM_CONF" 2>/dev/null & daemons+=($!)
slurmd -D -c -N n1 -f "$SLURM_CONF" 2>/dev/null & daemons+=($!)
for _ in $(seq 60); do
  [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break
  sleep 1
done
cat >"$folder/job.sh" <<'JOB'
#!/bin/bash
echo "task $SLURM_ARRAY_TASK_ID of array $SLURM_ARRAY_JOB_ID: SLURM_JOB_ID=$SLURM_JOB_ID, restarts: ${SLURM_RESTART_COUNT:-0}"
if [ "$SLURM_ARRAY_TASK_ID" = 1 ] && [ -z "$SLURM_RESTART_COUNT" ]; then
  sleep 3
  scontrol requeue "$SLURM_JOB_ID" # meant for this task
fi
sleep 8
JOB
sinfo --version
sbatch --quiet --array=0-1 --requeue --open-mode=append --output="$folder/%a.log" "$folder/job.sh"
sleep 5
for _ in $(seq 90); do
  [ -z "$(squeue -h)" ] && break
  sleep 1
done
cat "$folder"/[01].log
grep -q "restarts: 1" "$folder/0.log" # task 0, which asked for nothing, was started again
