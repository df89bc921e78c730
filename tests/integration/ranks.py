"""Training is the same on any number of ranks: `ranks.py NAME` runs the check of that name. They start from what the demo left
(FILO_SCRATCH/demo-home). A step's gradient is read from the snapshot after it: the first moment, begun at zero, is (1 - beta1) of it."""

import hashlib
import json
import math
import shutil
import sys
import pathlib

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path[:0] = [str(pathlib.Path(__file__).parent)]
from demo import check, sha256
from stages import UNDISTURBED, Lab

BETA1 = 0.5
UNEQUAL = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 17, 20, 21, 22, 23, 24, 25, 26, 27]  # of the demo's 4 classes of 7 images: 7, 4, 3, 7


def keep_samples(lab, wanted):
    """The features of these samples alone, by their number."""
    link = lab.workspace / "features" / lab.spec["inputs"]["features"]
    source = link.resolve()
    link.unlink()
    link.mkdir()
    for shard in source.glob("*.h5"):
        (link / shard.name).symlink_to(shard)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["samples"] = [manifest["samples"][i] for i in wanted]
    del manifest["digest"]
    manifest["digest"] = hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
    (link / "manifest.json").write_text(json.dumps(manifest))
    return manifest["samples"]


def write_snapshot(lab, phase, step):
    """The demo's parameters before `step` of the phase's first epoch, with a fresh optimiser."""
    folder = lab.stage / f"snapshots/step-{step:08}"
    folder.mkdir(parents=True)
    params = load_file(UNDISTURBED / "stages" / lab.key / "checkpoint/params.safetensors")
    moments = {}
    for name, values in params.items():
        if name.startswith("adapter.") == (phase == "adapter"):
            moments |= {f"{name}/exp_avg": np.zeros_like(values), f"{name}/exp_avg_sq": np.zeros_like(values), f"{name}/step": np.zeros(1, np.int64)}
    save_file(params, folder / "params.safetensors")
    save_file(moments, folder / "optimizer.safetensors")
    (folder / "state.json").write_text(json.dumps({"phase": phase, "epoch": 0, "step": step, "total": step}))
    files = ("optimizer.safetensors", "params.safetensors", "state.json")
    (folder / "SHA256SUMS").write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in files))


def last_step(ranks, batch_size, samples=UNEQUAL, phase="main"):
    """(summed gradient by parameter, loss) of the last step of an epoch over these samples."""
    lab = Lab("gradient", "train")
    keep_samples(lab, samples)
    lab.spec["train"] |= {"batch_size": batch_size, "snapshot_every_steps": 1}
    lab.spec["train"]["main"]["epochs"] = 1
    lab.spec["train"]["adapter"]["epochs"] = int(phase == "adapter")
    lab.write_spec(lab.spec)
    write_snapshot(lab, phase, math.ceil(len(samples) / batch_size) - 1)
    lab.run(ranks=ranks)
    (step,) = lab.events("step")
    check(step["phase"] == phase and step["epoch_step"] == step["steps"], f"another step: {step}")
    moments = load_file(lab.snapshots()[-1] / "optimizer.safetensors")
    gradient = {name.removesuffix("/exp_avg"): values.astype(np.float64) / (1 - BETA1) for name, values in moments.items() if name.endswith("/exp_avg")}
    check(all(np.isfinite(values).all() for values in gradient.values()) and math.isfinite(step["loss"]), "not finite")
    return gradient, step["loss"]


def difference(one, other):
    """The largest, as a share of the largest value."""
    check(one.keys() == other.keys(), f"other parameters: {one.keys() ^ other.keys()}")
    largest = max(np.abs(values).max() for values in one.values())
    check(largest > 1e-3, f"a gradient of nothing: {largest}")
    return max(np.abs(one[name] - other[name]).max() for name in one) / largest


def a_steps_gradient_is_the_same_on_any_number_of_ranks():
    """Guards the weight of each rank's share: of an epoch's last batch, whole or not, of 21 images, of 2 (with four ranks two have none) and
    of 1, classes of unequal size in all; in both phases."""
    for phase in ("main", "adapter"):
        for batch_size in (40, 19, 20):
            alone, loss = last_step(1, batch_size, phase=phase)
            for ranks in (2, 3, 4):
                together, its_loss = last_step(ranks, batch_size, phase=phase)
                found = difference(alone, together)
                print(f"{phase}, batches of {batch_size}, {ranks} ranks: gradient {found:.1e}, loss {abs(its_loss - loss):.1e}")
                check(found <= 1e-5, f"phase {phase}, batches of {batch_size}: on {ranks} ranks the gradient is off by {found} of its largest value")
                check(abs(its_loss - loss) <= 1e-4, f"loss {its_loss} on {ranks} ranks, {loss} on one")


