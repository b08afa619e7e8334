"""What file system a folder is on."""

from __future__ import annotations

import re
from pathlib import Path

_REMOTE = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|ceph|glusterfs|lustre|afs|beegfs|gpfs|ocfs2|gfs2|orangefs|virtiofs|fuse(\..+)?"
)
# Of FUSE only these are known to be disks of the machine.
_LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.ntfs-3g"}


def remote_file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the network's file system that `folder` is on; empty: a disk of this machine, or the system does not say."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    place, best, found = folder.resolve(), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        # The last one that is mounted on a folder is the one that is seen.
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), after.split()[0]
    return found if _REMOTE.fullmatch(found) and found not in _LOCAL_FUSE else ""
