"""Slurm's commands, made up: what is submitted runs until it is cancelled, and every scancel is written down."""

SBATCH = """#!/bin/bash
here=$(dirname "$0")
exec 9>"$here/lock"; flock 9
id=$(($(cat "$here/next" 2>/dev/null || echo 100) + 1)); echo $id >"$here/next"
for word; do case $word in --job-name=*) name=${word#*=} ;; --array=*) array=${word#*=} ;; esac; done
for range in $(tr , ' ' <<<"${array:-N/A}"); do
  range=${range%%%*}
  case $range in *-*) many=$(seq ${range/-/ }) ;; *) many=$range ;; esac
  for one in $many; do echo "$id|$one|RUNNING|0|0|1000|2000|None|n1|$name|"; done
done >>"$here/queue"
echo $id
"""
SCANCEL = """#!/bin/bash
here=$(dirname "$0")
exec 9>"$here/lock"; flock 9
for label; do case $label in -*) continue ;; esac
  echo "$label" >>"$here/cancelled"
  index=${label#*_}; [ "$index" != "$label" ] || index=N/A
  sed -i "s/^${label%_*}|$index|RUNNING|/${label%_*}|$index|CANCELLED|/" "$here/queue"
done
"""
SQUEUE = """#!/bin/bash
here=$(dirname "$0")
exec 9>"$here/lock"; flock 9
cat "$here/queue"
"""
COMMANDS = {"sbatch": SBATCH, "scancel": SCANCEL, "squeue": SQUEUE, "sacct": "#!/bin/bash\n", "scontrol": "#!/bin/bash\necho 'MaxArraySize = 1001'\n"}


def install(folder):
    """`folder` is a cluster file's slurm_bin then; its `queue` has a line a job, its `cancelled` a line a label."""
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name in ("queue", "cancelled"):
        (folder / name).touch()
