"""Wrong variants of the pure implementation, and which test notices each.

A mutant is the package with one piece of text replaced. It is caught when the
test that is named for it fails, or does not end.
"""

from __future__ import annotations

import inspect
import itertools
import pathlib
import shutil
import sys
import tempfile
from typing import Any, NamedTuple

import crew
import loading


class Mutant(NamedTuple):
    """One text in one file that is replaced, and who must notice."""

    name: str
    file: str
    right: str
    wrong: str
    caught_by: str  # a test of this folder, or a law


MUTANTS = [
    Mutant(
        'once: a run that goes on counts as done',
        '_once_flag.py',
        '        if self._is_done:\n            return False\n        if not',
        '        if self._is_done or self._runner:\n            return False\n'
        '        if not',
        'test_once.test_who_comes_meanwhile_waits',
    ),
    Mutant(
        'once: a failure counts as done',
        '_once_flag.py',
        'self._is_done = succeeded',
        'self._is_done = True',
        'test_once.test_after_a_failure_one_who_waits_runs_its_own',
    ),
    Mutant(
        'once: who waits is not woken',
        '_once_flag.py',
        'self._runner = 0\n            _lot.wake_all(self)',
        'self._runner = 0',
        'test_once.test_who_comes_meanwhile_waits',
    ),
    Mutant(
        'once: the runner of the parent is awaited in the child',
        '_once_flag.py',
        'self._generation == _lot.generation',
        'True',
        'test_forked_child.test_a_run_that_the_child_will_never_see_end',
    ),
    Mutant(
        'sections: bookkeeping only',
        '_critical_section.py',
        'if not (mutexes and _try_all(mutexes)):',
        'mutexes = []\n        if False:',
        'test_critical_section.test_it_holds_its_mutexes',
    ),
    Mutant(
        'sections: the order of the arguments',
        '_critical_section.py',
        'sorted(set(wanted), key=id)',
        'list(dict.fromkeys(wanted))',
        'test_critical_section.test_mutexes_are_locked_in_one_order',
    ),
    Mutant(
        'sections: equal mutexes count twice',
        '_critical_section.py',
        'sorted(set(wanted), key=id)',
        'sorted(wanted, key=id)',
        'test_critical_section.test_equal_mutexes_count_once',
    ),
    Mutant(
        'sections: no suspension',
        '_suspension.py',
        'if not section._suspend():',
        'if True:',
        'test_critical_section.test_the_body_goes_on_when_its_mutex_is_back',
    ),
    Mutant(
        'sections: no resumption',
        '_suspension.py',
        'own.sections[-1]._resume()',
        'pass',
        'test_critical_section.test_waits_that_the_package_does_not_know',
    ),
    Mutant(
        'sections: a nested one is pushed',
        '_critical_section.py',
        "            self._state = 'nested'\n            return",
        "            self._state = 'held'\n            sections.append(self)\n"
        '            return',
        'test_critical_section.test_nested_in_one_that_holds_all_it_wants',
    ),
    Mutant(
        'sections: resumption ends when a handler raises',
        '_critical_section.py',
        'error = raised',
        'raise',
        'test_interruption.test_resumption_is_not_interrupted',
    ),
    Mutant(
        'sections: other threads may look',
        '_critical_section.py',
        'if _own.thread is not self:',
        'if False:',
        'test_critical_section.test_other_threads_cannot_look',
    ),
    Mutant(
        'lot: last in, first out',
        '_lot.py',
        'waiter = queue[0]',
        'waiter = queue[-1]',
        'test_lot.test_woken_in_the_order_of_arrival',
    ),
    Mutant(
        'lot: who gave up stays in line',
        '_lot.py',
        'ParkStatus.TIMEOUT if withdraw(waiter) else ParkStatus.OK',
        'ParkStatus.TIMEOUT if waiter.is_queued else ParkStatus.OK',
        'test_lot.test_check_decides',
    ),
    Mutant(
        'lot: the timeout is forgotten',
        '_lot.py',
        '_suspension.sleep(waiter.sleep, seconds)',
        '_suspension.sleep(waiter.sleep, -1)',
        'test_lot.test_check_decides',
    ),
    Mutant(
        'lot: the check comes before the line',
        '_lot.py',
        """        with guard:
            refuse_callbacks()
            enqueue(waiter)
            if not check() and withdraw(waiter):
                return ParkStatus.AGAIN
""",
        """        if not check():
            return ParkStatus.AGAIN
        with guard:
            refuse_callbacks()
            enqueue(waiter)
""",
        'test_lot.test_nobody_parks_while_fn_runs',
    ),
    Mutant(
        'lot: a wake-up that meets a timeout is lost',
        '_lot.py',
        'ParkStatus.TIMEOUT if withdraw(waiter) else ParkStatus.OK',
        '(withdraw(waiter), ParkStatus.TIMEOUT)[1]',
        'test_lot.test_claimed_in_time_and_woken_too_late',
    ),
    Mutant(
        'lot: keys are equal, not the same',
        '_lot.py',
        'id(waiter.key)',
        'hash(waiter.key)',
        'test_lot.test_keys_are_themselves',
    ),
    Mutant(
        'lot: an exception of fn leaves its waiter asleep',
        '_lot.py',
        """    finally:
        if waiter is not None:
            waiter.wake()
    return waiter is not None""",
        """    finally:
        pass
    if waiter is not None:
        waiter.wake()
    return waiter is not None""",
        'test_lot.test_an_exception_of_fn_wakes_its_waiter_and_rises',
    ),
    Mutant(
        'lot: an exception of check leaves the waiter in line',
        '_lot.py',
        '        with guard:\n            withdraw(waiter)\n        raise',
        '        raise',
        'test_lot.test_an_exception_of_check_rises_and_parks_nobody',
    ),
    Mutant(
        'lot: callbacks may use it',
        '_lot.py',
        '    if _runs_callback:',
        '    if False:',
        'test_lot.test_callbacks_cannot_use_the_lot',
    ),
    Mutant(
        'lot: has_more is always true',
        '_lot.py',
        'bool(queue_of(key))',
        'True',
        'test_lot.test_fn_gets_the_argument_and_whether_more_wait',
    ),
    Mutant(
        'lot: fn runs after the waking',
        '_lot.py',
        '            waiter = claim_first(key)\n',
        '            waiter = claim_first(key)\n'
        '            waiter and waiter.wake()\n'
        '            __import__("time").sleep(0.1)\n',
        'test_lot.test_fn_runs_before_its_waiter_goes_on',
    ),
    Mutant(
        'lot: the child keeps the waiters',
        '_lot.py',
        'if waiter.thread == survivor]',
        ']',
        'test_forked_child.test_waiters_of_the_parent_are_forgotten',
    ),
    Mutant(
        'lot: a withdrawal that is interrupted counts as done',
        '_lot.py',
        '    if waiter in queue:\n',
        '    waiter.is_queued = False\n    if waiter in queue:\n',
        'test_steps_of_the_lot.test_an_exception_leaves_nobody_in_line',
    ),
    Mutant(
        'lot: the sides of a lock have no line',
        '_rw_mutex.py',
        '    def _lot_key(self) -> object:\n        return self._state\n\n'
        '    def _at_fork_reinit(self) -> None:\n'
        '        self._state.reset()\n\n'
        '    def __repr__(self) -> str:\n'
        "        claim = 'locked'",
        "    def __repr__(self) -> str:\n        claim = 'locked'",
        'test_rw_mutex.test_its_sides_have_the_same_line',
    ),
    Mutant(
        'lot: the child keeps the guard as it was',
        '_lot.py',
        '    guard._at_fork_reinit()  # type: ignore[attr-defined]\n',
        '',
        'test_forked_child.test_fork_while_another_thread_is_inside',
    ),
    Mutant(
        'event: it is not told',
        '_event.py',
        '            _lot.wake_all(self)\n',
        '',
        'test_event.test_all_waiters_go_on',
    ),
    Mutant(
        'event: one waiter is told',
        '_event.py',
        '_lot.wake_all(self)',
        '(w := _lot.claim_first(self)) and w.wake()',
        'test_event.test_all_waiters_go_on',
    ),
    Mutant(
        'event: woken is happened',
        '_event.py',
        'while not self._happened:',
        'for _ in range(1):',
        'test_event.test_a_wake_up_by_key_is_no_event',
    ),
    Mutant(
        'rw: readers do not look at the gate',
        '_rw_mutex.py',
        '            gate.append(None)\n            if gate[0]:',
        '            gate.append(None)\n            if False:',
        'laws.writers_are_alone_and_readers_are_not_written_over',
    ),
    Mutant(
        'rw: writers do not count the readers',
        '_rw_mutex.py',
        '        if len(gate) > 1:\n            gate[0] = False',
        '        if False:\n            gate[0] = False',
        'test_rw_mutex.test_readers_share',
    ),
    Mutant(
        'rw: a writer that gives up keeps the gate shut',
        '_rw_mutex.py',
        """                self._settle()
                return False
            return contender""",
        """                return False
            return contender""",
        'test_rw_mutex.test_a_writer_that_gives_up_lets_the_readers_in',
    ),
    Mutant(
        'rw: an interrupted writer keeps the gate shut',
        '_rw_mutex.py',
        """                self._settle()
            elif not""",
        """                pass
            elif not""",
        'test_interruption.test_a_writer_that_is_interrupted_lets_the_readers_in',
    ),
    Mutant(
        'rw: only all writers that give up let readers in',
        '_rw_mutex.py',
        'for waiter in line[: line.index(writers[0])]:',
        'for waiter in line[:0]:',
        'laws.a_writer_that_gives_up_leaves_nobody_stuck',
    ),
    Mutant(
        'rw: newcomers always overtake',
        '_rw_mutex.py',
        'PATIENCE_SECONDS = 0.0001',
        'PATIENCE_SECONDS = 1e9',
        'test_rw_mutex.test_the_lock_is_handed_over_past_newcomers',
    ),
    Mutant(
        'rw: writers follow writers',
        '_rw_mutex.py',
        'elif after_writer and len(writers) < len(line):',
        'elif False:',
        'test_rw_mutex.test_phases_alternate_for_those_who_lost_patience',
    ),
    Mutant(
        'rw: misuse destroys the state',
        '_rw_mutex.py',
        'if self.holder or len(self.gate) == 1:',
        'if False:',
        'test_rw_mutex.test_misuse_is_seen_before_anything_changes',
    ),
    Mutant(
        'rw: a downgrade lets a writer in between',
        '_rw_mutex.py',
        """            self.gate.append(None)
            self.holder = 0
            self._hand_to_readers()""",
        """            self.release_write()
            self.gate.append(None)""",
        'test_rw_mutex.test_downgrade_where_only_a_writer_is_in_line',
    ),
    Mutant(
        'seq: writes are not counted',
        '_seq_lock.py',
        'self._sequence += step',
        'self._sequence -= 1',
        'test_seq_lock.test_a_token_is_good_until_the_next_write',
    ),
    Mutant(
        'seq: readers do not wait for a writer',
        '_seq_lock.py',
        'while sequence & 1:',
        'while False:',
        'test_seq_lock.test_a_reader_waits_for_the_end_of_a_write',
    ),
    Mutant(
        'seq: writers do not exclude each other',
        '_seq_lock.py',
        """        self._mutex.acquire()
        self._writer = get_ident()""",
        """        self._mutex.acquire(False)
        self._writer = get_ident()""",
        'test_seq_lock.test_a_writer_waits_for_the_writer',
    ),
    Mutant(
        'seq: readers never look a last time',
        '_seq_reads.py',
        '        self._lock_read()\n        try:\n            return fn()',
        '        try:\n            return self.read(fn)',
        'test_seq_lock.test_a_reader_that_looked_in_vain_makes_writers_wait',
    ),
    Mutant(
        'seq: the child is told nothing',
        '_seq_lock.py',
        'self._sequence += was_writing',
        'self._sequence -= was_writing',
        'test_seq_lock.test_after_fork_ends_a_write',
    ),
    Mutant(
        'seq: an exception abandons the write',
        '_seq_lock.py',
        'self._seq_lock.unlock_write()',
        '(self._seq_lock.abandon_write if error[0] else'
        ' self._seq_lock.unlock_write)()',
        'test_seq_lock.test_a_block_publishes',
    ),
    Mutant(
        'atomic: not atomic',
        '_atomic_int.py',
        'with self._guard:\n            before = self._value\n            if',
        'if True:\n            before = self._value\n'
        '            __import__("time").sleep(0)\n            if',
        'test_atomic_int.test_no_change_is_lost',
    ),
    Mutant(
        'recursive: all are owners',
        '_recursive_mutex.py',
        'return ident != 0 and self._holder() == ident',
        'return self._holder() != 0',
        'test_recursive_mutex.test_owner_is_told',
    ),
    Mutant(
        'timed: the time is over, and nobody says so',
        '_timed.py',
        'raise TimeoutError(',
        'return False and (',
        'test_mutex.test_timed_block_raises_when_the_time_is_over',
    ),
    Mutant(
        'copies: they share the lock',
        '_shapes.py',
        '    def __copy__(self) -> NoReturn:\n        raise TypeError(',
        '    def __copy__(self) -> NoReturn:\n        return str(',
        'test_no_copies.test_it_cannot_be_duplicated',
    ),
    Mutant(
        'deadlocks: a chain is a circle',
        '_deadlocks.py',
        'if thread in on_path:',
        'if path:',
        'test_deadlocks.test_a_chain_is_no_circle',
    ),
]