def a_steps_gradient_is_the_mean_over_its_images():
    """Guards against what all numbers of ranks would share: a last batch that is not whole counts as one that is, and a class as many times
    as it has images."""
    whole, loss = last_step(1, len(UNEQUAL))
    found = difference(whole, last_step(1, 40)[0])
    check(found <= 1e-5, f"21 images as a batch that is not whole: off by {found}")
    samples = json.loads((UNDISTURBED / "features" / Lab("samples", "train").spec["inputs"]["features"] / "manifest.json").read_text())["samples"]
    classes = {}
    for i in UNEQUAL:
        classes.setdefault(samples[i]["class"], []).append(i)
    check(len({len(images) for images in classes.values()}) > 1, "classes of one size: this tests nothing")
    mean, mean_loss = {name: np.zeros_like(values) for name, values in whole.items()}, 0
    for images in classes.values():
        gradient, class_loss = last_step(1, 40, images)
        mean_loss += class_loss * len(images) / len(UNEQUAL)
        for name, values in gradient.items():
            mean[name] += values * len(images) / len(UNEQUAL)
    found = difference(whole, mean)
    print(f"from classes: gradient {found:.1e}, loss {abs(mean_loss - loss):.1e}")
    check(found <= 1e-5, f"the mean over classes by their images is off by {found}")
    check(abs(mean_loss - loss) <= 1e-4, f"loss {loss}, mean over classes by their images {mean_loss}")


def twenty_steps_have_the_same_losses_on_any_number_of_ranks():
    """Guards what accumulates: steps on 1 to 4 ranks, four epochs of five batches, the last of one image; and that training improves."""
    losses = {}
    for ranks in (1, 2, 3, 4):
        lab = Lab("losses", "train")
        keep_samples(lab, UNEQUAL)
        lab.spec["train"] |= {"batch_size": 5}
        lab.spec["train"]["main"]["epochs"] = 4
        lab.spec["train"]["adapter"]["epochs"] = 0
        lab.write_spec(lab.spec)
        lab.run(ranks=ranks)
        steps = lab.events("step")
        losses[ranks] = [step["loss"] for step in steps]
        check(len(steps) == 20 and np.isfinite([[step["loss"], step["gradient_norm"]] for step in steps]).all(), f"steps: {steps}")
        epochs = [event["loss"] for event in lab.events("epoch")]
        check(epochs[-1] < 0.8 * epochs[0], f"it does not improve: {epochs}")
        found = max(abs(one - other) for one, other in zip(losses[1], losses[ranks]))
        print(f"{ranks} ranks: losses off by {found:.1e}; epochs {epochs}")
        check(found <= 1e-4, f"losses on {ranks} ranks are off by {found}: {losses[ranks]}, on one {losses[1]}")


def tables_are_the_same_on_any_number_of_ranks():
    """Guards the numbers that are published: trained and evaluated on 1 to 4 ranks, all metrics within 0.1 point."""
    metrics = {}
    for ranks in (1, 2, 3, 4):
        lab = Lab("table", "evaluate")
        training = Lab("table-training", "train", lab.spec["inputs"]["train"])
        training.run(ranks=ranks)
        checkpoint = lab.workspace / "stages" / training.key / "checkpoint"
        shutil.rmtree(checkpoint)
        shutil.copytree(training.stage / "checkpoint", checkpoint)
        lab.run(ranks=ranks)
        metrics[ranks] = json.loads((lab.stage / "result.json").read_text())["metrics"]
    for ranks in (2, 3, 4):
        for name, value in metrics[1].items():
            check(value is not None, f"{name} is undefined")
            if not isinstance(value, float):
                continue
            print(f"{name} on {ranks} ranks: {100 * (metrics[ranks][name] - value):+.4f} points from {100 * value:.2f}")
            check(math.isfinite(value) and abs(metrics[ranks][name] - value) < 1e-3, f"{name} on {ranks} ranks: {metrics[ranks][name]}, on one {value}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
