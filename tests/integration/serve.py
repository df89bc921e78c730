"""`filo serve` as clients meet it: the token, limits, streams, actions, TLS, stops and restarts, over loopback with the real program."""

import atexit
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import unittest
import urllib.parse

import serve_workspace

sys.path.insert(0, os.path.join(os.environ["FILO_SOURCE_DIR"], "tests/chaos"))
from chaos import Place

FILO = os.environ["FILO"]
SCRATCH = pathlib.Path(os.environ["FILO_SCRATCH"])


running = []


def end_all():
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


atexit.register(end_all)


class Server:
    """A running `filo serve` on a free port."""

    def __init__(self, workspace, *arguments, environment=None):
        self.workspace = pathlib.Path(workspace)
        self.file = self.workspace / "server.json"
        stale = self.file.read_text() if self.file.exists() else None
        self.log = open(self.workspace.parent / f"{self.workspace.name}.log", "ab+")
        self.begin = self.log.seek(0, 2)
        listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen([FILO, "serve", "--workspace", workspace, *listen, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, env=dict(os.environ, **(environment or {})))
        running.append(self.process)
        deadline = time.monotonic() + 20
        while not self.file.exists() or self.file.read_text() == stale:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"filo serve did not start: {self.printed()}")
            time.sleep(0.02)
        self.reach = json.loads(self.file.read_text())
        self.token = (self.workspace / "token").read_text().strip()
        self.port = urllib.parse.urlsplit(self.reach["url"]).port
        while not self.get("/api/v1/experiments")["experiments"] and time.monotonic() < deadline:
            time.sleep(0.02)

    def printed(self):
        self.log.seek(self.begin)
        return self.log.read().decode()

    def connect(self):
        if self.reach["url"].startswith("https"):
            context = ssl.create_default_context(cadata=self.reach["certificate"])
            context.check_hostname = False
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method, path, body=None, token=True, **headers):
        connection = self.connect()
        try:
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers={**({"Authorization": f"Bearer {self.token}"} if token else {}), **headers})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.ask("GET", path)
        if status != 200:
            raise AssertionError(f"{path}: {status} {body[:500]}")
        return json.loads(body)

    def raw(self, data, wait=5.0):
        """What comes back for these bytes until the server closes, or for so long."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            try:
                connection.sendall(data)
                while piece := connection.recv(65536):
                    answer += piece
            except (TimeoutError, ConnectionError):
                pass
        return answer

    def stream(self, path, last_id=None):
        connection = self.connect()
        headers = {"Authorization": f"Bearer {self.token}", **({"Last-Event-ID": last_id} if last_id else {})}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        assert response.status == 200, response.status
        return connection, response

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.log.close()
        return code


def next_event(response):
    """(id, data) of the next event of a stream."""
    identity = None
    while True:
        line = response.readline().decode().rstrip("\n")
        if line.startswith("id: "):
            identity = line[4:]
        if line.startswith("data: "):
            return identity, json.loads(line[6:])


def until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def new_workspace(name, trials=12):
    workspace = SCRATCH / name
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)
    return workspace, serve_workspace.make(workspace, trials)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


class Serve(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.workspace, cls.trials = new_workspace("serve", 24)
        cls.server = Server(cls.workspace)
        cls.plan = serve_workspace.load_trials(cls.workspace, "ablation")
        cls.running = next(stage["stage"] for stage in cls.server.get("/api/v1/stages?state=running")["stages"])
        cls.done = cls.plan[0]["evaluate"]

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def paths(self):
        """Every path of the API's description, filled in: (method, path, open)."""
        values = {"name": "ablation", "key": self.done, "attempt": "1", "trial": "0", "path": "interpretations.json"}
        for pattern, operations in self.server.get("/openapi.json")["paths"].items():
            module = {"path": "pages/stage.js"} if pattern.startswith("/js/") else {}
            for method, operation in operations.items():
                yield method.upper(), pattern.format(**{**values, **module}), operation.get("security") == []

    def test_nobody_gets_in_without_the_token(self):
        """Guards every path: without a token, with a wrong one, with one in the query, under another scheme."""
        wrong = [{}, {"Authorization": "Bearer " + "0" * 64}, {"Authorization": "Basic " + self.server.token}, {"Authorization": self.server.token},
                 {"Authorization": "Bearer " + self.server.token[:-1]}, {"Cookie": "token=" + self.server.token}]
        for method, path, is_open in self.paths():
            for headers in wrong:
                status, answer_headers, body = self.server.ask(method, path, token=False, **headers)
                self.assertEqual(status, 200 if is_open else 401, f"{method} {path} {headers}")
                if not is_open:
                    self.assertEqual(answer_headers["WWW-Authenticate"], "Bearer")
                    self.assertEqual(json.loads(body)["status"], 401)
            status, _, _ = self.server.ask(method, f"{path}?token={self.server.token}&access_token={self.server.token}", token=False)
            self.assertEqual(status, 200 if is_open else 401)
        status, _, _ = self.server.ask("GET", "/no/such/path", token=False)
        self.assertEqual(status, 401, "not even what there is may be learnt")

    def test_secrets_are_for_their_owner_and_in_no_output(self):
        self.assertEqual(mode_of(self.workspace / "token"), 0o600)
        self.assertEqual(mode_of(self.workspace / "server.json"), 0o600)
        self.assertEqual((self.workspace / "token").read_text().strip(), self.server.token)
        self.assertNotIn(self.server.token, self.server.printed())
        self.assertIn("127.0.0.1", self.server.printed())

    def test_answers_forbid_what_a_browser_need_not_do(self):
        for path in ("/", "/js/dom.js", "/api/v1/experiments", f"/api/v1/stages/{self.done}/artifacts/interpretations.json"):
            _, headers, _ = self.server.ask("GET", path)
            policy = headers["Content-Security-Policy"]
            for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
                self.assertIn(part, policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(headers["X-Frame-Options"], "DENY")
            self.assertIsNone(headers["Access-Control-Allow-Origin"])

    def test_other_names_for_this_machine_are_refused(self):
        """Guards against DNS rebinding."""
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
            status, _, _ = self.server.ask("GET", "/", Host=host)
            self.assertEqual(status, 421, host)
        self.assertTrue(self.server.raw(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 421"))
        status, _, _ = self.server.ask("GET", "/healthz", Host=f"localhost:{self.server.port}")
        self.assertEqual(status, 200)

    def test_limits_of_headers_and_bodies(self):
        status, _, _ = self.server.ask("GET", "/", X_Long="x" * 20_000)
        self.assertEqual(status, 431)
        status, _, _ = self.server.ask("POST", f"/api/v1/stages/{self.running}/cancel", body=b" " * 100_000)
        self.assertEqual(status, 413)
        status, _, _ = self.server.ask("POST", f"/api/v1/stages/{self.running}/attempts/1/events", body=b" " * (2 << 20))
        self.assertEqual(status, 413)
        status, _, _ = self.server.ask("POST", f"/api/v1/stages/{self.running}/attempts/1/events", body=b"\n" * 100_000)
        self.assertEqual(status, 204)

    def test_slow_clients_are_dropped_and_disturb_nobody(self):
        """Guards against slow-loris: headers a byte at a time end after ten seconds, and others are served meanwhile."""
        slow = [socket.create_connection(("127.0.0.1", self.server.port), timeout=30) for _ in range(50)]
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        begin = time.monotonic()
        closed = False
        while time.monotonic() - begin < 20 and not closed:
            time.sleep(0.5)
            started = time.monotonic()
            self.assertEqual(self.server.ask("GET", "/healthz")[0], 200)
            self.assertLess(time.monotonic() - started, 1.0)
            try:
                for connection in slow:
                    connection.sendall(b"X: y\r\n")
            except OSError:
                closed = True
        self.assertTrue(closed, "slow clients kept their connections for 20 s")
        self.assertGreater(time.monotonic() - begin, 5, "a slow line is no reason to hurry")
        for connection in slow:
            connection.close()

    def test_one_connection_serves_many_requests_also_pipelined(self):
        connection = self.server.connect()
        for _ in range(50):
            connection.request("GET", "/api/v1/experiments", headers={"Authorization": f"Bearer {self.server.token}"})
            self.assertEqual(connection.getresponse().read()[:1], b"{")
        connection.close()
        one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
        answer = self.server.raw(one % b"" * 9 + one % b"Connection: close\r\n")
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 10)

    def test_head_and_range_and_conditional_requests(self):
        path = f"/api/v1/stages/{self.done}/artifacts/interpretations.json"
        _, headers, whole = self.server.ask("GET", path)
        status, headers, body = self.server.ask("HEAD", path)
        self.assertEqual((status, body, headers["Content-Length"]), (200, b"", str(len(whole))))
        status, headers, body = self.server.ask("GET", path, Range="bytes=3-7")
        self.assertEqual((status, body, headers["Content-Range"]), (206, whole[3:8], f"bytes 3-7/{len(whole)}"))
        for script in ("/app.js", "/js/pages/stage.js"):
            _, headers, _ = self.server.ask("GET", script)
            self.assertEqual(headers["Cache-Control"], "no-cache", "asked for again each time: the program may be another")
            status, _, body = self.server.ask("GET", script, If_None_Match=headers["ETag"])
            self.assertEqual((status, body), (304, b""))
        status, headers, _ = self.server.ask("DELETE", "/api/v1/experiments")
        self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"))

    def test_posted_events_reach_a_stream_at_once_and_once(self):
        folder = self.workspace / "stages" / self.running / "attempts/1"
        last = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])["seq"]
        connection, response = self.server.stream(f"/api/v1/stages/{self.running}/events", f"1-{last}")
        lines = [json.dumps({"seq": last + i, "event": "step", "step": last + i, "loss": 0.5, "time": time.time()}) for i in (1, 2, 3)]
        begin = time.monotonic()
        status, _, body = self.server.ask("POST", f"/api/v1/stages/{self.running}/attempts/1/events", "\n".join(lines) + "\n")
        self.assertEqual(status, 204, body)
        self.assertEqual([next_event(response)[0] for _ in lines], [f"1-{last + i}" for i in (1, 2, 3)])
        self.assertLess(time.monotonic() - begin, 1.0)
        with open(folder / "events.jsonl", "a") as file:  # the truth follows: what was seen is not seen again
            file.write("\n".join(lines) + "\n" + json.dumps({"seq": last + 4, "event": "epoch"}) + "\n")
        self.assertEqual(next_event(response)[0], f"1-{last + 4}")
        connection.close()
        connection, response = self.server.stream(f"/api/v1/stages/{self.running}/events", f"1-{last + 2}")
        self.assertEqual(next_event(response)[0], f"1-{last + 3}")
        connection.close()

    def test_events_of_workers_that_do_not_post_are_read_from_their_files(self):
        stage = [one["stage"] for one in self.server.get("/api/v1/stages?state=running")["stages"]][-1]
        events = self.workspace / "stages" / stage / "attempts/1/events.jsonl"
        last = json.loads(events.read_text().splitlines()[-1])["seq"]
        with open(events, "a") as file:
            file.write(json.dumps({"seq": last + 1, "event": "progress", "done": 17, "total": 40, "unit": "images"}) + "\n")
        until(lambda: (self.server.get(f"/api/v1/stages/{stage}")["progress"] or {}).get("text") == "17/40 images", "progress from the file")

    def test_actions_are_durable_requests(self):
        stage = self.plan[self.trials["waiting"][0]]["train"]
        folder = self.workspace / "stages" / stage
        status, _, _ = self.server.ask("POST", f"/api/v1/stages/{stage}/cancel", json.dumps({"reason": "not worth it"}))
        self.assertEqual(status, 202)
        self.assertEqual(json.loads((folder / "request.json").read_text())["want"], "cancel")
        until(lambda: self.server.get(f"/api/v1/stages/{stage}")["state"] == "cancelled", "the page shows it", 30)
        status, _, _ = self.server.ask("POST", f"/api/v1/stages/{stage}/retry")
        self.assertEqual(status, 202)
        self.assertFalse((folder / "request.json").exists())
        stage = self.plan[self.trials["failed"][0]]["evaluate"]
        self.assertEqual(self.server.ask("POST", f"/api/v1/stages/{stage}/retry")[0], 202)
        self.assertEqual(json.loads((self.workspace / "stages" / stage / "retry.json").read_text())["after_attempt"], 3)
        self.assertEqual(self.server.ask("POST", f"/api/v1/stages/{self.done}/cancel")[0], 409)

    def test_the_figures_are_there_for_prometheus(self):
        _, headers, body = self.server.ask("GET", "/metrics")
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        text = body.decode()
        self.assertIn('filo_trials{experiment="ablation",state="done"}', text)
        memory = float(next(line for line in text.splitlines() if line.startswith("process_resident_memory_bytes")).split()[1])
        self.assertLess(memory, 100e6)


