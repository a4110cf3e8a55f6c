"""Hostile programs by name, and what they aim at.

Each defines `solve(n)` and gives the right answer, n * n, only where its attack succeeded. In the sources FOLDER is
a folder of the host with the files `canary` and `socket` (listening), PORT a port where the host listens, PID the
process that asked for the verdict, PROJECT the project's folder.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TESTS = json.dumps([f"assert solve({n}) == {n * n}" for n in (3, 4, 5)])
SECRET = "hunter2-of-the-environment"

_TRY = """
def attack(n):
{body}

def solve(n):
    try:
        return n * n if attack(n) else -1
    except OSError as refused:
        return -1
"""


def _attack(*lines: str) -> str:
    """A program whose attack is these lines; they return something true where they succeeded."""
    return _TRY.format(body="\n".join("    " + line for line in lines))


_LIBC = "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); arm = os.uname().machine == 'aarch64'"
_SEND = """
import os

def send(text):
    for descriptor in range(3, 30):
        try:
            os.write(descriptor, text)
        except OSError:
            pass
"""
_CHANNEL = """
import gc
channel = next(one for one in gc.get_objects() if type(one).__name__ == "Channel")
"""

_REPLY = (
    _CHANNEL
    + """
import os

def reply(text):
    while text:
        text = text[os.write(channel._writing, text):]
