"""Trainings with settings of their own, from what the demo left (stages.py): `training.py NAME` runs the check of that name."""

import sys

import numpy as np
from safetensors.numpy import load_file
from stages import Lab, check, sha256, stop_after

VALIDATED = {"validation": {"fraction": 0.25, "every_epochs": 1}, "snapshots": {"best_by": "validation_loss", "keep": 1}}


def lab_of(name, **settings):
    lab = Lab(name, "train")
    lab.spec["train"].update(settings)
    lab.write_spec(lab.spec)
    return lab


def epochs_of(lab, phase):
    return {e["epoch"]: e for a in range(1, lab.attempt + 1) for e in lab.events("epoch", a) if e["phase"] == phase}


def parameters(lab):
    return sha256(lab.stage / "checkpoint/params.safetensors")


def a_phase_ends_with_its_best_validation():
    """Guards the choice by images that were not trained on: steps so large that the loss on them gets worse, and it is the best epoch's
    parameters that come out; however often the training was stopped."""
    rates = {"main": {"epochs": 6, "learning_rate": {"prompts": 0.3, "mdci": 0.3}}, "adapter": {"epochs": 1, "learning_rate": 1e-5}}
    straight = lab_of("best", **VALIDATED, **rates)
    straight.run()
    losses = {epoch: event["validation_loss"] for epoch, event in epochs_of(straight, "main").items()}
    check(len(losses) == 6 and all(np.isfinite(value) for value in losses.values()), f"validations: {losses}")
    best = min(losses, key=losses.get)
    check(best < 6, f"the test needs a last epoch that is not the best: {losses}")
    told = straight.events("best")
    per_epoch = straight.events("step")[0]["steps"]
    check(told and told[0]["step"] == best * per_epoch and told[0]["value"] == losses[best], f"told {told}, losses {losses}")
    stopped = lab_of("best-stopped", **VALIDATED, **rates)
    for _ in range(3):
        stop_after(stopped, "step", 2)
    stopped.run()
    check(parameters(stopped) == parameters(straight), "other parameters where it was stopped")
    check({e: v["validation_loss"] for e, v in epochs_of(stopped, "main").items()} == losses, "other validations where it was stopped")


def patience_ends_a_phase():
    """Guards early stopping: the phase ends after so many validations without a new best, and the next one begins."""
    lab = lab_of("patience", **VALIDATED, early_stopping={"patience": 2},
                 main={"epochs": 30, "learning_rate": {"prompts": 0.3, "mdci": 0.3}}, adapter={"epochs": 1, "learning_rate": 1e-5})
    lab.run()
    losses = [event["validation_loss"] for event in epochs_of(lab, "main").values()]
    check(len(losses) < 30, f"{len(losses)} epochs")
    check(len(losses) - 1 - losses.index(min(losses)) == 2, f"stopped at {losses}")
    check(len(epochs_of(lab, "adapter")) == 1, "no second phase")


def the_best_can_be_chosen_by_auroc():
    """Guards best_by: validation_image_auroc, on one rank and on two."""
    settings = dict(VALIDATED, snapshots={"best_by": "validation_image_auroc"})
    found = []
    for ranks in 1, 2:
        lab = lab_of(f"auroc-{ranks}", **settings)
        lab.run(ranks=ranks)
        found.append([event["validation_image_auroc"] for phase in ("main", "adapter") for event in epochs_of(lab, phase).values()])
    check(all(0 <= value <= 1 for value in found[0]), f"{found}")
    check(np.allclose(found[0], found[1], atol=0.02), f"{found}")


def pieces_of_a_batch_give_its_gradient():
    """Guards micro_batch_size: the first step's gradient (AdamW's exp_avg is a multiple of it) is the same up to rounding, computed image
    by image or at once; with gradients as bfloat16 within their rounding."""
    def first_step(name, **settings):
        lab = lab_of(name, snapshots={"every_steps": 1, "keep": 1000}, **settings)
        stop_after(lab, "step", 1)
        state = load_file(lab.stage / "snapshots/step-00000001/optimizer.safetensors")
        return {key: value for key, value in state.items() if key.endswith("/exp_avg")}

    whole = first_step("whole")
    largest = max(np.abs(value).max() for value in whole.values())
    for name, settings, bound in ("pieces", {"micro_batch_size": 1}, 1e-5), ("bf16", {"gradients": "bf16", "verify_every_steps": 1}, 1e-2):
        gradients = first_step(name, **settings)
        off = max(np.abs(gradients[key] - whole[key]).max() for key in whole)
        check(0 < off <= bound * largest, f"{name}: off by {off}, the largest is {largest}")


def the_settings_of_the_optimiser_act():
    """Guards schedule, warm-up and clipping against being read and forgotten."""
    lab = lab_of("schedule", schedule="cosine", warmup_steps=3)
    lab.run()
    rates = [event["learning_rates"]["prompts"] for event in lab.events("step") if event["phase"] == "main"]
    check(rates[0] == 0 and rates[1] < rates[2] < rates[3] and rates[3] == max(rates) and rates[-1] < rates[4] / 2, f"{rates}")
    clipped = lab_of("clipped", clip_gradient_norm=1e-6)
    clipped.run()
    check(parameters(clipped) != parameters(lab), "the same parameters")
    check(all(event["gradient_norm"] > 1e-6 for event in clipped.events("step")), "the norm is told as it was before")


def snapshots_come_by_time_too_and_the_best_stays():
    """Guards snapshots: by steps, by minutes, at each epoch's end; the best stays beside the newest."""
    lab = lab_of("by-time", snapshots={"every_steps": 1000, "every_minutes": 1e-4, "keep": 3})
    lab.run()
    per_epoch = lab.events("step")[0]["steps"]
    told = [event["step"] for event in lab.events("snapshot")]
    check(any(step % per_epoch for step in told), f"none by time: {told}")
    ends = [event["step"] for event in lab.events("step") if event["epoch_step"] == per_epoch]
    check(set(ends) <= set(told), f"an epoch's end without a snapshot: {told}, ends {ends}")
    check(len(lab.snapshots()) == 3, f"{lab.snapshots()}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
