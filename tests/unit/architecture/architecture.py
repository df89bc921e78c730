"""Keeps the rooms apart (docs/architecture.md): `architecture.py NAME` runs the check of that name, exit 0 = it holds."""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(os.environ["FILO_SOURCE_DIR"])

# Which rooms a room may include and link, besides itself. A room within a room is named by its path; what lies in the outer folder
# itself is the outer room.
SCHEDULER = {"base", "settings", "settings/experiment", "workspace"}
DATA = {"base", "settings", "settings/experiment", "workspace", "data"}
DATA_ROOMS = DATA | {"data/images", "data/datasets", "data/generate", "data/shards"}
MODEL = DATA_ROOMS | {"checkpoint", "model", "model/kernels"}
SYSTEMS = MODEL | {"model/clip", "model/text", "model/layers"}
BELOW = {
    "base": set(),
    "settings": {"base"},
    "settings/experiment": {"base", "settings"},
    "workspace": {"base", "settings", "settings/experiment"},
    "cluster": {"base"},
    "checkpoint": {"base"},
    "data": {"base", "settings", "workspace"},
    "data/images": DATA,
    "data/datasets": DATA | {"data/images"},
    "data/generate": DATA | {"data/images"},
    "data/shards": DATA,
    "model": DATA_ROOMS | {"checkpoint"},
    "model/kernels": {"base"},
    "model/clip": MODEL,
    "model/text": MODEL | {"model/clip"},
    "model/layers": MODEL,
    "model/systems": SYSTEMS | {"model/systems/filo_plus_plus", "model/systems/filo_release"},  # the table of them all
    "model/systems/filo_plus_plus": SYSTEMS | {"model/systems"},  # one system does not see another
    "model/systems/filo_release": SYSTEMS | {"model/systems"},
    "trainer": SYSTEMS | {"model/systems", "cluster"},
    "scheduler/plan": SCHEDULER,
    "scheduler/executors": SCHEDULER | {"scheduler/plan"},
    "scheduler/control": SCHEDULER | {"scheduler/plan", "scheduler/executors"},
    "scheduler/report": SCHEDULER | {"scheduler/plan", "scheduler/executors", "scheduler/control"},
    "service/http": {"base"},
    "service": SCHEDULER | {"scheduler/plan", "scheduler/executors", "scheduler/control", "scheduler/report", "service/http"},
    "bench": SCHEDULER | {"scheduler/plan", "scheduler/executors", "scheduler/control", "service", "service/http"},
    "app": {"base"},
}
CONTROL_PLANE = BELOW["service"] | {"service", "bench", "app"}
BELOW["app/filo"] = CONTROL_PLANE | {"data", "data/datasets", "data/generate", "data/images"}
BELOW["app/worker"] = BELOW["trainer"] | {"trainer", "app", "model/systems/filo_release"}  # that one: import-checkpoint
FOLDERS = sorted({room.split("/")[0] for room in BELOW})

# The CMake targets of the rooms; the rooms that have none here are part of their outer room's target.
TARGETS = {f"filo_{room}": room for room in BELOW if "/" not in room and room != "app"} | {
    "filo_app_common": "app",
    "filo": "app/filo",
    "filo-worker": "app/worker",
    "filo_kernels": "model/kernels",
    "filo_metrics": "trainer",
    "filo_plan": "scheduler/plan",
    "filo_executors": "scheduler/executors",
    "filo_control": "scheduler/control",
    "filo_report": "scheduler/report",
    "filo_http": "service/http",
}

# Which rooms may see an outside library, by the beginning of its headers' names. A folder stands for all rooms in it.
OUTSIDE = {
    r"(torch|ATen|c10|caffe2)/": {"model", "trainer", "app/worker"},
    r"mpi\.h|nccl\.h": {"cluster"},
    r"(cuda|cuda_runtime|cuda_bf16|cuda_fp16|cublas\w*|mma)\.h": {"cluster", "model/kernels"},
    r"hdf5\.h|H5": {"data/shards"},
    r"(png|jpeglib)\.h": {"data/images"},
    r"yaml-cpp/": {"settings"},
    r"SQLiteCpp/|sqlite3": {"workspace"},
    r"boost/": {"service"},
    r"openssl/": {"base", "service/http"},
    r"spdlog/|fmt/": {"base"},
    r"CLI/": {"app"},
}


def room_of(path):
    """The innermost room that a path lies in; the first folder's name where it lies in none."""
    folders = path.split("/")[:-1]
    for depth in range(len(folders), 0, -1):
        if "/".join(folders[:depth]) in BELOW:
            return "/".join(folders[:depth])
    return folders[0] if folders else ""


