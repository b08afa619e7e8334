"""A process that follows control and may be ended by what it takes over: `abort` in a key ends it while it compiles it, `exit`
when it serves it; `refuse` and `hang` end nothing. Prints what serves as JSON, line by line."""

import json
import os
import sys
import time
from pathlib import Path

from headrace.resources.apply import Limits, Unit
from headrace.resources.follower import Follower
from tests.libs.resources.following import following, keys


def compile_key(unit: Unit) -> object:
    content = unit.resources[0].content
    if b"abort" in content:
        os._exit(3)
    if b"refuse" in content:
        raise ValueError("it is refused")
    if b"hang" in content:
        time.sleep(3600)
    return None


def serve(follower: Follower) -> None:
    seen = ""
    while True:
        view = follower.wait(seen, 60)
        if view is None:
            continue
        seen = view.state
        if any("exit" in text for text in keys(follower).values()):
            os._exit(4)
        problems = {name: r.problem for (_, name), r in view.rejected.items()}
        print(json.dumps({"keys": keys(follower), "problems": problems}), flush=True)


if __name__ == "__main__":
    target, root, proof_s = sys.argv[1:]
    with following(
        target, Path(root), limits=Limits(proof_s=float(proof_s), compile_s=2.0), key=compile_key
    ) as follower:
        serve(follower)
