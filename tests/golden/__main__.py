"""python -m tests.golden: renews the golden files, but drops no name that the topmost part of CHANGELOG.md does not mention."""

import sys

from tests.golden.names import KINDS, ROOT, changes, current, golden, unmentioned


def main() -> int:
    """Exit code: 1 if a file was left as it is."""
    refused = 0
    changelog = (ROOT / "CHANGELOG.md").read_text()
    for kind in KINDS:
        gone, new = changes(kind) if golden(kind).exists() else ([], current(kind))
        if silent := unmentioned(gone, changelog):
            refused = 1
            print(f"{kind}: not renewed. CHANGELOG.md must name what is gone:", *silent, sep="\n  ")
        else:
            golden(kind).write_text("\n".join(current(kind)) + "\n")
            print(f"{kind}: {len(gone)} gone, {len(new)} new")
    return refused


if __name__ == "__main__":
    sys.exit(main())
