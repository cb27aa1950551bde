"""A FUSE file system that shows a folder, without what network drives often lack. Arguments: folder, mount point.

It has no hard links, symbolic links, locks or flushes, and all files have the same inode number.
"""

import errno
import os
import sys
from pathlib import Path

from mfusepy import FUSE, FuseOSError, Operations

SHOWN = ("st_mode", "st_size", "st_nlink", "st_uid", "st_gid", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")


class Drive(Operations):
    use_ns = True

    def __init__(self, folder):
        self._folder = folder

    def _path(self, path):
        return self._folder + path

    def getattr(self, path, fh=None):
        found = os.lstat(self._path(path))
        return {name.removesuffix("_ns"): getattr(found, name) for name in SHOWN} | {"st_ino": 1}

    def readdir(self, path, fh):
        return [(name, {"st_ino": 1}, 0) for name in (".", "..", *os.listdir(self._path(path)))]

    def statfs(self, path):
        found = os.statvfs(self._path(path))
        return {name: getattr(found, name) for name in dir(found) if name.startswith("f_") and name != "f_fsid"}

    def open(self, path, flags):
        return os.open(self._path(path), flags)

    def create(self, path, mode, fi=None):
        return os.open(self._path(path), os.O_RDWR | os.O_CREAT, mode)

    def release(self, path, fh):
        os.close(fh)
        return 0

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        os.truncate(self._path(path), length)
        return 0

    def mkdir(self, path, mode):
        os.mkdir(self._path(path), mode)
        return 0

    def rmdir(self, path):
        os.rmdir(self._path(path))
        return 0

    def unlink(self, path):
        os.unlink(self._path(path))
        return 0

    def rename(self, old, new):
        os.rename(self._path(old), self._path(new))
        return 0

    def chmod(self, path, mode):
        os.chmod(self._path(path), mode)
        return 0

    def utimens(self, path, times=None):
        os.utime(self._path(path), ns=times)
        return 0

    # What it lacks.

    def link(self, target, source):
        raise FuseOSError(errno.EPERM)

    def symlink(self, target, source):
        raise FuseOSError(errno.EPERM)

    def fsync(self, path, datasync, fh):
        raise FuseOSError(errno.EINVAL)

    def fsyncdir(self, path, datasync, fh):
        raise FuseOSError(errno.EINVAL)

    def lock(self, path, fh, cmd, lock):
        raise FuseOSError(errno.ENOLCK)


if __name__ == "__main__":
    folder, mount_point = (str(Path(path).absolute()) for path in sys.argv[1:])
    FUSE(Drive(folder), mount_point, foreground=True, use_ino=True, nothreads=True)
