"""Metrics (trainer/metrics.hpp) against scikit-learn, and AUPRO against a plain NumPy and SciPy one."""
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


def metrics(folder, scores, labels, limit=0.3):
    scores.astype(np.float32).tofile(folder / "scores")
    labels.astype(np.uint8).tofile(folder / "labels")
    count, height, width = scores.shape
    done = subprocess.run([str(a) for a in (PROBE, folder / "scores", folder / "labels", height, width, count, limit)],
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


compared = 0
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
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
            for limit in (0.3, 0.05, 1.0):
                found = metrics(folder, scores, labels, limit)
                case = f"{name} {count}x{side}x{side}"
                y, s = labels.ravel(), scores.ravel().astype(np.float64)
                precision, recall, _ = precision_recall_curve(y, s)
                f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
                expect_near(found["auroc"], roc_auc_score(y, s), 1e-9, f"{case}: auroc")
                expect_near(found["ap"], average_precision_score(y, s), 1e-9, f"{case}: ap")
                expect_near(found["f1_max"], f1, 1e-9, f"{case}: f1_max")
                expect_near(found["aupro"], plain_aupro(scores, labels, limit), 1e-6, f"{case}: aupro {limit}")
                compared += 1
print(f"metrics: {compared} cases equal scikit-learn's within 1e-9, AUPRO SciPy's within 1e-6")
