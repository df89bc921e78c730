"""A search with the real worker: ASHA stops trainings that fall behind, and what they have is kept."""

import json
import re
import subprocess
import sys

from demo import FILO, attempts, check, new_home

EXPERIMENT = "configs/experiments/search-demo.yaml"


def trainings(status):
    return [stage for stage in status["stages"] if stage["kind"] == "train"]


def check_search(workspace, status, report):
    """Six trainings, some of them stopped: snapshot and last metric stay, nothing is half done, the best went on to the end."""
    trained = trainings(status)
    states = [stage["state"] for stage in trained]
    check(len(trained) == 6 and set(states) == {"done", "stopped"}, f"trainings: {states}")
    for stage in status["stages"]:
        folder = workspace / "stages" / stage["key"]
        if stage["kind"] == "train" and stage["state"] == "stopped":
            check(re.search(r"^loss [0-9.]+ after [12] epochs? is \d(st|nd|rd|th) of \d$", stage["reason"]), f"reason: {stage['reason']}")
            check(list(folder.glob("snapshots/*/params.safetensors")), f"{stage['key']} was stopped without a snapshot")
            end = json.loads((folder / f"attempts/{stage['attempt']}/end.json").read_text())
            check(end["outcome"] == "stopped", f"end: {end}")
        check((folder / "result.json").exists() == (stage["state"] == "done"), f"result of {stage['label']}, {stage['state']}")
    draws = report["searches"][0]["draws"]
    check(len(draws) == 6 and {draw["train"] for draw in draws} == {stage["key"] for stage in trained}, f"draws: {draws}")
    check(all(draw["last"] > 0 and draw["after"] >= 1 for draw in draws), f"a draw without its last metric: {draws}")
    check(draws[0]["state"] == "done" and draws[0]["after"] == 4, f"the best went on to the end: {draws[0]}")
    furthest = [draw["last"] for draw in draws if draw["after"] == 4]
    check(furthest == sorted(furthest), f"best first: {furthest}")
    print(f"{states.count('stopped')} of 6 trainings were stopped")


def asha_stops_what_falls_behind():
    """Guards the whole of a search on this machine, and that a repeat runs nothing again."""
    home = new_home("search-home")

    def filo(*words):
        command = [FILO, *words, "--workspace", "demo/workspace"]
        result = subprocess.run(command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        check(result.returncode == 0, f"{' '.join(words)} ended with {result.returncode}: {result.stderr}{result.stdout}")
        return result.stdout

    workspace = home / "demo/workspace"
    printed = filo("run", EXPERIMENT)
    check("why stopped" in printed, f"no table of the search:\n{printed}")
    report = json.loads(filo("report", "search-demo", "--format", "json"))
    check_search(workspace, json.loads(filo("status", "search-demo", "--json"))[0], report)
    before = attempts(workspace)
    filo("run", EXPERIMENT)
    check(attempts(workspace) == before, "a stage that was done or stopped was started again")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