def build(mutant: Mutant, folder: pathlib.Path) -> None:
    """Write the package of `mutant` into `folder`."""
    shutil.copytree(
        loading.FOLDER, folder, ignore=shutil.ignore_patterns('*.so', '*.c')
    )
    file = folder / mutant.file
    text = file.read_text(encoding='utf-8')
    assert mutant.right in text, f'{mutant.name}: the text has changed'
    file.write_text(text.replace(mutant.right, mutant.wrong))


def run(test: str, sync: Any) -> None:
    """Run a test with all its parameters, or a law, as pytest would."""
    if test.startswith('laws.'):
        laws = __import__('laws')
        laws.LIMIT = 5
        laws.LAWS[test.removeprefix('laws.')](sync, 1)
        return
    module = __import__(test.split('.', maxsplit=1)[0])
    function = getattr(module, test.split('.')[1])
    for values in _parameters(function):
        with contexts(module, sync, values, function) as arguments:
            function(**arguments)


def _parameters(function: Any) -> Any:
    """Every combination of what the parametrize marks give."""
    columns = []
    for mark in getattr(function, 'pytestmark', []):
        if mark.name != 'parametrize':
            continue
        names, rows = mark.args[:2]
        many = not isinstance(names, str)
        columns.append(
            [
                dict(zip(names, row, strict=True)) if many else {names: row}
                for row in rows
            ]
        )
    for rows in itertools.product(*columns):
        yield {name: value for row in rows for name, value in row.items()}


