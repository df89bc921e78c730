"""The ten commands of docs/tutorials/slurm-grid.md, run as they are written there, on a cluster."""

import os
import pathlib
import re
import subprocess
import sys

from lab import FILO, SOURCE, running_cluster, skip_where_slurm_is_missing

BUILD = "make build"  # has been done: it made the programs that are tested here


def check(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


def main():
    skip_where_slurm_is_missing()
    block = re.search(r"```sh\n(.*?)```", (SOURCE / "docs/tutorials/slurm-grid.md").read_text(), re.DOTALL)
    commands = block.group(1).strip().splitlines()
    check(len(commands) == 10, f"{len(commands)} commands in docs/tutorials/slurm-grid.md, ten expected")
    check(commands[0] == BUILD, f"the first command is {commands[0]}")
    with running_cluster("guide", memory=16000) as cluster:
        checkout = cluster.folder / "checkout"
        (checkout / "build/bin").mkdir(parents=True)
        (checkout / "configs").symlink_to(SOURCE / "configs")
        (checkout / ".deps").symlink_to((SOURCE / ".deps").resolve())
        (checkout / "build/bin/filo").symlink_to(FILO)
        (checkout / "build/bin/filo-worker").symlink_to(os.environ["FILO_WORKER"])
        environment = cluster.environment(FILO_WORKER=str(checkout / "build/bin/filo-worker"))
        environment.pop("FILO_WORKSPACE", None)
        printed = ""
        for command in commands[1:]:
            print(f"$ {command}", flush=True)
            result = subprocess.run(
                ["bash", "-c", command],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
            )
            printed = result.stdout
            print("\n".join(printed.splitlines()[-25:]), flush=True)
            check(result.returncode == 0, f"{command} ended with {result.returncode}")
        check("Table III" in printed, "the last command printed no Table III")
        row = [line for line in printed.splitlines() if "RTPF" in line]
        check(row and len(re.findall(r"\d+\.\d", row[-1])) >= 2, f"no numbers of the complete method: {row}")


if __name__ == "__main__":
    main()
