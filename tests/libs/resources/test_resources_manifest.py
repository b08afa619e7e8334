"""Manifests: what is read, what is believed, and what a process may take over."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.catalog.access import Position
from headrace.resources.manifest import (
    ANCESTORS,
    MAX_MANIFEST_BYTES,
    MalformedError,
    Manifest,
    ManifestError,
    PartError,
    SignatureError,
    Signer,
    VerifiedPart,
    Verifier,
    descends,
    from_listing,
    new_keys,
    parse,
    to_listing,
)
from headrace.resources.snapshot import Snapshot
from tests.libs.resources.control_history import (
    OTHER_PRIVATE,
    OTHER_PUBLIC,
    PUBLIC,
    SIGNER,
    VERIFIER,
    History,
    key,
)

hashes = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 1 << 62)
positions = st.builds(Position, st.integers(1, 1 << 62), numbers, hashes)
moments = st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)).map(
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
)
manifests = st.builds(
    Manifest,
    st.sampled_from(["ingress", "router"]),
    positions,
    hashes,
    numbers,
    moments,
    st.lists(st.tuples(numbers, hashes), max_size=4).map(tuple),
    st.lists(positions, max_size=3).map(tuple),
    st.none() | st.tuples(numbers, hashes),
)


@given(manifests)
def test_what_is_written_is_read(manifest: Manifest) -> None:
    content = manifest.to_bytes()
    assert parse(content) == manifest
    assert parse(content).to_bytes() == content


@given(manifests, st.data())
def test_whatever_is_done_to_the_bytes_it_is_a_manifest_or_malformed(manifest: Manifest, data: Any) -> None:
    content = bytearray(manifest.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(MalformedError):
        assert isinstance(parse(bytes(content)), Manifest)


def test_nonsense_is_malformed() -> None:
    twice = b'{"number":1,' + History().manifest().to_bytes()[1:]
    for content in (b"", b"[]", b"\xff", twice, b"[" * 100_000, b" " * MAX_MANIFEST_BYTES + b"{}"):
        with pytest.raises(MalformedError):
            parse(content)


WRONG: dict[str, list[object]] = {
    "epoch": [0, True],
    "number": [-1, 1.0, 1 << 63],
    "head": ["ab", "A" * 64],
    "at": ["2026-01-01T00:00:00"],
    "ancestors": [{}, [[1, "00" * 32, 3]]],
    "begins": [[[1, 2]]],
    "service": [""],
}


def test_each_key_has_its_form_and_a_newer_control_may_write_more() -> None:
    content = History().manifest().to_bytes()
    assert parse(json.dumps({**json.loads(content), "new": [1]}).encode()) == parse(content)
    for name, value in ((name, value) for name, values in WRONG.items() for value in values):
        with pytest.raises(MalformedError):
            parse(json.dumps({**json.loads(content), name: value}).encode())


def test_only_what_a_trusted_key_signed_for_the_service_is_believed() -> None:
    signed = SIGNER.sign(History().manifest())
    assert VERIFIER.open(signed.raw, signed.signature, "ingress").manifest == parse(signed.raw)
    rotated = Verifier([OTHER_PUBLIC, PUBLIC])
    assert rotated.open(signed.raw, signed.signature, "ingress").raw == signed.raw
    for raw, signature in (
        (signed.raw + b" ", signed.signature),
        (signed.raw, bytes(64)),
        (signed.raw, b""),
        (signed.raw, Signer(OTHER_PRIVATE).sign(signed.manifest).signature),
    ):
        with pytest.raises(SignatureError):
            VERIFIER.open(raw, signature, "ingress")
    with pytest.raises(MalformedError, match="router"):
        VERIFIER.open(signed.raw, signed.signature, "router")


def test_a_key_of_another_kind_is_refused() -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1())
    private = other.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    public = other.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="Ed25519"):
        Signer(private)
    with pytest.raises(ValueError, match="Ed25519"):
        Verifier([public])
    with pytest.raises(ValueError, match="no key"):
        Verifier([])
    assert new_keys() != new_keys()


def test_a_part_is_what_its_manifest_says() -> None:
    history = History()
    history.change(key("a"), key("b"))
    signed = SIGNER.sign(history.manifest())
    assert VerifiedPart.of(signed, history.snapshot).position == history.position
    changed = history.snapshot.changed
    for other in (Snapshot(), changed([key("a", "other")]), changed([key("c")])):
        with pytest.raises(PartError):
            VerifiedPart.of(signed, other)


def test_a_listing_gives_the_part_again_and_nothing_else() -> None:
    history = History()
    history.change(key("a"), key("b", "ü"))
    part = history.part()
    contents = {r.sha256: r.content for r in part.snapshot.resources.values()}
    listing = to_listing(part)

    def read(listing: bytes) -> VerifiedPart:
        return from_listing(listing, VERIFIER, "ingress", lambda hs: [contents[h] for h in hs])

    assert read(listing).snapshot == part.snapshot
    with pytest.raises(PartError, match="damaged"):
        from_listing(listing, VERIFIER, "ingress", lambda hs: [b"other" for _ in hs])
    values = json.loads(listing)
    renamed = [["key", "other", *values["entries"][0][2:]], *values["entries"][1:]]
    for damage in (
        {"entries": values["entries"][:1]},
        {"entries": renamed},
        {"signature": "00"},
        {"manifest": 3},
    ):
        with pytest.raises(ManifestError):
            read(json.dumps({**values, **damage}).encode())


# A database may be restored from an older state (another branch begins there) or begun anew (an epoch), any number of times.
steps = st.lists(
    st.tuples(
        st.sampled_from(["change", "change", "change", "restore", "epoch"]),
        st.integers(0, 10),
        st.integers(0, 100),
    ),
    max_size=40,
)


@given(steps, st.integers(0, 1000), st.integers(0, 1000), st.booleans())
def test_only_what_descends(
    steps: list[tuple[str, int, int]], who: int, control: int, answered: bool
) -> None:
    histories = [History()]
    seen = [histories[0].position]
    for what, which, number in steps:
        history = histories[which % len(histories)]
        if what == "restore":
            histories.append(history.restored(1 + number % len(history.steps)))
        else:
            seen.append(history.begin_epoch() if what == "epoch" else history.change())
    have, history = seen[who % len(seen)], histories[control % len(histories)]
    manifest = history.manifest(have=have if answered else None)
    descendant = history.has(have)
    wanted = descendant if have.epoch == history.position.epoch else history.position.epoch > have.epoch
    assert descends(have, manifest) == wanted
    assert descends(None, manifest)
    for other in seen:  # what another process was answered proves nothing to this one
        found = descends(have, history.manifest(have=other))
        assert found == wanted


def test_what_was_long_ago_needs_control_to_say_so() -> None:
    history = History()
    old = history.position
    for _ in range(ANCESTORS + 1):
        history.change()
    assert not descends(old, history.manifest())
    assert descends(old, history.manifest(have=old))
    assert descends(history.steps[1][0], history.manifest())


def test_an_epoch_without_its_begin_is_not_taken() -> None:
    history = History()
    old = history.position
    history.begin_epoch()
    manifest = history.manifest()
    assert descends(old, manifest)
    assert not descends(old, replace(manifest, begins=manifest.begins[:1]))
    late = replace(history.position, number=history.position.number + 1)
    assert not descends(old, replace(manifest, begins=(late,)))
    assert not descends(history.position, History().manifest())
