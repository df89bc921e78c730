"""What holds for every file that is tracked: `files.py NAME` runs the check of that name, exit 0 = it holds.

A reason that allows more lines stands in the file itself: a comment with "Over 600 lines: WHY" in its first ten lines, or "Over 60 lines:
WHY" in the comment above a function or in its first three lines.
"""

import ast
import pathlib
import re
import sys

from architecture import ROOT, tracked

MOST_FILE_LINES, MOST_FUNCTION_LINES, MOST_BYTES = 600, 60, 500_000
CPP = {".cpp", ".hpp", ".cu", ".cuh"}
CODE = CPP | {".py", ".js", ".css", ".html", ".cmake", ".txt", ".sh", ""}


def texts():
    found = {}
    for name in tracked():
        try:
            found[name] = (ROOT / name).read_text()
        except UnicodeDecodeError:  # a picture
            pass
    return found


def without_texts(code):
    """C++ in which comments and the insides of literals are blank, line by line as it was."""

    def blank(match):
        kept = "".join("\n" if letter == "\n" else " " for letter in match.group(0))
        return kept if match.group(0).startswith("/") else f'"{kept[1:-1]}"' if len(kept) > 1 else kept

    literals = r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-zA-Z])\'(?:\\.|[^\'\\\n])+\''
    return re.sub(literals, blank, code, flags=re.DOTALL)


def cpp_functions(code):
    """(first line, last line) of each function that is defined at file, namespace or class scope; lines count from 1."""
    code = re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", lambda match: re.sub(r"[^\n]", " ", match.group(0)), without_texts(code), flags=re.MULTILINE)
    found, open_braces, start = [], [], 0  # open_braces: (is a scope, where its statement begins)
    for at, letter in enumerate(code):
        inside = not all(scope for scope, _ in open_braces)
        if letter == "{":
            head = code[start:at]
            scope = not inside and re.search(r"\b(namespace|class|struct|union|enum|extern)\b", re.sub(r"\([^()]*\)|<[^<>]*>", "", head)) and not re.search(r"\)\s*(const|noexcept|override|\s)*$", head)
            open_braces.append((bool(scope), start))
            if scope:
                start = at + 1
        elif letter == "}" and open_braces:
            scope, begin = open_braces.pop()
            if all(outer for outer, _ in open_braces):
                head = code[begin:at]
                if not scope and "(" in head.partition("{")[0]:
                    first = begin + len(head) - len(head.lstrip())
                    found.append((code.count("\n", 0, first) + 1, code.count("\n", 0, at) + 1))
                start = at + 1
        elif letter == ";" and not inside:
            start = at + 1
        elif letter == ":" and not inside and re.fullmatch(r"\s*(public|private|protected)", code[start:at]):
            start = at + 1
    return found


