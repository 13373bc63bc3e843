"""Ctrl-C, signals at any moment, and children that are not the holder."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from actors import Line, Stage
from scenes import (
    connections,
    granted,
    in_line,
    wait_until,
    wait_until_in_line,
)

from portalocker import exceptions

pytest.importorskip('portalocker.postgres')

Make = Callable[..., Any]


class TestCtrlC:
    def test_ends_a_wait_and_leaves_the_line(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def wait(line: Line) -> None:
            lock = make()
            line.say('here')
            with pytest.raises(KeyboardInterrupt):
                lock.acquire()
            line.say('interrupted')
            assert not lock.locked and not lock.lost
            line.hear()
            with lock:
                line.say('held')

        with make():
            waiter = stage.process(wait)
            waiter.expect('here')
            wait_until_in_line(admin)
            waiter.signal(signal.SIGINT)
            waiter.expect('interrupted')
            assert in_line(admin) == []
        waiter.tell()
        waiter.expect('held')
        waiter.finish()

    def test_leaves_what_the_thread_holds_besides(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def wait(line: Line) -> None:
            with make('other') as other:
                line.say('here')
                with pytest.raises(KeyboardInterrupt):
                    make().acquire()
                other.verify()
                line.say('interrupted')
                line.hear()

        with make():
            waiter = stage.process(wait)
            waiter.expect('here')
            wait_until_in_line(admin)
            waiter.signal(signal.SIGINT)
            waiter.expect('interrupted')
            assert in_line(admin) == []
            assert not make('other').try_acquire()
        waiter.tell()
        waiter.finish()
        with make('other'):
            pass

    def test_at_any_moment_leaves_nothing_behind(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        """Strike all over acquire and release, also within another hold."""
        seed = random.SystemRandom().getrandbits(32)
        print('seed', seed)

        def strike(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        def work(line: Line) -> None:
            chance = random.Random(seed)
            signal.signal(signal.SIGALRM, strike)
            outer = make('outer').acquire()
            lock = make()
            strikes = 0
            for number in range(400):
                if number % 50 == 0:
                    line.say('going on')  # a loaded machine takes long
                try:
                    signal.setitimer(
                        signal.ITIMER_REAL, chance.uniform(1e-6, 4e-4)
                    )
                    lock.acquire()
                    lock.release()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    strikes += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                lock.release()
                assert not lock.locked
            line.say(strikes)
            outer.release()
            line.say('released')
            line.hear()

        worker = stage.process(work)
        for _ in range(0, 400, 50):
            worker.expect('going on')
        assert worker.listen() > 10
        worker.expect('released')
        wait_until(lambda: granted(admin) == 0)
        with make('jobs', timeout=0), make('outer', timeout=0):
            pass
        worker.tell()
        worker.finish()

    def test_signal_handler_that_returns_does_not_end_a_wait(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def wait(line: Line) -> None:
            signal.signal(signal.SIGALRM, lambda *_: line.say('heard'))
            line.say('here')
            with make():
                line.say('held')

        with make():
            waiter = stage.process(wait)
            waiter.expect('here')
            before = wait_until_in_line(admin)
            waiter.signal(signal.SIGALRM)
            waiter.expect('heard')
            assert in_line(admin) == before
        waiter.expect('held')
        waiter.finish()


class TestHandler:
    """What a handler of the waiting thread itself may do meanwhile."""

    def test_may_release_what_is_held_and_the_wait_goes_on(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def wait(line: Line) -> None:
            first = make('first').acquire()

            def handle(number: int, frame: object) -> None:
                first.verify()
                first.release()
                line.say('released')

            signal.signal(signal.SIGUSR1, handle)
            line.say('here')
            with make('second') as second:
                second.verify()
                line.say('held')

        with make('second'):
            waiter = stage.process(wait)
            waiter.expect('here')
            wait_until_in_line(admin)
            waiter.signal(signal.SIGUSR1)
            waiter.expect('released')
            wait_until_in_line(admin)
            assert granted(admin) == 1
        waiter.expect('held')
        waiter.finish()

    def test_may_strike_while_the_lock_is_taken_and_given_back(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def work(line: Line) -> None:
            held = make('held').acquire()
            struck = []

            def handle(number: int, frame: object) -> None:
                held.verify()
                struck.append(True)

            signal.signal(signal.SIGALRM, handle)
            lock = make()
            for number in range(300):
                if number % 50 == 0:
                    line.say('going on')  # a loaded machine takes long
                # once each time, a little later than the time before
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (number + 1))
                lock.acquire()
                assert lock.locked
                lock.release()
                while len(struck) == number:
                    pass  # it comes in microseconds
            held.release()

        worker = stage.process(work)
        for _ in range(0, 300, 50):
            worker.expect('going on')
        worker.finish()
        assert granted(admin) == 0


class TestFork:
    def test_child_starts_released_and_takes_its_turn(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        lock = make()
        lock.acquire()

        def child(line: Line) -> None:
            assert not lock.locked and not lock.lost
            assert lock.token is None
            lock.release()
            assert not lock.try_acquire()
            line.say('waits')
            with lock:
                line.say(lock.token)

        actor = stage.process(child)
        actor.expect('waits')
        wait_until_in_line(admin)
        lock.verify()
        token = lock.token
        lock.release()
        assert actor.listen() > token
        actor.finish()

    @pytest.mark.parametrize('how', ['exit', '_exit', 'kill', 'collect'])
    def test_end_of_the_child_leaves_the_hold(
        self, make: Make, how: str
    ) -> None:
        lock = make().acquire()
        idle = make('idle')
        with idle:
            pass
        pid = os.fork()
        if pid == 0:
            self.end(how)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == (
            -9 if how == 'kill' else 0
        )
        lock.verify()
        lock.release()

    @staticmethod
    def end(how: str) -> None:
        import gc

        try:
            if how == 'kill':
                os.kill(os.getpid(), signal.SIGKILL)
            if how == 'collect':
                gc.collect()
            if how == 'exit':
                import atexit

                atexit._run_exitfuncs()
        finally:
            os._exit(0)

    def test_child_that_exits_says_nothing(
        self, server: Any, admin: Any
    ) -> None:
        import subprocess

        program = f"""
