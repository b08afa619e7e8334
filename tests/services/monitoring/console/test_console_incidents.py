"""Alerts of a real Alertmanager, with runbooks, silenced from the page; and what is said without one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.monitoring.console.incidents.runbooks import Runbooks
from services.monitoring.database.facts import Facts
from tests.ports import free_port
from tests.programs import needs_program
from tests.services.monitoring.alerts.alert_replay import Monitoring
from tests.services.monitoring.console.console_alertmanager import HOSTILE, alertmanager, fire
from tests.services.monitoring.console.console_place import Browser, Place
from tests.services.waiting import until
from tests.system import ROOT


@needs_program("prometheus-alertmanager")
async def test_what_fires_has_its_runbook_and_is_silenced_by_name(place: Place, tmp_path: Path) -> None:
    with alertmanager(tmp_path) as url:
        place.alertmanager = url
        fire(url, HOSTILE)
        # Alertmanager's own clock decides how long a silence lasts.
        place.wall = datetime.now(UTC).timestamp()
        async with place.operator() as browser:
            page = await browser.get("/incidents")
            first, second = (await browser.get("/incidents.json")).json["alerts"]
            done = await browser.post(
                "/incidents/silence",
                {"fingerprint": first["fingerprint"], "hours": "2", "reason": "ticket 7"},
            )
            assert (done.status, done.location) == (303, "/incidents")
            gone = await browser.post(
                "/incidents/silence.json", {"fingerprint": "none", "hours": "2", "reason": "r"}
            )
            for fields in ({"hours": "0"}, {"hours": "999"}, {"reason": " "}):
                whole = {"fingerprint": first["fingerprint"], "hours": "2", "reason": "r", **fields}
                wrong = await browser.post("/incidents/silence.json", whole)
                assert (wrong.status, wrong.json["error"]["metadata"]["field"]) == (400, next(iter(fields)))

            async def silenced() -> bool:
                return bool((await browser.get("/incidents.json")).json["alerts"][-1]["silenced"])

            await until(silenced)
            quiet = (await browser.get("/incidents.json")).json["alerts"][-1]
    assert [first["name"], second["name"]] == ["HeadraceModelErrors", "HeadraceColdStarts"]
    assert (first["runbook"], second["runbook"], second["html"]) == ("model-errors", "passwd", None)
    assert "<h3>How to mend it</h3>" in first["html"]
    assert "&lt;the rows&gt;" in page.text
    assert gone.status == 404
    assert quiet["name"] == "HeadraceModelErrors"
    [silence] = quiet["silences"]
    assert (silence["by"].partition("/")[0], silence["why"]) == ("operator", "ticket 7")
    [event] = [e for e in place.security_events() if e["kind"] == "alert_silenced"]
    assert (event["tenant"], event["alert"]) == ("operator", "HeadraceModelErrors")
    assert event["reason"] == "ticket 7"


async def test_without_an_alertmanager_monitoring_says_what_fires_and_keeps_it_quiet(
    place: Place, facts: Facts
) -> None:
    monitoring = Monitoring(facts)
    monitoring.now = place.wall
    monitoring.read({"control": ["headrace_audit_gaps 0"], "router": []})
    monitoring.now += 15
    monitoring.read({"control": ["headrace_audit_gaps 2"]}, ("router",))
    place.alerts = monitoring.watch
    async with place.operator() as browser:
        [found] = (await browser.get("/incidents.json")).json["alerts"]
        fields = {"fingerprint": found["fingerprint"], "hours": "2", "reason": "known"}
        await browser.post("/incidents/silence.json", fields)
        [quiet] = (await browser.get("/incidents.json")).json["alerts"]
    assert (found["name"], found["severity"], found["runbook"]) == ("HeadraceAuditGap", "page", "audit-gap")
    assert "<h3>How to mend it</h3>" in found["html"]
    assert not found["silenced"]
    assert [s["why"] for s in quiet["silences"]] == ["known"]


SILENCE = {"fingerprint": "f", "hours": "1", "reason": "r"}


@pytest.mark.parametrize(
    ("is_set", "said", "status"),
    [(False, "monitoring reads no processes here", 409), (True, "Alertmanager does not answer", 503)],
)
async def test_without_an_alertmanager_that_answers_the_page_says_so(
    place: Place, is_set: bool, said: str, status: int
) -> None:
    place.alertmanager = f"http://127.0.0.1:{free_port()}" if is_set else None
    async with place.operator() as browser:
        page = await browser.get("/incidents")
        refused = await browser.post("/incidents/silence.json", SILENCE)
    assert said in page.text
    assert "http://127.0.0.1" not in page.text
    assert "/incidents/runbooks/incident-checklist" in page.text
    assert refused.status == status


async def test_runbooks_are_pages_and_nothing_else_is(browser: Browser) -> None:
    page = await browser.get("/incidents/runbooks/auth-failures")
    for name in ("none", "..%2fREADME", "README"):
        assert (await browser.get(f"/incidents/runbooks/{name}")).status == 404
    assert "Auth failures" in page.text
    # A link to another runbook leads to its page here.
    assert 'href="/incidents/runbooks/security-events-anomaly"' in page.text


def test_a_page_asks_for_nothing_elsewhere_and_its_html_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# A <script>alert(1)</script>\n\n![p](https://evil.example/p.png) [out](https://evil.example)"
        " [js](javascript:alert(1)) [b](b.md#c)\n\n<img src=x>\n\n| a |\n|--:|\n| `b` |\n"
    )
    html = str(Runbooks(tmp_path).html("a"))
    assert "<script" not in html
    assert "<img" not in html
    assert "src=" not in html.replace("&lt;img src=x&gt;", "")
    assert 'href="https' not in html
    assert 'javascript:alert(1)"' not in html
    assert '<a href="/incidents/runbooks/b">b</a>' in html
    assert "<table>" in html
    # The content security policy allows no style in an attribute.
    assert 'class="right"' in html
    assert "style=" not in html


def test_every_runbook_can_be_shown() -> None:
    runbooks = Runbooks(ROOT / "deploy" / "runbooks")
    for path in sorted((ROOT / "deploy" / "runbooks").glob("[a-z]*.md")):
        assert runbooks.html(path.stem)
