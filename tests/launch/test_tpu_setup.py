"""launch/tpu_vm.sh STEP=setup: what is sent, and what a worker makes of it, with stand-ins for its programs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "tpu_vm.sh"

GCLOUD = """#!/bin/sh
for word in "$@"; do printf "%s\\n" "$word"; done >> "$CALLS"
"""

# `python3.12 -m venv .venv`: a Python that writes down its words.
VENV = """#!/bin/sh
mkdir -p .venv/bin
echo "$0 $*" > .venv/made
printf '#!/bin/sh\\necho "$*" > .venv/asked\\n' > .venv/bin/python
chmod +x .venv/bin/python
"""

# The worker's own python3: `-m pip install … uv`, then `-m uv venv … .venv`.
OLD_PYTHON = f"""#!/bin/sh
[ "$2" = pip ] && exec touch ~/uv
[ "$2" = uv ] && [ -e ~/uv ] || exit 1
{VENV}"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def git(folder: Path, *words: str) -> None:
    person = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *person, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path):
    """Of a copy of the script, as it comes without git."""
    root = tmp_path / "a checkout"
    (root / "launch").mkdir(parents=True)
    shutil.copy(SCRIPT, root / "launch")
    (root / "pyproject.toml").write_text("# the package")
    return root


@pytest.fixture
def checkout(folder):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def setup(root: Path, tmp_path: Path, **variables: str) -> tuple[subprocess.CompletedProcess, list]:
    """(the finished script, every word that gcloud got)"""
    program(tmp_path / "bin" / "gcloud", GCLOUD)
    calls = tmp_path / "calls"
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHON" and not k.startswith("GIT_")}
    environment = inherited | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "TPU": "slice",
        "ZONE": "z",
        "PROJECT": "p",
        "STEP": "setup",
        "GIT_CEILING_DIRECTORIES": str(root.parent),  # tmp_path may lie in a checkout
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        [str(root / "launch" / "tpu_vm.sh")],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, calls.read_text().splitlines() if calls.exists() else []


def work(calls: list[str], tmp_path: Path, programs: dict[str, str]) -> tuple:
    """The worker's command, run in a home folder: (finished, its folder of the code)."""
    home, bin_folder = tmp_path / "home", tmp_path / "worker bin"
    home.mkdir()
    shutil.copy(next(c for c in calls if c.endswith("/jaxvid.tar.gz")), home)
    for name, text in programs.items():
        program(bin_folder / name, text)
    environment = {
        "PATH": f"{bin_folder}:/usr/bin:/bin",
        "HOME": str(home),
    }
    command = calls[-1].removeprefix("--command=")
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, home / "jaxvid"


def test_a_worker_with_the_python_installs_the_commit_with_it(checkout, tmp_path):
    done, calls = setup(checkout, tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert calls.count("--worker=all") == 2
    done, code = work(calls, tmp_path, {"python3.12": VENV})
    assert done.returncode == 0 and done.stderr == ""
    assert (code / "pyproject.toml").exists()
    assert (code / ".venv" / "made").read_text().endswith("python3.12 -m venv .venv\n")
    assert (code / ".venv" / "asked").read_text() == "-m pip install -q -e .[tpu]\n"


def test_a_worker_without_it_fetches_it_with_uv(checkout, tmp_path):
    _, calls = setup(checkout, tmp_path, PYTHON="python3.99")
    done, code = work(calls, tmp_path, {"python3": OLD_PYTHON})
    assert done.returncode == 0 and "no python3.99 with venv here, uv fetches it" in done.stderr
    made = (code / ".venv" / "made").read_text()
    assert made.endswith("python3 -m uv venv --clear --seed --python python3.99 .venv\n")
    assert (code / ".venv" / "asked").read_text() == "-m pip install -q -e .[tpu]\n"


def test_a_worker_that_reaches_nothing_says_what_to_do(checkout, tmp_path):
    _, calls = setup(checkout, tmp_path, PYTHON="python3.99")
    done, _ = work(calls, tmp_path, {"python3": "#!/bin/sh\nexit 22\n"})
    assert done.returncode == 1
    assert "could not fetch python3.99; install it with venv on all workers, or name" in done.stderr


def test_changes_that_stay_behind_are_named(checkout, tmp_path):
    (checkout / "pyproject.toml").write_text("# changed")
    (checkout / "new.py").write_text("")
    done, calls = setup(checkout, tmp_path)
    assert done.returncode == 0 and calls
    assert done.stderr == (
        "tpu_vm.sh: not committed, so the workers do not get it:\n M pyproject.toml\n?? new.py\n"
    )


def test_outside_a_checkout_it_says_what_to_do(folder, tmp_path):
    done, calls = setup(folder, tmp_path)
    assert done.returncode == 2 and calls == []
    assert f"STEP=setup sends the last commit, and {folder} has none: git clone" in done.stderr
    assert "git init && git add . && git commit" in done.stderr
