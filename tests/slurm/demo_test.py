"""The smallest demo, then a search, on a Slurm cluster, handed over by filo submit with nobody reconciling: the watch job does all the
rest. Every result equals that of the local executor, bit for bit, and trainings that fall behind are stopped with a snapshot."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from lab import FILO, SOURCE, running_cluster, skip_where_slurm_is_missing, wait_for

skip_where_slurm_is_missing()
sys.path.insert(0, str(SOURCE / "tests/integration"))
from demo import EXPERIMENT, HOME, check, outcome, stages
from search import EXPERIMENT as SEARCH
from search import check_search


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

        def submit_and_wait(experiment):
            """The experiment's status once nothing is left to wait for."""
            submitted = json.loads(filo("submit", experiment, "--cluster", str(settings), "--json"))
            check(submitted["watch"] != "", f"no watch job: {submitted}")

            def settled():
                status = json.loads(filo("status", submitted["experiment"], "--json"))[0]
                return status if not {"waiting", "queued", "running"} & set(status["counts"]) else None

            try:
                return wait_for(settled, 240, f"every stage of {experiment} settled")
            except AssertionError:
                print(cluster.call("squeue", "-t", "all"), filo("status"))
                for log in workspace.glob("stages/*/attempts/*/log.txt"):
                    print(log, log.read_text(errors="replace")[-2000:])
                raise

        counts = submit_and_wait(EXPERIMENT)["counts"]
        check(counts == {"done": 6}, f"{counts}\n{filo('status')}")
        for key, (spec, result) in stages(workspace).items():
            check(result["world_size"] == 2, f"{spec['kind']} {key} ran on {result['world_size']} ranks, 2 expected")
        check(outcome(workspace) == outcome(HOME / "demo/workspace"), "other numbers on Slurm than on this machine")
        check("image AUROC" in filo("report", "demo-smallest"), "no table")

        status = submit_and_wait(SEARCH)
        check_search(workspace, status, json.loads(filo("report", "search-demo", "--format", "json")))
        # The watch ends by itself once nothing is left to do, and so does its successor.
        wait_for(lambda: cluster.call("squeue", "-h", "-t", "pending,running").strip() == "", 30, "an empty queue")


if __name__ == "__main__":
    main()
