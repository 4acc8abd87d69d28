"""A power cut: what was not synced is lost, in place, so that inodes and times are what they would be.

A child runs with this around its system calls. At the N-th it takes back every change of names since its folder was last synced, and
tears every file whose bytes were not synced; then it ends. SQLite's own files are left as they are: an index that knows more than the
disk has is the dangerous case. Three kinds: names lost; names kept and contents zero; names kept and files empty.
"""

import builtins
import io
import os
import stat

KINDS = ("names lost", "contents zero", "files empty")


class PowerCut:
    """Watches what is synced below `root`; `at`: the operation at which the power goes."""

    def __init__(self, root, *, at, kind, limbo):
        self.root, self.at, self.kind, self.limbo = str(root), at, kind, str(limbo)
        self.count = 0
        self.dirty = {}  # inode -> size on disk; None where the file is new
        self.log = []  # [folder, undo] of names that are not synced
        self.known = set()
        self.real = {name: getattr(os, name) for name in dir(os) if callable(getattr(os, name))}

    def install(self):
        os.makedirs(self.limbo, exist_ok=True)
        for folder, _, names in os.walk(self.root):
            for name in names:
                self.known.add(os.lstat(os.path.join(folder, name)).st_ino)
        for name in ("open", "write", "copy_file_range", "fsync", "rename", "link", "unlink", "mkdir"):
            setattr(os, name, getattr(self, f"_{name}"))
        os.replace, os.remove = self._rename, self._unlink
        real_open = io.open

        def opened(file, mode="r", *arguments, **options):
            made = real_open(file, mode, *arguments, **options)
            if any(letter in mode for letter in "wax+") and isinstance(file, str | os.PathLike):
                self._touched(made.fileno())
            return made

        io.open = builtins.open = opened
        return self

    # ---- what is watched ----

    def _step(self):
        self.count += 1
        if self.count == self.at:
            self._cut()

    def _full(self, path, dir_fd=None):
        if dir_fd is not None:
            return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), os.fsdecode(path))
        return os.path.abspath(os.fsdecode(path))

    def _is_ours(self, path):
        return path.startswith(self.root) and "index.db" not in path

    def _touched(self, fd):
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            self.dirty.setdefault(status.st_ino, None if status.st_ino not in self.known else status.st_size)
            self.known.add(status.st_ino)

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        full = self._full(path, dir_fd)
        is_new = bool(flags & os.O_CREAT) and self._is_ours(full) and not os.path.lexists(full)
        if is_new:
            self._step()
        fd = self.real["open"](path, flags, mode, dir_fd=dir_fd)
        if is_new and not flags & getattr(os, "O_TMPFILE", 0) == getattr(os, "O_TMPFILE", -1):
            self._touched(fd)
            self._logged(full, lambda: self._remove_if(full, os.stat(full).st_ino))
        return fd

    def _write(self, fd, data):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            self._step()
            self._touched(fd)
        return self.real["write"](fd, data)

    def _copy_file_range(self, source, target, *arguments, **options):
        self._step()
        self._touched(target)
        return self.real["copy_file_range"](source, target, *arguments, **options)

    def _fsync(self, fd):
        self._step()
        status = os.fstat(fd)
        self.real["fsync"](fd)
        if stat.S_ISDIR(status.st_mode):
            folder = os.readlink(f"/proc/self/fd/{fd}")
            self.log = [one for one in self.log if one[0] != folder]
        else:
            self.dirty.pop(status.st_ino, None)

    def _logged(self, full, undo):
        self.log.append((os.path.dirname(full), undo))

    def _backup(self, path):
        """Keep an inode that is about to lose its name."""
        if not os.path.lexists(path) or os.path.isdir(path):
            return None
        kept = os.path.join(self.limbo, f"{len(os.listdir(self.limbo))}-{self.count}")
        self.real["link"](path, kept, follow_symlinks=False)
        return kept

    def _rename(self, source, target, *, src_dir_fd=None, dst_dir_fd=None):
        one, two = self._full(source, src_dir_fd), self._full(target, dst_dir_fd)
        if not self._is_ours(two) and not self._is_ours(one):
            return self.real["rename"](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._step()
        kept = self._backup(two)
        self.real["rename"](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        def undo():
            if os.path.lexists(two) and os.path.isdir(os.path.dirname(one)) and not os.path.lexists(one):
                self.real["rename"](two, one)
            if kept and not os.path.lexists(two):
                self.real["link"](kept, two, follow_symlinks=False)

        return self._logged(two, undo)

    def _link(self, source, target, *, src_dir_fd=None, dst_dir_fd=None, follow_symlinks=True):
        two = self._full(target, dst_dir_fd)
        self._step()
        self.real["link"](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)
        if self._is_ours(two):
            inode = os.lstat(two).st_ino
            self._logged(two, lambda: self._remove_if(two, inode))

    def _unlink(self, path, *, dir_fd=None):
        full = self._full(path, dir_fd)
        if not self._is_ours(full):
            return self.real["unlink"](path, dir_fd=dir_fd)
        self._step()
        kept = self._backup(full)
        self.real["unlink"](path, dir_fd=dir_fd)

        def undo():
            if kept and os.path.isdir(os.path.dirname(full)) and not os.path.lexists(full):
                self.real["link"](kept, full, follow_symlinks=False)

        return self._logged(full, undo)

    def _mkdir(self, path, mode=0o777, *, dir_fd=None):
        full = self._full(path, dir_fd)
        self._step()
        self.real["mkdir"](path, mode, dir_fd=dir_fd)

        def undo():
            try:
                os.rmdir(full)
            except OSError:
                pass

        self._logged(full, undo)

    def _remove_if(self, path, inode):
        if os.path.lexists(path) and os.lstat(path).st_ino == inode:
            self.real["unlink"](path)

    # ---- the cut ----

    def _cut(self):
        for name, value in self.real.items():
            setattr(os, name, value)
        if self.kind == "names lost":
            for _, undo in reversed(self.log):
                try:
                    undo()
                except FileNotFoundError:
                    pass  # its folder went with it
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                if status.st_ino in self.dirty and stat.S_ISREG(status.st_mode) and "index.db" not in name:
                    self._tear(path, status)
        os._exit(99)

    def _tear(self, path, status):
        os.chmod(path, 0o644)
        with io.FileIO(path, "r+") as file:
            if self.kind == "files empty":
                file.truncate(0)
            else:
                file.seek(self.dirty[status.st_ino] or 0)
                file.write(bytes(max(0, status.st_size - file.tell())))
        os.chmod(path, stat.S_IMODE(status.st_mode))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
