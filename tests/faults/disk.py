"""Let disks run full: small ones (tmpfs), mounted where nobody else sees them.

    python tests/faults/disk.py

The output's disk, the spool's, and one for both run full in the middle of an export. It must end with exit code 1 and
one line that names the path and the remedy, leave the old file, nothing of the new one and all parts of the spool; and
when the disk has been enlarged, go on from them and write what an undisturbed run writes. Ends with 77 where nothing
may be mounted.
"""

# ruff: noqa: E402 # the rest runs in a namespace of its own

from __future__ import annotations

import os
import subprocess
import sys

INSIDE = "HEADRACE_DISK_TEST"
UNABLE = 77

if __name__ == "__main__" and INSIDE not in os.environ:
    alone = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    try:
        able = subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    except FileNotFoundError as error:
        print(error)
        sys.exit(UNABLE)
    if able.returncode:
        print(f"nothing can be mounted here: {able.stderr}")
        sys.exit(UNABLE)
    os.execvpe(alone[0], [*alone, sys.executable, *sys.argv], os.environ | {INSIDE: "1"})

from jobs import (  # isort: skip # before numpy
    OLD,
    TWO_PASSES,
    TWO_PASSES_CLI,
    Case,
    FaultError,
    Told,
    check_target,
    export,
    fork,
    prepare,
    sha,
    show,
    wait,
)

import tempfile
from pathlib import Path
from typing import Any

from headrace.events import PassStarted

CASES = (Case("plain", TWO_PASSES, old=OLD, small=True), Case("gzip", TWO_PASSES, "gzip", small=True))
ENOUGH = 16_000_000


