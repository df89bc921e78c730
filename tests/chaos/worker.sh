#!/bin/bash
# Stands for mpirun and filo-worker: a stage that takes a tenth of a second, and tells of every wrong that is done to it
# (CHAOS_VIOLATIONS). It keeps to the worker's contract: starts are claimed, progress is in snapshots, only the newest
# start of the newest attempt commits, by rename. Some stages fail once, and some exit with 1 after their result.
while [ "$1" != features ] && [ "$1" != train ] && [ "$1" != evaluate ] && [ "$1" != boxes ]; do shift; done
kind=$1
shift
while [ $# -gt 0 ]; do
  case $1 in --workspace) workspace=$2 ;; --stage) key=$2 ;; --attempt) attempt=$2 ;; esac
  shift 2
done
stage=$workspace/stages/$key
folder=$stage/attempts/$attempt
violation() { echo "$kind $key attempt $attempt: $*" >>"$CHAOS_VIOLATIONS"; }

exec 9>"$stage/.running"
flock -n 9 || { violation "runs twice at once"; exit 1; }
mkdir -p "$folder/starts"
start=1
until mkdir "$folder/starts/$start" 2>/dev/null; do start=$((start + 1)); done
if [ -e "$stage/result.json" ]; then
  [ -n "$LAG_S" ] || violation "was done already"
  exit 0  # as filo-worker does where files appear late
fi
for input in $(tr -d ' \n' <"$stage/spec.json" | grep -o '"inputs":{[^}]*}' | grep -oE '[0-9a-f]{16}'); do
  [ -e "$workspace/stages/$input/result.json" ] || violation "needs $input, which is not done"
done
trap 'exit 75' USR2

done=$(cat "$stage/progress" 2>/dev/null || echo 0)
while [ "$done" -lt 4 ]; do
  sleep 0.02 9>&-
  done=$((done + 1))
  echo "$done" >"$stage/.progress.$attempt" || exit 1
  mv "$stage/.progress.$attempt" "$stage/progress"
  echo "{\"seq\": $done, \"time\": 0, \"event\": \"progress\", \"done\": $done, \"total\": 4, \"unit\": \"steps\"}" >>"$folder/events.jsonl"
done
case $key in [0-3]*) if mkdir "$stage/failed-once" 2>/dev/null; then echo "out of luck" >&2; exit 3; fi ;; esac

newest=$(ls "$stage/attempts" | sort -n | tail -1)
newest_start=$(ls "$folder/starts" | sort -n | tail -1)
[ "$newest" = "$attempt" ] && [ "$newest_start" = "$start" ] || exit 1
value=$((16#${key:0:6} % 10000))
metrics="{\"image_auroc\": 0.$((10000 + value)), \"pixel_auroc\": 0.$((20000 + value))}"
echo "{\"stage\": \"$key\", \"kind\": \"$kind\", \"attempt\": $attempt, \"seconds\": 0.1, \"metrics\": $metrics, \"artifacts\": {}}" >"$stage/.result.$attempt" || exit 1
mv "$stage/.result.$attempt" "$stage/result.json"
case $key in ?[0-3]*) exit 1 ;; esac
