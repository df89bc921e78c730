"""Keeps the rooms apart (docs/architecture.md): `architecture.py NAME...` runs the checks of those names,
exit 0 = they hold, 77 = skipped."""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(os.environ.get("FILO_SOURCE_DIR") or pathlib.Path(__file__).parents[3])

# Which rooms a room may include and link, besides itself. A room within a room is named by its path; what lies in the outer folder
# itself is the outer room.
SCHEDULER = {"base", "settings", "settings/experiment", "workspace"}
DATA = {"base", "settings", "settings/experiment", "workspace", "data"}
DATA_ROOMS = DATA | {"data/images", "data/datasets", "data/generate", "data/samples", "data/shards"}
MODEL = DATA_ROOMS | {"checkpoint", "model", "model/kernels"}
SYSTEMS = MODEL | {"model/clip", "model/text", "model/layers"}
BELOW = {
    "base": set(),
    "settings": {"base"},
    "settings/experiment": {"base", "settings"},
    "workspace": {"base", "settings", "settings/experiment"},
    "workspace/index": {"base", "workspace"},
    "cluster": {"base"},
    "checkpoint": {"base", "settings", "workspace"},
    "data": {"base", "settings", "workspace"},
    "data/images": DATA,
    "data/datasets": DATA | {"data/images"},
    "data/generate": DATA | {"data/images"},
    "data/samples": DATA | {"data/images", "data/datasets", "data/shards"},
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
    "scheduler/tracking": SCHEDULER | {"scheduler/plan"},
    "scheduler/control": SCHEDULER | {"workspace/index", "scheduler/plan", "scheduler/executors", "scheduler/tracking"},
    "scheduler/report": SCHEDULER | {"scheduler/plan", "scheduler/executors", "scheduler/control", "scheduler/tracking"},
    "service/http": {"base"},
    "service": SCHEDULER
    | {"scheduler/plan", "scheduler/executors", "scheduler/tracking", "scheduler/control", "scheduler/report", "service/http"},
    "bench": SCHEDULER | {"scheduler/plan", "scheduler/executors", "scheduler/control", "service", "service/http"},
    "app": {"base"},
}
CONTROL_PLANE = BELOW["service"] | {"service", "bench", "app"}
BELOW["app/filo"] = CONTROL_PLANE | {"data", "data/datasets", "data/generate", "data/images", "data/shards"}
BELOW["app/worker"] = BELOW["trainer"] | {"trainer", "app", "model/systems/filo_release"}  # that one: import-checkpoint
FOLDERS = sorted({room.split("/")[0] for room in BELOW})

# The CMake targets of the rooms; the rooms that have none here are part of their outer room's target.
TARGETS = {f"filo_{room}": room for room in BELOW if "/" not in room and room != "app"} | {
    "filo_app_common": "app",
    "filo": "app/filo",
    "filo-worker": "app/worker",
    "filo_index": "workspace/index",
    "filo_kernels": "model/kernels",
    "filo_metrics": "trainer",
    "filo_plan": "scheduler/plan",
    "filo_executors": "scheduler/executors",
    "filo_tracking": "scheduler/tracking",
    "filo_control": "scheduler/control",
    "filo_report": "scheduler/report",
    "filo_http": "service/http",
}

# Which rooms may see an outside library, by the beginning of its headers' names. A folder stands for all rooms in it.
OUTSIDE = {
    r"(torch|ATen|c10|caffe2)/": {"model", "trainer", "app/worker"},
    r"mpi\.h|nccl\.h": {"cluster"},
    r"nvtx3/|(cuda|cuda_runtime|cuda_bf16|cuda_fp16|cublas\w*|mma)\.h": {"cluster", "model/kernels"},
    r"hdf5\.h|H5": {"data/shards"},
    r"(png|jpeglib|tiffio)\.h": {"data/images"},
    r"yaml-cpp/": {"settings"},
    r"SQLiteCpp/|sqlite3": {"workspace/index"},
    r"boost/": {"service"},
    r"openssl/": {"base", "service/http"},
    r"spdlog/|fmt/": {"base"},
    r"CLI/": {"app"},
}