class Lifetime(unittest.TestCase):
    def test_a_stop_is_clean_and_a_kill_is_harmless(self):
        workspace, _ = new_workspace("serve-lifetime", 4)
        server = Server(workspace)
        token = server.token
        connection, response = server.stream("/api/v1/events")
        next_event(response)
        begin = time.monotonic()
        self.assertEqual(server.stop(), 0, server.log)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertFalse((workspace / "server.json").exists())
        connection.close()
        server = Server(workspace)
        self.assertEqual(server.token, token, "the token stays")
        server.stop(signal.SIGKILL)
        self.assertTrue((workspace / "server.json").exists())
        server = Server(workspace)  # over the stale server.json
        other = Server(workspace)  # and two at once
        server.stop()
        self.assertEqual(json.loads((workspace / "server.json").read_text()), other.reach, "one server's end leaves the other's address")
        other.stop(signal.SIGINT)
        self.assertFalse((workspace / "server.json").exists())

    def test_streams_go_on_after_a_restart(self):
        workspace, _ = new_workspace("serve-restart", 12)
        server = Server(workspace)
        stage = server.get("/api/v1/stages?state=running")["stages"][0]["stage"]
        connection, response = server.stream(f"/api/v1/stages/{stage}/events")
        identity = [next_event(response)[0] for _ in range(5)][-1]
        everything, overall = server.stream("/api/v1/events")
        place, first = next_event(overall)
        self.assertEqual(first["event"], "ready")
        server.stop(signal.SIGKILL)
        connection.close()
        everything.close()
        server = Server(workspace)
        connection, response = server.stream(f"/api/v1/stages/{stage}/events", identity)
        attempt, sequence = map(int, identity.split("-"))
        self.assertEqual(next_event(response)[0], f"{attempt}-{sequence + 1}")
        connection.close()
        connection, response = server.stream("/api/v1/events", place)
        self.assertEqual(next_event(response)[1]["event"], "reset", "what was missed is unknown: look anew")
        connection.close()
        server.stop()

    def test_a_wrong_setup_is_an_error_of_one_line(self):
        workspace, _ = new_workspace("serve-wrong", 2)
        (workspace / "token").write_text("0123456789abcdef0123456789abcdef\n")
        (workspace / "token").chmod(0o644)
        cases = [([], "chmod 600"), (["--listen", "nonsense"], "ADDRESS:PORT"), (["--listen", "192.0.2.1:0"], "cannot listen"),
                 (["--token-file", workspace / "other", "--tls-key", FILO], "--tls-certificate"),
                 (["--token-file", workspace / "other", "--tls-key", FILO, "--tls-certificate", FILO], "PEM")]
        for arguments, part in cases:
            listen = ["--token-file", workspace / "other"] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
            result = subprocess.run([FILO, "serve", "--workspace", workspace, *listen, *map(str, arguments)], capture_output=True, text=True, timeout=20,
                                    stdin=subprocess.DEVNULL)
            self.assertEqual(result.returncode, 2, f"{arguments}: {result.stderr}")
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            self.assertIn(part, result.stderr)
            self.assertFalse((workspace / "server.json").exists())

    def test_tls_with_the_certificate_in_server_json(self):
        workspace, _ = new_workspace("serve-tls", 2)
        certificate, key = workspace / "certificate.pem", workspace / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=filo-test",
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        server = Server(workspace, "--tls-certificate", certificate, "--tls-key", key)
        self.assertTrue(server.reach["url"].startswith("https://"))
        self.assertEqual(len(server.get("/api/v1/experiments")["experiments"]), 1)
        connection, response = server.stream("/api/v1/events")
        self.assertEqual(next_event(response)[1]["event"], "ready")
        connection.close()
        self.assertEqual(server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 2)[:4].find(b"HTTP"), -1, "plain HTTP is not answered")
        self.assertEqual(server.stop(), 0)

    def test_connections_beyond_the_limit_are_refused_and_room_comes_back(self):
        workspace, _ = new_workspace("serve-full", 2)
        server = Server(workspace, "--max-connections", 8)
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(8)]
        time.sleep(0.3)
        self.assertEqual(server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 2), b"")
        for connection in held:
            connection.close()
        until(lambda: server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 2).startswith(b"HTTP/1.1 200"), "room again")
        server.stop()


