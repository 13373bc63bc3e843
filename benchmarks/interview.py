"""Ask the workers in turn, round after round, and gather the answers."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import question

if TYPE_CHECKING:
    from types import TracebackType

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE_SECONDS = 300  # far beyond every measurement that goes well
_numbers = itertools.count()


class Worker:
    """A process that has imported one rival."""

    def __init__(self, name: str, folder: str | None) -> None:
        self.name = name
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith('PYTHON')
        }
        if folder:
            environment['PYTHONPATH'] = folder
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, 'worker.py'), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> Worker:
        self.version = str(self._answer())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.communicate()

    def ask(self, **request: Any) -> question.Answer:
        """Return the answer; RuntimeError where the worker failed."""
        stream = self.process.stdin
        assert stream is not None
        stream.write(json.dumps(request) + '\n')
        stream.flush()
        answer: question.Answer = self._answer()
        return answer

    def _answer(self) -> Any:
        stream = self.process.stdout
        assert stream is not None
        if not select.select([stream], [], [], PATIENCE_SECONDS)[0]:
            os.killpg(self.process.pid, signal.SIGKILL)
        line = stream.readline()
        if not line:
            raise RuntimeError(f'{self.name}: the worker died or was late')
        reply = json.loads(line)
        if 'error' in reply:
            raise RuntimeError(f'{self.name}: {reply["error"]}')
        return reply['answer']


class Interview:
    """One question put to every worker."""

    def __init__(
        self, name: str, asked: question.Question, quick: bool
    ) -> None:
        self.name = name
        self.asked = asked
        self.quick = quick
        #: (case, rival) -> the numbers of all rounds
        self.answers: dict[tuple[str, str], question.Answer] = {}
        #: (case, rival) -> what went wrong
        self.failures: dict[tuple[str, str], str] = {}

    def run(self, workers: list[Worker], disk: str, memory: str) -> None:
        """Ask until every round is through."""
        if isinstance(self.asked, question.Survey):
            self._gather(self.asked, disk, memory)
            return
        for case in self.asked.cases(self.quick):
            print(f'  {case.name}', file=sys.stderr)
            directory = memory if case.in_memory else disk
            for _ in range(self.asked.rounds(self.quick)):
                for worker in workers:
                    if worker.name in self.asked.rivals:
                        self._ask(worker, case, directory)

    def _gather(self, asked: question.Survey, disk: str, memory: str) -> None:
        """Let a survey ask for itself."""
        found = asked.answers(self.quick, disk, memory)
        try:
            for case, rival, answer in found:
                print(f'  {case}, {rival}', file=sys.stderr)
                self.answers[case, rival] = answer
        except (ImportError, RuntimeError) as error:
            self.failures[self.name, ''] = f'{type(error).__name__}: {error}'

    def _ask(
        self, worker: Worker, case: question.Case, directory: str
    ) -> None:
        """Gather one answer, on a lock file nobody has used before."""
        key = case.name, worker.name
        if key in self.failures:
            return
        path = os.path.join(directory, f'{worker.name}-{next(_numbers)}.lock')
        try:
            answer = worker.ask(
                name=self.name, case=case, path=path, quick=self.quick
            )
        except RuntimeError as error:
            self.failures[key] = str(error)
            return
        gathered = self.answers.setdefault(key, {})
        for name, numbers in answer.items():
            gathered.setdefault(name, []).extend(numbers)

    def all_to(self, case: str) -> dict[str, question.Answer]:
        """Return every rival's answer to one case."""
        return {
            rival: answer
            for (answered, rival), answer in self.answers.items()
            if answered == case
        }

    def rows(self) -> list[tuple[str, str, question.Columns]]:
        """Return (case, rival, columns) of whatever was measured."""
        return [
            (case, rival, self.asked.compared(answer, self.all_to(case)))
            for (case, rival), answer in self.answers.items()
            if answer
        ]
