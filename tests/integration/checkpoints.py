"""Collected checkpoints: found, trusted, compared, made again. They start from what the demo left (FILO_SCRATCH/demo-home), in folders of
their own, where the ends of its stages are recorded anew."""

import hashlib
import json
import shutil
import subprocess

import safetensors.numpy
import yaml

import stages
from demo import EXPERIMENT, FILO, check, new_home
from stages import UNDISTURBED


def filo(home, *arguments, code=0):
    done = subprocess.run([FILO, *arguments, "--workspace", "demo/workspace"], cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    check(done.returncode == code, f"filo {' '.join(arguments)} ended with {done.returncode}, expected {code}:\n{done.stdout}{done.stderr}")
    return done.stdout if code == 0 else done.stdout + done.stderr


def filo_json(home, *arguments):
    return json.loads(filo(home, "checkpoints", *arguments, "--json"))


def forget_ends(workspace):
    """As if the pass had been killed before it recorded that a stage is done."""
    for end in workspace.glob("stages/*/attempts/*/end.json"):
        end.unlink()
    for note in workspace.glob("stages/*/collected.json"):
        note.unlink()


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def collected_home():
    home = new_home("checkpoints-home")
    workspace = home / "demo/workspace"
    shutil.rmtree(workspace)
    shutil.copytree(UNDISTURBED, workspace)
    shutil.rmtree(workspace / "artifacts")
    forget_ends(workspace)
    filo(home, "run", EXPERIMENT)
    return home, workspace


def what_is_collected_is_told_by_its_files(home, workspace):
    """Guards the files, each with its own client: sha256sum, Python's safetensors, and the manifest beside the stages it tells of."""
    rows = filo_json(home, "list")
    check(len(rows) == 2, f"{len(rows)} rows, one an evaluation expected")
    known = stages.stages(workspace)
    for row in rows:
        folder = workspace / "artifacts" / row["digest"]
        done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
        check(done.returncode == 0 and "params.safetensors: OK" in done.stdout, f"sha256sum -c: {done.stdout}{done.stderr}")
        check(hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest() == row["digest"], "the artifact has another name than its list of files")
        check(len(safetensors.numpy.load_file(folder / "params.safetensors")) > 10, "Python's safetensors finds too little")
        check(row["training"]["weights"] == hashlib.sha256((folder / "params.safetensors").read_bytes()).hexdigest(), "other weights")
        for record in row["training"], row["evaluation"]:
            spec, result = known[record["stage"]]
            check(record["settings"]["model"] == spec["model"] and record["parents"] == spec["inputs"] and record["seed"] == 0, f"the record says {record}")
            events = (workspace / "stages" / record["stage"] / "attempts/1/events.jsonl").read_text().splitlines()
            check(record.get("versions") == json.loads(events[0]).get("versions") and record["host"], f"versions and host of {record}")
        expected = {name: value for name, value in known[row["evaluation"]["stage"]][1]["metrics"].items() if name != "classes"}
        check(row["evaluation"]["metrics"] == expected and len(expected["intervals"]) == 8, "other metrics than the evaluation's")
        check(row["experiments"] == ["demo-smallest"], f"experiments: {row['experiments']}")
    return rows


def conditions_and_metrics_find(home, rows):
    """Guards --where, --sort and best: the same as Python finds in the records."""
    value = {row["digest"]: row["evaluation"]["metrics"]["pixel_auroc"] for row in rows}
    ranked = sorted(value, key=value.get, reverse=True)
    check([row["digest"] for row in filo_json(home, "list", "--sort", "pixel_auroc")] == ranked, "another order")
    check([row["digest"] for row in filo_json(home, "best", "demo-smallest", "--metric", "pixel_auroc")] == ranked[:1], "another is best")
    for conditions, expected in (
        (["experiment=demo-smallest"], 2), (["experiment!=demo-smallest"], 0), (["seed=0", "train.main.epochs=2"], 2), (["train_dataset=generated-parts"], 1),
        (["train_dataset=generated-parts", "test_dataset=generated-parts"], 0), ([f"pixel_auroc>{min(value.values())!r}"], 1),
        ([f"pixel_auroc>={min(value.values())!r}"], 2), ([f"digest={ranked[0]}"], 1),
    ):
        found = filo_json(home, "list", *[word for condition in conditions for word in ("--where", condition)])
        check(len(found) == expected, f"{conditions} finds {len(found)}, expected {expected}")
    check("did you mean pixel_auroc?" in filo(home, "checkpoints", "list", "--where", "pixel_aurok>0", code=2), "a wrong member is not named")
    check("pixel_auroc" in filo(home, "checkpoints", "list", "--sort", "pixel_aurok", code=2), "a wrong metric is not named")
    check("expected a member" in filo(home, "checkpoints", "list", "--where", "seed", code=2), "half a condition is taken")
    table = filo(home, "checkpoints", "list")
    check(ranked[0][:16] in table and "[" in table and "generated-parts" in table, table)
    told = filo(home, "checkpoints", "diff", ranked[0][:8], ranked[1][:8])
    check("other parameters" in told and "datasets.generated-parts" in told and "train." not in told, told)
    check(filo_json(home, "diff", ranked[0], ranked[0])["settings"] == {}, "one differs from itself")
    return ranked


def damage_is_named(home, workspace, digest):
    """Guards verify and copy: the file is named, and nothing that is damaged is handed on."""
    parameters = workspace / "artifacts" / digest / "params.safetensors"
    sound = parameters.read_bytes()
    parameters.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    told = filo(home, "checkpoints", "verify", code=1)
    check(f"{digest[:16]}: params.safetensors: has SHA-256" in told and "1 of 2 checkpoints are damaged" in told, told)
    check("verify" in filo(home, "checkpoints", "copy", digest, "copy", code=1) and not (home / "copy").exists(), "a damaged one is copied")
    parameters.write_bytes(sound)
    check("every byte is as it was collected" in filo(home, "checkpoints", "verify", digest[:10]), "verify finds something")
    filo(home, "checkpoints", "copy", digest[:10], "copy")
    check(content(home / "copy") == content(workspace / "artifacts" / digest), "the copy differs")
    check("is there already" in filo(home, "checkpoints", "copy", digest[:10], "copy", code=2), "a copy takes the place of another")


def it_is_made_again(home, workspace, digest):
    """Guards reproduce: the file that it prints plans the stages that made and measured the checkpoint, by their keys, and elsewhere makes
    the same bytes and the same metrics again."""
    row = filo_json(home, "show", digest)[0]
    (home / "reproduce.yaml").write_text(filo(home, "checkpoints", "reproduce", digest[:10]))
    check(yaml.safe_load((home / "reproduce.yaml").read_text())["name"] == "reproduce-" + digest[:16], "another name")
    before = sorted(path.name for path in (workspace / "stages").iterdir())
    filo(home, "run", "reproduce.yaml")
    check(sorted(path.name for path in (workspace / "stages").iterdir()) == before, "other stages than those that made it")
    planned = json.loads((workspace / f"experiments/reproduce-{digest[:16]}/plan.json").read_text())["stages"]
    check({row["training"]["stage"], row["evaluation"]["stage"]} <= {stage[0] for stage in planned}, f"stages: {planned}")
    shutil.rmtree(workspace / f"experiments/reproduce-{digest[:16]}")
    again = new_home("reproduced-home")
    shutil.copy(home / "reproduce.yaml", again)
    filo(again, "run", "reproduce.yaml")
    made = filo_json(again, "list")
    check([one["digest"] for one in made] == [digest], f"another checkpoint was made: {made}")
    check(made[0]["evaluation"]["metrics"] == row["evaluation"]["metrics"], "other metrics were measured")


def nothing_that_is_named_is_removed(home, workspace, ranked):
    """Guards gc: what a tag or an experiment names stays; it asks; and what is left still tells where it is from."""
    filo(home, "checkpoints", "tag", ranked[0][:8], "release-1")
    check("is the name of" in filo(home, "checkpoints", "tag", ranked[1][:8], "release-1", code=2), "a tag names two")
    check(filo_json(home, "gc", "--yes")["removed"] == [], "what an experiment names was removed")
    shutil.rmtree(workspace / "experiments")
    check(filo_json(home, "gc")["checkpoints"] == ranked[1:] and len(filo_json(home, "list")) == 2, "gc without --yes removed something")
    told = filo(home, "checkpoints", "gc", code=2)
    check("expected --yes" in told and ranked[1][:16] in told, told)
    check(filo_json(home, "gc", "--yes")["removed"] == ranked[1:], "gc removed something else")
    shutil.rmtree(workspace / "stages")
    rows = filo_json(home, "list", "--where", "experiment=demo-smallest", "--where", "tag=release-1")
    check([row["digest"] for row in rows] == ranked[:1], f"rows: {rows}")
    check("every byte" in filo(home, "checkpoints", "verify", "release-1"), "the tag does not name it")
    filo(home, "checkpoints", "tag", "release-1", "--remove")
    check(filo_json(home, "gc", "--yes")["removed"] == ranked[:1], "without its tag it stays")
    check("no checkpoints" in filo(home, "checkpoints", "list"), "there are some")


def main():
    home, workspace = collected_home()
    rows = what_is_collected_is_told_by_its_files(home, workspace)
    before = content(workspace / "artifacts")
    forget_ends(workspace)
    filo(home, "run", EXPERIMENT)
    check(content(workspace / "artifacts") == before, "collecting twice changed something")
    ranked = conditions_and_metrics_find(home, rows)
    damage_is_named(home, workspace, ranked[1])
    it_is_made_again(home, workspace, ranked[0])
    nothing_that_is_named_is_removed(home, workspace, ranked)


if __name__ == "__main__":
    main()
