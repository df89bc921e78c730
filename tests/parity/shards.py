"""Feature shards (data/shards/shards.hpp) as h5py, zlib and NumPy see them; half precision (data/shards/half.hpp) against NumPy's."""
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zlib

import h5py
import numpy as np

PROBE = pathlib.Path(os.environ["FILO"]).parent / "shard_probe"
COUNT, C, P, WIDTH, S = 10, 7, 9, 5, 14  # ten samples, four a shard
random = np.random.default_rng(3)


def expect(condition, what):
    if not condition:
        sys.exit(f"shards: {what}")


def probe(*arguments):
    done = subprocess.run([str(PROBE), *map(str, arguments)], capture_output=True, check=False)
    expect(done.returncode == 0, f"{arguments[0]}: {done.stderr.decode()}")
    return done.stdout


def same_bits(found, wanted):
    """NaNs: any payload of a quiet NaN is as good as another."""
    return np.array_equal(found.view(np.uint16), wanted.view(np.uint16)) or np.array_equal(
        np.where(np.isnan(found), np.float16(0), found).view(np.uint16) * ~np.isnan(found),
        np.where(np.isnan(wanted), np.float16(0), wanted).view(np.uint16) * ~np.isnan(wanted))


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)

    arbitrary = random.integers(0, 2**32, 300001, dtype=np.uint32).view(np.float32)
    near = random.normal(size=300001).astype(np.float32) * np.float32(10) ** random.uniform(-9, 6, 300001).astype(np.float32)
    for values in (arbitrary, near):
        values.tofile(folder / "values")
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = values.astype(np.float16)
        expect(same_bits(np.frombuffer(probe("half", folder / "values"), np.float16), wanted), "float32 to float16")
    every = np.arange(65536, dtype=np.uint16)
    every.tofile(folder / "values")
    back = np.frombuffer(probe("float", folder / "values"), np.float32)
    expect(np.array_equal(back, every.view(np.float16).astype(np.float32), equal_nan=True), "float16 to float32")

    global_features = random.normal(size=(COUNT, C)).astype(np.float32)
    maps = random.normal(size=(COUNT, 3, P, WIDTH)).astype(np.float32)
    masks = random.integers(0, 2, (COUNT, S, S), dtype=np.uint8)
    for name, array in (("global", global_features), ("maps", maps), ("masks", masks)):
        array.tofile(folder / name)
    features = folder / "features"
    probe("write", features, folder / "global", folder / "maps", folder / "masks", COUNT, C, P, WIDTH, S)
    half_maps = maps.astype(np.float16)

    manifest = json.loads((features / "manifest.json").read_text())
    expect(manifest["tensors"] == ["global", "qkv/1", "qkv/2", "vv/2", "mask"], "manifest: tensors")
    expect(manifest["key"] == {"made": "by shard_probe"}, "manifest: key")
    digest = manifest.pop("digest")
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    expect(hashlib.sha256(canonical).hexdigest() == digest, "manifest: digest")
    expect([s["file"] for s in manifest["shards"]] == [f"shard-{i:05}.h5" for i in range(3)], "manifest: shards")
    expect(len(manifest["samples"]) == COUNT, "manifest: samples")

    for number, sample in enumerate(manifest["samples"]):
        path = features / manifest["shards"][sample["shard"]]["file"]
        with h5py.File(path, "r") as shard:
            row = sample["row"]
            expect(path.stat().st_size == manifest["shards"][sample["shard"]]["bytes"], "manifest: bytes")
            expect(json.loads(shard.attrs["key"]) == manifest["key"], "attribute key")
            texts = {key: shard[key].asstr()[row] for key in ("images", "class", "split", "defect", "boxes")}
            expect(texts == {"images": f"klasse/é{number}.png", "class": "klasse", "split": "test",
                             "defect": "scratch" if number % 2 else "", "boxes": "[]" if number == 1 else ""},
                   f"strings of {number}: {texts}")
            expect(shard["label"][row] == number % 2 and shard["label"].dtype == np.int32, "label")
            expect(shard["masked"][row] == 1, "masked")
            expect(hashlib.sha256(path.read_bytes()).hexdigest() == manifest["shards"][sample["shard"]]["sha256"], "sha256")
            wanted = {"global": global_features[number], "qkv/1": half_maps[number, 0], "qkv/2": half_maps[number, 1],
                      "vv/2": half_maps[number, 2], "mask": np.packbits(masks[number])}
            for column, (tensor, array) in enumerate(wanted.items()):
                dataset = shard[tensor]
                expect(dataset.dtype == array.dtype, f"{tensor}: {dataset.dtype}")
                expect(dataset.chunks == (1, *array.shape) and dataset.compression is None, f"{tensor}: {dataset.chunks}")
                expect(np.array_equal(dataset[row], array), f"{tensor} of {number}")
                raw = path.read_bytes()[sample["offsets"][column]:][: array.nbytes]
                expect(raw == array.tobytes(), f"{tensor} of {number}: at its offset")
                checksum = zlib.crc32(array.tobytes())
                expect(shard["checksums"][row, column] == checksum == sample["crc32"][column], f"{tensor}: checksum")
        raw = probe("read", features, number)
        wanted = b"".join([global_features[number].tobytes(), half_maps[number].astype(np.float32).tobytes(),
                           masks[number].tobytes()])
        expect(raw == wanted, f"what the reader gives for {number}")
print(f"shards: {COUNT} samples in 3 shards equal h5py's and NumPy's; half precision equals NumPy's")
