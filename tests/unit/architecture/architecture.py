"""Keeps the rooms apart (docs/architecture.md): `architecture.py NAME` runs the check of that name, exit 0 = it holds."""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(os.environ["FILO_SOURCE_DIR"])

# Which rooms a room may include and link, besides itself.
BELOW = {
    "base": set(),
    "settings": {"base"},
    "cluster": {"base", "settings"},
    "checkpoint": {"base", "settings", "cluster"},
    "data": {"base", "settings", "cluster", "checkpoint"},
    "model": {"base", "settings", "cluster", "checkpoint", "data"},
    "trainer": {"base", "settings", "cluster", "checkpoint", "data", "model"},
    "scheduler": {"base", "settings"},
    "app": {"base"},
    "app/filo": {"base", "settings", "data", "scheduler", "app"},
    "app/worker": {"base", "settings", "cluster", "checkpoint", "data", "model", "trainer", "app"},
}
ROOMS = [room for room in BELOW if "/" not in room]

# Which rooms may see an outside library, by the beginning of its headers' names.
OUTSIDE = {
    r"(torch|ATen|c10|caffe2)/": {"model", "trainer", "app/worker"},
    r"mpi\.h|nccl\.h": {"cluster"},
    r"(cuda|cuda_runtime|cuda_bf16|cuda_fp16|cublas\w*|mma)\.h": {"cluster", "model"},
    r"hdf5\.h|H5": {"data"},
    r"(png|jpeglib)\.h": {"data"},
    r"yaml-cpp/": {"settings", "scheduler"},
    r"SQLiteCpp/|sqlite3": {"scheduler"},
    r"boost/": {"scheduler"},
    r"openssl/|spdlog/|fmt/": {"base"},
    r"CLI/": {"app", "app/filo", "app/worker"},
}


def room_of(path):
    parts = path.split("/")
    two = "/".join(parts[:2])
    return two if two in BELOW else parts[0]


def sources(root=ROOT):
    """{path relative to the root: text} of the rooms' sources."""
    found = {}
    for room in ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in {".cpp", ".hpp", ".cu", ".cuh"}:
                found[str(path.relative_to(root))] = path.read_text()
    return found


def includes(text):
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, re.MULTILINE)


def wrong_includes(files):
    wrong = []
    for path, text in files.items():
        room = room_of(path)
        for header in includes(text):
            if header in ("app/version.hpp",):  # generated
                continue
            target = room_of(header)
            if target in BELOW and target != room and target not in BELOW[room]:
                wrong.append(f"{path} includes {header}: {room} may see only {sorted(BELOW[room])}")
    return wrong


def wrong_links(lists):
    """`lists`: {room: its CMakeLists.txt}. Targets are named filo_ROOM."""
    wrong = []
    for room, text in lists.items():
        for target in re.findall(r"\bfilo_(\w+)", text):
            if target in ROOMS and target not in BELOW[room] | {room}:
                wrong.append(f"{room}/CMakeLists.txt names filo_{target}: {room} may link only {sorted(BELOW[room])}")
    return wrong


def wrong_outside(files):
    wrong = []
    for path, text in files.items():
        for header in includes(text):
            for pattern, rooms in OUTSIDE.items():
                if re.match(pattern, header) and room_of(path) not in rooms:
                    wrong.append(f"{path} includes {header}: only {sorted(rooms)} may")
                if path.endswith((".cu", ".cuh")) and re.match(r"(torch|ATen|c10|caffe2)/", header):
                    wrong.append(f"{path} includes {header}: CUDA sources see raw pointers, not torch")
    return wrong


def includes_follow_the_arrows():
    files = sources()
    assert len(files) > 20, f"only {len(files)} sources found under {ROOT}"
    return wrong_includes(files)


def links_follow_the_arrows():
    return wrong_links({room: (ROOT / room / "CMakeLists.txt").read_text() for room in BELOW})


def outside_libraries_stay_in_their_rooms():
    return wrong_outside(sources())


def checks_can_fail():
    """Guards the guards: each must report a file that breaks its rule, and pass one that does not."""
    wrong = []

    def expect(condition, what):
        if not condition:
            wrong.append(what)

    expect(wrong_includes({"scheduler/plan.cpp": '#include "model/clip.hpp"\n'}), "scheduler -> model was not seen")
    expect(wrong_includes({"base/error.cpp": '  # include <data/image.hpp>\n'}), "base -> data was not seen")
    expect(wrong_includes({"app/filo/run.cpp": '#include "trainer/step.hpp"\n'}), "app/filo -> trainer was not seen")
    expect(not wrong_includes({"app/worker/train.cpp": '#include "trainer/step.hpp"\n'}), "app/worker -> trainer was refused")
    expect(not wrong_includes({"model/clip.cpp": '// #include "trainer/step.hpp"\n'}), "a comment was taken for an include")
    expect(wrong_links({"scheduler": "filo_room(scheduler LINKS filo_trainer)"}), "link scheduler -> trainer was not seen")
    expect(not wrong_links({"trainer": "filo_room(trainer LINKS filo_model)"}), "link trainer -> model was refused")
    expect(wrong_outside({"data/image.cpp": "#include <torch/torch.h>\n"}), "torch in data was not seen")
    expect(wrong_outside({"model/gather.cu": "#include <ATen/ATen.h>\n"}), "torch in a .cu file was not seen")
    return wrong


def filo_links_neither_libtorch_nor_mpi():
    """Looks at everything the dynamic loader would bring in, not only at what the program itself names."""

    def libraries(program):
        return subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout

    heavy = re.compile(r"\S*lib(torch|c10|mpi|open-rte|open-pal|cudart|nccl)[\w-]*\.so\S*")
    found = sorted({match.group(0) for match in heavy.finditer(libraries(os.environ["FILO"]))})
    wrong = [f"filo loads {library}" for library in found]
    if not heavy.search(libraries(os.environ["FILO_WORKER"])):
        wrong.append("filo-worker loads no LibTorch: this check looks for the wrong names")
    return wrong


def filo_help_answers_in_50_ms():
    """The best of many runs: what the program costs, not what else the machine does."""
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        subprocess.run([os.environ["FILO"], "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    print(f"filo --help: best {min(seconds) * 1e3:.1f} ms, median {statistics.median(seconds) * 1e3:.1f} ms")
    return [] if min(seconds) < 0.050 else [f"filo --help took {min(seconds) * 1e3:.0f} ms, 50 ms are allowed"]


if __name__ == "__main__":
    problems = globals()[sys.argv[1]]()
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)
