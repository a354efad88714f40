"""What others may bring in: packages, licences, hosted machines, and the address that readers install from."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import address  # noqa: E402
import licences  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {  # and the group of pyproject.toml that each is of
    "requirements.txt": "book",
    "requirements/sync.txt": "sync",
    "requirements/install.txt": "install",
    "requirements/audit.txt": "audit",
    "requirements/cuda.txt": None,
}
PIN = re.compile(r"([a-z0-9-]+)(\[\S+\])?==[\w.]+( ; .+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def pins(lock: str) -> dict[str, str]:
    """What a lock names, each with its whole line."""
    lines = (ROOT / lock).read_text().splitlines()
    return {found[1]: line for line in lines if (found := PIN.fullmatch(line))}


def names(group: str) -> set[str]:
    """What a group asks for, groups in it included."""
    asked = set()
    for need in PROJECT["dependency-groups"][group]:
        named = isinstance(need, str)
        asked |= {re.split(r"[=<>]", need)[0]} if named else names(need["include-group"])
    return asked


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_a_pin_or_a_hash_of_one(lock):
    *lines, last = (ROOT / lock).read_text().splitlines()
    if lock == "requirements.txt":
        assert last == "-r requirements/cuda.txt"
    else:
        lines.append(last)
    for before, line in zip(["", *lines], [*lines, ""], strict=True):
        follows = before.endswith("\\")  # a hash has to follow
        assert (HASH if follows else PIN).fullmatch(line) or (not follows and not line), line


@pytest.mark.parametrize("lock", [lock for lock, group in LOCKS.items() if group])
def test_a_lock_has_all_that_is_asked_for(lock):
    needs = PROJECT["project"]["dependencies"] if lock == "requirements.txt" else []
    own = {re.split(r"[=<>]", need)[0] for need in needs}
    assert own | names(LOCKS[lock]) <= {*pins(lock)}


def test_locks_agree():
    book = pins("requirements.txt")
    for lock in LOCKS:
        both = {name: line.split(" ")[0] for name, line in pins(lock).items() if name in book}
        assert both == {name: book[name].split(" ")[0] for name in both}


def commands(**settings: str) -> list[str]:
    """What `make setup` would run."""
    given = [f"{name}={value}" for name, value in settings.items()]
    command = ["make", "-n", "setup", "VENV=_build/nothing", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if " install " in line]


def test_an_installation_asks_for_hashes():
    install, own = commands(CPU="")
    assert all("--require-hashes" in part for part in re.split(r"&&|\|\|", install))
    assert install.count("--only-binary :all:") == 3 and "-r requirements.txt" in install
    assert own.endswith("--no-deps --no-build-isolation -e .")


@pytest.mark.parametrize(("cpu", "index"), [("1", ""), ("http://ada", " --index-url http://ada")])
def test_without_cuda_only_pytorch_comes_without_hashes(cpu, index):
    pytorch, install, own = commands(CPU=cpu)
    uv, pytorch = pytorch.split("&&")
    assert f"--no-deps{index} " in re.sub(" +", " ", pytorch) and "torch(vision)?==" in pytorch
    assert all("--require-hashes" in part for part in [uv, *re.split(r"&&|\|\|", install)])
    assert "-r requirements.txt" not in install and "-r _build/requirements.txt" in install


def test_every_licence_is_listed_and_what_is_not_free_of_terms_is_explained():
    page = licences.PAGE.read_text()
    assert sorted(licences.written()) == sorted(
        {*pins("requirements.txt"), *pins(licences.LOCKS[1])}
    )
    bold = set(re.findall(r"^\| ([a-z0-9-]+) \| \*\*", page, re.MULTILINE))
    assert {"certifi", "codespell", "docutils", "nvidia-cublas"} <= bold
    for name in bold:
        assert name.startswith(("nvidia-", "cuda-")) or name in licences.HEAD


def test_a_package_of_another_system_keeps_its_line_and_a_new_one_is_named(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(licences, "PAGE", tmp_path / "LICENSES.md")
    monkeypatch.setattr(licences, "pinned", lambda: ["for-another-system", "numpy"])
    assert licences.main() == 1 and "for-another-system" in capsys.readouterr().out
    licences.PAGE.write_text("| for-another-system | **LGPL-2.1** |\n")
    assert licences.main() == 0
    assert licences.written()["for-another-system"] == "LGPL-2.1"
    assert "BSD" in licences.written()["numpy"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_hosted_machine_may_do_little_and_runs_known_actions(workflow):
    text = workflow.read_text()
    plan = yaml.safe_load(text)
    triggers = plan[True]  # YAML reads the word `on` as this
    assert plan["permissions"] == {"contents": "read"} and plan["concurrency"]
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & {*triggers}
    used = re.findall(r"uses: (.+)", text)
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v[\d.]+", action) for action in used)
    for job in plan["jobs"].values():
        assert "write" not in job.get("permissions", {}).values() or not checks_out(job)
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "an expression is pasted, an env is passed"


def checks_out(job: dict) -> bool:
    """Whether a job runs code of the repository; it must not leave its token to that."""
    checkouts = [step for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    return bool(checkouts)


@pytest.mark.parametrize(
    "given", ["owner/name", "OWNER/peek@main", "https://github.com/Owner/peek"]
)
def test_a_texts_stand_in_for_an_account_is_no_address(given, monkeypatch):
    monkeypatch.setenv("PEEK_REPOSITORY", given)
    with pytest.raises(ValueError, match="with its names in place of these"):
        address.find()
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/peek")
    assert address.of_runner() is None


def test_nothing_tells_readers_to_install_a_name_that_anybody_may_take():
    papers = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("book/**/*.md")]
    for path in [*papers, *ROOT.glob("notebooks/*.*"), *ROOT.glob("peeklib/**/*.py")]:
        found = re.search(r"pip install [^\n]*\bpeeklib(?!-)", path.read_text())
        assert not found, f"{path.name}: {found}"