# Sources in which a torch header is seen through includes: each takes 20 s to compile without the precompiled header. A new one needs a
# reason; where a source stops to see torch, the number goes down with it.
MOST_TORCH_SOURCES = 60

# What a target may link from outside, and the beginning of the headers that make the link needed.
OUTSIDE_LINKS = {
    "nlohmann_json::nlohmann_json": r"nlohmann/",
    "spdlog::spdlog": r"spdlog/",
    "OpenSSL::SSL": r"openssl/|boost/asio/ssl",
    "OpenSSL::Crypto": r"openssl/",
    "Threads::Threads": r"(thread|mutex|pthread\.h|future)$",
    "yaml-cpp": r"yaml-cpp/",
    "filo::sqlite": r"SQLiteCpp/",
    "filo::hdf5": r"hdf5\.h|H5",
    "filo::mpi": r"mpi\.h",
    "filo::nccl": r"nccl\.h",
    "filo::cuda": r"cuda",
    "CUDA::cudart_static": r"cuda",
    "PNG::PNG": r"png\.h",
    "JPEG::JPEG": r"jpeglib\.h",
    "TIFF::TIFF": r"tiffio\.h",
    "ZLIB::ZLIB": r"zlib\.h",
    "ICU::uc": r"unicode/",
    "Boost::headers": r"boost/",
    "CLI11::CLI11": r"CLI/",
    "GTest::gtest": r"gtest/",
    "GTest::gmock": r"gmock/",
}


def room_of(path):
    """The innermost room that a path lies in; the first folder's name where it lies in none."""
    folders = path.split("/")[:-1]
    for depth in range(len(folders), 0, -1):
        if "/".join(folders[:depth]) in BELOW:
            return "/".join(folders[:depth])
    return folders[0] if folders else ""


def sources(root=ROOT, folders=FOLDERS):
    """{path relative to the root: text} of the rooms' sources."""
    found = {}
    for folder in folders:
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


def torch_sources(files):
    """The .cpp files that see a torch header, by themselves or through headers of the project."""
    sees = {}

    def look(path):
        if path not in sees:
            sees[path] = False  # while a circle of includes is looked at
            sees[path] = any(re.match(r"(torch|ATen|c10|caffe2)/", header) or (header in files and look(header)) for header in includes(files[path]))
        return sees[path]

    return sorted(path for path in files if path.endswith(".cpp") and look(path))


def cmake_targets(texts):
    """{target: (its sources, what it links)}; `texts`: {path of a CMakeLists.txt: its text}. Sources are relative to the root."""
    variables, targets = {}, {}
    for path, text in texts.items():
        folder = path.rpartition("/")[0]
        text = re.sub(r"#.*", "", text)
        for name, body in re.findall(r"\bset\(\s*(\w+)([^)]*)\)", text):
            variables[name] = body
        for call, name, body in re.findall(r"(filo_room|filo_test|add_executable|add_library|target_sources|target_link_libraries)\(\s*([\w-]+)((?:[^()]|\([^()]*\))*)\)", text):
            name = {"filo_room": "filo_", "filo_test": "test_"}.get(call, "") + name
            body = re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match.group(1), ""), body)
            sources, linked = targets.setdefault(name, (set(), set()))
            sources |= {f"{folder}/{source}" for source in re.findall(r"[\w/]+\.(?:cpp|cu)\b", body)}
            if call == "target_link_libraries" or "LINKS" in body:
                linked |= set(re.findall(r"[\w:-]+", body.partition("LINKS")[2] or body)) - {"PUBLIC", "PRIVATE", "INTERFACE"}
    return targets


