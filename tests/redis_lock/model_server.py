"""What the scripts do, in Python: one server, for the model checker.

`test_model_server.py` holds it to the scripts on a real server.
"""

from __future__ import annotations

import typing

#: tokens within one moment of the model
TOKENS = 16

Hid = typing.Any
Sid = typing.Any


class Holder(typing.NamedTuple):
    sid: Sid
    mode: str
    token: int
    deadline: float
    lease: float
    takeover: str


class Request(typing.NamedTuple):
    sid: Sid
    mode: str = 'x'
    limit: int = 1
    lease: float = 0
    takeover: str = 'i'


class Server:
    """One lock; `messages` are what sessions are told."""

    def __init__(self) -> None:
        self.holders: dict[Hid, Holder] = {}
        self.line: dict[Hid, Request] = {}
        self.last_token = 0
        self.sessions: set[Sid] = set()
        self.now = 0.0
        #: grows with every command: the clock in microseconds
        self.ops = 0
        self.messages: list[tuple[Sid, tuple[typing.Any, ...]]] = []
        #: every token that was ever given is smaller (not lost with the data)
        self.highest_token = 0
        #: when the place of a hold went, but by its release
        self.gone: dict[Hid, float] = {}

    def state(self, hids: list[Hid]) -> typing.Any:
        """What may still make a difference to these holds."""
        base = self.now * TOKENS
        return (
            tuple(
                (hid, h.sid, h.mode, max(h.deadline, self.now), h.takeover)
                for hid, h in self.holders.items()
            ),
            tuple(self.line.items()),
            max(0, self.last_token - base),
            max(0, self.highest_token - base),
            frozenset(self.sessions),
            self.now,
            tuple(self.gone.get(hid) for hid in hids),
        )

    def copy(self) -> Server:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.holders = dict(self.holders)
        new.line = dict(self.line)
        new.gone = dict(self.gone)
        new.sessions = set(self.sessions)
        new.messages = []
        return new

    def token_of(self, hid: Hid) -> int | None:
        """The token of a holder, None where it is none."""
        h = self.holders.get(hid)
        return None if h is None else h.token

    def lose_data(self) -> None:
        self.gone.update(dict.fromkeys(self.holders, self.now))
        self.holders, self.line, self.last_token = {}, {}, 0

    def lives(self, h: Holder) -> bool:
        return (h.lease == 0 or self.now < h.deadline) and (
            h.takeover == 's' or h.sid in self.sessions
        )

    def _load(self, own: Hid = None) -> bool:
        """Whether our own record had to go."""
        has_lapsed = False
        for hid, h in list(self.holders.items()):
            if not self.lives(h):
                del self.holders[hid]
                self.gone[hid] = self.now
                if hid == own:
                    has_lapsed = True
                else:
                    self._tell(h.sid, 'lost', hid)
        return has_lapsed

    def _tell(self, sid: Sid, *words: typing.Any) -> None:
        if sid in self.sessions:
            self.messages.append((sid, words))

    def _fits(self, request: Request) -> bool:
        modes = [h.mode for h in self.holders.values()]
        if 'x' in modes:
            return False
        if request.mode == 'x':
            return not modes
        return request.mode == 's' or modes.count('p') < request.limit

    def _grant(self, hid: Hid, request: Request) -> int:
        token = max(self.last_token + 1, int(self.now * TOKENS))
        assert token > self.highest_token, 'a token that is not larger'
        self.last_token = self.highest_token = token
        self.gone.pop(hid, None)
        self.holders[hid] = Holder(
            *(request.sid, request.mode, token, self.now + request.lease),
            *(request.lease, request.takeover),
        )
        return token

    def _pump(self) -> None:
        for hid, request in list(self.line.items()):
            is_gone = request.sid not in self.sessions
            if not is_gone and not self._fits(request):
                return
            del self.line[hid]
            if not is_gone:
                token = self._grant(hid, request)
                self._tell(request.sid, 'grant', hid, token, self.ops)

    def _renew(self, hid: Hid) -> int | None:
        h = self.holders.get(hid)
        if h is None:
            return None
        if h.lease:
            self.holders[hid] = h._replace(deadline=self.now + h.lease)
        return h.token

    def acquire(
        self, hid: Hid, request: Request, *, may_wait: bool, is_fair: bool
    ) -> tuple[str, typing.Any]:
        if request.sid not in self.sessions:
            return 'no session', None
        is_first = hid not in self.line or hid == next(iter(self.line))
        if may_wait and is_first and self._is_held_by_one_other(hid):
            # whatever the line is, nobody in it can come in
            self.line.setdefault(hid, request)
            return 'queued', self.ops
        has_lapsed = self._load(hid)
        token = self._renew(hid)
        if token is not None:
            return 'granted', token
        if has_lapsed:
            self.line.pop(hid, None)
            self._pump()
            return 'gone', None
        if self.line and (is_fair or not self.holders):
            self._pump()
            token = self._renew(hid)
            if token is not None:
                return 'granted', token
        if (not is_fair or not self.line) and self._fits(request):
            self.line.pop(hid, None)
            return 'granted', self._grant(hid, request)
        if not may_wait:
            return 'refused', None
        self.line.setdefault(hid, request)
        return 'queued', self.ops

    def _is_held_by_one_other(self, hid: Hid) -> bool:
        return [*self.holders] != [hid] and [
            (h.mode, self.lives(h)) for h in self.holders.values()
        ] == [('x', True)]

    def release(self, hid: Hid) -> int:
        was_there = self.holders.pop(hid, None) is not None
        if not was_there:
            self.line.pop(hid, None)
        if self.line:
            self._load()
            self._pump()
        return int(was_there)

    def cancel(self, hid: Hid) -> tuple[str, typing.Any]:
        self._load(hid)
        token = self._renew(hid)
        if token is not None:
            return 'granted', token
        self.line.pop(hid, None)
        self._pump()
        return 'gone', None

    def beat(self, hid: Hid, sid: Sid) -> bool:
        h = self.holders.get(hid)
        if h is None or h.sid != sid or sid not in self.sessions:
            return False
        if not self.lives(h):
            return False
        self._renew(hid)
        return True

    def evict(self, hid: Hid, sid: Sid) -> int:
        h = self.holders.get(hid)
        if h is None or h.sid != sid:
            return 0
        del self.holders[hid]
        self._tell(sid, 'lost', hid)
        self._load()
        self._pump()
        return 1
