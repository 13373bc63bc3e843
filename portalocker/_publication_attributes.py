"""Mode, owner and extended attributes, carried over from file to file."""

from __future__ import annotations

import errno
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

#: what can be carried over
KINDS_OF_ATTRIBUTES = ('mode', 'owner', 'xattr')

# an access control list refines the mode, and goes with it
_ACCESS_LIST = 'system.posix_acl_access'

_LEFT_BEHIND = {
    # they vouch for the old content, which the new file has not
    *('security.evm', 'security.ima'),
    # the access control list once more, as xfs keeps it
    'trusted.SGI_ACL_FILE',
}

# labels that only the privileged may set
_LABEL_REFUSED = {
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
}


def carry_attributes_over(
    old: int | None,
    found: os.stat_result,
    new: int,
    kinds: Collection[str],
) -> None:
    """Give the file open as `new` what `kinds` names of an older file.

    `old` is a descriptor of the older file (None: it is gone), `found` its
    status. The order is owner, extended attributes, mode: a change of owner
    clears set-id bits, and an access control list changes the mode.
    """
    if 'owner' in kinds and hasattr(os, 'fchown'):
        _give_owner(found, new)
    if old is not None and sys.platform == 'linux':
        _copy_xattrs(old, new, kinds)
    if 'mode' in kinds and hasattr(os, 'fchmod'):
        os.fchmod(new, _mode_that_widens_nothing(found, os.fstat(new)))


def _give_owner(found: os.stat_result, new: int) -> None:
    """As far as we may: user and group, else the group alone."""
    status = os.fstat(new)
    if status.st_uid != found.st_uid and _owner_given(
        new, found.st_uid, found.st_gid
    ):
        return
    if status.st_gid != found.st_gid:
        _owner_given(new, -1, found.st_gid)


def _owner_given(new: int, uid: int, gid: int) -> bool:
    assert hasattr(os, 'fchown')
    try:
        os.fchown(new, uid, gid)
    except OSError as error:
        # EINVAL: an owner whom our user namespace does not know
        if error.errno in {errno.EPERM, errno.EINVAL}:
            return False
        raise
    return True


def _mode_that_widens_nothing(
    found: os.stat_result, status: os.stat_result
) -> int:
    """Return the old mode, less what another owner or group must not get."""
    mode = stat.S_IMODE(found.st_mode)
    if status.st_uid != found.st_uid:
        mode &= ~stat.S_ISUID
    if status.st_gid != found.st_gid:
        others = mode & stat.S_IRWXO
        mode &= ~stat.S_ISGID
        mode &= ~stat.S_IRWXG | others << 3
    return mode


if sys.platform == 'linux':
    _NO_SUCH_ATTRIBUTE = {errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP}

    def _copy_xattrs(old: int, new: int, kinds: Collection[str]) -> None:
        try:
            names = set(os.listxattr(old))
        except OSError as error:
            if error.errno in _NO_SUCH_ATTRIBUTE:
                return  # this file system has none
            raise
        for name in names - _LEFT_BEHIND:
            if ('mode' if name == _ACCESS_LIST else 'xattr') in kinds:
                _copy_xattr(old, new, name)
        if 'mode' in kinds and _ACCESS_LIST not in names:
            _remove_inherited_list(new)

    def _copy_xattr(old: int, new: int, name: str) -> None:
        try:
            os.setxattr(new, name, os.getxattr(old, name))
        except OSError as error:
            if error.errno == errno.ENODATA:
                return  # removed since it was listed
            is_label = name.startswith(('security.', 'system.', 'trusted.'))
            if not is_label or name == _ACCESS_LIST:
                raise
            if error.errno not in _LABEL_REFUSED:
                raise

    def _remove_inherited_list(new: int) -> None:
        """The directory gives new files a list that the old file had not."""
        try:
            os.removexattr(new, _ACCESS_LIST)
        except OSError as error:
            if error.errno not in _NO_SUCH_ATTRIBUTE:
                raise
