"""Who is let into the console, and what nobody can make it do."""

import pytest

from headrace.access import changes
from headrace.access.records import By
from headrace.access.specs import TenantSpec, new_key
from services.monitoring.console.access.operators import KeyRefusedError, Operators
from tests.services.monitoring.console.console_place import PAGES, Browser, Place, minutes


@pytest.fixture
def place(place: Place) -> Place:
    place.deploy(version="2")
    return place


def session(browser: Browser) -> str:
    [name] = [name for name in browser.cookies if "session" in name]
    return name


def add_expired_key(place: Place) -> str:
    text, key = new_key(created=place.now(), expires=place.now())
    changes.add_key(place.releases.records, "operator", key, lambda spec: spec or TenantSpec(), By("tests"))
    return text


def kinds(place: Place) -> list[str]:
    return [event["kind"] for event in place.security_events()]


INSIDE = [*PAGES, "/now", "/pipelines/flights/now", "/audit/log", "/nowhere"]


@pytest.mark.parametrize("path", INSIDE)
async def test_nothing_is_shown_without_a_sign_in(place: Place, path: str) -> None:
    async with place.browser() as browser:
        page = await browser.get(path)
        assert (page.status, page.body) == (303, b"")
        assert page.location.startswith("/sign-in")
        assert not page.location.endswith("now"), "a part of a page is no place to come back to"
        program = await browser.get(path, accept="application/json")
        assert (program.status, program.json["error"]["reason"]) == (401, "CREDENTIAL_INVALID")
        part = await browser.get(path, hx_request="true")
        assert (part.status, part.headers["hx-redirect"]) == (401, page.location)


async def test_an_operator_signs_in_comes_back_and_signs_out(place: Place) -> None:
    async with place.browser() as browser:
        first = await browser.get("/pipelines/flights")
        await browser.get(first.location)
        done = await browser.post("/sign-in", {"key": place.keys["operator"], "next": "/pipelines/flights"})
        assert (done.status, done.location) == (303, "/pipelines/flights")
        set_cookie = done.headers["set-cookie"].lower()
        assert "httponly" in set_cookie
        assert "samesite=strict" in set_cookie
        kept = dict(browser.cookies)
        await browser.get("/")
        out = await browser.post("/sign-out", {})
        assert (out.status, out.location) == (303, "/sign-in")
        # The cookie that somebody has copied is over too.
        browser.cookies = kept
        assert (await browser.get("/")).status == 303
    assert kinds(place) == ["console_sign_in"]
    assert place.keys["operator"] not in (place.folder / "audit" / "security.jsonl").read_text()


@pytest.mark.parametrize("after", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\nb"])
async def test_a_sign_in_leads_nowhere_else(place: Place, after: str) -> None:
    async with place.browser() as browser:
        await browser.get("/sign-in")
        assert (
            await browser.post("/sign-in", {"key": place.keys["operator"], "next": after})
        ).location == "/"


@pytest.mark.parametrize(
    ("key", "status", "kind"),
    [
        ("reader", 403, "forbidden"),
        ("expired", 401, "expired_credential"),
        ("hr_12345678_wrong", 401, "unknown_key"),
        ("", 401, "unknown_key"),
    ],
)
async def test_other_keys_are_refused_and_logged(place: Place, key: str, status: int, kind: str) -> None:
    place.keys["expired"] = add_expired_key(place)
    async with place.browser() as browser:
        reply = await browser.sign_in(place.keys.get(key, key))
        assert reply.status == status
        assert not any("session" in name for name in browser.cookies)
        by_header = await browser.get("/index.json", x_api_key=place.keys.get(key, key))
        assert by_header.status == status
    assert kinds(place) == [kind, kind]
    assert {event["method"] for event in place.security_events()} == {"console"}


async def test_guessing_is_bounded_and_locks_out_no_right_key(place: Place) -> None:
    async with place.browser() as browser:
        statuses = [(await browser.sign_in(f"guess {i}")).status for i in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        by_header = await browser.get("/index.json", authorization=f"Bearer {place.keys['operator']}")
        assert by_header.status == 200
        assert (await browser.sign_in(place.keys["operator"])).status == 303
        # It does not make the guesses good.
        assert (await browser.sign_in("guess 8")).status == 429
        place.monotonic += 12
        assert (await browser.sign_in("guess 9")).status == 401
        assert (await browser.sign_in("guess 10")).status == 429
    assert kinds(place).count("sign_in_limited") == 4


async def test_keys_that_are_limited_are_refused_alike(place: Place) -> None:
    expired = add_expired_key(place)
    async with place.browser() as browser:
        for number in range(5):
            await browser.get("/index.json", x_api_key=f"guess {number}")
        replies = [
            await browser.get("/index.json", x_api_key=key)
            for key in ("guess", place.keys["reader"], expired)
        ]
    assert [(r.status, r.headers["retry-after"]) for r in replies] == [(429, "12")] * 3
    assert len({r.body for r in replies}) == 1
    assert replies[0].json["error"]["metadata"] == {"limiter": "console_sign_in"}


async def test_a_forged_cookie_is_a_security_event(place: Place) -> None:
    async with place.operator() as browser:
        name = session(browser)
        browser.cookies[name] = browser.cookies[name][:-2] + "xx"
        assert (await browser.get("/")).location == "/sign-in"
    assert kinds(place) == ["console_sign_in", "forged_session"]


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"csrf": ""}, {}),
        ({"csrf": "forged"}, {}),
        ({}, {"origin": "https://evil.example"}),
        ({}, {"origin": "null"}),
        ({}, {"sec_fetch_site": "cross-site"}),
    ],
)
async def test_a_form_of_another_site_changes_nothing(
    place: Place, fields: dict[str, str], headers: dict[str, str]
) -> None:
    async with place.operator() as browser:
        wanted = {"number": "2", "to": "1", **fields}
        reply = await browser.post("/pipelines/flights/rollback", wanted, **headers)
        assert reply.status == 403
        out = await browser.post("/sign-out", fields, **headers)
        assert out.status == 403
        good = await browser.post(
            "/pipelines/flights/rollback", {"number": "2", "to": "1"}, origin=browser.origin
        )
        assert good.status == 303
    assert len(place.store.history("flights")) == 3
    assert kinds(place) == ["console_sign_in", "forged_form", "forged_form"]