def sources(root=ROOT):
    """{path relative to the root: text} of the rooms' sources."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".cpp", ".hpp", ".cu", ".cuh"}:
                found[str(path.relative_to(root))] = path.read_text()
    return found


def includes(text):
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, re.MULTILINE)


def wrong_includes(files):
    wrong = []
    for path, text in files.items():
        room = room_of(path)
        if room not in BELOW:
            wrong.append(f"{path} lies in no room: add {room} to BELOW, and say in docs/architecture.md what it is for")
            continue
        for header in includes(text):
            if header in ("app/version.hpp",):  # generated
                continue
            target = room_of(header)
            if target.split("/")[0] in FOLDERS and target != room and target not in BELOW[room]:
                wrong.append(f"{path} includes {header}: {room} may see only {sorted(BELOW[room])}")
    return wrong


def links(text):
    """(target, what it links) of each filo_room() and target_link_libraries() of a CMakeLists.txt."""
    text = re.sub(r"#.*", "", text)
    for name, body in re.findall(r"filo_room\(\s*([\w-]+)([^)]*)\)", text):
        yield f"filo_{name}", re.findall(r"\bfilo[\w-]*\b(?!::)", body.partition("LINKS")[2])
    for name, body in re.findall(r"target_link_libraries\(\s*([\w-]+)([^)]*)\)", text):
        yield name, re.findall(r"\bfilo[\w-]*\b(?!::)", body)


def may_link(room):
    """What the room and the rooms in it that have no target of their own may see."""
    parts = [room] + [inner for inner in BELOW if inner.startswith(room + "/") and inner not in TARGETS.values()]
    return set(parts).union(*(BELOW[part] for part in parts))


def wrong_links(texts):
    """`texts`: {path: the text of a CMakeLists.txt}."""
    wrong = []
    for path, text in texts.items():
        for target, linked in links(text):
            room = TARGETS.get(target)
            for other in linked:
                below = TARGETS.get(other)
                if room and below and below not in may_link(room):
                    wrong.append(f"{path}: {target} links {other}: {room} may link only {sorted(may_link(room))}")
    return wrong


def wrong_outside(files):
    wrong = []
    for path, text in files.items():
        room = room_of(path)
        for header in includes(text):
            for pattern, rooms in OUTSIDE.items():
                if re.match(pattern, header) and not any(room == one or room.startswith(one + "/") for one in rooms):
                    wrong.append(f"{path} includes {header}: only {sorted(rooms)} may")
                if path.endswith((".cu", ".cuh")) and re.match(r"(torch|ATen|c10|caffe2)/", header):
                    wrong.append(f"{path} includes {header}: CUDA sources see raw pointers, not torch")
    return wrong


def includes_follow_the_arrows():
    files = sources()
    assert len(files) > 20, f"only {len(files)} sources found under {ROOT}"
    return wrong_includes(files)


def links_follow_the_arrows():
    lists = {str(path.relative_to(ROOT)): path.read_text() for folder in FOLDERS for path in (ROOT / folder).rglob("CMakeLists.txt")}
    found = {target for text in lists.values() for target, _ in links(text)}
    unknown = sorted(set(TARGETS) - found)
    return wrong_links(lists) + [f"no CMakeLists.txt has the target {target}: TARGETS is out of date" for target in unknown]


def outside_libraries_stay_in_their_rooms():
    return wrong_outside(sources())


def checks_can_fail():
    """Guards the guards: each must report a file that breaks its rule, and pass one that does not."""
    wrong = []

    def expect(condition, what):
        if not condition:
            wrong.append(what)

    expect(wrong_includes({"scheduler/plan/plan.cpp": '#include "model/clip/clip.hpp"\n'}), "scheduler -> model was not seen")
    expect(wrong_includes({"base/error.cpp": '  # include <data/boxes.hpp>\n'}), "base -> data was not seen")
    expect(wrong_includes({"scheduler/plan/plan.cpp": '#include "scheduler/report/table.hpp"\n'}), "plan -> report was not seen")
    expect(wrong_includes({"scheduler/executors/doctor.cpp": '#include "scheduler/control/run.hpp"\n'}), "executors -> control was not seen")
    expect(wrong_includes({"service/http/router.cpp": '#include "service/view.hpp"\n'}), "service/http -> service was not seen")
    expect(wrong_includes({"service/http/router.cpp": '#include "workspace/workspace.hpp"\n'}), "http -> workspace was not seen")
    expect(wrong_includes({"model/clip/clip.cpp": '#include "model/text/prompts.hpp"\n'}), "clip -> text was not seen")
    expect(wrong_includes({"model/systems/filo_release/a.cpp": '#include "model/systems/filo_plus_plus/filo_plus_plus.hpp"\n'}),
           "one system -> another was not seen")
    expect(wrong_includes({"trainer/a.cpp": '#include "model/systems/filo_release/filo_release.hpp"\n'}), "trainer -> a system was not seen")
    expect(wrong_includes({"scheduler/loose.cpp": "\n"}), "a source outside all rooms was not seen")
    expect(wrong_includes({"app/filo/run.cpp": '#include "trainer/losses.hpp"\n'}), "app/filo -> trainer was not seen")
    expect(not wrong_includes({"app/worker/train.cpp": '#include "trainer/losses.hpp"\n'}), "app/worker -> trainer was refused")
    expect(not wrong_includes({"model/clip/clip.cpp": '// #include "trainer/losses.hpp"\n'}), "a comment was taken for an include")
    expect(wrong_links({"scheduler": "filo_room(plan SOURCES a.cpp\n  LINKS filo_base filo_trainer)"}), "link plan -> trainer was not seen")
    expect(wrong_links({"scheduler": "filo_room(plan LINKS filo_report)"}), "link plan -> report was not seen")
    expect(wrong_links({"app": "target_link_libraries(filo PRIVATE filo_trainer)"}), "link filo -> trainer was not seen")
    expect(not wrong_links({"trainer": "filo_room(trainer LINKS filo_model)"}), "link trainer -> model was refused")
    expect(wrong_outside({"data/images/png.cpp": "#include <torch/torch.h>\n"}), "torch in data was not seen")
    expect(wrong_outside({"scheduler/plan/plan.cpp": "#include <boost/asio.hpp>\n"}), "Boost in the scheduler was not seen")
    expect(not wrong_outside({"service/http/session.hpp": "#include <boost/asio.hpp>\n"}), "Boost in service/http was refused")
    expect(wrong_outside({"model/kernels/gather.cu": "#include <ATen/ATen.h>\n"}), "torch in a .cu file was not seen")
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
