"""The page of `filo serve` in a headless Chromium: what a person sees and does, on a desk and on a phone, with keys alone and in the dark.
With FILO_SCREENSHOTS=FOLDER it leaves pictures there to be looked at. Exits with 77 (skipped) where there is no Chromium."""

import json
import os
import pathlib
import shutil
import sys
import time
import unittest

sys.path.append(str(pathlib.Path(__file__).parent.parent))
import browser
import serve
import serve_workspace
from skip import skip

PICTURES = os.environ.get("FILO_SCREENSHOTS")
EXPERIMENT = "#/experiments/ablation"


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.workspace, cls.trials = serve.new_workspace("serve-page", 24)
        serve_workspace.make(cls.workspace, 10_000, "large", 3, busy=600)
        cls.server = serve.Server(cls.workspace)
        cls.plan = serve_workspace.load_trials(cls.workspace, "ablation")
        cls.browser = browser.Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.server.stop()

    def setUp(self):
        self.browser.screen(1280, 900)
        self.browser.events.clear()
        self.browser.open("about:blank")
        self.browser.open(f"{self.server.reach['url']}/#token={self.server.token}")
        self.browser.wait("document.querySelector('article.card')", "the list of experiments")

    def go(self, address):
        self.browser.run(f"location.hash = {json.dumps(address)}")
        self.browser.wait(f"document.documentElement.dataset.ready === {json.dumps(address)}", f"the view {address}")

    def text(self, selector="main"):
        return self.browser.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def picture(self, name):
        if PICTURES:
            self.browser.screenshot(pathlib.Path(PICTURES) / f"{name}.png", whole=True)

    def assert_fits(self, what):
        wide = self.browser.run("document.documentElement.scrollWidth - innerWidth")
        self.assertLessEqual(wide, 0, f"{what} is {wide} px wider than the screen")

    def forget_the_token(self):
        self.browser.run("sessionStorage.clear()")
        self.browser.call("Page.reload")
        self.browser.wait("document.activeElement && document.activeElement.id === 'token'", "the question for the token")

    def give_a_wrong_token_then_the_right_one(self):
        self.browser.type("wrong" * 5)
        self.browser.key("Enter")
        self.browser.wait("document.body.innerText.includes('does not know this token')")
        self.browser.type(self.server.token)
        self.browser.key("Enter")
        self.browser.wait("document.querySelector('article.card')")

    def test_the_token_leaves_the_address_and_nothing_comes_from_elsewhere(self):
        self.assertNotIn(self.server.token, self.browser.run("location.href"))
        self.go(EXPERIMENT)
        origin = self.server.reach["url"]
        for url in self.browser.requested():
            self.assertTrue(url.startswith((origin, "about:", "blob:")), url)
            self.assertNotIn(self.server.token, url.split("#")[0])
        self.assertEqual(self.browser.complaints(), [])

    def test_without_a_token_the_page_asks_for_it_and_says_when_it_is_wrong(self):
        self.forget_the_token()
        self.give_a_wrong_token_then_the_right_one()

    def test_a_late_refusal_of_a_wrong_token_does_not_undo_the_right_one(self):
        self.forget_the_token()
        self.browser.run("""(() => {
          const before = window.fetch;
          window.fetch = async (path, options) => {
            const late = String(path).endsWith('/events') && options.headers.Authorization.includes('wrong');
            const answer = await before(path, options);
            if (late) { await new Promise((resolve) => setTimeout(resolve, 1500)); window.lateCame = true; }
            return answer;
          };
        })()""")
        self.give_a_wrong_token_then_the_right_one()
        self.browser.wait("window.lateCame")
        time.sleep(0.3)
        self.assertTrue(self.browser.run("document.querySelector('article.card') !== null && document.getElementById('token') === null"))

    def test_experiments_trials_tables_and_reasons_are_shown(self):
        self.assertIn("ablation", self.text())
        self.go(EXPERIMENT)
        text = self.text()
        for part in ("Table of the ablation", "paper 86.3", "Stages that failed, and why", "No space left on device", f"{len(self.trials['done'])} done"):
            self.assertIn(part, text)
        self.assertTrue(self.browser.run("document.querySelectorAll('td.best').length > 0 && "
                                         "getComputedStyle(document.querySelector('td.best')).fontWeight >= 700"), "the best is bold")
        self.picture("experiment")
        self.go(f"{EXPERIMENT}/trials/0")
        self.browser.wait("document.querySelectorAll('.maps img').length === 3 && [...document.querySelectorAll('.maps img')].every((one) => one.naturalWidth > 0)",
                          "heat maps")
        self.browser.wait("document.querySelectorAll('.charts canvas').length >= 2", "curves")
        self.assertIn("lowest", self.browser.run("document.querySelector('.charts canvas').getAttribute('aria-label')"))
        self.assertIn("small dark spot", self.text())
        self.picture("trial")
        self.go("#/stages/" + self.plan[self.trials["failed"][0]]["evaluate"])
        self.assertIn("3 of at most 3 failures", self.text())
        self.picture("failed-stage")
        self.assertEqual(self.browser.complaints(), [])

    def test_every_view_fits_a_phone_and_the_dark(self):
        views = [("list", "#/"), ("experiment", EXPERIMENT), ("large", "#/experiments/large"), ("trial", f"{EXPERIMENT}/trials/0"),
                 ("stage", "#/stages/" + self.plan[0]["train"])]
        for name, address in views:
            self.browser.screen(360, 740, phone=True)
            self.go(address)
            time.sleep(0.5)
            self.assert_fits(f"{name} on a phone")
            hidden = self.browser.run("[...document.querySelectorAll('td.reason')].filter((one) => one.getBoundingClientRect().right > innerWidth).length")
            self.assertEqual(hidden, 0, f"{name}: reasons beyond the edge of a phone")
            small = self.browser.run("[...document.querySelectorAll('main button, main select')].filter((one) => one.offsetHeight && one.offsetHeight < 30)"
                                     ".map((one) => one.innerText)")
            self.assertEqual(small, [], "too small for a thumb")
            self.picture(f"{name}-phone")
            self.browser.screen(1280, 900, dark=True)
            time.sleep(0.3)
            light = self.browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)")
            self.assertLess(light, 120, "the dark is dark")
            self.picture(f"{name}-dark")
        self.assertEqual(self.browser.complaints(), [])

    def test_ten_thousand_trials_are_usable_with_keys_alone(self):
        begin = time.monotonic()
        self.go("#/experiments/large")
        self.assertLess(time.monotonic() - begin, 5, "10,000 cells")
        self.assertLess(self.browser.run("document.querySelectorAll('*').length"), 3000, "light: no element per cell")
        for _ in range(40):
            self.browser.key("Tab")
            if self.browser.run("document.activeElement.id === 'grid'"):
                break
        self.assertTrue(self.browser.run("document.activeElement.id === 'grid'"), "Tab reaches the grid")
        self.browser.key("ArrowRight")
        self.browser.key("ArrowRight")
        self.browser.wait("document.getElementById('grid-cell').innerText.startsWith('Trial 2:') && document.querySelector('#grid-cell a')", "the cell in words")
        columns = self.browser.run("Math.floor((document.querySelector('.grid-box').clientWidth - 22) / 7)")
        self.browser.key("ArrowDown")
        self.browser.wait(f"document.getElementById('grid-cell').innerText.startsWith('Trial {2 + columns}:')", "a row further down")
        self.browser.key("End", modifiers=2)
        self.browser.wait("document.getElementById('grid-cell').innerText.startsWith('Trial 9999:')", "the last cell")
        self.picture("large")
        self.browser.key("Enter")
        self.browser.wait("location.hash.endsWith('/trials/9999') && document.querySelector('h1').innerText === 'Trial 9999'", "Enter opens it")

    def test_actions_ask_first_and_can_be_done_with_keys_alone(self):
        stage = self.plan[self.trials["failed"][-1]]["evaluate"]
        folder = self.workspace / "stages" / stage
        self.go("#/stages/" + stage)
        self.browser.run("[...document.querySelectorAll('button')].find((one) => one.innerText === 'Retry stage').focus()")
        self.browser.key("Enter")
        self.browser.wait("document.getElementById('confirm').open", "the question")
        self.browser.key("Escape")
        self.browser.wait("!document.getElementById('confirm').open")
        time.sleep(0.3)
        self.assertFalse((folder / "retry.json").exists(), "Escape leaves it")
        self.browser.key("Enter")
        self.browser.wait("document.getElementById('confirm').open")
        self.browser.key("Tab")
        self.browser.key("Enter")
        serve.until(lambda: (folder / "retry.json").exists(), "the request")
        self.browser.wait("!document.body.innerText.includes('3 of at most 3 failures')", "the page shows that they no longer count")

    def is_offered(self, label):
        return self.browser.run(f"[...document.querySelectorAll('.actions button')].some((one) => one.innerText === {json.dumps(label)} && one.offsetHeight > 0)")

    def test_cancelling_an_experiment_is_offered_while_something_is_left_to_cancel(self):
        self.go(EXPERIMENT)
        self.assertTrue(self.is_offered("Cancel experiment"), "stages of it run")
        workspace, _ = serve.new_workspace("serve-page-cancel", 2)
        loop = serve_workspace.Stage(workspace, "loop", "features", "features parts")
        serve_workspace.save_plan(workspace, "loop", [loop])
        serve_workspace.write(workspace / "experiments/loop/active.json", {"name": "loop", "executor": "local", "cluster": None, "since": time.time()})
        server = serve.Server(workspace, environment={"FILO_WORKER": str(serve.make_worker(workspace))})
        self.addCleanup(server.stop)
        self.browser.open(f"{server.reach['url']}/#token={server.token}")
        self.browser.wait("document.querySelectorAll('article.card').length === 2", "the list of experiments")
        self.go(EXPERIMENT)
        self.assertIn("2 of 2 trials done", self.text())
        self.assertFalse(self.is_offered("Cancel experiment"), "all of it is done")
        self.assertFalse(self.is_offered("Retry failed"), "nothing of it was given up")
        self.picture("done")
        serve.until(lambda: server.get(f"/api/v1/stages/{loop.key}")["state"] == "running", "the stage runs")
        self.go("#/experiments/loop")
        self.browser.wait("document.querySelector('main').innerText.includes('A coordinator looks after it.')")
        self.assertTrue(self.is_offered("Cancel experiment"))
        server.ask("POST", "/api/v1/experiments/loop/cancel")
        serve.until(lambda: not self.is_offered("Cancel experiment"), "nothing is left to cancel")
        serve.until(lambda: self.is_offered("Retry failed"), "what was cancelled can be taken up again")

    def test_curves_logs_and_progress_are_live(self):
        stage = self.plan[self.trials["running"][0]]["train"]
        self.go("#/stages/" + stage)
        self.browser.wait("document.querySelectorAll('.charts canvas').length >= 2")
        folder = self.workspace / "stages" / stage / "attempts/1"
        last = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])
        event = {**last, "seq": last["seq"] + 1, "step": last["step"] + 1, "epoch_step": last["step"] + 1, "loss": 0.123456}
        status, _, _ = self.server.ask("POST", f"/api/v1/stages/{stage}/attempts/1/events", json.dumps(event) + "\n")
        self.assertEqual(status, 204)
        self.browser.wait("document.querySelector('.charts figcaption').innerText.includes('0.1235')", "the curve goes on", 5)
        self.browser.wait("document.querySelector('[data-progress]').innerText.includes('0.1235')", "the progress in words")
        with open(folder / "log.txt", "a") as log:
            log.write("a new line of the log\n")
        self.browser.wait("document.querySelector('pre[role=log]').innerText.includes('a new line of the log')", "the log is followed")

    def test_a_result_that_arrives_fills_the_table(self):
        workspace, trials = serve.new_workspace("serve-page-arrives", 24)
        server = serve.Server(workspace)
        self.addCleanup(server.stop)
        self.browser.open(f"{server.reach['url']}/#token={server.token}")
        self.browser.wait("document.querySelector('article.card')", "the list of experiments")
        self.go(EXPERIMENT)
        done = len(trials["done"])
        self.assertIn(f"{done} of 24 trials done", self.text())
        trial = serve_workspace.load_trials(workspace, "ablation")[trials["running"][0]]
        for kind, metrics in (("train", {}), ("evaluate", {"image_auroc": 0.9, "pixel_auroc": 0.9})):
            stage = workspace / "stages" / trial[kind]
            serve_workspace.write(stage / "attempts/1/end.json", {"outcome": "done", "cause": "exited", "reason": ""})
            serve_workspace.write(stage / "result.json", {"stage": trial[kind], "kind": kind, "attempt": 1, "seconds": 5, "metrics": metrics, "artifacts": {}})
        self.browser.wait(f"document.querySelector('main').innerText.includes('{done + 1} of 24 trials done')", "the count", 30)

    def test_a_page_that_is_out_of_sight_holds_no_connection(self):
        """A browser opens six connections to a server: tabs in the background would use them up."""
        self.go("#/stages/" + self.plan[self.trials["running"][0]]["train"])
        self.browser.wait("document.querySelectorAll('.charts canvas').length >= 2")
        streams = lambda: {event["params"]["requestId"]: event["params"]["request"]["url"] for event in self.browser.events
                           if event.get("method") == "Network.requestWillBeSent" and event["params"]["request"]["url"].endswith("/events")}
        ended = lambda: {event["params"]["requestId"] for event in self.browser.events if event.get("method") == "Network.loadingFailed"}
        serve.until(lambda: self.browser.run("1") and len(streams()) >= 2, "the workspace's stream and the stage's")
        shown = set(streams())
        self.browser.run("Object.defineProperty(document, 'hidden', {value: true, configurable: true}), document.dispatchEvent(new Event('visibilitychange'))")
        serve.until(lambda: self.browser.run("1") and shown <= ended(), "both are ended")
        self.assertEqual(set(streams()), shown, "and not opened again")
        self.browser.run("delete document.hidden, document.dispatchEvent(new Event('visibilitychange'))")
        serve.until(lambda: self.browser.run("1") and len(set(streams()) - shown) == 2, "both are opened again")
        self.assertEqual(self.browser.run("document.getElementById('connection').innerText"), "live")

    def test_pages_that_were_left_hold_no_connection(self):
        for _ in range(8):
            self.setUp()
            self.go(f"{EXPERIMENT}/trials/0")

    def test_the_page_says_that_it_is_offline_and_comes_back(self):
        workspace, _ = serve.new_workspace("serve-page-restart", 4)
        server = serve.Server(workspace)
        self.browser.open("about:blank")
        self.browser.open(f"{server.reach['url']}/#token={server.token}")
        self.browser.wait("document.getElementById('connection').innerText === 'live'")
        server.stop(9)
        self.browser.wait("document.getElementById('connection').innerText.startsWith('offline')", "offline is said")
        again = serve.Server(workspace, "--listen", f"127.0.0.1:{server.port}")
        self.browser.wait("document.getElementById('connection').innerText === 'live'", "it comes back", 25)
        again.stop()


if __name__ == "__main__":
    if browser.find() is None:
        skip("there is no Chromium here (Debian: apt-get install chromium)")
    if PICTURES:
        pathlib.Path(PICTURES).mkdir(parents=True, exist_ok=True)
    sys.exit(unittest.main(verbosity=2))