def unneeded_links(files, texts):
    """Links of a target in whose sources, and headers of their own, nothing includes what the link is for."""
    targets = cmake_targets(texts)
    target_of = {source.rpartition(".")[0]: target for target, (sources, _) in targets.items() for source in sources}
    rooms = {room: target for target, room in TARGETS.items()}

    def owner(header):
        """The target that a header belongs to: that of the source beside it, else its room's."""
        if header.rpartition(".")[0] in target_of:
            return target_of[header.rpartition(".")[0]]
        room = room_of(header)
        return rooms.get(room) or rooms.get(room.split("/")[0])

    wrong = []
    for target, (sources, linked) in targets.items():
        seen, waiting, headers = set(), sorted(sources), set()
        while waiting:
            path = waiting.pop()
            if path in seen or path not in files:
                continue
            seen.add(path)
            for header in includes(files[path]):
                beside = path.rpartition("/")[0] + "/" + header
                header = beside if beside in files and header not in files else header
                headers.add(header)
                if header in files and (owner(header) == target or header == beside):
                    waiting.append(header)
        used = {owner(header) for header in headers if header in files}
        for link in linked:
            pattern = OUTSIDE_LINKS.get(link)
            needed = any(re.match(pattern, header) for header in headers) if pattern else link in used or link not in TARGETS
            if seen and not needed:
                wrong.append(f"{target} links {link}, of which its sources include nothing")
    return sorted(wrong)


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

# A line of prose that is longer than this is hard to read in a terminal and in a diff; tables and code blocks are left out.
LONGEST_PROSE_LINE = 200


def tracked(*patterns):
    """The files of the checkout that git knows, but not what is only built or downloaded."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        check=True, capture_output=True, text=True,
    ).stdout
    return sorted(path for path in listed.splitlines() if (ROOT / path).is_file())


def prose(text):
    """(number, line) of the lines of a Markdown file that stand in no code block."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and not fence:
            fence = mark.group(1)
        elif fence:
            if line.strip() == fence:
                fence = ""
        else:
            yield number, line


def anchors(text):
    """The names that GitHub gives to the headings of a Markdown file."""
    found = {}
    for _, line in prose(text):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1)).lower()
            slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
            repeat = found.setdefault(slug, -1) + 1
            found[slug] = repeat
            if repeat:
                found[f"{slug}-{repeat}"] = 0
    return set(found)


def wrong_markdown(pages, exists):
    """`pages`: {path relative to the root: text}; `exists`: whether a path relative to the root is there."""
    wrong = []
    for path, text in pages.items():
        for number, line in prose(text):
            if len(line) > LONGEST_PROSE_LINE and not line.lstrip().startswith("|"):
                wrong.append(f"{path}:{number}: {len(line)} characters, at most {LONGEST_PROSE_LINE} are easy to read")
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z]+:", target):
                    continue
                file, _, anchor = target.partition("#")
                linked = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
                if not exists(linked):
                    wrong.append(f"{path}:{number}: links {target}, and {linked} is not there")
                elif anchor and linked in pages and anchor not in anchors(pages[linked]):
                    wrong.append(f"{path}:{number}: links {target}, and {linked} has no heading #{anchor}")
    return wrong


def wrong_mentions(files, exists):
    """Pages that sources, settings and messages name as docs/PAGE.md."""
    wrong = []
    for path, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            for page in re.findall(r"(?<![\w./-])docs/[\w./-]*\.md", line):
                if not exists(page):
                    wrong.append(f"{path}:{number}: names {page}, which is not there")
    return wrong


def wrong_source_names(pages, exists):
    """Sources and scripts that pages name in `code`. Decisions tell of the day they were made."""
    wrong = []
    folders = "|".join(FOLDERS + ["tests", "tools", "cmake", "configs"])
    for path, text in pages.items():
        for number, line in prose(text) if not path.startswith("docs/decisions/") else []:
            for source in re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", line):
                if not exists(source):
                    wrong.append(f"{path}:{number}: names {source}, which is not there")
    return wrong


def docs_links_resolve():
    def exists(path):
        return (ROOT / path).exists()

    pages = {path: (ROOT / path).read_text() for path in tracked("*.md")}
    assert len(pages) > 20, f"only {len(pages)} pages found under {ROOT}"
    texts = ["*.cpp", "*.hpp", "*.cu", "*.py", "*.cmake", "*CMakeLists.txt", "*.yaml", "*.json", "*.js", "tools/*", "bench/*", "Makefile"]
    files = {path: (ROOT / path).read_text() for path in tracked(*texts) if not path.endswith("architecture.py")}
    return wrong_markdown(pages, exists) + wrong_mentions(files, exists) + wrong_source_names(pages, exists)