WORKER = """#!/bin/bash
# Stands for filo-worker: an event, then works until it is asked to stop, as a real one does at a step boundary.
while [ $# -gt 0 ]; do case $1 in --workspace) w=$2 ;; --stage) s=$2 ;; --attempt) a=$2 ;; esac; shift; done
stop() { echo snapshot >"$w/stages/$s/snapshot"; exit 75; }
trap stop USR2
printf '{"seq": 0, "time": 1, "event": "progress", "done": 3, "total": 8, "unit": "images"}\\n' >>"$w/stages/$s/attempts/$a/events.jsonl"
for i in $(seq 600); do sleep 0.1; done
"""


def make_worker(workspace):
    worker = workspace / "worker"
    worker.write_text(WORKER)
    worker.chmod(0o755)
    return worker


class Reconcile(unittest.TestCase):
    def test_active_experiments_run_and_a_stop_leaves_snapshots(self):
        """Guards the loop in the server: it starts what is ready, shows it, and SIGTERM lets stages on this machine write snapshots."""
        workspace = SCRATCH / "serve-loop"
        shutil.rmtree(workspace, ignore_errors=True)
        stage = serve_workspace.Stage(workspace, "loop", "features", "features parts")
        serve_workspace.save_plan(workspace, "loop", [stage])
        serve_workspace.write(workspace / "experiments/loop/active.json", {"name": "loop", "executor": "local", "cluster": None, "since": time.time()})
        worker = make_worker(workspace)
        server = Server(workspace, environment={"FILO_WORKER": str(worker)})
        until(lambda: server.get(f"/api/v1/stages/{stage.key}")["state"] == "running", "the stage runs")
        until(lambda: (server.get(f"/api/v1/stages/{stage.key}")["progress"] or {}).get("text") == "3/8 images", "its progress is seen")
        self.assertTrue(server.get("/api/v1/experiments/loop")["active"])
        self.assertEqual(server.stop(), 0)
        self.assertTrue((stage.folder / "snapshot").exists(), "it got no chance to write its snapshot")
        self.assertEqual(json.loads((stage.folder / "attempts/1/end.json").read_text())["outcome"], "stopped")
        server = Server(workspace, environment={"FILO_WORKER": str(worker)})
        until(lambda: server.get(f"/api/v1/stages/{stage.key}")["attempt"] == 2, "the next server goes on")
        server.ask("POST", "/api/v1/experiments/loop/cancel")
        until(lambda: server.get(f"/api/v1/stages/{stage.key}")["state"] == "cancelled", "cancelled")
        self.assertEqual(server.stop(), 0)


