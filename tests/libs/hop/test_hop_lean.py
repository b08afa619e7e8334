"""What a process does not hold: freed memory goes back. In processes of their own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and is about glibc")
_OWN_MIB = """
def own_mib():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024
"""


def said_by(program: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", _OWN_MIB + program], capture_output=True, text=True, check=True
    )
    return ended.stdout.split()


def test_a_large_block_that_is_freed_on_a_thread_does_not_stay() -> None:
    program = """
import ctypes, threading
from headrace.hop.process import grpc_core
grpc_core.settle()

def work():
    # The first freed block would teach glibc to serve the next of that size from the thread's heap, which never shrinks
    # below a block in use: here the small one that comes last.
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    def taken(size):
        block = libc.malloc(size)
        libc.memset(block, 1, size)
        return block
    libc.free(taken(24 << 20))
    blocks = [taken(20 << 20) for _ in range(2)]
    last = taken(100_000)
    for block in blocks:
        libc.free(block)

before = own_mib()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(own_mib() - before)
"""
    assert float(said_by(program)[0]) < 8
    assert float(said_by(program.replace("grpc_core.settle()", ""))[0]) > 30, "the test shows nothing here"


def test_freezing_gives_small_freed_blocks_back() -> None:
    program = """
from headrace.hop.process import grpc_core
import array
kept, freed = [], []
for _ in range(2000):
    freed.append(array.array("b", bytes(30_000)))
    kept.append(array.array("b", bytes(1_000)))
full = own_mib()
freed.clear()
held = own_mib()
grpc_core.freeze()
print(full, held, own_mib())
"""
    full, held, after = map(float, said_by(program))
    assert held > full - 20, "the test shows nothing here"
    assert after < held - 30
