"""The smallest demo on a Slurm cluster, handed over by filo submit with nobody reconciling: its own watch job does all the rest, and every
result equals that of the local executor, bit for bit."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from lab import FILO, SOURCE, SKIPPED, running_cluster, skip_where_slurm_is_missing, wait_for

skip_where_slurm_is_missing()
sys.path.insert(0, str(SOURCE / "tests/integration"))
from demo import EXPERIMENT, HOME, check, outcome, stages


def main():
    with running_cluster("demo") as cluster:
        home = cluster.folder / "home"
        workspace = home / "demo/workspace"
        workspace.mkdir(parents=True)
        for link in ("configs", "demo/weights", "demo/data"):
            (home / link).symlink_to((HOME / link).resolve())
        shutil.copytree(HOME / "demo/workspace/datasets", workspace / "datasets")
        settings = home / "cluster.yaml"
        # Two nodes' worth of ranks for each stage: one rank a node, so that MPI goes over the network.
        settings.write_text(
            f"name: lab\nworker: {os.environ['FILO_WORKER']}\nmemory: none\none_node: false\n"
            "launcher: {program: srun}\nsbatch_options: ['--ntasks-per-node=1']\n"
            "watch: {interval_s: 0.5, time: '00:10:00'}\n"
        )

        def filo(*arguments):
            result = subprocess.run(
                [FILO, *arguments, "--workspace", str(workspace)],
                cwd=home,
                env=cluster.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
            check(result.returncode == 0, f"filo {arguments} ended with {result.returncode}: {result.stderr}")
            return result.stdout

        submitted = json.loads(filo("submit", EXPERIMENT, "--cluster", str(settings), "--json"))
        check(submitted["watch"] != "", f"no watch job: {submitted}")

        def settled():
            counts = json.loads(filo("status", "--json"))[0]["counts"]
            return counts if not {"waiting", "queued", "running"} & set(counts) else None

        try:
            counts = wait_for(settled, 240, "every stage settled")
        except AssertionError as error:
            print(cluster.call("squeue", "-t", "all"), filo("status"))
            for log in workspace.glob("stages/*/attempts/*/log.txt"):
                print(log, log.read_text(errors="replace")[-2000:])
            raise error
        check(counts == {"done": 6}, f"{counts}\n{filo('status')}")
        for key, (spec, result) in stages(workspace).items():
            check(result["world_size"] == 2, f"{spec['kind']} {key} ran on {result['world_size']} ranks, 2 expected")
        check(outcome(workspace) == outcome(HOME / "demo/workspace"), "other numbers on Slurm than on this machine")
        # The watch ends by itself once nothing is left to do, and so does its successor.
        wait_for(lambda: cluster.call("squeue", "-h", "-t", "pending,running").strip() == "", 30, "an empty queue")
        check("image AUROC" in filo("report", "demo-smallest"), "no table")


if __name__ == "__main__":
    main()
