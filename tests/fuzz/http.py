"""Malformed HTTP against `filo serve` built with AddressSanitizer and UBSan: `make fuzz-http`.

    tests/fuzz/http.py --filo build-asan/bin/filo [--requests 10000] [--seed 1]

Every request is made from the seed. It fails when the server ends, a sanitizer reports, a request without the token gets more than the page,
anything from outside a stage's folder comes back, a well-formed request among them is not answered, or memory grows without bound."""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
import serve_workspace

SECRET = b"SECRET-THAT-MUST-NEVER-BE-SERVED"
OPEN = re.compile(r"/|/app\.js|/js/[a-z_/]+\.js|/style\.css|/chart\.js|/icon\.svg|/healthz")


class Generator:
    """Requests of many kinds, most of them wrong in one way or in several."""

    def __init__(self, seed, token, trials):
        self.random = random.Random(seed)
        self.token = token.encode()
        self.trials = trials
        self.kinds = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("kind_")]

    def next(self):
        kind = self.random.choice(self.kinds)
        return kind.__name__[5:], kind()

    def stage(self):
        return self.random.choice(self.trials)[self.random.choice(["train", "evaluate"])]

    def path(self):
        key = self.stage()
        return self.random.choice([
            "/", "/js/dom.js", "/healthz", "/metrics", "/openapi.json", "/api/v1/experiments", "/api/v1/experiments/ablation", "/api/v1/experiments/ablation/grid",
            "/api/v1/experiments/ablation/tables", "/api/v1/experiments/ablation/trials", "/api/v1/experiments/ablation/trials/0", "/api/v1/stages",
            f"/api/v1/stages/{key}", f"/api/v1/stages/{key}/attempts", f"/api/v1/stages/{key}/attempts/1/log", f"/api/v1/stages/{key}/attempts/1/events",
            f"/api/v1/stages/{key}/curves", f"/api/v1/stages/{key}/artifacts", f"/api/v1/stages/{key}/artifacts/interpretations.json"])

    def authorization(self):
        wrong = bytearray(self.token)
        wrong[self.random.randrange(len(wrong))] ^= 1
        return self.random.choice([b"", b"Authorization: Bearer " + bytes(wrong) + b"\r\n", b"Authorization: Bearer \r\n", b"Authorization: Basic " + self.token + b"\r\n",
                                   b"authorization:\tBearer\t" + self.token + b"x\r\n", b"Authorization: Bearer " + self.token[:-1] + b"\r\n",
                                   b"Authorization: " + self.token + b"\r\n", b"X-Authorization: Bearer " + self.token + b"\r\n"])

    def good(self):
        return b"Authorization: Bearer " + self.token + b"\r\n"

    def junk(self, most):
        return self.random.randbytes(self.random.randrange(1, most))

    def request(self, method=b"GET", path=None, headers=None, body=b"", version=b"HTTP/1.1"):
        path = self.path().encode() if path is None else path
        return method + b" " + path + b" " + version + b"\r\nHost: localhost\r\n" + (self.good() if headers is None else headers) + b"\r\n" + body

    def kind_wrong_token(self):
        return self.request(headers=self.authorization())

    def kind_token_in_the_query(self):
        return self.request(path=self.path().encode() + b"?token=" + self.token + b"&access_token=" + self.token, headers=b"")

    def kind_two_tokens(self):
        return self.request(headers=self.authorization() + self.good() if self.random.random() < .5 else b"Authorization: Bearer x\r\n" + self.good())

    def kind_request_line(self):
        line = self.random.choice([b"GET", b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/9.9", b"GET / HTTP/1.1 x", b" / HTTP/1.1", b"G\0T / HTTP/1.1", b"GET /\0 HTTP/1.1", b"GET * HTTP/1.1",
                                   b"CONNECT localhost:1 HTTP/1.1", b"GET http://evil/ HTTP/1.1", b"PRI * HTTP/2.0", b"get / http/1.1", b"GET /%zz HTTP/1.1", self.junk(200),
                                   b"GET /" + b"a" * self.random.randrange(1, 70_000) + b" HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self.junk(300)])
        return line + self.random.choice([b"\r\n", b"\n", b"\r", b"\0\r\n"]) + b"Host: localhost\r\n\r\n"

    def kind_headers(self):
        header = self.random.choice([b"X" * self.random.randrange(1, 40_000) + b": y\r\n", b"X: " + b"y" * self.random.randrange(1, 40_000) + b"\r\n", b"X: y\r\n" * self.random.randrange(1, 3000),
                                     b"no colon\r\n", b": no name\r\n", b"X : blank\r\n", b"X: a\0b\r\n", b" folded\r\n", b"X: y\r\n folded\r\n", b"X: \xff\xfe\r\n", self.junk(500) + b"\r\n",
                                     b"Host: localhost\r\nHost: evil\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
                                     b"Content-Length: 0x10\r\n", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked, gzip\r\n", b"Expect: 100-continue\r\n",
                                     b"Expect: something\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Range: bytes=" + self.junk(30).hex().encode() + b"\r\n",
                                     b"Range: bytes=" + b",".join(b"%d-%d" % (i, i) for i in range(200)) + b"\r\n", b"Last-Event-ID: " + self.junk(40).hex().encode() + b"\r\n",
                                     b"If-None-Match: " + b"\"" * 300 + b"\r\n"])
        return self.request(headers=self.random.choice([self.good(), b""]) + header)

    def kind_host(self):
        host = self.random.choice([b"", b"evil.example", b"[::1", b"[" + b":" * 500 + b"]", b"localhost:99999999", b"\xff", b"a" * 5000, b"127.0.0.1@evil", b"127.1"])
        return b"GET " + self.path().encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + self.good() + b"\r\n"

    def encoded(self, text):
        """One of the many ways to spell a path."""
        ways = [lambda c: c, lambda c: "%%%02x" % ord(c), lambda c: "%%25%02x" % ord(c), lambda c: "%%%02X" % ord(c),
                lambda c: {".": "%c0%ae", "/": "%c0%af"}.get(c, c), lambda c: {"/": "\\"}.get(c, c), lambda c: {"/": "%5c"}.get(c, c), lambda c: {".": "%u002e"}.get(c, c),
                lambda c: {"/": "//"}.get(c, c), lambda c: {"/": "/./"}.get(c, c)]
        if self.random.random() < .5:
            way = self.random.choice(ways)
            return "".join(way(c) for c in text)
        return "".join(self.random.choice(ways)(c) for c in text)

    def kind_traversal(self):
        target = self.random.choice(["secret.txt", "../secret.txt", "../../secret.txt", "../../token", "../../../outside/secret.txt", "/etc/passwd", "../../../../../../etc/passwd",
                                     "heat_maps/../secret.txt", "heat_maps/link.png", "heat_maps/linked/secret.txt", "heat_maps/../../../token", "attempts/1/log.txt", "spec.json", "heat_maps/bottle/\0",
                                     "..", ".", "heat_maps/pipe.png", "../../server.json"])
        key = self.trials[0]["evaluate"]
        prefix = self.random.choice([f"/api/v1/stages/{key}/artifacts/", f"/api/v1/stages/{key}/attempts/", "/api/v1/stages/", "/api/v1/experiments/", "/"])
        suffix = self.random.choice(["", "/log", "/events", "/grid", "?x=y"])
        return self.request(path=(prefix + self.encoded(target) + suffix).replace(" ", "%20").encode())

    def kind_query(self):
        name = self.random.choice(["limit", "offset", "tail", "points", "after", "state", "kind", "experiment", "fold"])
        value = self.random.choice(["-1", "0", "1e9", "99999999999999999999", "0x10", "%00", "%ff", "'", "x" * 3000, "1&" + name + "=2", "=", "&&&", "9223372036854775807", "%"])
        return self.request(path=f"{self.path()}?{name}={value}".encode())

    def kind_chunks(self):
        body = self.random.choice([b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"-5\r\nhello\r\n", b"ffffffffffffffff\r\nx", b"5;" + b"e" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"5\r\nhelloworld\r\n0\r\n\r\n",
                                   b"1\r\nx\r\n" * self.random.randrange(1, 500) + b"0\r\n\r\n", b"0\r\n" + b"T: r\r\n" * 500 + b"\r\n", self.junk(400), b"100000\r\n" + b"x" * 0x100000 + b"\r\n0\r\n\r\n"])
        return self.request(b"POST", f"/api/v1/stages/{self.stage()}/attempts/1/events".encode(), self.random.choice([self.good(), b""]) + b"Transfer-Encoding: chunked\r\n", body)

    def with_body(self, method, path, body, length=None):
        return self.request(method, path.encode(), self.good() + b"Content-Length: %d\r\n" % (len(body) if length is None else length), body)

    def kind_events(self):
        line = self.random.choice([b"{", b"[]", b"null", b'{"seq": 1}', b'{"seq": -1, "event": "x"}', b'{"seq": 1e400, "event": "x"}', b'{"seq": 18446744073709551616, "event": "x"}', b'{"seq": 1, "event": 7}',
                                   b"[" * 20_000, b'{"a":' * 10_000, b'{"seq": 1, "event": "step", "loss": ' + b"9" * 5000 + b"}", b'{"seq": 2, "event": "\xff\xfe"}', b'{"seq": 3, "event": "\\ud800"}',
                                   b'{"seq": 4, "event": "progress", "done": "x", "total": [], "unit": {}}', b'{"seq": 5, "event": "step", "phase": 3, "epoch": null, "losses": [1]}',
                                   b'{"seq": 9007199254740993, "event": "x"}', b"\0", self.junk(2000), b'{"seq": %d, "event": "step", "step": 1, "loss": 1}' % self.random.randrange(1000)])
        attempt = self.random.choice(["1", "1", "1", "0", "2", "-1", "01", "x", "99999999999", "1%00", "newest"])
        return self.with_body(b"POST", f"/api/v1/stages/{self.stage()}/attempts/{attempt}/events", b"\n".join([line] * self.random.choice([1, 1, 3, 50])) + self.random.choice([b"", b"\n", b"\r\n"]))

    def kind_truncated_body(self):
        return self.with_body(b"POST", f"/api/v1/stages/{self.stage()}/attempts/1/events", b'{"seq": 1, "ev', self.random.choice([15, 100, 100_000, 1 << 20, 1 << 40]))

    def kind_unknown_action(self):
        body = self.random.choice([b"", b"{", b"[]", b'{"reason": 3}', b'{"reason": "' + b"x" * 600 + b'"}', self.junk(300), b"[" * 10_000])
        return self.with_body(b"POST", f"/api/v1/stages/{self.random.choice(['0' * 16, 'f' * 16, '../..', '%2e%2e'])}/cancel", body)

    def kind_method(self):
        return self.request(self.random.choice([b"PUT", b"DELETE", b"PATCH", b"TRACE", b"OPTIONS", b"HEAD", b"BREW", b"POST", b"A" * 300]))

    def kind_pipelined(self):
        return b"".join(self.random.choice([self.request(), self.request(headers=b""), self.request(path=b"/healthz", headers=b"")]) for _ in range(self.random.randrange(2, 30))) + \
            self.random.choice([b"", self.junk(100), b"GET / HTT"])

    def kind_smuggled(self):
        """A request whose length can be read in two ways, and another one behind it."""
        behind = self.request(path=b"/healthz", headers=b"")
        length = b"Content-Length: %d\r\n" % len(behind)
        lengths = self.random.choice([
            b"Content-Length: 0\r\n" + length, length + b"Content-Length: 0\r\n", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\n" + length,
            b"Transfer-Encoding: xchunked\r\n" + length, b"Transfer-Encoding: chunked, identity\r\n", b"Transfer-Encoding: identity, chunked\r\n" + length, b"Transfer-Encoding:\x0bchunked\r\n" + length,
            b"Transfer-Encoding : chunked\r\n" + length, b"Transfer-Encoding:\r\n chunked\r\n" + length, b"Content-Length: +5\r\n", b"Content-Length: 0x5\r\n", b"Content-Length: -1\r\n",
            b"Content-Length: 0, %d\r\n" % len(behind), b"Content-Length : 0\r\n" + length, b"X: a\r\n\tContent-Length: 0\r\n" + length + b"Content-Length: 0\r\n", b"Content-Length: 0\n" + length,
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"Content-Length: 99999999999999999999999\r\n"])
        body = self.random.choice([behind, b"0\r\n\r\n" + behind, b"%x\r\n" % len(behind) + behind + b"\r\n0\r\n\r\n"])
        return self.request(b"POST", f"/api/v1/stages/{self.stage()}/attempts/1/events".encode(), self.good() + lengths, body)

    def kind_cut_off(self):
        whole = self.request()
        return whole[:self.random.randrange(len(whole))]

    def kind_mutated(self):
        data = bytearray(self.request())
        for _ in range(self.random.randrange(1, 8)):
            where = self.random.randrange(len(data))
            action = self.random.randrange(3)
            if action == 0:
                data[where] = self.random.randrange(256)
            elif action == 1:
                del data[where]
            else:
                data[where:where] = self.junk(6)
        return bytes(data)

    def kind_stream(self):
        return self.request(path=self.random.choice([b"/api/v1/events", f"/api/v1/stages/{self.stage()}/events".encode()]), headers=self.good() + b"Last-Event-ID: " +
                            self.random.choice([b"1-1", b"x", b"-", b"99999999999999-1", b"1-99999999999999999999", self.junk(20).hex().encode()]) + b"\r\n")


def exchange(port, data, generator):
    """What comes back within a moment; the connection is closed then, as rude clients do."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(data)
            if generator.random.random() < .7:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.25)
            while len(answer) < 4_000_000:
                piece = connection.recv(65536)
                if not piece:
                    break
                answer += piece
    except OSError:  # among them: the server had closed it already
        pass
    return answer


def asked_of_with_token(data, token):
    return re.search(rb"(?im)^authorization:[ \t]*bearer " + token.encode() + rb"[ \t]*\r?$", data) is not None


def make_home():
    """(folder, workspace, its trials): a small workspace with secrets beside and inside it, and links and a pipe that lead to them."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="filo-fuzz-"))
    workspace = home / "workspace"
    serve_workspace.make(workspace, 24)
    trials = serve_workspace.load_trials(workspace, "ablation")
    stage = workspace / "stages" / trials[0]["evaluate"]
    (home / "outside").mkdir()
    for place in (home / "outside/secret.txt", workspace / "secret.txt", stage / "secret.txt", stage / "snapshots.txt", home / "secret.txt"):
        place.write_bytes(SECRET)
    os.symlink(home / "outside/secret.txt", stage / "heat_maps/link.png")
    os.symlink(home / "outside", stage / "heat_maps/linked")
    os.mkfifo(stage / "heat_maps/pipe.png")
    return home, workspace, trials


def faults(number, kind, data, answer, token):
    """What is wrong with the answer to one request."""
    found = []
    if SECRET in answer or (token.encode() in answer) or b"root:" in answer:
        found.append(f"request {number} ({kind}): something that must not be served came back")
    if not asked_of_with_token(data, token) and b"HTTP/1.1 200" in answer:
        paths = re.findall(rb"(?m)^(?:GET|HEAD) ([^ ?]*)", data)
        if not paths or any(not OPEN.fullmatch(path.decode("latin-1")) for path in paths) and kind != "pipelined":
            found.append(f"request {number} ({kind}): answered without the token: {data[:200]!r}")
        if b'"experiments"' in answer or b'"stages":' in answer or b"filo_stages" in answer:
            found.append(f"request {number} ({kind}): let in without the token")
    if kind == "smuggled" and answer.count(b"HTTP/1.1 ") - answer.count(b"HTTP/1.1 100") > 1 and b'"status":"ok"' in answer.replace(b" ", b""):
        found.append(f"request {number} ({kind}): what was hidden in a body was answered: {data[:400]!r}")
    if b"HTTP/1.1 500" in answer:
        found.append(f"request {number} ({kind}): 500 for {data[:300]!r}")
    return found


class Attack:
    """Sends requests to a server that runs, and keeps what came of them."""

    def __init__(self, process, workspace, trials, seed):
        self.process, self.failures, self.statuses, self.memory = process, [], {}, []
        deadline = time.monotonic() + 60
        while not (workspace / "server.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        reach = json.loads((workspace / "server.json").read_text())
        self.port, self.token = urllib.parse.urlsplit(reach["url"]).port, (workspace / "token").read_text().strip()
        self.generator = Generator(seed, self.token, trials)
        while not self.answers_a_sound_request() and time.monotonic() < deadline:
            time.sleep(0.1)

    def answers_a_sound_request(self):
        request = b"GET /api/v1/experiments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer " + self.token.encode() + b"\r\n\r\n"
        return b"ablation" in exchange(self.port, request, self.generator)

    def run(self, requests, seconds):
        begin = time.monotonic()
        for number in range(requests):
            if time.monotonic() - begin > seconds:
                break
            kind, data = self.generator.next()
            answer = exchange(self.port, data, self.generator)
            status = answer[:12].decode("latin-1")[9:12] or "none"
            counts = self.statuses.setdefault(kind, {})
            counts[status] = counts.get(status, 0) + 1
            self.failures += faults(number, kind, data, answer, self.token)
            if number % 250 == 0:
                if not self.answers_a_sound_request():
                    self.failures.append(f"after request {number} ({kind}) a sound request was not answered")
                pages = int((pathlib.Path("/proc") / str(self.process.pid) / "statm").read_text().split()[1])
                self.memory.append(pages * os.sysconf("SC_PAGESIZE"))
            if self.process.poll() is not None or len(self.failures) > 20:
                break
        self.requests, self.seconds = number + 1, time.monotonic() - begin
        self.end_of_server(number, kind, data)

    def end_of_server(self, number, kind, data):
        ended = self.process.poll()
        if ended is not None:
            self.failures.append(f"the server ended with {ended} after request {number} ({kind}): {data[:500]!r}")
            return
        self.process.terminate()
        code = self.process.wait(60)
        if code != 0:
            self.failures.append(f"the server's end: exit code {code}, 0 expected (leaks are reported then)")

    def report(self, seed):
        for kind, counts in sorted(self.statuses.items()):
            print(f"{kind:24} " + "  ".join(f"{status} {count}" for status, count in sorted(counts.items())))
        memory = self.memory
        print(f"{self.requests} requests, seed {seed}, {self.seconds:.0f} s; memory {memory[0] / 1e6:.0f} MB at first, {memory[-1] / 1e6:.0f} MB at last; {len(self.failures)} failures")
        if len(memory) > 20 and memory[-1] > memory[len(memory) // 2] + 200e6:
            self.failures.append("memory grows without bound")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filo", required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3600, help="ends sooner")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    home, workspace, trials = make_home()
    log = open(home / "log.txt", "w+b")
    environment = dict(os.environ, FILO_LOG="error", ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=86", UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:exitcode=87")
    process = subprocess.Popen([options.filo, "serve", "--workspace", workspace, "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        attack = Attack(process, workspace, trials, options.seed)
        attack.run(options.requests, options.seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    log.seek(0)
    printed = log.read().decode("latin-1")
    if re.search(r"AddressSanitizer|LeakSanitizer|runtime error:", printed):
        attack.failures.append("sanitizer:\n" + printed[-6000:])
    attack.report(options.seed)
    for failure in attack.failures:
        print("FAILED:", failure)
    if not attack.failures:
        shutil.rmtree(home)
    sys.exit(1 if attack.failures else 0)


if __name__ == "__main__":
    main()
