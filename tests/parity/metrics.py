"""Metrics (trainer/metrics.hpp, pixel_metrics.hpp) against scikit-learn, AUPRO against a plain NumPy and SciPy one, and intervals
against a bootstrap that computes each resample anew."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

PROBE = pathlib.Path(os.environ["FILO"]).parent / "metrics_probe"
random = np.random.default_rng(11)


def metrics(folder, scores, labels, limit=0.3, memory=1 << 29):
    scores.astype(np.float32).tofile(folder / "scores")
    labels.astype(np.uint8).tofile(folder / "labels")
    count, height, width = scores.shape
    done = subprocess.run([str(a) for a in (PROBE, folder / "scores", folder / "labels", height, width, count, limit, memory)],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"metrics_probe: {done.stderr}")
    return json.loads(done.stdout)


def plain_aupro(scores, labels, limit):
    """One threshold per distinct score, each counted over all pixels anew by searching sorted arrays."""
    regions = []
    for image, mask in zip(scores, labels):
        numbered, number = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [np.sort(image[numbered == i + 1]) for i in range(number)]
    clean = np.sort(scores[labels == 0])
    thresholds = np.unique(scores)[::-1]
    at_least = lambda values: (len(values) - np.searchsorted(values, thresholds, side="left")) / len(values)
    fpr = np.concatenate([[0], at_least(clean)])
    overlap = np.concatenate([[0], np.mean([at_least(region) for region in regions], axis=0)])
    # several points may share a false positive rate: the last of those below the limit, then a line to the limit
    inside = np.flatnonzero(fpr <= limit)[-1]
    x, y = list(fpr[: inside + 1]), list(overlap[: inside + 1])
    if x[-1] < limit:
        slope = (overlap[inside + 1] - y[-1]) / (fpr[inside + 1] - x[-1])
        y.append(y[-1] + slope * (limit - x[-1]))
        x.append(limit)
    return np.trapezoid(y, x) / limit if hasattr(np, "trapezoid") else np.trapz(y, x) / limit


def masks_of(count, side):
    masks = np.zeros((count, side, side), np.uint8)
    for mask in masks[1:]:  # the first image stays normal
        for _ in range(random.integers(1, 5)):
            y, x, h, w = random.integers(0, side - 4), random.integers(0, side - 4), *random.integers(1, side // 3, 2)
            mask[y:y + h, x:x + w] = 1
        noise = random.random((side, side)) < 0.002
        mask |= noise.astype(np.uint8)
    return masks


def expect_near(found, wanted, tolerance, what):
    if not abs(found - wanted) <= tolerance:
        sys.exit(f"{what}: found {found!r}, expected {wanted!r} within {tolerance}")


def f1_max(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))


def check_exact(folder):
    """In memory, and in so little of it that the maps lie in a file and are read many times."""
    compared, most_passes = 0, 0
    for side, count in ((8, 1 + 1), (33, 5), (64, 12)):
        labels = masks_of(count, side)
        for name, scores in {
            "continuous": random.normal(size=labels.shape) + labels,
            "many ties": np.round(random.random(labels.shape) * 10 + 3 * labels) / 10,
            "two values": (random.random(labels.shape) < 0.2 + 0.5 * labels).astype(float),
            "constant": np.zeros(labels.shape),
            "inverted": -labels + 0.1 * random.normal(size=labels.shape),
            "tiny": (random.normal(size=labels.shape) + labels) * 1e-40,
        }.items():
            scores = scores.astype(np.float32)
            y, s = labels.ravel(), scores.ravel().astype(np.float64)
            wanted = {"auroc": roc_auc_score(y, s), "ap": average_precision_score(y, s), "f1_max": f1_max(y, s)}
            for limit in (0.3, 0.05, 1.0):
                found = metrics(folder, scores, labels, limit)
                spilled = metrics(folder, scores, labels, limit, memory=4000)
                case = f"{name} {count}x{side}x{side}"
                for metric, value in wanted.items():
                    expect_near(found[metric], value, 1e-9, f"{case}: {metric}")
                    expect_near(found["of_list"][metric], value, 1e-9, f"{case}: {metric} of a list")
                expect_near(found["aupro"], plain_aupro(scores, labels, limit), 1e-6, f"{case}: aupro {limit}")
                for metric in (*wanted, "aupro"):
                    expect_near(spilled[metric], found[metric], 0, f"{case}: {metric} with little memory")
                most_passes = max(most_passes, spilled["passes"])
                compared += 1
    if most_passes < 10:
        sys.exit(f"with 4,000 bytes the maps were read {most_passes} times at most, expected 10")
    print(f"metrics: {compared} cases equal scikit-learn's within 1e-9, AUPRO SciPy's within 1e-6; "
          f"the same to the last bit in up to {most_passes} passes")


def check_intervals(folder):
    """Images of unequal difficulty: the interval is far wider than independent pixels would have it."""
    side, count, resamples = 32, 40, 400
    labels = np.concatenate([np.zeros((15, side, side), np.uint8), masks_of(count - 15 + 1, side)[1:]])
    scores = (random.normal(size=labels.shape) + labels * random.uniform(0.2, 2, (count, 1, 1)) +
              random.normal(size=(count, 1, 1)) * 0.5).astype(np.float32)
    found = metrics(folder, scores, labels)
    wanted = {name: [] for name in found["intervals"]}
    anomalous = np.flatnonzero(labels.any((1, 2)))
    normal = np.flatnonzero(~labels.any((1, 2)))
    for _ in range(resamples):
        drawn = np.concatenate([random.choice(kind, len(kind)) for kind in (normal, anomalous)])
        y, s = labels[drawn].ravel(), scores[drawn].ravel()
        wanted["auroc"].append(roc_auc_score(y, s))
        wanted["ap"].append(average_precision_score(y, s))
        wanted["f1_max"].append(f1_max(y, s))
        wanted["aupro"].append(plain_aupro(scores[drawn], labels[drawn], 0.3))
    for name, values in wanted.items():
        low, high = np.percentile(values, [2.5, 97.5])
        for place, value in zip((0, 1), (low, high)):
            expect_near(found["intervals"][name][place], value, 0.12 * (high - low), f"interval of {name}, end {place}")
        expect_near(found["binned"][name], found[name], 1e-3, f"{name} from bins")
        print(f"intervals: {name} {found['intervals'][name]}, {resamples} resamples computed anew [{low}, {high}]; "
              f"bins lose {found['binned'][name] - found[name]:.1e}")


with tempfile.TemporaryDirectory() as folder:
    check_exact(pathlib.Path(folder))
    check_intervals(pathlib.Path(folder))
