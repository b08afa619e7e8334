"""The key `cache` of a document, and where a plan is cut for it."""

import pytest

from headrace.pipeline import CacheRule, cut, plan
from tests.libs.pipeline.pipeline_documents import SMALL, changed, complaints, line_of, parsed


def cached(rule: str) -> str:
    return SMALL.replace("deadline_ms: 250", f"deadline_ms: 250\ncache: {rule}")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{ttl: 30s}", CacheRule(30_000_000, 64 << 20, 0)),
        ("{ttl: 5ms, max_bytes: 1GiB, stale_on_failure: 10m}", CacheRule(5_000, 1 << 30, 600_000_000)),
        ("{ttl: 1h, max_bytes: 64KiB}", CacheRule(3_600_000_000, 1 << 16, 0)),
    ],
)
def test_a_rule_says_how_long_and_how_much(rule: str, expected: CacheRule) -> None:
    pipeline = parsed(cached(rule))
    assert pipeline.cache == expected
    assert expected.kept_us == max(expected.ttl_us, expected.stale_us)
    assert parsed().cache is parsed().objectives is None
    assert pipeline.revision != parsed().revision


@pytest.mark.parametrize(
    ("rule", "key", "message"),
    [
        ("{}", "cache", "needs the key 'ttl'"),
        ("30s", "cache", "should be a mapping"),
        ("{ttl: 30}", "cache.ttl", "should be a duration with its unit"),
        ("{ttl: 0s}", "cache.ttl", "should be from 1ms to 30d"),
        ("{ttl: 31d}", "cache.ttl", "should be from 1ms to 30d"),
        ("{ttl: 1s, max_byte: 1MiB}", "cache.max_byte", "did you mean"),
        ("{ttl: 1s, max_bytes: 64MB}", "cache.max_bytes", "such as 512KiB, 64MiB or 1GiB; is '64MB'"),
        ("{ttl: 1s, max_bytes: 1048576}", "cache.max_bytes", "with its unit"),
        ("{ttl: 1s, max_bytes: 1KiB}", "cache.max_bytes", "should be from 64KiB to 64GiB"),
        ("{ttl: 1s, max_bytes: 65GiB}", "cache.max_bytes", "should be from 64KiB to 64GiB"),
        ("{ttl: 1m, stale_on_failure: 60s}", "cache.stale_on_failure", "longer than the ttl (1m)"),
    ],
)
def test_a_wrong_rule_is_named_with_its_key(rule: str, key: str, message: str) -> None:
    text = cached(rule)
    (complaint,) = complaints(text)
    assert complaint.startswith(f"{line_of('cache:', text)}: {key}: ")
    assert message in complaint


def test_the_head_is_what_features_need_and_the_tail_is_the_rest() -> None:
    parts = cut(plan(parsed()))
    assert [s.stage.name for s in parts.head.stages] == ["store"]
    assert [s.stage.name for s in parts.tail.stages] == ["prepare", "score", "finish"]
    assert parts.between == ("age", "size", "weight")
    assert parts.writes == ("probability", "yes_or_no")
    assert [(s.after, s.before) for s in parts.tail.stages] == [((), (1,)), ((0,), (2,)), ((1,), ())]
    assert [(s.after, s.before) for s in parts.head.stages] == [((), ())]


def test_what_features_wait_for_belongs_to_the_head() -> None:
    text = changed(
        ("entities: [name]", "entities: [upper]"),
        (
            "  - preprocessing: prepare",
            "  - preprocessing: keys\n    steps: [cast: {column: size, type: int64, into: upper}]\n"
            "    outputs: {upper: int64}\n  - preprocessing: prepare",
        ),
    )
    parts = cut(plan(parsed(text)))
    assert [s.stage.name for s in parts.head.stages] == ["store", "keys"]
    assert [(s.after, s.before) for s in parts.head.stages] == [((1,), ()), ((), (0,))]


def test_a_plan_without_features_is_all_tail() -> None:
    text = changed(
        ("      - impute: {columns: {age: 30.0}}\n", ""),
        ("columns: [size, weight, age]", "columns: [size, weight]"),
        ("shape: [3]", "shape: [2]"),
    )
    start, end = text.index("  - features"), text.index("  - preprocessing")
    parts = cut(plan(parsed(text[:start] + text[end:])))
    assert parts.head.stages == ()
    assert parts.between == ("size", "weight")


def test_a_cache_with_nothing_to_keep_is_refused() -> None:
    text = """\
pipeline: small
version: 1
deadline_ms: 250
cache: {ttl: 1s}
inputs: {name: string}
stages:
  - features: store
    feature_service: people
    entities: [name]
    views: {person: {features: {age: float64}, on_missing: refuse}}
outputs: [age]
"""
    (complaint,) = complaints(text)
    assert complaint.startswith("4: cache: there is nothing to cache")
