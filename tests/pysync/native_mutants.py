"""Wrong variants of the extension, and which test notices each.

As `mutants.py` for the pure implementation: each is the package with one
piece of one C file replaced. It is caught when the test that is named for it
fails, or does not end.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig
from typing import NamedTuple

import loading


class Mutant(NamedTuple):
    """One text in one file that is replaced, and who must notice."""

    name: str
    file: str
    right: str
    wrong: str
    caught_by: str  # of this folder, as pytest names it


MUTANTS = [
    Mutant(
        'mutex: nobody is handed it',
        '_native_mutex_word.c',
        'if (!mutex->is_unfair && ',
        'if (false && ',
        'test_laws.py::test_law[a_waiter_is_handed_the_mutex-native]',
    ),
    Mutant(
        'mutex: the others in line are forgotten',
        '_native_mutex_word.c',
        'bits |= PARKED;',
        ';',
        'test_laws.py::test_law[one_thread_is_inside-native]',
    ),
    Mutant(
        'mutex: what a release finds parked is not woken',
        '_native_mutex_word.c',
        'mutex_grant(bucket, mutex, &woken);\n    }\n'
        '    bucket_unlock(bucket);\n    wake(&woken);\n    if (!is_locked)',
        'mutex->bits = 0;\n    }\n    bucket_unlock(bucket);\n'
        '    wake(&woken);\n    if (!is_locked)',
        'test_laws.py::test_law[one_thread_is_inside-native]',
    ),
    Mutant(
        'mutex: who is handed it tries once more',
        '_native_mutex_word.c',
        'if (outcome != DONE || waiter->is_handed) {',
        'if (outcome != DONE) {',
        'test_laws.py::test_law[a_waiter_is_handed_the_mutex-native]',
    ),
    Mutant(
        'mutex: the timeout is forgotten',
        '_native_lot.c',
        'microseconds_until(deadline), heeds_signals',
        '-1, heeds_signals',
        'test_mutex.py::test_time_over_leaves_the_lock_to_its_holder',
    ),
    Mutant(
        'mutex: a release of what is free is silent',
        '_native_mutex_word.c',
        'if (!is_locked) {\n        PyErr_SetString',
        'if (false) {\n        PyErr_SetString',
        'test_mutex.py::test_release_of_what_is_free_changes_nothing',
    ),
    Mutant(
        'recursive: all are owners',
        '_native_recursive.c',
        'if (owner_of(self) == me) {',
        'if (owner_of(self) != 0) {',
        'test_laws.py::test_law[one_thread_is_inside-native]',
    ),
    Mutant(
        'lot: last in, first out',
        '_native_lot.c',
        """    waiter->next = NULL;
    waiter->previous = queue->last;
    if (queue->last == NULL) {
        queue->first = waiter;
    }
    else {
        queue->last->next = waiter;
    }
    queue->last = waiter;""",
        """    waiter->previous = NULL;
    waiter->next = queue->first;
    if (queue->first == NULL) {
        queue->last = waiter;
    }
    else {
        queue->first->previous = waiter;
    }
    queue->first = waiter;""",
        'test_lot.py::test_woken_in_the_order_of_arrival',
    ),
    Mutant(
        'lot: who gave up stays in line',
        '_native_lot.c',
        '            queue_remove(&bucket->queue, waiter);\n        }\n'
        '        if (waiter->gave_up',
        '        }\n        if (waiter->gave_up',
        'test_lot.py::test_check_decides',
    ),
    Mutant(
        'lot: a wake-up that meets a timeout is lost',
        '_native_lot.c',
        'return has_left ? TIMED_OUT : DONE;',
        'return has_left ? TIMED_OUT : TIMED_OUT;',
        'test_lot.py::test_claimed_in_time_and_woken_too_late',
    ),
    Mutant(
        'lot: who is interrupted keeps its waker out',
        '_native_lot.c',
        """            Py_BEGIN_ALLOW_THREADS
            bucket_leave(waiter);
            Py_END_ALLOW_THREADS""",
        '            bucket_leave(waiter);',
        'test_interruption.py'
        '::test_interrupted_while_its_waker_is_in_a_callback',
    ),
    Mutant(
        'lot: the wake-up of who is interrupted is lost',
        '_native_park.c',
        'if (outcome == INTERRUPTED && is_claimed) {',
        'if (false) {',
        'test_interruption.py'
        '::test_interrupted_while_its_waker_is_in_a_callback',
    ),
    Mutant(
        'lot: the child keeps the waiters',
        '_native_lot.c',
        'bucket->queue = (struct queue){NULL, NULL};',
        ';',
        'test_forked_child.py::test_waiters_of_the_parent_are_forgotten',
    ),
    Mutant(
        'lot: a daemon thread is handed the lock at the end',
        '_native_lot.c',
        'atomic_store_explicit(&is_ending, true',
        'atomic_store_explicit(&is_ending, false',
        'test_last_steps.py',
    ),
    Mutant(
        'park: others come in between fn and the waking',
        '_native_park.c',
        'held = mutex;\n        PyObject *result',
        'wake(&woken);\n        usleep(100000);\n        held = mutex;\n'
        '        PyObject *result',
        'test_lot.py::test_fn_runs_before_its_waiter_goes_on',
    ),
    Mutant(
        'park: the check comes before the line is closed',
        '_native_park.c',
        'return mutex_lock(mutex, NULL, NEVER) == DONE ? mutex : NULL;',
        'return mutex;',
        'test_lot.py::test_nobody_parks_while_fn_runs',
    ),
    Mutant(
        'park: callbacks may use the lot',
        '_native_park.c',
        'return held != NULL;',
        'PyErr_Clear();\n    return false;',
        'test_lot.py::test_callbacks_cannot_use_the_lot',
    ),
    Mutant(
        'event: it is not told',
        '_native_event.c',
        '== WAITED) {\n        bucket_wake_all(&self->bits);',
        '== WAITED) {',
        'test_event.py::test_all_waiters_go_on',
    ),
    Mutant(
        'event: woken is happened',
        '_native_event.c',
        'while (outcome == DONE && !is_set(self)) {',
        'for (int n = 0; n < 1 && !is_set(self); n++) {',
        'test_event.py::test_a_wake_up_by_key_is_no_event',
    ),
    Mutant(
        'once: a run that goes on counts as done',
        '_native_once.c',
        'if (once_state(self) == HAS_RUN) {\n        Py_RETURN_FALSE',
        'if (once_state(self) != 0) {\n        Py_RETURN_FALSE',
        'test_once.py::test_who_comes_meanwhile_waits',
    ),
    Mutant(
        'once: a failure counts as done',
        '_native_once.c',
        'conclude(self, result != NULL ? HAS_RUN : 0);',
        'conclude(self, HAS_RUN);',
        'test_once.py::test_after_a_failure_one_who_waits_runs_its_own',
    ),
    Mutant(
        'once: the runner of the parent is awaited in the child',
        '_native_once.c',
        'return (unsigned)(word >> GENERATION_SHIFT) != fork_generation()',
        'return false && word',
        'test_forked_child.py::test_a_run_that_the_child_will_never_see_end',
    ),
    Mutant(
        'rw: readers overtake a writer that waits',
        '_native_rw_word.h',
        'while (!(bits & (WRITTEN | WAITED))) {',
        'while (!(bits & WRITTEN)) {',
        'test_rw_mutex.py'
        '::test_a_newcomer_reader_stands_behind_a_waiting_writer',
    ),
    Mutant(
        'rw: writers do not count the readers',
        '_native_rw_word.c',
        '!(bits & WRITTEN) && !(as_writer && rw_is_read(bits))',
        '!(bits & WRITTEN)',
        'test_rw_mutex.py::test_readers_share',
    ),
    Mutant(
        'rw: who gives up lets nobody in',
        '_native_rw_word.c',
        'waiter->gave_up = gave_up;',
        '',
        'test_rw_mutex.py::test_a_writer_that_gives_up_lets_the_readers_in',
    ),
    Mutant(
        'rw: newcomers always overtake',
        '_native_rw_word.c',
        '(MILLISECOND / 10)',
        '(1000000 * MILLISECOND)',
        'test_rw_mutex.py::test_the_lock_is_handed_over_past_newcomers',
    ),
    Mutant(
        'rw: writers follow writers',
        '_native_rw_word.c',
        '(after_writer && a_reader_waits(bucket, rw))',
        'false',
        'test_rw_mutex.py::test_phases_alternate_for_those_who_lost_patience',
    ),
    Mutant(
        'rw: misuse destroys the state',
        '_native_rw_word.c',
        'if (!rw_is_read(bits)) {\n            return refuse_unlock();',
        'if (!rw_is_read(bits)) {\n            rw->bits -= READER;\n'
        '            return refuse_unlock();',
        'test_rw_mutex.py::test_misuse_changes_nothing',
    ),
    Mutant(
        'seq: a token is always good',
        '_native_seqlock.c',
        '        == before);',
        '        + 1 != 0 || before);',
        'test_seq_lock.py::test_a_token_is_good_until_the_next_write',
    ),
    Mutant(
        'seq: readers do not wait for a writer',
        '_native_seqlock.c',
        '    if (is_odd(sequence)) {\n        if (atomic_load',
        '    if (false) {\n        if (atomic_load',
        'test_seq_lock.py::test_a_reader_waits_for_the_end_of_a_write',
    ),
    Mutant(
        'sections: bookkeeping only',
        '_native_section.c',
        'static bool\ntry_all(struct mutex_set *set)\n{',
        'static bool\ntry_all(struct mutex_set *set)\n{\n    return true;',
        'test_critical_section.py::test_it_holds_its_mutexes',
    ),
    Mutant(
        'sections: the order of the arguments',
        '_native_section_types.c',
        'while (n > 0 && (uintptr_t)set->mutexes[n - 1]'
        ' >= (uintptr_t)wanted) {',
        'while (n > 0 && set->mutexes[n - 1] == wanted) {',
        'test_critical_section.py::test_mutexes_are_locked_in_one_order',
    ),
    Mutant(
        'sections: no suspension',
        '_native_section.c',
        '    struct section *section = thread->top;\n    for (;',
        '    struct section *section = NULL;\n    for (;',
        'test_critical_section.py'
        '::test_the_body_goes_on_when_its_mutex_is_back',
    ),
    Mutant(
        'sections: no resumption',
        '_native_section.c',
        'if (section == NULL || state_of(section) != SUSPENDED) {',
        'if (true) {',
        'test_critical_section.py::test_waits_that_the_package_does_not_know',
    ),
    Mutant(
        'sections: with takes what begin() took',
        '_native_section_types.c',
        'section_enter(self, thread, &self->own)',
        'section_enter(self, thread, self->wanted)',
        'test_critical_section.py::test_with_takes_what_it_was_made_with',
    ),
    Mutant(
        'sections: they outlive their thread',
        '_native_section.c',
        '        found.thread = NULL;\n    }\n    Py_XDECREF(thread);',
        '    }\n    memset(thread, 255, sizeof(struct cs_thread));',
        'test_last_steps.py::test_the_destructors_of_a_thread_begin_sections',
    ),
    Mutant(
        'sections: those of another interpreter',
        '_native_section.c',
        'return found.thread != NULL && found.state',
        'if (found.thread != NULL) return true;\n'
        '    return found.thread != NULL && found.state',
        'test_subinterpreters.py::test_sections_are_of_one_interpreter',
    ),
]


def build(
    mutant: Mutant | None, folder: pathlib.Path, objects: pathlib.Path
) -> None:
    """Write the package of `mutant` into `folder`, and compile it.

    What it has not changed is taken from `objects`, once that is filled.
    """
    package = folder / 'portalocker'
    shutil.copytree(
        loading.FOLDER.parent,
        package,
        ignore=shutil.ignore_patterns('*.so', '__pycache__'),
    )
    sources = package / 'pysync'
    stale = sorted(sources.glob('_native*.c'))
    built = {}
    if mutant is not None:
        file = sources / mutant.file
        text = file.read_text(encoding='utf-8')
        assert mutant.right in text, f'{mutant.name}: the text has changed'
        file.write_text(text.replace(mutant.right, mutant.wrong))
        if file in stale:
            stale = [file]
            built = {built.name: built for built in objects.glob('*.o')}
        objects = folder
    compile_into(objects, [str(file) for file in stale])
    built |= {built.name: built for built in objects.glob('*.o')}
    suffix = sysconfig.get_config_var('EXT_SUFFIX')
    command = [*compiler(), '-shared', '-pthread', *map(str, built.values())]
    target = str(sources / f'_native{suffix}')
    subprocess.run([*command, '-o', target], check=True)


def compile_into(folder: pathlib.Path, files: list[str]) -> None:
    """Compile C files, with what the texts of mutants need."""
    command = [
        *compiler(),
        *('-std=gnu11', '-O1', '-w', '-fPIC', '-pthread'),
        *('-include', 'unistd.h', '-include', 'string.h'),
        f'-I{sysconfig.get_path("include")}',
    ]
    subprocess.run([*command, '-c', *files], cwd=folder, check=True)


def compiler() -> list[str]:
    """Return the command of the compiler."""
    command = os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc'
    return shlex.split(command)


def notices(tests: list[str], folder: pathlib.Path) -> str:
    """Run tests on the package in `folder`: what they said if one failed."""
    program = [sys.executable, '-m', 'pytest', '-q', '-x', '-n', '0']
    program += ['-p', 'no:cacheprovider', '--timeout', '20', '-k', 'native']
    try:
        result = subprocess.run(
            [*program, *(str(loading.HERE / test) for test in tests)],
            cwd=folder,
            env={**os.environ, 'PYTHONPATH': str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30 if len(tests) == 1 else 120,
        )
    except subprocess.TimeoutExpired:
        return 'it does not end'
    # anything but this: nothing was run
    assert result.returncode <= 1, result.stdout + result.stderr
    return result.stdout if result.returncode else ''
