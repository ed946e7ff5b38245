"""How a new configuration comes to the workers: all of them use it, or none does.

    read and check both files -> every worker builds it -> every worker uses it

With `workers`, new processes are started on it instead; when all of them take requests, the old
ones retire. One reload at a time; what is asked meanwhile comes after it.

Rules: what goes wrong on the way changes nothing, and is told to the log and to whoever asked. A
worker that dies on the way is none of those that must agree; its successor starts on what is in
use then. But a new one that dies before the old ones retire would leave its place empty: then all
of the new ones go again.
"""

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from gateway.control import Configuration, Kind, Message, Outcome, written
from gateway.errors import ConfigurationError
from gateway.filestate import FileState, file_state
from gateway.parts import reloadable
from gateway.processes import Process, Processes, Slot

logger = logging.getLogger("gateway.server")

STEP_SECONDS = 30.0  # for all workers to build, or to start
WATCH_SECONDS = 0.5
STOPPING = Outcome(("the gateway is stopping",))

Load = Callable[[], Configuration]
Start = Callable[[Slot, Configuration], Process]


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody wants a reload. `by` is the worker that was asked, and its number for the answer;
    None: it was a signal, or a changed file.
    """

    workers: bool
    by: tuple[Process, int] | None


@dataclass(slots=True)
class Step:
    """One reload under way: which configuration, and whose word is still missing."""

    number: int  # what workers say of one is not taken for what they say of the next
    ask: Ask
    configuration: Configuration
    pending: tuple[str, ...]
    expects: Kind
    ends: float  # monotonic seconds
    missing: set[Process] = field(default_factory=set)
    taking_part: list[Process] = field(default_factory=list)


class Reloading:
    """`current` is the configuration in use, for whoever starts a worker."""

    def __init__(
        self, configuration: Configuration, load: Load, processes: Processes, start: Start
    ) -> None:
        self.current = configuration
        self.succeeded = True  # the last reload did, or has not failed yet
        self._load = load
        self._processes = processes
        self._start = start
        self._step: Step | None = None
        self._steps = count(1)
        self._asked: deque[Ask] = deque()
        self._stopped = False

    @property
    def rolls(self) -> bool:
        """Are new workers on trial?"""
        return self._step is not None and self._step.ask.workers

    def ask(self, *, workers: bool = False, by: tuple[Process, int] | None = None) -> None:
        ask = Ask(workers, by)
        if self._stopped:
            self._tell(ask, STOPPING)
        elif ask not in self._asked:  # two signals that wait are as good as one
            self._asked.append(ask)
            self._begin()

    def stop(self) -> None:
        """The gateway ends: leave everything as it is, and begin nothing any more."""
        self._stopped = True
        step, self._step = self._step, None
        for ask in (*(() if step is None else (step.ask,)), *self._asked):
            self._tell(ask, STOPPING)
        self._asked.clear()

    def heard(self, process: Process, message: Message) -> None:
        """Take a worker's word, if one is missing."""
        step = self._step
        if step is None or process not in step.missing or message.kind is not step.expects:
            return
        if message.fields.get("number", step.number) != step.number:
            return
        problems = message.fields.get("problems")
        if problems:
            self._fail(step, [f"{process}: {problem}" for problem in problems])
            return
        step.missing.discard(process)
        self._advance(step)

    def ended(self, process: Process) -> None:
        """A worker is gone, and says nothing any more."""
        step = self._step
        if step is None:
            return
        if step.ask.workers and process in step.taking_part:
            whose = "it was" if process in step.missing else "all were"
            self._fail(step, [f"{process} ended before {whose} ready: see the log"])
        elif process in step.missing:
            step.missing.discard(process)
            self._advance(step)

    def look_at_clock(self, now: float) -> None:
        step = self._step
        if step is None or now < step.ends:
            return
        if step.expects is Kind.COMMITTED:  # the others use it
            for process in step.missing:
                logger.error("%s does not use the new configuration, and is killed", process)
                process.signal(signal.SIGKILL)
            step.missing.clear()
            self._advance(step)
        else:
            names = ", ".join(map(str, step.missing))
            self._fail(step, [f"no word within {STEP_SECONDS:.0f} s of {names}"])

    def _begin(self) -> None:
        while self._step is None and self._asked:
            ask = self._asked.popleft()
            try:
                loaded = self._load()
            except ConfigurationError as error:
                self._refuse(ask, error.complaints)
                continue
            except Exception as error:  # whatever it was, the workers have to have an arbiter
                logger.exception("the files could not be read")
                self._refuse(ask, [f"{type(error).__name__}: see the log"])
                continue
            embedded = self.current.settings.store.url.startswith("memory://")
            if ask.workers and embedded:
                self._refuse(
                    ask, ["memory:// lives in the worker: another one would begin with nothing"]
                )
                continue
            self._set_out(ask, loaded)

    def _set_out(self, ask: Ask, loaded: Configuration) -> None:
        settings, pending = reloadable(self.current.settings, loaded.settings, workers=ask.workers)
        self.succeeded = True
        step = self._step = Step(
            next(self._steps),
            ask,
            Configuration(settings, loaded.route_file),
            tuple(pending),
            Kind.READY if ask.workers else Kind.PREPARED,
            time.monotonic() + STEP_SECONDS,
        )
        if not ask.workers:
            self._advance(step)
            return
        for slot in self._processes.slots:
            try:
                process = self._start(slot, step.configuration)
            except OSError as error:
                self._fail(step, [f"a worker could not be started: {error.strerror}"])
                return
            step.taking_part.append(process)
            step.missing.add(process)

    def _prepare(self, step: Step) -> None:
        """Have those build the configuration that have not been asked to. Raises OSError."""
        asked = [p for p in self._processes.serving() if p not in step.taking_part]
        if asked:
            with written(step.configuration) as file:
                for process in asked:
                    process.control.send(Kind.PREPARE, file=file, number=step.number)
        step.taking_part += asked
        step.missing.update(asked)

    def _advance(self, step: Step) -> None:
        """Go on when nobody's word is missing."""
        if step.missing:
            return
        if step.ask.workers:
            self._succeed(step)
        elif step.expects is Kind.PREPARED:
            try:
                self._prepare(step)  # all, then those that were started meanwhile
            except OSError as error:
                self._fail(step, [f"the configuration can't be handed on: {error.strerror}"])
                return
            if not step.missing:
                self._commit(step)
        else:
            self._succeed(step)

    def _commit(self, step: Step) -> None:
        step.expects = Kind.COMMITTED
        self.current = step.configuration  # whoever starts from now on starts on this
        for process in self._processes.serving():
            if process.control.send(Kind.COMMIT, number=step.number):
                step.missing.add(process)
            else:
                process.signal(signal.SIGKILL)
        self._advance(step)

    def _succeed(self, step: Step) -> None:
        self._step = None
        self.current = step.configuration
        logger.info("the new configuration is in use by %d workers", len(step.taking_part))
        for sentence in step.pending:
            logger.warning("a changed setting is not in use yet: %s", sentence)
        self._tell(step.ask, Outcome((), step.pending, len(step.taking_part)))
        for process in self._processes.serving() if step.ask.workers else ():
            if process not in step.taking_part:
                retire(process)
        self._begin()

    def _fail(self, step: Step, problems: Sequence[str]) -> None:
        self._step = None
        if step.ask.workers:
            alive = set(self._processes)
            for process in step.taking_part:
                if process.ready and process in alive:
                    retire(process)  # it serves already
                    continue
                process.retiring = True
                if process in alive:
                    process.signal(signal.SIGKILL)
        self._refuse(step.ask, problems)
        self._begin()

    def _refuse(self, ask: Ask, problems: Sequence[str]) -> None:
        self.succeeded = False
        for problem in problems:
            logger.error("%s", problem)
        logger.error("the configuration was not changed; what was in use goes on")
        for process in self._processes.serving():
            process.control.send(Kind.ABANDON)
        self._tell(ask, Outcome(tuple(problems)))

    def _tell(self, ask: Ask, outcome: Outcome) -> None:
        if ask.by is not None:
            process, number = ask.by
            process.control.send(Kind.RELOADED, ask=number, **outcome.fields())


def retire(process: Process) -> None:
    """Have it finish what it serves, and end."""
    process.retiring = True
    if not process.control.send(Kind.RETIRE):
        process.signal(signal.SIGTERM)


class Watch:
    """Tells when a file has changed: when it differs from before, and has been at rest for
    WATCH_SECONDS at least. `files` names those that matter now.
    """

    def __init__(self, files: Callable[[], Iterable[Path]]) -> None:
        self._files = files
        self._known = self._seen = self._look()
        self._next = 0.0

    def changed(self, now: float) -> bool:
        """`now` is monotonic seconds."""
        if now < self._next:
            return False
        self._next = now + WATCH_SECONDS
        seen, self._seen = self._seen, self._look()
        if self._seen == self._known or self._seen != seen:
            return False
        self._known = self._seen
        return True

    def _look(self) -> dict[Path, FileState]:
        return {path: file_state(path) for path in self._files()}