class contexts:  # noqa: N801 - it reads as a function
    """What fixtures give: made for each run."""

    def __init__(
        self, module: Any, sync: Any, values: Any, function: Any
    ) -> None:
        self.arguments = {}
        self._ends: list[Any] = []
        for name in inspect.signature(function).parameters:
            if name == 'sync':
                value = sync
            elif name == 'lock' and isinstance(values.get(name), str):
                value = module.make(sync, values[name])
            elif name in values:
                value = values[name]
            else:
                value = self._fixture(module, name, sync)
            self.arguments[name] = value

    def _fixture(self, module: Any, name: str, sync: Any) -> Any:
        if name == 'make':
            return sync.Mutex
        fixture = getattr(module, name)
        function = getattr(fixture, '__wrapped__', None)
        function = function or fixture.__pytest_wrapped__.obj
        wants = inspect.signature(function).parameters
        value = function(**({'sync': sync} if 'sync' in wants else {}))
        if inspect.isgenerator(value):
            self._ends.append(value)
            return next(value)
        return value

    def __enter__(self) -> Any:
        return self.arguments

    def __exit__(self, *error: object) -> None:
        for generator in self._ends:
            next(generator, None)


def main(name: str) -> None:
    """Run the test that must notice; status 0 if it does not."""
    import faulthandler

    sys.path.insert(0, str(loading.HERE))
    faulthandler.dump_traceback_later(8, exit=True)
    crew.LONG = 3
    sys.setswitchinterval(0.0002)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / 'pysync'
        if name == 'none':
            shutil.copytree(loading.FOLDER, folder)
            tests = sorted({mutant.caught_by for mutant in MUTANTS})
        else:
            (mutant,) = (m for m in MUTANTS if m.name == name)
            build(mutant, folder)
            tests = [mutant.caught_by]
        sync = loading.load_pure(folder)
        for test in tests:
            faulthandler.dump_traceback_later(8, exit=True)
            run(test, sync)


if __name__ == '__main__':
    main(*sys.argv[1:])
