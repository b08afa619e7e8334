"""Makes packages of what has no wheel, in the stage `compiler` of executor-gpu's image: compile.py SOURCES TOOLS OUT PLACE.

It runs by Debian's Python, without a network, a GPU, a driver or CUDA's toolkit. SOURCES: archives, compared with their
hashes by whoever downloaded them. TOOLS: what compile.lock names, installed. OUT: the packages. PLACE: where the image has them.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_CUDA = Path("nvidia", "cu13")
# Of CUDA's driver. Its library comes with the machine that runs it; to link, its name and those of its functions are enough.
# Without them the linker would leave its name out of pycuda.
_HEADERS = ("cuda.h", "cudaProfiler.h")
_NAME = re.compile(r"\bcu[A-Z][A-Za-z0-9_]*")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# Settings of pycuda. Without curand and GL, which the executor does not use.
_PYCUDA = """\
BOOST_INC_DIR = BOOST_LIB_DIR = []
BOOST_COMPILER = "gcc43"
USE_SHIPPED_BOOST = True
BOOST_PYTHON_LIBNAME, BOOST_THREAD_LIBNAME = ["boost_python"], ["boost_thread"]
CUDA_TRACE = CUDA_ENABLE_GL = CUDA_ENABLE_CURAND = False
CUDA_ROOT = {cuda!r}
CUDADRV_LIB_DIR, CUDADRV_LIBNAME = [{stub!r}], ["cuda"]
CUDART_LIB_DIR, CUDART_LIBNAME, CURAND_LIB_DIR, CURAND_LIBNAME = [], [], [], []
CXXFLAGS, LDFLAGS = ["-O2", "-g0", "-w"], ["-s"]
"""


def main(sources: Path, tools: Path, out: Path, place: Path) -> None:
    """Installs each of the sources in `out`, with bytecode."""
    work = out.with_name("build")
    work.mkdir()
    _driver(tools / _CUDA / "include", work)
    for archive in sorted(sources.iterdir()):
        with tarfile.open(archive) as packed:
            packed.extractall(work, filter="data")
        source = work / archive.name.removesuffix(".tar.gz")
        if source.name.startswith("pycuda-"):
            text = _PYCUDA.format(cuda=str(tools / _CUDA), stub=str(work))
            (source / "siteconf.py").write_text(text)
        # A process of its own: what a source's setup.py does to its process is its own.
        subprocess.run(  # noqa: S603 - this file
            [sys.executable, "-W", "ignore", __file__, source / "wheel"],
            cwd=source,
            env={"PYTHONPATH": f"{tools}:{source}", "PATH": "/usr/bin"},
            check=True,
        )
        [wheel] = (source / "wheel").iterdir()
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(out)  # noqa: S202 - made by this very process
    by_content = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(out, stripdir=out, prependdir=place, quiet=1, invalidation_mode=by_content)


def _driver(headers: Path, folder: Path) -> None:
    """A library with the name and the functions of CUDA's driver."""
    text = "".join(_COMMENT.sub("", (headers / name).read_text()) for name in _HEADERS)
    code = "".join(f"void {name}(void) {{}}\n" for name in sorted(set(_NAME.findall(text))))
    command = ("gcc", "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-x", "c", "-", "-o")
    subprocess.run([*command, folder / "libcuda.so"], input=code, text=True, check=True)  # noqa: S603 - Debian's compiler


def wheel(folder: str) -> None:
    """The wheel of the source in the working directory."""
    from setuptools import build_meta  # type: ignore[import-untyped]  # it has no stubs
    from setuptools._distutils.compilers.C import base

    # pycuda is one extension of dozens of files, which setuptools compiles one after the other.
    base.Compiler.compile = _compile_at_once  # type: ignore[assignment, method-assign]  # the same, but for looser types
    build_meta.build_wheel(folder)


def _compile_at_once(
    compiler: Any,
    sources: Any,
    output_dir: Any = None,
    macros: Any = None,
    include_dirs: Any = None,
    debug: Any = 0,
    extra_preargs: Any = None,
    extra_postargs: Any = None,
    depends: Any = None,
) -> list[str]:
    """`Compiler.compile` of setuptools, on all cores."""
    setup = (output_dir, macros, include_dirs, sources, depends, extra_postargs)
    _, objects, after, options, build = compiler._setup_compile(*setup)
    before = compiler._get_cc_args(options, debug, extra_preargs)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        # A list: the first error is raised.
        list(pool.map(lambda name: compiler._compile(name, *build[name], before, after, options), build))
    found: list[str] = objects
    return found


if __name__ == "__main__":
    if len(sys.argv) == 2:
        wheel(sys.argv[1])
    else:
        main(*map(Path, sys.argv[1:]))