def python_functions(code):
    return [(node.lineno, node.end_lineno) for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def too_long(files):
    wrong = []
    for path, text in files.items():
        suffix = pathlib.Path(path).suffix
        lines = text.splitlines()
        if path == "LICENSE" or suffix not in CODE:
            continue
        if len(lines) > MOST_FILE_LINES and "Over 600 lines: " not in "\n".join(lines[:10]):
            wrong.append(f"{path} has {len(lines)} lines, expected at most {MOST_FILE_LINES}: split it, or say why not (Over 600 lines: ...)")
        functions = cpp_functions(text) if suffix in CPP else python_functions(text) if suffix == ".py" else []
        for first, last in functions:
            length = last - first + 1
            above = first - 1
            while above > 0 and re.match(r"\s*(//|#)", lines[above - 1]):
                above -= 1
            if length > MOST_FUNCTION_LINES and "Over 60 lines: " not in "\n".join(lines[above : first + 2]):
                wrong.append(f"{path}:{first}: a function of {length} lines, expected at most {MOST_FUNCTION_LINES}: split it, or say why not (Over 60 lines: ...)")
    return wrong


def wrong_names(names):
    """Sources are snake_case, so that an include can be typed from memory; nothing has a space or an accent in its name."""
    wrong = [f"{name}: expected letters, digits and ._- only" for name in names if not re.fullmatch(r"[A-Za-z0-9_./-]+", name)]
    for name in names:
        path = pathlib.PurePosixPath(name)
        if path.suffix in CPP | {".py"} and not re.fullmatch(r"[a-z0-9_]+", path.stem):
            wrong.append(f"{name}: expected a name in snake_case")
        if path.suffix == ".md" and path.parts[0] == "docs" and not re.fullmatch(r"[a-z0-9-]+|README", path.stem):
            wrong.append(f"{name}: expected lower-case words with - between")
    folded = [name.lower() for name in names]
    return wrong + [f"{name}: another file differs only in case" for name in names if folded.count(name.lower()) > 1]


# Said in pieces, so that this file does not say them.
UNWANTED = {
    r"(?<![\w.$}~-])/(home(?!/you\b)|Users|root|work)/\w": "a path of one machine",
    "DESI" + r"GN section": "a document that is not in the repository: say the thing itself, or name a page of docs/",
    r"\b(TO" + r"DO|FIX" + r"ME)\b": "what is left to do belongs into an issue",
    r"^(<{7}|>{7}) ": "a conflict that was not resolved",
}


def unwanted_words(files):
    wrong = []
    for path, text in files.items():
        for pattern, why in UNWANTED.items():
            for match in re.finditer(pattern, text, re.MULTILINE):
                wrong.append(f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match.group(0)!r}: {why}")
    return wrong


def files_and_functions_stay_small():
    large = [f"{name}: {size} bytes, expected at most {MOST_BYTES}" for name in tracked() if (size := (ROOT / name).stat().st_size) > MOST_BYTES]
    return too_long(texts()) + large


def file_names_are_plain():
    return wrong_names(tracked())


def no_unwanted_words():
    return unwanted_words(texts())


def file_checks_can_fail():
    """Guards the guards: each must report a file that breaks its rule, and pass one that does not."""
    wrong = []

    def expect(condition, what):
        if not condition:
            wrong.append(what)

    body = "  int a = 0;\n" * 59
    function = "int f(\n    int x) {\n" + body + "}\n"
    expect(too_long({"base/a.cpp": "namespace filo {\n" + function + "}\n"}), "a function of 62 lines was not seen")
    expect(too_long({"base/a.hpp": "struct S {\n public:\n  S() : a_(1) {\n" + body + "  }\n  int a_;\n};\n"}), "a constructor of 61 lines was not seen")
    expect(not too_long({"base/a.cpp": "// Over 60 lines: a table.\n" + function}), "a function with a reason was refused")
    expect(not too_long({"base/a.hpp": "class A {\n" + "  void f() { g(); }\n" * 70 + "};\n"}), "a class was taken for a function")
    expect(not too_long({"base/a.cpp": "const char* text = R\"({ ( )\";\nconst char c = '{';\n// {\nint f() {\n}\n" + "int x;\n" * 70}), "a text's brace was taken for code")
    expect(too_long({"tools/a.py": "def f():\n" + "    x = 1\n" * 60}), "a Python function of 61 lines was not seen")
    expect(too_long({"base/a.cpp": "\n" * 601}), "a file of 601 lines was not seen")
    expect(not too_long({"base/a.cpp": "// Over 600 lines: one table.\n" + "\n" * 601}), "a file with a reason was refused")
    expect(wrong_names(["base/Some-File.cpp"]), "a name that is not snake_case was not seen")
    expect(wrong_names(["docs/a b.md"]), "a space was not seen")
    expect(not wrong_names(["docs/architecture.md", "base/text.hpp", "CMakeLists.txt"]), "plain names were refused")
    expect(unwanted_words({"a.md": "see /ho" + "me/alice/x"}), "a path of one machine was not seen")
    expect(not unwanted_words({"a.md": "see /usr/share/doc, /home/you/x, ~/work/ and src/work/x"}), "a plain path was refused")
    return wrong


if __name__ == "__main__":
    problems = [problem for name in sys.argv[1:] for problem in globals()[name]()]
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)