class Run(unittest.TestCase):
    def test_a_run_in_the_foreground_is_shown_and_left_alone(self):
        """Guards that the page shows a filo run as active while it lives, and that the server does not go on with it when it is killed."""
        folder = SCRATCH / "serve-run"
        shutil.rmtree(folder, ignore_errors=True)
        place = Place(folder, seeds=6)
        run = place.start("run", str(place.experiment))
        running.append(run)
        until(lambda: (place.workspace / "experiments/chaos/plan.json").exists(), "the run has begun")
        server = Server(place.workspace, environment={name: place.environment[name] for name in ("PATH", "FILO_WORKER", "CHAOS_VIOLATIONS")})
        is_active = lambda: server.get("/api/v1/experiments/chaos")["active"]
        until(is_active, "the run is shown as active")
        self.assertIsNone(run.poll(), "the run ended before it could be looked at")
        run.kill()
        run.communicate()
        until(lambda: not is_active(), "a run that was killed is not active")
        attempts = sorted(place.workspace.glob("stages/*/attempts/*"))
        time.sleep(5)
        self.assertEqual(sorted(place.workspace.glob("stages/*/attempts/*")), attempts, "somebody went on with the run")
        self.assertLess(len(list(place.workspace.glob("stages/*/result.json"))), 38)
        self.assertEqual(place.run("run", str(place.experiment)), 0)
        until(lambda: not is_active(), "a run that has ended is not active")
        self.assertEqual(server.stop(), 0)


