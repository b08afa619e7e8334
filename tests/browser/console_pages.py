"""Runs in .venv/browser: `python console_pages.py URL KEY FOLDER`. Visits every page of the console in Chromium.

Prints JSON: what the browser's console said, axe-core's serious findings, overflows, and what the pages showed. Screenshots go
into FOLDER.
"""

import json
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

WIDTHS = {"wide": 1280, "narrow": 390}
PAGES = {
    "changes": "/",
    "pipeline": "/pipelines/flights",
    "rollback": "/pipelines/moderation/rollback",
    "action": "/pipelines/flights/actions/promote",
    "freeze": "/freeze",
    "incidents": "/incidents",
    "runbook": "/incidents/runbooks/feature-store-outage",
    "requests": "/requests",
    "request": "/requests?id=9f2c7a51-5e0b-4d0e-8f3e-2b7d1c9a0e44",
    "models": "/models",
    "model": "/models/light/2",
    "audit": "/audit",
    "audit-log": "/audit/log",
}
WAIT_S = 60
SERIOUS = ("serious", "critical")


def driver() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


class Visit:
    """One browser window. `found`: what is wrong, by page."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.browser = driver()
        self.axe = (files("axe_core_python") / "axe.min.js").read_text()
        self.findings: list[str] = []
        self.messages: list[str] = []

    def wait(self, until: Callable[[Any], Any]) -> Any:
        return WebDriverWait(self.browser, WAIT_S).until(until)

    def look(self, width: int, scheme: str) -> None:
        """From now on as on such a screen."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def open(self, path: str) -> None:
        self.browser.get(self.url + path)
        self.wait(lambda b: b.find_elements(By.TAG_NAME, "h1"))
        if path == "/pipelines/flights":
            self.wait(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".uplot canvas")) == 3)

    def check(self, name: str) -> None:
        """A screenshot of the whole page, what axe-core says, and whether the page is wider than the screen."""
        height = self.browser.execute_script("return document.documentElement.scrollHeight")
        width = self.browser.execute_script("return innerWidth")
        size = {"width": width, "height": max(height, 600), "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.save_screenshot(str(self.folder / f"{name}.png"))
        self.browser.execute_script(self.axe)
        result = self.browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
        for violation in result["violations"]:
            if violation["impact"] in SERIOUS:
                nodes = [node["html"][:200] for node in violation["nodes"][:3]]
                self.findings.append(f"{name}: {violation['id']}: {violation['help']}: {nodes}")
        wider = self.browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
        if wider > 0:
            self.findings.append(f"{name}: {wider} px wider than the screen")
        self.listen(name)

    def listen(self, name: str, but: str | None = None) -> None:
        logged = [e for e in self.browser.get_log("browser") if but is None or but not in e["message"]]
        self.messages += [f"{name}: {entry['level']} {entry['message']}" for entry in logged]


def sign_in(visit: Visit, key: str) -> None:
    """By the keyboard alone."""
    visit.browser.get(visit.url + "/pipelines/flights?x=1")
    visit.wait(lambda b: b.find_elements(By.ID, "key"))
    assert visit.browser.switch_to.active_element.get_attribute("id") == "key"
    visit.browser.switch_to.active_element.send_keys(key, Keys.ENTER)
    visit.wait(lambda b: b.current_url.endswith("/pipelines/flights?x=1"))


def roll_back(visit: Visit) -> str:
    """From the first page, by the keyboard: the button, the reason, yes."""
    visit.open("/")
    visit.browser.find_element(By.ID, "back-moderation").send_keys(Keys.ENTER)
    visit.wait(lambda b: b.find_elements(By.ID, "reason"))
    visit.browser.find_element(By.ID, "reason").send_keys("figures got worse", Keys.ENTER)
    told = visit.wait(lambda b: b.find_elements(By.CSS_SELECTOR, ".notice.good"))[0].text
    visit.check("rolled-back")
    return str(told)


def pause(visit: Visit) -> str:
    """From the pipeline's page, by the keyboard."""
    visit.open("/pipelines/flights")
    visit.browser.find_element(By.ID, "act-pause").send_keys(Keys.ENTER)
    visit.wait(lambda b: b.find_elements(By.ID, "reason"))
    visit.browser.find_element(By.ID, "reason").send_keys("wait for ann", Keys.ENTER)
    return str(visit.wait(lambda b: b.find_elements(By.CSS_SELECTOR, ".notice.good"))[0].text)


def silence(visit: Visit) -> str:
    """One alert, from the page of incidents; "": none is shown."""
    visit.open("/incidents")
    fields = visit.browser.find_elements(By.CSS_SELECTOR, ".quiet input[name=reason]")
    if not fields:
        return ""
    fields[0].send_keys("ticket 7", Keys.ENTER)
    told = visit.wait(lambda b: b.find_elements(By.XPATH, "//p[contains(., 'Silenced by')]"))[0].text
    visit.check("silenced")
    return str(told)


def sign_out_elsewhere(visit: Visit) -> None:
    """In another window; this one learns it by the 401 of a poll, and then goes to the sign-in by itself."""
    visit.open("/pipelines/flights")
    first = visit.browser.current_window_handle
    visit.browser.switch_to.new_window("tab")
    visit.open("/models")
    visit.browser.find_element(By.CSS_SELECTOR, ".who button").send_keys(Keys.ENTER)
    visit.wait(lambda b: b.find_elements(By.ID, "key"))
    visit.browser.switch_to.window(first)
    visit.wait(lambda b: "/sign-in" in b.current_url)


def kept_focus(visit: Visit) -> bool:
    """Whether a poll leaves the focus where the keyboard has put it."""
    visit.open("/")
    visit.browser.execute_script("document.getElementById('more-flights').focus()")
    before = visit.browser.find_element(By.ID, "more-flights")
    visit.wait(lambda _: gone(before))
    return bool(visit.browser.switch_to.active_element.get_attribute("id") == "more-flights")


def gone(element: Any) -> bool:
    try:
        element.is_enabled()
    except Exception:  # noqa: BLE001 - the poll has put another element in its place
        return True
    return False


def main(url: str, key: str, folder: str) -> None:
    visit = Visit(url, Path(folder))
    try:
        for scheme in ("light", "dark"):
            for size, width in WIDTHS.items():
                visit.look(width, scheme)
                visit.browser.get(visit.url + "/sign-in")
                visit.wait(lambda b: b.find_elements(By.ID, "key"))
                visit.check(f"sign-in-{size}-{scheme}")
        sign_in(visit, key)
        for scheme in ("light", "dark"):
            for size, width in WIDTHS.items():
                for name, path in PAGES.items():
                    visit.look(width, scheme)
                    visit.open(path)
                    visit.check(f"{name}-{size}-{scheme}")
        visit.look(1280, "light")
        focus = kept_focus(visit)
        quiet = silence(visit)
        paused = pause(visit)
        done = roll_back(visit)
        sign_out_elsewhere(visit)
        visit.listen("end", but="/now - Failed to load resource: the server responded with a status of 401 ")
        told = {
            "findings": visit.findings,
            "messages": visit.messages,
            "done": done,
            "kept_focus": focus,
            "silenced": quiet,
            "paused": paused,
        }
        print(json.dumps(told))
    finally:
        visit.browser.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
