"""Why a machine or a container lets bubblewrap make no name spaces, by what the kernel tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_SETFCAP = 1 << 31  # a bit of the lines on capabilities, of linux/capability.h
GENERAL = (
    "It needs version 0.7 or later and user name spaces, which nothing that was looked at forbids: compare bwrap "
    "--version, and try it outside of a container, or in one with --privileged"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Switch:
    """A switch of the host's kernel that keeps users from making name spaces."""

    file: str  # below /proc/sys
    forbidding: str  # its value that does
    remedy: str


_SWITCHES = (
    _Switch(file="user/max_user_namespaces", forbidding="0", remedy="user.max_user_namespaces=15000"),
    _Switch(file="kernel/unprivileged_userns_clone", forbidding="0", remedy="kernel.unprivileged_userns_clone=1"),
    _Switch(
        file="kernel/apparmor_restrict_unprivileged_userns",
        forbidding="1",
        remedy="kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


def namespace_remedy(proc: Path = PROC) -> str:
    """What to change so that bubblewrap can make its name spaces, where it just could not: all that may be in the way,
    in one or more sentences.

    Args:
        proc: where the kernel's files are.
    """
    found = [
        f"The host forbids user name spaces: sysctl {switch.remedy} on it."
        for switch in _SWITCHES
        if _text(proc / "sys" / switch.file) == switch.forbidding
    ]
    status = dict(line.split(":", 1) for line in _text(proc / "self/status").splitlines() if ":" in line)
    if status.get("Seccomp", "").strip() == "2":
        found.append(
            "A seccomp filter holds this process, as Docker's usual one, which refuses name spaces: start the "
            "container with --security-opt seccomp=unconfined, in Kubernetes seccompProfile: {type: Unconfined}."
        )
    profile = _text(proc / "self/attr/current").removesuffix("\0")
    if profile.endswith("(enforce)"):
        found.append(
            f"AppArmor's profile {profile.split()[0]} holds it, which may refuse mounts: start the container with "
            "--security-opt apparmor=unconfined, in Kubernetes appArmorProfile: {type: Unconfined}."
        )
    return " ".join([*found, *_of_capabilities(status)]).removesuffix(".") or GENERAL


def _of_capabilities(status: Mapping[str, str]) -> list[str]:
    """What is wrong with the capabilities of this process.

    Args:
        status: the lines of /proc/self/status by their names.
    """
    is_root = status.get("Uid", "1").split()[0] == "0"
    held = int(status.get("CapPrm", "0"), 16)
    if is_root and not held & _SETFCAP:
        return ["Root without the capability SETFCAP can have no user name space: run as another user (--user 1000)."]
    if held and not is_root:
        return ["bubblewrap does not run with capabilities of a user who is not root: leave --cap-add out."]
    return []


def _text(file: Path) -> str:
    """What a file holds; "" where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
