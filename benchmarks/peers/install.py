"""Make an environment for every peer: a folder per file of `environments/`, from PyPI.

    python benchmarks/peers/install.py FOLDER [name ...]

What cannot be installed leaves a note, `FOLDER/NAME.failed`, which the table repeats; the others go on. Those that
are done, and whose file is what it was, are left as they are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS = Path(__file__).with_name("environments")


def interpreter(requirements: str) -> str:
    """Return the Python that a file asks for in a comment, `# python 3.12`; this one if it is not there."""
    asked = re.search(r"^# python (3\.\d+)", requirements, re.MULTILINE)
    if asked is None or sys.version.startswith(asked.group(1) + "."):
        return sys.executable
    name = f"python{asked.group(1)}"
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{asked.group(1)}.*/bin/{name}"))  # its shims may not be set up
    return str(pyenv[-1]) if pyenv else shutil.which(name) or sys.executable


def install(name: str, folder: Path) -> str:
    """Make one environment; return what went wrong, or nothing."""
    place, note, wanted = folder / name, folder / f"{name}.failed", ENVIRONMENTS / f"{name}.txt"
    ready = place / ".ready"
    if ready.exists() and ready.read_text() == wanted.read_text():
        return ""
    shutil.rmtree(place, ignore_errors=True)
    note.unlink(missing_ok=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([interpreter(wanted.read_text()), "-m", "venv", str(place)], [*pip, "-r", str(wanted)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            why = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "?")
            note.write_text(why.removeprefix("ERROR: ")[:200])
            return note.read_text()
    ready.write_text(wanted.read_text())
    return ""


def main() -> None:
    """Make all, or those named."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or sorted(file.stem for file in ENVIRONMENTS.glob("*.txt")):
        print(f"{name:<12}", end="", flush=True)
        print(install(name, folder) or "ready", flush=True)


if __name__ == "__main__":
    main()
