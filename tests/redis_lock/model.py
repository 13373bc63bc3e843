"""An explicit-state model checker: every order of every message and fault.

Clients are `portalocker._redis_core.Hold`, the very class that the lock uses;
the server is `model_server.Server`; the network keeps the order of each
connection and nothing else. Breadth first, so a counterexample is shortest.
"""

from __future__ import annotations

import collections
import typing
from collections.abc import Callable, Iterator
from typing import Any

import model_server

from portalocker import _redis_core as core


class Bounds(typing.NamedTuple):
    """How much may happen."""

    clients: int = 2
    #: what each wants: x (exclusive), s (shared), or p (a permit of `limit`)
    modes: str = 'xxxx'
    limit: int = 1
    rounds: int = 1
    lease: int = 0
    believed_for: float = float('inf')
    takeover: str = 'i'
    is_fair: bool = True
    polls: bool = False
    moments: int = 0
    cancels: int = 0
    lost_replies: int = 0
    crashes: int = 0
    kills: int = 0
    restarts: int = 0
    flushes: int = 0
    partitions: int = 0
    hold: type[core.Hold] = core.Hold
    server: type[model_server.Server] = model_server.Server
    #: whether two may believe until the bad news arrives: it is on its way
    #: after a kill; after a flush it is the answer to the next beat
    is_strict: bool = True


class Violation(AssertionError):
    """A rule is broken; the trace says how."""


_HOLD_FIELDS = core.Hold.__slots__
#: attempts of one client that come to nothing, at most
_FAILED_ATTEMPTS = 2


def _without_moment(
    fact: tuple[Any, ...], moments: list[Any], token: Any
) -> Any:
    """A push, its moment as one of these, its token as ours or not."""
    if fact[0] == 'grant':
        return (*fact[:2], fact[2] == token, moments.index(fact[3]))
    return fact


class Client:
    """One process: a hold, a session, and what is on its way."""

    __slots__ = (
        *(
            'alive',
            'attempts',
            'beats',
            'command',
            'cut',
            'hid',
            'hold',
            'ids',
            'inbox',
        ),
        *('must_ask', 'reply', 'retry', 'rounds', 'sid', 'was_doubted'),
    )

    def __init__(self, rounds: int) -> None:
        self.alive = True
        self.cut = False
        self.rounds = rounds
        self.ids = 0
        self.attempts = _FAILED_ATTEMPTS
        self.sid: Any = None
        self.hid: Any = None
        self.hold: core.Hold | None = None
        self.must_ask = False
        # Believed once, and not any more: must stay so
        self.was_doubted = False
        self.command: Any = None
        self.reply: Any = None
        self.retry: Any = None
        self.inbox: tuple[Any, ...] = ()
        self.beats: tuple[Any, ...] = ()

    def copy(self) -> Client:
        new = Client.__new__(Client)
        for name in Client.__slots__:
            setattr(new, name, getattr(self, name))
        if self.hold is not None:
            new.hold = type(self.hold).__new__(type(self.hold))
            for name in _HOLD_FIELDS:
                setattr(new.hold, name, getattr(self.hold, name))
        return new

    def state(self, now: float, token: Any) -> Any:
        """What may still make a difference; the server has this token."""
        hold, reply = self.hold, self.reply
        known: Any = None
        # only their order counts
        moments = sorted(
            {push[3] for push in self.inbox if push[0] == 'grant'}
            | ({hold.queued_at} if hold else set())
            | ({reply[3]} if reply and reply[2] == core.QUEUED else set())
        )
        is_ours = bool(reply) and reply[3] == token
        if reply and reply[2] != core.QUEUED:
            reply = (*reply[:3], moments[-1] if moments else None, reply[4])
            moments = moments or [None]
        if hold is not None:
            known = hold.phase, hold.token == token
            if hold.is_wanted:
                # what is older than belief is equally old
                contact = max(hold.contact, now - hold.believed_for)
                asked = max(hold.asked_beat, contact, now - hold.beat_every)
                at = moments.index(hold.queued_at)
                known = (*known, contact, asked, at)
        return (
            known,
            *(self.alive, self.beats, self.command, self.cut, self.hid),
            *(_without_moment(push, moments, token) for push in self.inbox),
            *(self.must_ask, self.retry, self.rounds, self.sid),
            *(self.was_doubted, self.attempts, is_ours),
            reply and (*reply[:3], reply[4], moments.index(reply[3])),
        )

    @property
    def is_busy(self) -> bool:
        return bool(self.command or self.reply or self.retry)