async def test_the_token_of_another_session_opens_no_form(browser: Browser, place: Place) -> None:
    other = browser.token
    browser.cookies.clear()
    await browser.sign_in(place.keys["operator"])
    reply = await browser.post("/pipelines/flights/rollback", {"number": "2", "csrf": other})
    assert reply.status == 403


async def test_a_sign_in_that_another_site_begins_is_refused(place: Place) -> None:
    async with place.browser() as browser:
        await browser.get("/sign-in")
        browser.cookies.clear()
        reply = await browser.post("/sign-in", {"key": place.keys["operator"]})
    assert reply.status == 403
    assert kinds(place) == ["forged_form"]


async def test_a_revoked_key_ends_its_sessions(place: Place) -> None:
    async with place.operator() as browser:
        [key] = changes.keys_of(place.releases.records, "operator")
        changes.revoke_key(place.releases.records, "operator", key.id, By("tests"))
        # Control is asked each second; here the test waits for the next time, whenever it comes.
        while (await browser.get("/")).status == 200:
            pass
    assert kinds(place) == ["console_sign_in", "revoked_session"]


async def test_a_session_ends_without_pages_and_lives_with_them(place: Place) -> None:
    async with place.operator() as browser:
        place.wall += minutes(29)
        # Parts of a page, which it asks for by itself, give no more time; pages do.
        part = await browser.get("/now")
        assert (part.status, "set-cookie" in part.headers) == (200, False)
        assert "set-cookie" in (await browser.get("/")).headers
        place.wall += minutes(29)
        assert (await browser.get("/now")).status == 200
        place.wall += minutes(2)
        assert (await browser.get("/")).status == 303
        await browser.sign_in(place.keys["operator"])
        for _ in range(24):
            place.wall += minutes(20)
            last = await browser.get("/")
        assert last.status == 303
    assert "forged_session" not in kinds(place)


async def test_every_answer_has_the_security_headers_and_no_inline_code(place: Place) -> None:
    async with place.browser() as browser:
        replies = [await browser.get("/sign-in"), await browser.get("/")]
        await browser.sign_in(place.keys["operator"])
        replies += [await browser.get(p) for p in (*INSIDE, "/static/console.css", "/static/none.js")]
    assert [reply.status for reply in replies[-3:]] == [404, 200, 404]
    assert replies[-2].headers["cache-control"] == "public, max-age=86400"
    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        if reply.headers.get("content-type", "").startswith("text/html"):
            assert reply.headers["cache-control"] == "no-store"
            text = reply.text.replace("<script src=", "")
            assert "<script" not in text
            assert "<style" not in text
            assert " style=" not in text
            assert " onclick" not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9900", ""])
async def test_a_name_that_was_made_to_point_here_gets_nothing(place: Place, host: str) -> None:
    async with place.browser() as browser:
        assert (await browser.get("/sign-in", host=host)).status == 421


async def test_a_large_or_odd_body_is_refused(browser: Browser) -> None:
    large = await browser.post("/pipelines/flights/rollback", {"number": "1" * 20_000})
    assert large.status == 400
    odd = await browser.send("POST", "/pipelines/flights/rollback", b"\xff", {"content_type": "text/plain"})
    assert odd.status == 400
    many = await browser.post("/sign-out", {f"f{i}": "" for i in range(50)})
    assert many.status == 400


async def test_while_control_is_away_the_last_keys_are_in_force(place: Place) -> None:
    operators = Operators(place.releases.records, lambda: place.wall)
    key = place.keys["operator"]
    with pytest.raises(KeyRefusedError):
        operators.of_key(key)
    operators.refresh()
    assert operators.problem == ""
    place.releases.records.close()
    operators.refresh()
    assert "can't be read" in operators.problem
    assert operators.still(operators.of_key(key))
