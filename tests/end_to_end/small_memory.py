"""The server with a /dev/shm of its own, of MEMORY_KB and with as much of it taken as TAKEN_KB says."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from server.__main__ import main

NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000  # of unshare(2)


def own_memory(kilobytes, taken):
    """Mounts a small /dev/shm that no other process sees. Raises OSError where that is forbidden."""
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS | (NEW_USER if user else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", "/dev/shm"]
    for command in (["mount", "--make-rprivate", "/"], mount):
        subprocess.run(command, check=True)
    Path("/dev/shm/taken").write_bytes(bytes(taken * 1024))


if __name__ == "__main__":
    own_memory(int(os.environ["MEMORY_KB"]), int(os.environ["TAKEN_KB"]))
    sys.exit(main())