def links_are_needed():
    folders = FOLDERS + ["tests"]
    return unneeded_links(sources(folders=folders), {str(path.relative_to(ROOT)): path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob("CMakeLists.txt"))})


def torch_stays_in_few_files():
    found = torch_sources(sources(folders=FOLDERS + ["tests"]))
    print(f"{len(found)} sources see torch")
    return [] if len(found) <= MOST_TORCH_SOURCES else [f"expected at most {MOST_TORCH_SOURCES} (MOST_TORCH_SOURCES): {' '.join(found)}"]


def checks_can_fail():
    """Guards the guards: each must report a file that breaks its rule, and pass one that does not."""
    wrong = []

    def expect(condition, what):
        if not condition:
            wrong.append(what)

    expect(wrong_includes({"scheduler/plan/plan.cpp": '#include "model/clip/clip.hpp"\n'}), "scheduler -> model was not seen")
    expect(wrong_includes({"base/error.cpp": '  # include <data/boxes.hpp>\n'}), "base -> data was not seen")
    expect(wrong_includes({"scheduler/plan/plan.cpp": '#include "scheduler/report/tables.hpp"\n'}), "plan -> report was not seen")
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
    chain = {"model/a.cpp": '#include "model/b.hpp"\n', "model/b.hpp": "#include <torch/torch.h>\n", "data/c.cpp": "#include <vector>\n"}
    expect(torch_sources(chain) == ["model/a.cpp"], "torch behind a header of the project was not seen, or seen where it is not")
    rooms = {"data/a.cpp": '#include "data/a.hpp"\n', "data/a.hpp": '#include "base/json.hpp"\n#include <png.h>\n', "base/json.hpp": ""}
    room = {"data/CMakeLists.txt": "filo_room(data SOURCES a.cpp LINKS filo_base filo_settings PNG::PNG ZLIB::ZLIB)"}
    expect(unneeded_links(rooms, room) == [f"filo_data links {link}, of which its sources include nothing" for link in ("ZLIB::ZLIB", "filo_settings")],
           "needed and unneeded links were not told apart")
    expect(wrong_outside({"data/images/png.cpp": "#include <torch/torch.h>\n"}), "torch in data was not seen")
    expect(wrong_outside({"scheduler/plan/plan.cpp": "#include <boost/asio.hpp>\n"}), "Boost in the scheduler was not seen")
    expect(not wrong_outside({"service/http/session.hpp": "#include <boost/asio.hpp>\n"}), "Boost in service/http was refused")
    expect(wrong_outside({"model/kernels/gather.cu": "#include <ATen/ATen.h>\n"}), "torch in a .cu file was not seen")

    def page(text):
        return wrong_markdown({"docs/a.md": text}, lambda path: path in {"docs/a.md", "README.md"})

    expect(page("[b](b.md)"), "a link to a page that is not there was not seen")
    expect(page("# Here\n[b](#there)"), "a link to a heading that is not there was not seen")
    expect(not page("# Over `here`!\n[a](#over-here), [top](../README.md), [far](https://example.org)\n```\n[b](b.md)\n```"), "good links were refused")
    expect(page("x" * 201), "a line that is too long was not seen")
    expect(not page("| " + "x" * 201 + " |\n```\n" + "x" * 201 + "\n```"), "a long line in a table or a code block was refused")
    expect(wrong_mentions({"a.cpp": "// docs/b.md says why\n"}, lambda path: False), "a page that a comment names and that is not there was not seen")
    expect(wrong_source_names({"docs/a.md": "in `base/gone.hpp`"}, lambda path: False), "a source that a page names and that is not there was not seen")
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
    if os.environ.get("FILO_SANITIZE"):
        print(f"skipped: {os.environ['FILO_SANITIZE']} sanitizers make the start of every program several times as long")
        sys.exit(77)
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        subprocess.run([os.environ["FILO"], "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    print(f"filo --help: best {min(seconds) * 1e3:.1f} ms, median {statistics.median(seconds) * 1e3:.1f} ms")
    return [] if min(seconds) < 0.050 else [f"filo --help took {min(seconds) * 1e3:.0f} ms, 50 ms are allowed"]


if __name__ == "__main__":
    problems = [problem for name in sys.argv[1:] for problem in globals()[name]()]
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)
