"""The tree of RFC 6962: its known hashes, and proofs, against a plain computation of the definition."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.audit import tree
from headrace.audit.tree import Edge, leaf_hash, node_hash

# The test vectors of Certificate Transparency (certificate-transparency-go, merkle trees of 1 to 8 entries).
ENTRIES = [
    bytes.fromhex(h)
    for h in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def plain(hashes: list[bytes]) -> bytes:
    """The root by RFC 6962's definition."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node_hash(plain(hashes[:k]), plain(hashes[k:]))


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(i).encode()) for i in range(count)]


def nodes(hashes: list[bytes]) -> tree.Node:
    return lambda height, index: plain(hashes[index << height : (index + 1) << height])


def edge(hashes: list[bytes]) -> Edge:
    made = Edge()
    for leaf in hashes:
        list(made.add(leaf))
    return made


@pytest.mark.parametrize("count", ROOTS)
def test_roots_are_those_of_certificate_transparency(count: int) -> None:
    assert edge([leaf_hash(e) for e in ENTRIES[:count]]).root().hex() == ROOTS[count]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 511, 512, 700, 1025])
def test_the_edge_has_the_root_of_the_definition(count: int) -> None:
    hashes = leaves(count)
    made = edge(hashes)
    assert (made.size, made.root(), tree.root(count, nodes(hashes))) == (count, plain(hashes), plain(hashes))


def test_full_tiles_come_with_their_place() -> None:
    made, full = Edge(), []
    for leaf in leaves(256 * 256):
        full += [(level, index, list(hashes)) for level, index, hashes in made.add(leaf)]
    assert [(level, index) for level, index, _ in full] == [*((0, i) for i in range(256)), (1, 0)]
    assert full[-1][2] == [tree.fold(hashes) for _, _, hashes in full[:-1]]


@given(st.integers(1, 70), st.data())
def test_an_inclusion_proof_holds_for_its_entry_alone(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    hashes = leaves(size)
    root, proof = plain(hashes), tree.inclusion_proof(index, size, nodes(hashes))
    assert tree.includes(hashes[index], index, size, proof, root)
    other = data.draw(st.integers(0, size))
    if other != index:
        assert not tree.includes(hashes[index], other, size, proof, root)
        assert not tree.includes(leaf_hash(b"forged"), index, size, proof, root)
    assert not tree.includes(hashes[index], index, size, [*proof, root], root)
    assert not tree.includes(hashes[index], index, size, proof[:-1], root) or not proof


@given(st.integers(1, 70), st.data())
def test_a_consistency_proof_holds_for_what_grew_alone(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    hashes = leaves(new)
    before, after = plain(hashes[:old]), plain(hashes)
    proof = tree.consistency_proof(old, new, nodes(hashes))
    assert tree.consistent(old, new, proof, before, after)
    altered = [leaf_hash(b"forged"), *hashes[1:]]
    assert not tree.consistent(old, new, proof, plain(altered[:old]), after)
    assert not tree.consistent(
        old, new, tree.consistency_proof(old, new, nodes(altered)), before, plain(altered)
    )
    assert not tree.consistent(old, new, [*proof, after], before, after)


def test_what_can_not_be_is_refused() -> None:
    node = nodes(leaves(3))
    for index in (-1, 3):
        with pytest.raises(ValueError, match="not in a tree of 3"):
            tree.inclusion_proof(index, 3, node)
    with pytest.raises(ValueError, match="does not begin"):
        tree.consistency_proof(4, 3, node)
    assert tree.consistent(0, 3, [], tree.EMPTY, plain(leaves(3)))
    assert not tree.consistent(0, 3, [], leaf_hash(b""), plain(leaves(3)))
    assert not tree.consistent(4, 3, [], plain(leaves(3)), plain(leaves(3)))