"""
)

_ENDLESS = {
    "endless loop": "def solve(n):\n    while True:\n        pass",
    "endless loop while loading": "while True:\n    pass",
    "endless loop that ignores the limit's signal": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\ndef solve(n):\n    while True:\n        pass"
    ),
    "endless loop that swallows everything": (
        "def solve(n):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    ),
    "endless regular expression": "import re\ndef solve(n):\n    return re.match('(a+)+$', 'a' * 60 + 'b')",
    "endless power": "def solve(n):\n    return 10 ** 10 ** 10",
    "endless iterator": "import itertools\ndef solve(n):\n    return itertools.count()",
    "sleeping for ever": "import time\ndef solve(n):\n    time.sleep(10 ** 6)",
    "waiting on a lock": "import threading\ndef solve(n):\n    lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "never reading again": _SEND + "import time\ndef solve(n):\n    os.closerange(3, 30); time.sleep(10 ** 6)",
}

_DEEP = "import sys\nsys.setrecursionlimit(10 ** 9)\n"
_BOMBS = {
    "fork bomb": _attack("import os", "while True:", "    os.fork()"),
    "fork": _attack("import os", "pid = os.fork()", "if pid == 0: os._exit(0)", "return pid"),
    "subprocess": _attack("import subprocess", "return subprocess.run(['/usr/bin/true']).returncode == 0"),
    "posix_spawn": _attack("import os", "return os.posix_spawn('/usr/bin/true', ['true'], {})"),
    "os.system": _attack("import os", "return os.system('true') == 0"),
    "multiprocessing": _attack(
        "import multiprocessing", "p = multiprocessing.Process(target=print)", "p.start()", "return 1"
    ),
    "fork by system call": _attack(
        _LIBC, "pid = libc.syscall(220 if arm else 57, 17, 0, 0, 0, 0)", "if pid == 0: os._exit(0)", "return pid > 0"
    ),
    "clone by system call": _attack(
        _LIBC, "pid = libc.syscall(220 if arm else 56, 17, 0, 0, 0, 0)", "if pid == 0: os._exit(0)", "return pid > 0"
    ),
    "clone3 by system call": _attack(
        _LIBC,
        "pid = libc.syscall(435, bytes(32) + bytes([17]) + bytes(55), 88)",
        "if pid == 0: os._exit(0)",
        "return pid > 0",
    ),
    "fork by the 32-bit interface's numbers": _attack(
        _LIBC, "pid = libc.syscall(0x40000000 + 57)", "if pid == 0: os._exit(0)", "return pid > 0"
    ),
    "thread bomb": (
        "import threading, time\nthreading.stack_size(32768)\ndef solve(n):\n"
        "    while True:\n        threading.Thread(target=time.sleep, args=(10 ** 6,)).start()"
    ),
    "thread bomb that survives errors": (
        "import threading, time\nthreading.stack_size(32768)\ndef solve(n):\n    while True:\n        try:\n"
        "            threading.Thread(target=time.sleep, args=(10 ** 6,), daemon=True).start()\n"
        "        except BaseException: pass"
    ),
    "thread bomb by system call": _attack(
        _LIBC,
        "stack, flags = ctypes.create_string_buffer(2 ** 20), 0x50f00  # CLONE_THREAD and what it needs",
        "top = ctypes.addressof(stack) + 2 ** 20 - 4096",
        "stacks = [ctypes.c_void_p(top - i % 200 * 4096) for i in range(999)]",
        "return all(libc.clone(libc.pause, stack, flags, None) > 0 for stack in stacks)",
    ),
    "memory bomb": "def solve(n):\n    held = []\n    while True:\n        held.append(bytearray(2 ** 24))",
    "memory bomb at once": "def solve(n):\n    return len(b'x' * 2 ** 40)",
    "memory bomb while loading": "held = [0] * 2 ** 36",
    "memory outside the limit: memfd": _attack("import os", "return os.memfd_create('x')"),
    "memory outside the limit: System V": _attack(
        _LIBC, "return libc.syscall(194 if arm else 29, 0, 2 ** 30, 0o1600) >= 0"
    ),
    "memory outside the limit: a shared mapping": _attack("import mmap", "return mmap.mmap(-1, 384 << 20)"),
    "memory outside the limit: shrinking shared mappings": (
        "import mmap\nheld = []\ndef solve(n):\n    for _ in range(8):\n"
        "        held.append(mmap.mmap(-1, 384 << 20))\n"
        "        held[-1].write(bytes(384 << 20))\n        held[-1].resize(4096)\n    return n * n"
    ),
    "memory outside the limit: a shared mapping by system call": _attack(
        _LIBC,
        "libc.mmap.restype = ctypes.c_void_p",
        "return libc.mmap(None, ctypes.c_size_t(2 ** 28), 3, 0x21, -1, ctypes.c_long(0)) != ctypes.c_void_p(-1).value",
    ),
    "memory outside the limit: empty files": (
        "import itertools, os\ndef solve(n):\n    for i in itertools.count():\n"
        "        os.close(os.open(str(i), os.O_CREAT))"
    ),
    "memory outside the limit: empty folders": (
        "import itertools, os\nfor i in itertools.count():\n    os.mkdir(str(i))\ndef solve(n): return n * n"
    ),
    "memory outside the limit: links": (
        "import itertools, os\ndef solve(n):\n    os.close(os.open('x', os.O_CREAT))\n"
        "    for i in itertools.count():\n"
        "        os.link('x', str(i))"
    ),
    "memory outside the limit: larger pipes": _attack(
        "import fcntl, os", "return fcntl.fcntl(os.pipe()[1], 1031, 2 ** 20)"
    ),
    "memory outside the limit: larger sockets": _attack(
        "import socket",
        "one, other = socket.socketpair()",
        "one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 ** 24)",
        "return True",
    ),
    "memory outside the limit: descriptors that are sent": _attack(
        "import socket", "one, other = socket.socketpair()", "return socket.send_fds(one, [b'x'], [0])"
    ),
    "memory outside the limit: descriptors of a thread": _attack(
        _LIBC,
        "stack = ctypes.create_string_buffer(2 ** 20)",
        "top = ctypes.c_void_p(ctypes.addressof(stack) + 2 ** 20 - 4096)",
        "return libc.clone(libc.pause, top, 0x50b00, None) > 0  # without CLONE_FILES",
    ),
    "memory outside the limit: attributes of files": _attack(
        "import os", "os.close(os.open('x', os.O_CREAT))", "os.setxattr('x', 'user.x', bytes(1000))", "return True"
    ),
    "killing itself by a timer": (
        "import ctypes, time\nlibc = ctypes.CDLL(None)\n"
        "event, timer = (ctypes.c_int * 16)(0, 0, 9, 0), ctypes.c_void_p()\n"
        "libc.timer_create(1, event, ctypes.byref(timer))\n"
        "libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 0, 1000), None)\n"
        "def solve(n):\n    time.sleep(0.1)\n    return -1"
    ),
    "a text that cannot be encoded": "def solve(n):\n    raise ValueError('\\udcff\\x1b[31m')",
    "recursion bomb": _DEEP + "def solve(n):\n    return solve(n) + 1",
    "recursion bomb in C": _DEEP + "def solve(n):\n    return sorted([n], key=solve)",
    "nested source": "def solve(n):\n    return " + "(" * 50_000 + "n" + ")" * 50_000,
    "nested source by eval": "def solve(n):\n    return eval('-' * 10 ** 6 + '1')",
    "bytes that are no text": "def solve(n):\n    return '\udcff\x00'",
    "crash": "import ctypes\ndef solve(n):\n    ctypes.string_at(0)",
    "descriptor bomb": "import os\ndef solve(n):\n    while True:\n        os.open('/dev/null', os.O_RDONLY)",
    "filling the disk": (
        "import itertools\ndef solve(n):\n    for i in itertools.count():\n"
        "        with open(f'{i}', 'wb') as file: file.write(bytes(2 ** 20))"
    ),
    "one large file": "def solve(n):\n    file = open('x', 'wb')\n    while True: file.write(bytes(2 ** 20))",
    "a sparse file": _attack("import os", "os.truncate(os.open('x', os.O_CREAT | os.O_WRONLY), 2 ** 40)", "return 1"),
}

_FILES = {
    "deleting everything": _attack(
        "import shutil, os",
        "shutil.rmtree('/', ignore_errors=True)",
        "shutil.rmtree('FOLDER', ignore_errors=True)",
        "shutil.rmtree(os.path.dirname(os.__file__), ignore_errors=True)",
        "return not os.path.exists(os.__file__)",
    ),
    "deleting a file": _attack("import os", "os.remove('FOLDER/canary')", "return True"),
    "overwriting a file": _attack("open('FOLDER/canary', 'w').write('gone')", "return True"),
    "writing beside it": _attack("open('FOLDER/escaped', 'w').write('here')", "return True"),
    "making its folder": _attack(
        "import os", "os.makedirs('FOLDER', exist_ok=True)", "open('FOLDER/escaped', 'w').write('here')"
    ),
    "changing the interpreter": _attack("import os", "open(os.__file__, 'a').write('#')", "return True"),
    "changing the loader": _attack("open('/usr/lib/escaped', 'w').write('here')", "return True"),
    "writing to the root": _attack("open('/escaped', 'w').write('here')", "return True"),
    "a link to the outside": _attack(
        "import os", "os.symlink('FOLDER/canary', f'link{n}')", "return open(f'link{n}').read()"
    ),
    "reading the environment": _attack("import os", "return any('hunter2' in value for value in os.environ.values())"),
    "reading another's environment": _attack(
        "import glob", "return any('hunter2' in open(p, errors='replace').read() for p in glob.glob('/proc/*/environ'))"
    ),
    "telling the environment": "import os\ndef solve(n):\n    raise ValueError(str(dict(os.environ)))",
    "reading the passwords": _attack("return open('/etc/passwd').read() or open('/etc/shadow').read()"),
    "reading the home folder": _attack(
        "import glob, os",
        "homes = glob.glob('/home/*/.*') + glob.glob('/root/.*') + glob.glob('/root/.ssh/*')",
        "return [home for home in homes if os.path.isfile(home)]",
    ),
    "reading the project": _attack("import os", "return os.listdir('PROJECT')"),
    "reading the parent's memory": _attack("return open('/proc/PID/mem', 'rb')"),
    "changing the kernel's settings": _attack("open('/proc/sys/kernel/core_pattern', 'w').write('|x')", "return True"),
    "mounting": _attack(_LIBC, "return libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0) == 0"),
    "a user name space": _attack(_LIBC, "return libc.unshare(0x10000000) == 0"),
    "another root": _attack("import os", "os.chroot('/tmp')", "return True"),
    "a device": _attack("import os", "os.mknod('disk', 0o660 | 0o060000, os.makedev(254, 0))", "return True"),
    "more memory than allowed": _attack(
        "import resource",
        "try: resource.setrlimit(resource.RLIMIT_AS, (2 ** 40, 2 ** 40))",
        "except ValueError: return False",
        "return True",
    ),
}

_NETWORK = {
    "a TCP connection": _attack("import socket", "return socket.create_connection(('127.0.0.1', PORT), 1)"),
    "a Unix connection": _attack(
        "import socket", "socket.socket(socket.AF_UNIX).connect('FOLDER/socket')", "return True"
    ),
    "a UDP packet": _attack(
        "import socket",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
        "return True",
    ),
    "a listening socket": _attack("import socket", "socket.create_server(('0.0.0.0', 0))", "return True"),
    "a raw socket": _attack("import socket", "return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    "a name": _attack("import socket", "return socket.getaddrinfo('localhost', 80)"),
    "a page": _attack("import urllib.request", "return urllib.request.urlopen('http://127.0.0.1:PORT', timeout=1)"),
    "a socket by system call": _attack(_LIBC, "return libc.syscall(198 if arm else 41, 2, 1, 0) >= 0"),
    "io_uring": _attack(_LIBC, "return libc.syscall(425, 8, bytes(120)) >= 0"),
}

_PROCESSES = {
    "killing the parent": _attack("import os", "os.kill(os.getppid(), 9)", "return True"),
    "killing the asker": _attack("import os", "os.kill(PID, 9)", "return True"),
    "killing the group": _attack("import os", "os.killpg(0, 9)", "return True"),
    "killing everybody": _attack("import os", "os.kill(-1, 9)", "return True"),
    "killing itself": "import os\ndef solve(n):\n    os.kill(os.getpid(), 9)\n    os.abort()",
    "killing by thread": _attack(_LIBC, "return libc.syscall(131 if arm else 234, os.getppid(), os.getppid(), 9) == 0"),
    "tracing the parent": _attack(_LIBC, "return libc.ptrace(16, os.getppid(), 0, 0) == 0"),
    "becoming another program": "import os\ndef solve(n):\n    os.execv('/usr/bin/sleep', ['sleep', '1000'])",
    "becoming true": "import os\ndef solve(n):\n    os.execv('/usr/bin/true', ['true'])",
}

_OUTPUT = {
    "printing gigabytes": "def solve(n):\n    while True:\n        print('x' * 2 ** 20)",
    "printing gigabytes to the descriptors": _SEND + "def solve(n):\n    while True:\n        send(b'x' * 2 ** 16)",
    "printing gigabytes while loading": _SEND + "while True:\n    send(b'0' * 2 ** 16)",
    "printing success": "def solve(n):\n    print('passed', 'ok', '3 of 3 tests pass')",
    "other outputs": "import sys\nsys.stdout = sys.stderr = sys.__stdout__ = None\ndef solve(n):\n    return None",
    "reporting success on every descriptor": _SEND
    + (
        'def solve(n):\n    for i in range(3):\n        send(b\'{"test": %d, "failed": "", "gone": false}\\n\' % i)\n'
        "    send(b'{\"end\": true}\\n')\n    os._exit(0)"
    ),
}

_PRETENCE = {
    "sys.exit": "import sys\ndef solve(n):\n    sys.exit(0)",
    "sys.exit while loading": "import sys\nsys.exit(0)",
    "os._exit": "import os\ndef solve(n):\n    os._exit(0)",
    "os._exit while loading": "import os\nos._exit(0)",
    "SystemExit": "def solve(n):\n    raise SystemExit(0)",
    "KeyboardInterrupt": "def solve(n):\n    raise KeyboardInterrupt",
    "StopIteration": "def solve(n):\n    raise StopIteration",
    "an exception of its own": (
        "class Sly(BaseException):\n    def __str__(self): raise self\ndef solve(n):\n    raise Sly"
    ),
    "a function at the end": "import atexit, os\natexit.register(os._exit, 0)\ndef solve(n):\n    return -1",
    "an object that equals everything": (
        "class Same:\n    __eq__ = lambda a, b: True\n    __hash__ = lambda a: 9\ndef solve(n):\n    return Same()"
    ),
    "an int that equals everything": (
        "class Same(int):\n    __eq__ = lambda a, b: True\n    __hash__ = int.__hash__\n"
        "def solve(n):\n    return Same(1)"
    ),
    "a text that equals everything": (
        "class Same(str):\n    __eq__ = lambda a, b: True\n    __hash__ = str.__hash__\n"
        "def solve(n):\n    return Same(1)"
    ),
    "an object that does every sum": (
        "class Sum:\n    __sub__ = __rsub__ = __abs__ = __float__ = __int__ = __index__ = __round__ = lambda *_: 0\n"
        "    __lt__ = __le__ = __gt__ = __ge__ = lambda *_: True\ndef solve(n):\n    return Sum()"
    ),
    "a class named int": "class int:\n    __eq__ = lambda a, b: True\ndef solve(n):\n    return int()",
    "patched builtins": (
        "import builtins\nfor name in ('sorted', 'len', 'print', 'abs', 'isinstance', 'compile', 'exec', 'repr'):\n"
        "    setattr(builtins, name, lambda *a, **k: True)\nbuiltins.AssertionError = Exception\n"
        "def solve(n):\n    return True"
    ),
    "shadowed names": "def solve(n):\n    return 1\nint = float = str = set = sorted = abs = lambda *_: solve",
    "patched modules": (
        "import sys\nours = 'rewards.programs.inside', 'rewards.programs.inside_tests'\n"
        "for name in ('json', 'os', *ours, 'builtins'):\n"
        "    sys.modules[name] = None\ndef solve(n):\n    return True"
    ),
    "patched answers": (
        "import sys\ninside = sys.modules['rewards.programs.inside_program']\n"
        "inside.encode = lambda *_: ['object', 0]\ndef solve(n):\n    return True"
    ),
    "searching for the tests": (
        "import gc, re, sys\ndef solve(n):\n    frame, found = sys._getframe(), ''\n    while frame:\n"
        "        found += repr(frame.f_locals) + repr(frame.f_globals); frame = frame.f_back\n"
        "    found += ''.join(o for o in gc.get_objects() if isinstance(o, str)) + repr(gc.get_objects())\n"
        "    sought = ' '.join(['assert', 'solve'])\n    return n * n if sought + '(' in found else -1"
    ),
}

_PRETENCE |= {
    "StopAsyncIteration": "def solve(n):\n    raise StopAsyncIteration",
    "GeneratorExit": "def solve(n):\n    raise GeneratorExit",
    "AttributeError": "def solve(n):\n    raise AttributeError('solve')",
    "KeyError": "def solve(n):\n    raise KeyError(n)",
    "AssertionError": "def solve(n):\n    raise AssertionError",
    "exit of the site": "def solve(n):\n    exit(0)",
    "quit while loading": "quit()",
    "a trace function": (
        "import sys\ndef trace(frame, event, found):\n    frame.f_locals.update(result=9, expected=9)\n"
        "    return trace\n"
        "sys.settrace(trace)\nsys.setprofile(trace)\ndef solve(n):\n    return -1"
    ),
    "a thread that goes on": (
        "import threading, os\nthreading.Timer(0.05, os._exit, [0]).start()\ndef solve(n):\n    import time\n"
        "    time.sleep(0.2)\n    return -1"
    ),
    "a handler of signals": (
        "import signal, os\nfor number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):\n"
        "    signal.signal(number, lambda *_: os._exit(0))\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "def solve(n):\n    while True: pass"
    ),
    "an import hook": (
        "import sys\nclass Hook:\n    def find_spec(self, *_): raise SystemExit(0)\nsys.meta_path.insert(0, Hook())\n"
        "def solve(n):\n    import statistics"
    ),
    "an exception hook": "import sys, os\nsys.excepthook = lambda *_: os._exit(0)\ndef solve(n):\n    raise ValueError",
    "unittest patched": (
        "import unittest\nunittest.TestCase.assertEqual = lambda *_: None\n"
        "unittest.TestResult.wasSuccessful = lambda _: 1\n"
        "def solve(n):\n    return -1"
    ),
    "a module named pytest": (
        "import sys, types\nsys.modules['pytest'] = types.ModuleType('pytest')\n"
        "sys.modules['pytest'].approx = lambda x: x\n"
        "def solve(n):\n    return -1"
    ),
    "a class of exceptions that equals all": (
        "class Meta(type):\n    __subclasscheck__ = __instancecheck__ = lambda *_: True\n"
        "class Same(Exception, metaclass=Meta):\n    pass\ndef solve(n):\n    raise Same"
    ),
    "a float that is not a number": "def solve(n):\n    return float('nan')",
    "the argument back": "def solve(n):\n    return n",
    "a subclass of list": (
        "class Same(list):\n    __eq__ = lambda *_: True\n    __ne__ = lambda *_: False\ndef solve(n):\n"
        "    return Same()"
    ),
    "a proxy of its class": (
        "class Same:\n    __class__ = int\n    __eq__ = lambda *_: True\n    __int__ = lambda _: 9\n"
        "def solve(n):\n    return Same()"
    ),
    "a callable that is the result": (
        "class Call:\n    def __call__(self, *_): return self\n    def __getattr__(self, name): return self\n"
        "    def __eq__(self, other): return True\nsolve = Call()"
    ),
    "a descriptor file of the tests": (
        "import glob, os\ndef solve(n):\n"
        "    for file in glob.glob('/proc/*/fd/*') + glob.glob('/proc/self/cmdline'):\n"
        "        try:\n            if b'assert' in open(file, 'rb').read(): return n * n\n"
        "        except OSError: pass\n    return -1"
    ),
    "reading its own descriptors": (
        "import os\ndef solve(n):\n    for descriptor in range(3, 64):\n        try:\n"
        "            os.set_blocking(descriptor, False)\n"
        "            if b'25' in os.read(descriptor, 10 ** 6): return n * n\n        except OSError: pass\n"
        "    return -1"
    ),
    "walking the heap": (
        "import gc\ndef solve(n):\n    for one in gc.get_objects():\n"
        "        if type(one) is dict and 'tests' in one: return n * n\n"
        "    return -1"
    ),
    "walking the frames": (
        "import sys\ndef solve(n):\n    frame = sys._getframe()\n    while frame:\n"
        "        for name in ('expected', 'tests', 'checks'):\n"
        "            if name in frame.f_locals: return n * n\n        frame = frame.f_back\n    return -1"
    ),
    "a weak reference that calls back": (
        "import weakref, os\nclass Gone: pass\nheld = Gone()\nweakref.finalize(held, os._exit, 0)\ndef solve(n):\n"
        "    global held\n    held = None\n    return -1"
    ),
    "a destructor": "import os\nclass End:\n    def __del__(self): os._exit(0)\ndef solve(n):\n    End()\n"
    "    return -1",
    "an audit hook": "import sys\nsys.addaudithook(lambda *_: None)\ndef solve(n):\n    return -1",
    "a text as JSON": "def solve(n):\n    return '[\"value\", 9]'",
    "an answer with changes": _CHANNEL + "def solve(n):\n    channel.send(['value', None, [0, n * n]])",
    "an answer with changes by name": _CHANNEL
    + "def solve(n):\n    channel.send(['value', None, ['x', [['dict', []]]]])",
}

_PROTOCOL = {
    "no message": _REPLY + "def solve(n):\n    reply(b'this is no message at all')",
    "a message without end": _REPLY + "def solve(n):\n    reply(b'00700000')\n    while True: reply(b'[' * 4096)",
    "a message of negative length": _REPLY + "def solve(n):\n    reply(b'-0000009[]')",
    "a message of many bytes": _REPLY + "def solve(n):\n    reply(b'ffffffff[]')",
    "a nest": _REPLY + "def solve(n):\n    text = b'[' * 10 ** 6\n    reply(b'%08x' % len(text) + text)",
    "a nest of values": (
        _REPLY + "def solve(n):\n    text = b'[\"value\",' + b'[\"list\",[' * 10 ** 5 + b']]' * 10 ** 5 + b']'\n"
        "    reply(b'%08x' % len(text) + text)"
    ),
    "a gigantic int": _REPLY
    + "def solve(n):\n    text = b'[\"value\",' + b'9' * 10 ** 6 + b']'\n    reply(b'%08x' % len(text) + text)",
    "a gigantic int as text": (
        _REPLY + "def solve(n):\n    text = b'[\"value\",[\"int\",\"' + b'f' * 7 * 10 ** 6 + b'\"]]'\n"
        "    reply(b'%08x' % len(text) + text)"
    ),
    "a set of colliding keys": (
        _CHANNEL + "keys = [['int', hex(i * (2 ** 61 - 1))] for i in range(200_000)]\n"
        "def solve(n):\n    channel.send(['value', ['set', keys]])"
    ),
    "an unknown value": _CHANNEL + "def solve(n):\n    channel.send(['value', ['__import__', 'os']])",
    "an object": _CHANNEL + "def solve(n):\n    channel.send(['value', {'__class__': 'int'}])",
    "a reference to nothing": _CHANNEL + "def solve(n):\n    channel.send(['value', ['object', -1]])",
    "a name as a value": _CHANNEL + "def solve(n):\n    channel.send(['value', ['name', 'solve']])",
    "an unknown failure": _CHANNEL + "def solve(n):\n    channel.send(['failure', 'SystemExit', '0'])",
    "a failure that is no text": _CHANNEL + "def solve(n):\n    channel.send(['failure', ['x'], {}])",
    "an end": _CHANNEL + "def solve(n):\n    channel.send(['end', True])",
    "many answers": _CHANNEL + "def solve(n):\n    for _ in range(10 ** 5): channel.send(['value', True])",
    "a gigantic result": "def solve(n):\n    return 7 ** (10 ** 7)",
    "a long result": "def solve(n):\n    return 'x' * 2 ** 28",
    "a large result": "def solve(n):\n    return [[]] * 10 ** 6",
    "a result that holds itself": "def solve(n):\n    held = []\n    held.append(held)\n    return held",
    "a result of colliding keys": "def solve(n):\n    return {i * (2 ** 61 - 1) for i in range(20_000)}",
}

HOSTILE: Mapping[str, str] = {
    f"{family}: {name}": source
    for family, programs in {
        "time": _ENDLESS,
        "bomb": _BOMBS,
        "files": _FILES,
        "network": _NETWORK,
        "processes": _PROCESSES,
        "output": _OUTPUT,
        "pretence": _PRETENCE,
        "protocol": _PROTOCOL,
    }.items()
    for name, source in programs.items()
}


class Target:
    """What the programs aim at: files and sockets of the host, watched."""

    def __init__(self, folder: Path, tcp: socket.socket, unix: socket.socket) -> None:
        self.folder, self._tcp, self._unix = folder, tcp, unix
        self._before = _children()

    def armed(self, source: str) -> str:
        """The source with its targets written in."""
        aims = {"FOLDER": str(self.folder), "PORT": str(self._tcp.getsockname()[1]), "PID": str(os.getpid())}
        for name, aim in (aims | {"PROJECT": str(Path(__file__).parents[1])}).items():
            source = source.replace(name, aim)
        return source

    def harm(self) -> list[str]:
        """What has happened to the targets since they were set up."""
        harm = []
        if sorted(path.name for path in self.folder.iterdir()) != ["canary", "socket"]:
            harm.append(f"the folder holds {sorted(self.folder.iterdir())}")
        elif (self.folder / "canary").read_text() != "alive":
            harm.append("the canary was changed")
        for name, listener in (("TCP", self._tcp), ("Unix", self._unix)):
            try:
                listener.accept()
            except BlockingIOError:
                continue
            harm.append(f"the {name} socket was called")
        return harm + [f"process {child} is left" for child in sorted(_children() - self._before)]


def _children() -> set[str]:
    """The processes that this one has started, and whatever is left of them to it."""
    return {child for path in Path("/proc/self/task").iterdir() for child in (path / "children").read_text().split()}


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """Sets the targets up in an empty folder; SECRET is put into the environment of this process meanwhile."""
    (folder / "canary").write_text("alive")
    os.environ["WINNOW_SECRET"] = SECRET
    try:
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(folder / "socket"))
            unix.listen()
            tcp.setblocking(False)
            unix.setblocking(False)
            yield Target(folder, tcp, unix)
    finally:
        del os.environ["WINNOW_SECRET"]
