"""The picture of a race: well-formed, every system and point in it, faster to the right, slower further up."""

from xml.etree import ElementTree as ET

from load.scenarios.picture import draw, joined

SVG = "{http://www.w3.org/2000/svg}"


def point(c: int, rate: float, p99_ms: float) -> dict[str, float]:
    return {"c": c, "rate": rate, "p99_ms": p99_ms}


def test_each_system_has_its_line_and_each_point_its_place() -> None:
    ours, theirs = [point(1, 500, 3), point(64, 6000, 20)], [point(1, 200, 9), point(64, 600, 160)]
    tree = ET.fromstring(draw({"theirs & co": theirs, "headrace": ours}, "a < b"))
    words = [text.text for text in tree.iter(f"{SVG}text")]
    assert "theirs & co" in words
    assert "a < b" in words
    first, second = list(tree.iter(f"{SVG}polyline"))
    # The fastest comes first, and thick.
    assert float(first.attrib["stroke-width"]) > float(second.attrib["stroke-width"])
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in tree.iter(f"{SVG}circle")]
    (x1, y1), (x64, y64), (other_x1, other_y1), (_, other_y64) = circles
    assert other_x1 < x1 < x64
    assert other_y64 < other_y1 < y1
    assert y64 < y1
    assert all(0 <= x <= 860 and 0 <= y <= 520 for x, y in circles)


def test_races_over_different_concurrencies_are_one_picture() -> None:
    one, other = {"a": [point(1, 100, 1)], "b": [point(1, 50, 2)]}, {"a": [point(64, 900, 9)]}
    systems = joined([one, other])
    assert [p["c"] for p in systems["a"]] == [1, 64]
    assert [p["c"] for p in systems["b"]] == [1]
    assert draw(systems, "x").count("<circle") == 3
