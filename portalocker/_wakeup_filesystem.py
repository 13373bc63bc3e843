"""Linux: does this file's system tell us about every close and lock?

On a network file system inotify hears only of local closes, and flock may be
a record lock in disguise, which tickets would collide with.
"""

from __future__ import annotations

import sys

# Known to keep flock and record locks apart and to be changed by this kernel
# alone. An unknown file system is treated like one on the network.
_LOCAL_FILE_SYSTEMS = frozenset(
    b'bcachefs btrfs devtmpfs ecryptfs erofs exfat ext2 ext3 ext4 f2fs '
    b'hfsplus hugetlbfs jfs jffs2 minix nilfs2 ntfs3 overlay ramfs reiserfs '
    b'squashfs tmpfs ubifs udf vfat xfs zfs'.split()
)

# What statfs(2) calls those on which whole systems are installed
_FILE_SYSTEM_NUMBERS = {
    0xEF53: b'ext4',  # or ext2, ext3
    0x01021994: b'tmpfs',
    0x2FC12FC1: b'zfs',
    0x58465342: b'xfs',
    0x794C7630: b'overlay',
    0x9123683E: b'btrfs',
    0xCA451A4E: b'bcachefs',
    0xF2F52010: b'f2fs',
}

_locality: dict[int, bool] = {}  # st_dev -> is it local


def is_local(fd: int, device: int) -> bool:
    """Whether all who lock and close this file do so through this kernel."""
    known = _locality.get(device)
    if known is None:
        try:
            known = _file_system_type(fd) in _LOCAL_FILE_SYSTEMS
        except OSError:  # no descriptor left: ask again the next time
            return False
        _locality[device] = known
    return known


def _file_system_type(fd: int) -> bytes | None:
    """The type of the mount that `fd` was opened through, see proc(5)."""
    if sys.platform != 'linux':
        return None
    mount = _field(f'/proc/self/fdinfo/{fd}', b'mnt_id:')
    with open('/proc/self/mountinfo', 'rb') as mounts:
        for line in mounts:
            before, _, after = line.partition(b' - ')
            if before.split(b' ', 1)[0] == mount:
                return after.split(b' ', 1)[0]
    return _numbered_file_system_type(fd)


def _numbered_file_system_type(fd: int) -> bytes | None:
    # In a chroot whose root is no mount point the mounts do not list it
    import ctypes

    told = (ctypes.c_long * 64)()  # struct statfs begins with f_type
    if ctypes.CDLL(None).fstatfs(ctypes.c_int(fd), told):
        return None
    return _FILE_SYSTEM_NUMBERS.get(told[0] & 0xFFFFFFFF)


def _field(path: str, name: bytes) -> bytes | None:
    with open(path, 'rb') as lines:
        for line in lines:
            if line.startswith(name):
                return line[len(name) :].strip()
    return None