import os, sys
from portalocker.postgres import PostgresLock
lock = PostgresLock('jobs', {server.url!r}).acquire()
if os.fork():
    assert os.wait()[1] == 0
    lock.verify()
    lock.release()
else:
    sys.exit()
"""
        done = subprocess.run(
            [
                *(sys.executable, '-W', 'default'),
                *('-W', 'ignore::DeprecationWarning', '-c', program),
            ],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b'')

    def test_death_of_the_parent_frees_the_lock_though_a_child_lives(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def parent(line: Line) -> None:
            with make():
                pid = os.fork()
                if pid == 0:
                    line.say(os.getpid())
                    line.hear()
                    os._exit(0)
                line.hear()

        actor = stage.process(parent)
        child = actor.listen()
        actor.kill()
        with make():
            os.kill(child, 0)  # it lives
        os.kill(child, signal.SIGKILL)

    def test_waiting_parent_is_not_disturbed(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def wait(line: Line) -> None:
            with make() as lock:
                lock.verify()
                line.say('held')

        lock = make().acquire()
        waiter = stage.thread(wait)
        before = wait_until_in_line(admin)
        child = stage.process(lambda line: None)
        child.finish()
        assert in_line(admin) == before
        lock.release()
        waiter.expect('held')

    def test_child_opens_its_own_connection(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        with make('idle'):
            pass
        assert connections(admin) == 1

        def child(line: Line) -> None:
            with make('idle'):
                line.say('held')
                line.hear()

        actor = stage.process(child)
        actor.expect('held')
        assert connections(admin) == 2
        with pytest.raises(exceptions.AlreadyLocked):
            make('idle', timeout=0).acquire()
        actor.tell()
        actor.finish()
