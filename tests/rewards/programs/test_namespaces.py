"""A person is told what keeps the sandbox from working: a switch of the host, or what holds a container."""

from pathlib import Path

import pytest

from rewards.programs.namespaces import GENERAL, namespace_remedy


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """The kernel's files on a machine that forbids nothing."""
    write(tmp_path, "sys/user/max_user_namespaces", "96365\n")
    write(tmp_path, "self/status", status())
    write(tmp_path, "self/attr/current", "unconfined\n")
    return tmp_path


def status(user: int = 1000, capabilities: int = 0, seccomp: int = 0) -> str:
    """What the kernel says of a process."""
    return (
        f"Name:\tpython\nUid:\t{user}\t{user}\t{user}\t{user}\nCapPrm:\t{capabilities:016x}\n"
        f"NoNewPrivs:\t0\nSeccomp:\t{seccomp}\nSeccomp_filters:\t{seccomp // 2}\n"
    )


def write(proc: Path, name: str, text: str) -> None:
    (proc / name).parent.mkdir(parents=True, exist_ok=True)
    (proc / name).write_text(text)


def test_where_nothing_is_forbidden_the_version_may_be_the_reason(proc: Path) -> None:
    assert namespace_remedy(proc) == GENERAL
    assert namespace_remedy(proc / "none") == GENERAL


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ],
)
def test_a_switch_of_the_host_is_named_only_where_it_forbids(proc: Path, name: str, value: str, remedy: str) -> None:
    write(proc, f"sys/{name}", f"{value}\n")
    assert remedy in namespace_remedy(proc)
    write(proc, f"sys/{name}", {"0": "1", "1": "0"}[value])
    assert namespace_remedy(proc) == GENERAL


def test_a_container_under_a_filter_and_a_profile_is_told_both_flags_of_docker_and_of_kubernetes(proc: Path) -> None:
    write(proc, "self/status", status(seccomp=2))
    write(proc, "self/attr/current", "docker-default (enforce)\n")
    said = namespace_remedy(proc)
    assert "--security-opt seccomp=unconfined, in Kubernetes seccompProfile: {type: Unconfined}" in said
    assert "AppArmor's profile docker-default holds it" in said
    assert "--security-opt apparmor=unconfined, in Kubernetes appArmorProfile: {type: Unconfined}" in said


def test_capabilities_that_are_too_few_for_root_or_too_many_for_others_are_named(proc: Path) -> None:
    write(proc, "self/status", status(user=0, capabilities=0))
    assert "run as another user (--user 1000)" in namespace_remedy(proc)
    write(proc, "self/status", status(user=0, capabilities=0x800405FB | 1 << 31))
    assert namespace_remedy(proc) == GENERAL
    write(proc, "self/status", status(user=1000, capabilities=1 << 21))
    assert "leave --cap-add out" in namespace_remedy(proc)
