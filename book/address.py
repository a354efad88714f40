"""Where this copy of the book lives on GitHub: for badges, links, and what Colab installs.

The first that knows counts: the variable PEEK_REPOSITORY ("owner/name" or "owner/name@branch"), what GitHub's own machines
say (GITHUB_REPOSITORY and its ref), git's remote, `repository` in _config.yml. While none knows, there is no address, and
the book shows no link that would need one.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
SLUG = r"[A-Za-z0-9][\w-]*/[\w.-]+?"
BRANCH = r"[\w./+-]+"
HOST = r"(?:(?:https?|git)://(?:[^@/]+@)?|git@|ssh://git@)(?i:github\.com)[/:]"
NOBODY = "owner"  # it stands for an account in texts, and is the account of somebody we do not know
REMOTE = re.compile(rf"{HOST}({SLUG})(?:\.git)?/?")
WRITTEN = re.compile(rf"(?:{HOST}|github\.com/)?({SLUG})(?:\.git)?(?:(?:@|/tree/)({BRANCH}))?")


class Address(NamedTuple):
    """A repository on GitHub, and a branch of it."""

    slug: str  #: owner/name
    branch: str

    @property
    def url(self) -> str:
        return f"https://github.com/{self.slug}"

    @property
    def pip(self) -> str:
        """What pip installs peeklib from."""
        return f"git+{self.url}@{self.branch}"

    def colab(self, path: str) -> str:
        """Where Colab opens a notebook, by its path in the repository."""
        return f"https://colab.research.google.com/github/{self.slug}/blob/{self.branch}/{path}"

    def page(self, path: str) -> str:
        """Where GitHub shows a file."""
        return f"{self.url}/blob/{self.branch}/{path}"


def find(root: Path = ROOT) -> Address | None:
    """The address of the copy at `root`; None while nothing knows it.

    Raises:
        ValueError: for a PEEK_REPOSITORY or a `repository` in _config.yml that is no address.
    """
    return of_variable() or of_runner() or of_git(root) or of_config(root)


def of_variable() -> Address | None:
    given = os.environ.get("PEEK_REPOSITORY", "")
    return parse(given, "PEEK_REPOSITORY") if given else None


def of_runner() -> Address | None:
    """Of GitHub's own machines; for a pull request, the branch that it goes to."""
    slug = os.environ.get("GITHUB_REPOSITORY", "")
    branch = os.environ.get("GITHUB_BASE_REF") or os.environ.get("GITHUB_REF_NAME") or "main"
    return checked(slug, branch)


def of_git(root: Path) -> Address | None:
    """Of the remote that the branch follows, else of `origin`; None where git has none, or one elsewhere."""
    if not (root / ".git").exists():
        return None
    branch = git(root, "symbolic-ref", "--short", "HEAD").removeprefix("heads/") or "main"
    remote, follows = git(root, "config", f"branch.{branch}.remote"), branch
    if remote in ("", "."):  # it follows none, or a branch of this copy
        remote = "origin"
    else:
        follows = git(root, "config", f"branch.{branch}.merge").removeprefix("refs/heads/")
    found = REMOTE.fullmatch(git(root, "remote", "get-url", remote))
    return checked(found[1], follows or branch) if found else None


def checked(slug: str, branch: str) -> Address | None:
    """An address, unless no link could hold it, or it is a text's stand-in for one."""
    possible = re.fullmatch(SLUG, slug) and re.fullmatch(BRANCH, branch)
    return Address(slug, branch) if possible and not stands_in(slug) else None


def stands_in(slug: str) -> bool:
    return slug.lower().startswith(f"{NOBODY}/")


def git(root: Path, *command: str) -> str:
    """What git answers; nothing where it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", root, *command], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def of_config(root: Path) -> Address | None:
    repository = yaml.safe_load((root / "_config.yml").read_text()).get("repository") or {}
    if not repository.get("url"):
        return None
    given = f"{repository['url']}@{repository.get('branch') or 'main'}"
    return parse(given, "repository in _config.yml")


def parse(given: str, where: str) -> Address:
    """The address that a person wrote, with or without the host and a branch."""
    found = WRITTEN.fullmatch(given.strip().rstrip("/"))
    if not found or stands_in(found[1]):
        raise ValueError(
            f"{where} is {given!r}; write <owner>/<name>@<branch> of a repository on GitHub, "
            "with its names in place of these"
        )
    return Address(found[1], found[2] or "main")