def mount(path: Path, size: int) -> Path:
    """Make a disk of some bytes."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    return path


def enlarge(path: Path) -> None:
    """Make it large, and free."""
    (path / "filler").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", path], check=True)


class Filling(Told):
    """Leaves only some bytes on a disk as soon as the first pass begins, when room has been looked for."""

    def __init__(self, disk: Path | None = None, leave: int = 0) -> None:
        super().__init__()
        self.disk, self.leave = disk, leave

    def __call__(self, event: Any) -> None:
        """Take an event of a run."""
        super().__call__(event)
        if isinstance(event, PassStarted) and event.number == 1 and self.disk is not None:
            room = os.statvfs(self.disk)
            (self.disk / "filler").write_bytes(bytes(room.f_bavail * room.f_bsize - self.leave))


class Disks:
    """The cases."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        prepare(folder, census=False)
        self.sha: dict[str, str] = {}
        for case in CASES:
            out = folder / f"{case.name}.h5ad"
            if case.old is not None:
                out.write_bytes(case.old)
            self.run(case, out, Told(), 0)
            self.sha[case.name] = sha(out)

    def run(self, case: Case, out: Path, told: Told, expected: int, *says: str, spool: Path | None = None) -> None:
        """Run an export that must end with a code and say some things."""
        told.clear()
        code = wait(fork(lambda: export(case, self.folder, out, told, spool=spool), self.log))
        said = self.log.read_text()
        if code != expected:
            raise FaultError(f"exit code {code}: {said}")
        if expected and said.count("error: ") != 1:
            raise FaultError(f"it says {said!r}")
        for each in (*says, *(["error: "] if expected else [])):
            if each not in said:
                raise FaultError(f"it does not say {each!r}: {said}")
        for each in ("Traceback", "unexpected", "Exception ignored"):
            if each in said:
                raise FaultError(f"it says {each!r}: {said}")

    def full(self, name: str, case: Case, output: int, spool: int | None, leave: int | None = None) -> dict[str, Any]:
        """Run an export on disks that are too small, enlarge them, and run it again.

        Parameters
        ----------
        name
            Of the case.
        case
            What is exported.
        output, spool
            Bytes of the output's disk and of the spool's; None if they are one.
        leave
            Bytes left on the spool's disk when room has been looked for.
        """
        where = mount(self.folder / f"{name} {case.name}", output)
        parts_on = where if spool is None else mount(self.folder / f"{name} {case.name} spool", spool)
        folder = parts_on / ".headrace-spool"
        out = where / "out.h5ad"
        if case.old is not None:
            out.write_bytes(case.old)
        told = Filling(parts_on if leave is not None else None, leave or 0)
        says = (str(folder), "spool=") if leave is not None else (str(out), "free some space")
        self.run(case, out, told, 1, "No space left on device", *says, spool=folder)
        if check_target(case, out, self.sha[case.name], self.log) != ("none" if case.old is None else "old"):
            raise FaultError("a new file is there")
        left = {path.name for path in where.iterdir()} - {"out.h5ad", ".headrace-spool", "filler"}
        if left:
            raise FaultError(f"left behind: {left}")
        parts = len(list(folder.glob("*/[!.]*.part")))
        if parts == 0 or (leave is None and parts != 4):
            raise FaultError(f"{parts} parts are left")
        for disk in {where, parts_on}:
            enlarge(disk)
        again = Told()
        self.run(case, out, again, 0, spool=folder)
        if sha(out) != self.sha[case.name]:
            raise FaultError("the run after it does not write what an undisturbed run writes")
        if again.n_reads != 4 - parts:
            raise FaultError(f"{parts} parts were there, and {again.n_reads} of 4 were read again")
        return {"parts_kept": parts, "read_again": again.n_reads}

    def refused(self) -> dict[str, Any]:
        """A disk on which the spool has no room is refused before anything is read."""
        case = CASES[0]
        disk = mount(self.folder / "tiny", 64_000)
        out = disk / "out.h5ad"
        out.write_bytes(OLD)
        told = Told()
        self.run(case, out, told, 1, "the spool needs about", "choose another folder", spool=disk / "spool")
        check_target(case, out, "", self.log)
        if told.n_reads or told.stage != "before the first pass":
            raise FaultError("something was read")
        return {"read": told.n_reads}

    def command_line(self) -> dict[str, Any]:
        """The real command line on a disk that is too small for its output."""
        census = self.folder / "census"
        prepare(self.folder)
        disk = mount(self.folder / "cli", 3_000_000)
        out = disk / "out.h5ad"
        out.write_bytes(OLD)
        command = [sys.executable, "-m", "headrace", "export", "--census", str(census), "--organism", "mus_musculus"]
        command += [*TWO_PASSES_CLI, "--out", str(out), "--overwrite", "--memory", "1GB"]
        done = subprocess.run(command, capture_output=True, text=True)
        said = done.stderr
        if done.returncode != 1 or "No space left" not in said or "Traceback" in said or "unexpected" in said:
            raise FaultError(f"the command line: {done.returncode}, {said}")
        if out.read_bytes() != OLD:
            raise FaultError("the old file is gone")
        return {"exit_code": done.returncode, "said": said.strip().splitlines()[-1]}


def main() -> int:
    """Run the cases."""
    figures: dict[str, Any] = {}
    failures = 0
    with tempfile.TemporaryDirectory(prefix="headrace-disk-") as name:
        folder = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", folder], check=True)
        disks = Disks(folder)
        todo: dict[str, Any] = {"refused": disks.refused, "command line": disks.command_line}
        for case in CASES:
            enough = 600_000 if case.compression is None else 120_000
            todo |= {
                f"output, {case.name}": lambda case=case, n=enough: disks.full("output", case, n, ENOUGH),
                f"spool, {case.name}": lambda case=case: disks.full("spool", case, ENOUGH, ENOUGH, leave=80_000),
                f"both, {case.name}": lambda case=case, n=enough: disks.full("both", case, n + 150_000, None),
            }
        for what, job in todo.items():
            try:
                figures[what] = job()
            except FaultError as error:
                failures += 1
                print(f"{what}: {error}", flush=True)
        subprocess.run(["umount", "--recursive", folder], check=True)
    show({**figures, "failures": failures})
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