class World:
    """Everything at one moment."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.server = bounds.server()
        self.clients = [Client(bounds.rounds) for _ in range(bounds.clients)]
        # Sessions whose end the server has not noticed
        self.closing: frozenset[Any] = frozenset()
        self.left = {
            name: getattr(bounds, name)
            for name in (
                *('cancels', 'lost_replies', 'crashes', 'kills'),
                *('restarts', 'flushes', 'partitions', 'moments'),
            )
        }

    def copy(self) -> World:
        new = World.__new__(World)
        new.bounds, new.closing = self.bounds, self.closing
        new.server = self.server.copy()
        new.clients = [client.copy() for client in self.clients]
        new.left = dict(self.left)
        return new

    def state(self) -> Any:
        return (
            self.server.state([client.hid for client in self.clients]),
            tuple(
                client.state(self.now, self.server.token_of(client.hid))
                for client in self.clients
            ),
            self.closing,
            tuple(self.left.values()),
        )

    @property
    def now(self) -> float:
        return self.server.now

    # What happens

    def steps(self) -> Iterator[tuple[str, Callable[[World], None]]]:
        """Everything that may happen next; faults last."""
        for i, client in enumerate(self.clients):
            yield from self._steps_of(i, client)
        for sid in self.closing:
            if not self.clients[sid[0]].cut:
                yield f'server notices the end of {sid}', _on_end(sid)
        yield from self._faults()

    def _steps_of(
        self, i: int, client: Client
    ) -> Iterator[tuple[str, Callable[[World], None]]]:
        if not client.cut:
            if client.command:
                yield f'server does {client.command} of {i}', _serve(i)
            if client.beats:
                yield f'server takes a beat of {i}', _take_beat(i)
        if not client.alive:
            return
        if not client.cut:
            if client.reply:
                yield f'{i} reads {client.reply}', _read_reply(i)
            if client.inbox:
                yield f'{i} hears {client.inbox[0]}', _read_push(i)
        yield from self._choices_of(i, client)

    def _choices_of(
        self, i: int, client: Client
    ) -> Iterator[tuple[str, Callable[[World], None]]]:
        hold = client.hold
        if client.retry:
            yield f'{i} repeats {client.retry}', _repeat(i)
        if client.is_busy:
            return
        if hold is None:
            if client.rounds and client.attempts >= 0:
                yield f'{i} asks', _start(i)
            return
        if not hold.is_wanted:
            yield f'{i} gives back', _release(i)
        elif hold.phase == core.HELD:
            yield f'{i} releases', _release(i)
            # asking whether it is due notes it
            twin = client.copy().hold
            assert twin is not None
            if twin.is_beat_due(self.now):
                yield f'{i} beats', _beat(i)
        elif client.must_ask or self._may_poll(hold):
            yield f'{i} asks again', _ask(i)
        if hold.is_undecided and self.left['cancels']:
            yield f'{i} gives up', _cancel(i)

    def _may_poll(self, hold: core.Hold) -> bool:
        # once in a moment, where time passes
        return self.bounds.polls and (
            not self.bounds.moments or hold.contact < self.now
        )

    def _faults(self) -> Iterator[tuple[str, Callable[[World], None]]]:
        left = self.left
        for i, client in enumerate(self.clients):
            if left['lost_replies'] and client.reply:
                yield f'the reply to {i} is lost', _lose_reply(i)
            if left['crashes'] and client.alive:
                yield f'{i} crashes', _crash(i)
            if left['kills'] and client.sid in self.server.sessions:
                yield f'the connection of {i} is killed', _kill(i)
            if client.cut:
                yield f'{i} is reachable again', _heal(i)
            elif left['partitions'] and client.alive:
                yield f'{i} is cut off', _cut(i)
        if left['restarts']:
            yield 'the server restarts, empty', _restart
        if left['flushes']:
            yield 'all data is flushed', _flush
        if left['moments']:
            yield 'time passes', _tick

    # What must be true

    def check(self) -> None:
        believers = []
        for i, client in enumerate(self.clients):
            hold = client.hold
            if hold is None or not client.alive:
                continue
            if hold.believes(self.now):
                believers.append(i)
                token = self.server.token_of(client.hid)
                if token not in {None, hold.token}:
                    raise Violation(f'{i} has the token of another grant')
                if client.was_doubted:
                    raise Violation(f'{i} believes in a hold it had lost')
            elif hold.phase == core.HELD:
                client.was_doubted = True
            gone = self.server.gone.get(client.hid, self.now)
            if hold.phase == core.HELD and hold.contact > gone:
                raise Violation(f'{i} is proven after its place was gone')
        if not self.bounds.is_strict:
            believers = [i for i in believers if not self._was_told(i)]
        modes = [self.bounds.modes[i] for i in believers]
        if not _is_compatible(modes, self.bounds.limit):
            raise Violation(f'{believers} all believe that they hold')

    def _was_told(self, i: int) -> bool:
        """Whether the end of its connection, or a loss, is on its way."""
        client = self.clients[i]
        return client.hid in self.server.gone or any(
            push[0] in {'eof', 'lost'} for push in client.inbox
        )

    def check_end(self) -> None:
        """Nothing can happen any more: nobody may be waiting."""
        for i, client in enumerate(self.clients):
            is_done = not client.rounds or client.attempts < 0
            if client.alive and (client.hold or not is_done):
                raise Violation(f'{i} is stuck')


def _is_compatible(modes: list[str], limit: int) -> bool:
    """Whether so many may hold at once."""
    if 'x' in modes:
        return len(modes) == 1
    return modes.count('p') <= limit


def check(bounds: Bounds, most: int = 10_000_000) -> int:
    """Visit every state; how many there are. Raises `Violation`."""
    start = World(bounds)
    seen = {start.state()}
    # (how it came about, world); a trace is a linked list
    waiting: collections.deque[tuple[Any, World]] = collections.deque(
        [(None, start)]
    )
    while waiting:
        trace, world = waiting.popleft()
        is_end = True
        for label, step in world.steps():
            is_end = is_end and _is_fault(label)
            new = world.copy()
            new_trace = (label, trace)
            try:
                step(new)
                new.check()
            except AssertionError as error:
                raise Violation(f'{error}{_told(new_trace)}') from error
            state = new.state()
            if state not in seen:
                seen.add(state)
                assert len(seen) < most, 'too many states'
                waiting.append((new_trace, new))
        if is_end and not bounds.moments:
            try:
                world.check_end()
            except Violation as error:
                raise Violation(f'{error}{_told(trace)}') from None
    return len(seen)


def _is_fault(label: str) -> bool:
    return label.endswith(
        (
            'is lost',
            'crashes',
            'is killed',
            'is cut off',
            'empty',
            'flushed',
            'passes',
        )
    )


def _told(trace: Any) -> str:
    labels = []
    while trace is not None:
        label, trace = trace
        labels.append(label)
    return ''.join(
        f'\n{n:3} {label}' for n, label in enumerate(reversed(labels), 1)
    )


# The steps of a client


def _start(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        if client.sid is None:
            client.ids += 1
            client.sid = (i, client.ids)
            # R1: the confirmation was read before the first question
            world.server.sessions.add(client.sid)
        client.ids += 1
        client.hid = (i, client.ids)
        bounds = world.bounds
        client.hold = bounds.hold(bounds.lease, world.now)
        client.hold.believed_for = bounds.believed_for
        client.hold.beat_every = 1 if bounds.lease else float('inf')
        client.was_doubted = False
        client.command = ('ask', client.hid, client.sid, world.now)

    return step


def _send(verb: str, i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        client.must_ask = False
        client.command = (verb, client.hid, client.sid, world.now)

    return step


def _ask(i: int) -> Callable[[World], None]:
    return _send('ask', i)


def _release(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        assert client.hold is not None
        was_over = client.hold.phase == core.OVER
        client.hold.leave()
        if was_over:
            _end_of_attempt(client, was_held=False)
        else:
            _send('release', i)(world)

    return step


def _cancel(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        assert client.hold is not None
        world.left['cancels'] -= 1
        client.hold.give_up()
        _send('cancel', i)(world)

    return step


def _beat(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        assert client.hold is not None
        assert client.hold.is_beat_due(world.now)
        client.beats += ((client.hid, client.sid, world.now),)

    return step


def _repeat(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        verb, hid, sid, _ = client.retry
        client.retry = None
        client.command = (verb, hid, sid, world.now)

    return step


def _end_of_attempt(client: Client, *, was_held: bool) -> None:
    client.hold = None
    client.must_ask = False
    if was_held:
        client.rounds -= 1
    else:
        client.attempts -= 1


def _read_reply(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        verb, hid, answer, token, sent = client.reply
        client.reply = None
        hold = client.hold
        if hold is None or hid != client.hid:
            return
        if verb == 'release':
            _end_of_attempt(client, was_held=True)
        elif verb == 'cancel':
            effect = hold.answered_cancel(answer, token, sent, world.now)
            if effect == core.RELEASE:
                hold.leave()
                _send('release', i)(world)
            elif hold.phase == core.OVER:
                _end_of_attempt(client, was_held=True)
        else:
            effect = hold.answered_ask(answer, token, sent, world.now)
            client.must_ask = effect == core.ASK
            if effect == core.LEAVE_SESSION or answer == core.NO_SESSION:
                if client.sid in world.server.sessions:
                    world.closing |= {client.sid}
                client.sid, client.inbox, client.beats = None, (), ()

    return step


def _read_push(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        (kind, *facts), client.inbox = client.inbox[0], client.inbox[1:]
        hold = client.hold
        if kind == 'eof':
            client.sid, client.inbox, client.beats = None, (), ()
            if hold is not None:
                hold.session_ended()
            return
        if hold is None or facts[0] != client.hid:
            return
        if kind == 'grant':
            effect = hold.pushed_grant(facts[1], facts[2], world.now)
            client.must_ask = client.must_ask or effect == core.ASK
        elif kind == 'lost':
            hold.pushed_loss()
        else:
            hold.answered_beat(facts[1], facts[2], world.now)

    return step


# The steps of the server and the network


def _deliver(world: World) -> None:
    for sid, words in world.server.messages:
        client = world.clients[sid[0]]
        if client.sid == sid:
            client.inbox += (words,)
    world.server.messages.clear()


def _serve(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client, bounds = world.clients[i], world.bounds
        verb, hid, sid, sent = client.command
        client.command = None
        server = world.server
        server.ops += 1
        if verb == 'ask':
            request = model_server.Request(
                *(sid, bounds.modes[i], bounds.limit),
                *(bounds.lease, bounds.takeover),
            )
            answer = server.acquire(
                hid, request, may_wait=True, is_fair=bounds.is_fair
            )
        elif verb == 'cancel':
            answer = server.cancel(hid)
        else:
            answer = ('released', server.release(hid))
        client.reply = (verb, hid, *answer, sent)
        _deliver(world)

    return step


def _take_beat(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        world.server.ops += 1
        (hid, sid, sent), client.beats = client.beats[0], client.beats[1:]
        if sid in world.server.sessions:
            is_there = world.server.beat(hid, sid)
            client.inbox += (('beat', hid, is_there, sent),)

    return step


def _on_end(sid: Any) -> Callable[[World], None]:
    def step(world: World) -> None:
        world.closing -= {sid}
        world.server.sessions.discard(sid)

    return step


# Faults


def _lose_reply(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        world.left['lost_replies'] -= 1
        verb, hid, _, _, sent = client.reply
        client.reply = None
        client.retry = (verb, hid, client.sid, sent)

    return step


def _crash(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        client = world.clients[i]
        world.left['crashes'] -= 1
        client.alive = False
        if client.sid in world.server.sessions:
            world.closing |= {client.sid}
        client.hold = client.reply = client.retry = None
        client.inbox = ()

    return step


def _drop_session(world: World, sid: Any) -> None:
    world.server.sessions.discard(sid)
    client = world.clients[sid[0]]
    if client.sid == sid:
        client.inbox += (('eof',),)
        client.beats = ()


def _kill(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        world.left['kills'] -= 1
        _drop_session(world, world.clients[i].sid)

    return step


def _cut(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        world.left['partitions'] -= 1
        world.clients[i].cut = True

    return step


def _heal(i: int) -> Callable[[World], None]:
    def step(world: World) -> None:
        world.clients[i].cut = False

    return step


def _restart(world: World) -> None:
    world.left['restarts'] -= 1
    for sid in list(world.server.sessions):
        _drop_session(world, sid)
    world.server.lose_data()
    # It takes time: the clock is what tokens grow by
    world.server.now += 1
    for client in world.clients:
        lost = client.command or (client.reply and (*client.reply[:2],))
        if lost:
            client.command = client.reply = None
            client.retry = (lost[0], lost[1], client.sid, world.now)


def _flush(world: World) -> None:
    world.left['flushes'] -= 1
    world.server.lose_data()
    world.server.now += 1


def _tick(world: World) -> None:
    world.left['moments'] -= 1
    world.server.now += 1