class Submit(unittest.TestCase):
    def test_an_experiment_is_handed_over_without_a_cluster(self):
        """Guards filo submit FILE: the server of the workspace runs it to its end; without one, it says so and changes nothing."""
        folder = SCRATCH / "serve-submit"
        shutil.rmtree(folder, ignore_errors=True)
        place = Place(folder, seeds=1)
        def filo(*arguments):
            return subprocess.run([FILO, *arguments, "--workspace", place.workspace], env=place.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        refused = filo("submit", place.experiment)
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertIn("no filo serve looks after it", refused.stderr)
        self.assertFalse((place.workspace / "experiments").exists())
        server = subprocess.Popen([FILO, "serve", "--workspace", place.workspace, "--listen", "127.0.0.1:0"], env=place.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        running.append(server)
        until(lambda: (place.workspace / "server.json").exists(), "the server runs")
        handed = filo("submit", place.experiment, "--dry-run")
        self.assertEqual((handed.returncode, (place.workspace / "experiments").exists()), (0, False), handed.stderr)
        handed = filo("submit", place.experiment)
        self.assertEqual(handed.returncode, 0, handed.stderr)
        self.assertIn("chaos: 8 stages handed to filo serve at http://127.0.0.1:", handed.stdout)
        until(lambda: set(json.loads(filo("status", "chaos", "--json").stdout)[0]["counts"]) == {"done"}, "every stage is done", 60)
        until(lambda: not (place.workspace / "experiments/chaos/active.json").exists(), "it is no longer active")
        server.kill()
        server.wait()
        self.assertEqual(filo("submit", place.experiment).returncode, 2, "a server that was killed is none")


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
