"""The system calls that a sandboxed program is refused, as a program for the kernel's own filter (seccomp, BPF).

The filter stands behind the name spaces and limits of sandbox.py and closes the gaps that they leave: the kernel does
not bind root to its limit on processes, and no limit counts memory behind shared mappings, memfd and System V objects,
in pipes and sockets, or in what descends from descriptors that are sent away.

It is assembled here and not by libseccomp (`pyseccomp`): that library has no rule for all calls above a number, which
are refused here as unknown, and its C part would have to be installed on every machine that grades.
"""

import struct
from dataclasses import dataclass

_LOAD, _EQUAL, _ABOVE, _AND, _RETURN = 0x20, 0x15, 0x25, 0x54, 0x06  # BPF instructions, of linux/bpf_common.h
_KILL, _ALLOW, _REFUSE = 0x80000000, 0x7FFF0000, 0x00050000  # answers, of linux/seccomp.h; _REFUSE | errno
_NUMBER, _MACHINE, _FIRST, _SECOND, _FOURTH = 0, 4, 16, 24, 40  # offsets in struct seccomp_data; of arguments, low half
_EPERM, _ENOSYS = 1, 38
_NEWEST = 456  # later calls are unknown to this table and answered "no such call"; so are all of the x32 interface
_CLONE_THREAD, _CLONE_FILES = 0x00010000, 0x00000400
_CLONE_NAMESPACES = 0x7E020000 | 0x00000080  # CLONE_NEW*

# name: its number on x86_64 and on aarch64 (None: that machine has no such call); from 424 on they are the same.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # new processes, and signals: a program ends by returning
    **{"fork": (57, None), "vfork": (58, None), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)},
    **{"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424)},
    # the network; socketpair stays, for asyncio, but no descriptor can be sent and no buffer made larger
    **{"socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202)},
    **{"accept4": (288, 242), "sendmsg": (46, 211), "sendmmsg": (307, 269), "setsockopt": (54, 208)},
    # other processes' memory and descriptors
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "process_madvise": (440, 440)},
    **{"process_mrelease": (448, 448), "move_pages": (279, 239), "migrate_pages": (256, 238)},
    # mounts and name spaces
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97)},
    **{"setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430)},
    **{"fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442)},
    **{"name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "mknod": (133, None), "mknodat": (259, 33)},
    # memory that no limit counts
    **{"memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196)},
    **{"msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)},
    **{"vmsplice": (278, 75), "io_setup": (206, 0), "inotify_add_watch": (254, 27)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7)},
    **{"landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    # large or old parts of the kernel that no Python program needs
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425)},
    **{"io_uring_enter": (426, 426), "io_uring_register": (427, 427), "fanotify_init": (300, 262)},
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105)},
    **{"finit_module": (313, 273), "delete_module": (176, 106), "swapon": (167, 224), "swapoff": (168, 225)},
    **{"reboot": (169, 142), "syslog": (103, 116), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443)},
    **{"settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266)},
    **{"sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None)},
    **{"modify_ldt": (154, None), "personality": (135, 92), "vhangup": (153, 58), "uselib": (134, None)},
}
_CLONE = (56, 220)
_CLONE3 = 435
_MMAP, _MAP_SHARED_ANONYMOUS = (9, 222), 0x01 | 0x20
_FCNTL, _F_SETPIPE_SZ = (72, 25), 1031
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # the column above, and AUDIT_ARCH


@dataclass(frozen=True, slots=True)
class _Step:
    """One instruction; a jump names the label that it goes to where it holds, and goes on where it does not."""

    code: int
    operand: int
    target: str = ""
    label: str = ""  # what jumps call this instruction


def refusing_filter(machine: str) -> bytes | None:
    """The filter for a machine as ``platform.machine()`` names it; None where there is no table for it.

    New processes, sockets, signals and the calls of the table end with EPERM, clone3 and calls newer than the table
    with ENOSYS (the C library then falls back to clone, which may only start threads that share their descriptors), and
    calls of another interface (32 bits) end the process. So do shared mappings of no file and larger pipes: EPERM.
    """
    if machine not in _MACHINES:
        return None
    column, audit = _MACHINES[machine]
    numbers = [row[column] for row in _REFUSED.values()]
    return _assemble(
        [
            _Step(_LOAD, _MACHINE),
            _Step(_EQUAL, audit, target="known"),
            _Step(_RETURN, _KILL),
            _Step(_LOAD, _NUMBER, label="known"),
            _Step(_ABOVE, _NEWEST, target="missing"),
            _Step(_EQUAL, _CLONE3, target="missing"),
            _Step(_EQUAL, _CLONE[column], target="clone"),
            _Step(_EQUAL, _MMAP[column], target="mmap"),
            _Step(_EQUAL, _FCNTL[column], target="fcntl"),
            *(_Step(_EQUAL, number, target="refused") for number in numbers if number is not None),
            _Step(_RETURN, _ALLOW),
            _Step(_LOAD, _FOURTH, label="mmap"),
            _Step(_AND, _MAP_SHARED_ANONYMOUS),
            _Step(_EQUAL, _MAP_SHARED_ANONYMOUS, target="refused"),
            _Step(_RETURN, _ALLOW),
            _Step(_LOAD, _SECOND, label="fcntl"),
            _Step(_EQUAL, _F_SETPIPE_SZ, target="refused"),
            _Step(_RETURN, _ALLOW),
            _Step(_LOAD, _FIRST, label="clone"),
            _Step(_AND, _CLONE_THREAD | _CLONE_FILES | _CLONE_NAMESPACES),
            _Step(_EQUAL, _CLONE_THREAD | _CLONE_FILES, target="thread"),
            _Step(_RETURN, _REFUSE | _EPERM, label="refused"),
            _Step(_RETURN, _REFUSE | _ENOSYS, label="missing"),
            _Step(_RETURN, _ALLOW, label="thread"),
        ]
    )


def _assemble(steps: list[_Step]) -> bytes:
    """struct sock_filter[]: 16 bits of code, 8 of the jump where it holds, 8 where it does not, 32 of operand."""
    places = {step.label: place for place, step in enumerate(steps) if step.label}
    jumps = [places[step.target] - place - 1 if step.target else 0 for place, step in enumerate(steps)]
    return b"".join(struct.pack("=HBBI", s.code, jump, 0, s.operand) for s, jump in zip(steps, jumps, strict=True))
