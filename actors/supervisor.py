"""Start, watch, restart and stop children as their specifications say.

Theory of operation. Three kinds of tasks: `run`, which the outside may cancel; one task per living
child; one task per *job*. A job stops a group of children in reverse order, waits, and starts them in
order; the first start is a job too. Children and jobs live in a nursery behind a shield, so that a
cancelled supervisor can still stop its children one by one.

Rule 1: an exit is decided at once, in `_exited`, before any other task runs; no queue, so nothing is stale.
Rule 2: a failed child joins its group; a group that meets a running job takes over what that job has left.
Rule 3: one failure is counted once, however many children restart for it.
Rule 4: no Exception of a child reaches a nursery; Cancelled, KeyboardInterrupt and SystemExit pass through.
Rule 5: while a stop is on, nothing is restarted.
Rule 6: jobs are spawned by `run` only, so no child inherits another child's context variables.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Protocol

import trio

from . import events
from .actor import ActorContext
from .child import Child, ChildStatistics, Run, SupervisorStatistics, stack_of
from .errors import ActorsError, Escalate, RestartIntensityExceeded, StartFailed, UnexpectedReturn
from .exits import Exit, ExitKind, classify, find_escalate
from .restart import Action, Decision, RestartWindow, decide
from .spec import INFINITY, AutoShutdown, Backoff, ChildSpec, Kind, Restart, Strategy, SupervisorSpec, check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_log = logging.getLogger(__name__)

# A cancelled child needs no more than a few schedule points, so a second means a shield or a thread.
_REPORT_AFTER_S = 1.0
# Tracebacks keep frames alive; more than this many do not make an escalation clearer.
_MOST_CAUSES = 16


class Rng(Protocol):
    """The one thing asked of a random generator; `random.Random` has it."""

    def uniform(self, a: float, b: float, /) -> float: ...


class _Job:
    """A group of children to stop, let rest, and start in order."""

    def __init__(self, children: Iterable[Child], delay_s: float, counted: bool, after: Sequence[_Job]) -> None:
        self.left = deque(children)
        self.delay_s = delay_s
        self.counted = counted
        self.after = after
        self.scope = trio.CancelScope()
        self.done = trio.Event()

    def overlaps(self, group: Sequence[Child]) -> bool:
        return not self.scope.cancel_called and any(child in group for child in self.left)


class Supervisor:
    """Runs children and keeps them running.

    Args:
      id: one step of every child's path.
      spec: strategy, limits and auto-shutdown.
      children: in start order; stopped in reverse.
      on_event: called with every event; without it, events go to the supervisor above.
      rng: source of backoff jitter.
      clock: seconds for windows, statistics and events.
      ready_at_once: be ready for the supervisor above before the children are; a failing first start is
        then a crash like any other, not a failed start of the whole tree.

    Raises:
      SpecError: the children cannot work together under this specification.
    """

    def __init__(
        self,
        id: str,
        spec: SupervisorSpec,
        children: Sequence[ChildSpec],
        *,
        on_event: Callable[[events.Event], None] | None = None,
        rng: Rng | None = None,
        clock: Callable[[], float] = trio.current_time,
        ready_at_once: bool = False,
    ) -> None:
        check_id(id)
        spec.check_children(children)
        self.id = id
        self.spec = spec
        self.path = id
        self._specs = tuple(children)
        self._on_event = on_event
        self._rng: Rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._clock = clock
        self._ready_at_once = ready_at_once
        self._running = self._told = self._for_good = False
        self._wake = trio.Event()
        self._reset(None)

    async def run(self, ctx: ActorContext | None = None) -> None:
        """Start the children, keep them as specified, and stop them in order at the end.

        Returns after `stop()`, after the wish of the supervisor above, and after an auto-shutdown.

        Cancellation: children are still stopped one by one, each with its grace, so this takes up to
        `shutdown_budget_s`; then Cancelled goes on.

        Raises:
          RestartIntensityExceeded: the children failed more often than the specification allows.
          StartFailed: a first start failed; what had been started was stopped.
          Escalate: a child escalated; `cause` says why.
        """
        if self._running:
            raise ActorsError(f"supervisor {self.path} runs already")
        self._running = True
        self._reset(ctx)
        try:
            async with trio.open_nursery() as outer:
                self._nursery = await outer.start(self._shelter)
                try:
                    if ctx is not None:
                        outer.start_soon(self._relay_stop, ctx)
                    await self._serve()
                finally:
                    # No time limit: every child has its own, and who outlives it is reported.
                    with trio.CancelScope(shield=True):
                        await self._stop_all()  # noqa: ASYNC102
                    outer.cancel_scope.cancel(reason=f"supervisor {self.path} has ended")
        finally:
            self._running = self._told = self._for_good = False
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ask for an ordered stop: children in reverse, each with its grace. `run` returns when it is done.

        Asked for before `run`, it ends that run at once.
        """
        self._for_good = True
        self._tell()

    @property
    def draining(self) -> bool:
        """Whether a stop for good is on, here or above; a stop for a restart is none."""
        return self._for_good or (self._ctx is not None and self._ctx.draining)

    @property
    def shutdown_budget_s(self) -> float:
        """Longest ordered stop in seconds if every child uses up its grace; a cancelled child may add to it."""
        return sum(_grace(spec) for spec in self._specs)

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of the whole tree below; no awaits, so it is one moment."""
        return SupervisorStatistics(self.id, self._snapshot())

    def error_of(self, child_id: str) -> Exception | None:
        """The last error of a child as it was raised, None without any.

        Raises:
          KeyError: there is no such child.
        """
        for child in self._children:
            if child.spec.id == child_id:
                return child.error
        raise KeyError(child_id)

    def child_spec(
        self,
        *,
        restart: Restart = Restart.PERMANENT,
        shutdown_s: float = INFINITY,
        sibling_shutdown_s: float | None = None,
        significant: bool = False,
        start_within_s: float = INFINITY,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """This supervisor as a child of another one; by default it may take the time its children need."""
        return ChildSpec(
            self.id,
            self.run,
            restart=restart,
            shutdown_s=shutdown_s,
            sibling_shutdown_s=sibling_shutdown_s,
            kind=Kind.SUPERVISOR,
            significant=significant,
            start_within_s=start_within_s,
            backoff=backoff or Backoff(),
        )

    # -- the supervisor's own tasks

    def _reset(self, ctx: ActorContext | None) -> None:
        limits = (self.spec.intensity or 0, self.spec.max_consecutive or 0)
        self._ctx = ctx
        self._children = [Child(spec) for spec in self._specs]
        self._window = RestartWindow(self.spec.intensity, self.spec.period_s, self.spec.max_consecutive)
        self._causes: deque[Exception] = deque(maxlen=min(max(limits) + 1, _MOST_CAUSES))
        self._failure: Exception | None = None
        self._jobs: set[_Job] = set()
        self._pending: deque[_Job] = deque()
        self._ended = trio.Event()
        if ctx is not None:
            self.path = ctx.path
            ctx.subtree = self._snapshot

    async def _shelter(self, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                task_status.started(nursery)
                await self._ended.wait()

    async def _relay_stop(self, ctx: ActorContext) -> None:
        await ctx.stopping.wait()
        self._tell()

    async def _serve(self) -> None:
        for child in self._children:
            child.move("starting", self._clock())
        if self._ctx is not None and self._ready_at_once:
            self._ctx.started()
        self._settle()
        self._schedule(self._children, 0.0, counted=False)
        while not self._told:
            while self._pending:
                self._nursery.start_soon(self._work, self._pending.popleft(), name=f"{self.path} (job)")
            await self._wake.wait()
            self._wake = trio.Event()

    async def _stop_all(self) -> None:
        self._told = True
        self._for_good = self._for_good or (self._ctx is None and self._failure is None)
        self._jobs.difference_update(self._pending)
        for job in list(self._jobs):
            job.scope.cancel(reason=f"supervisor {self.path} stops")
            await job.done.wait()
        for child in reversed(self._children):
            if child.alive:
                await self._stop_child(child, child.spec.shutdown_s)
            elif child.state in ("starting", "backoff"):
                child.move("stopped", self._clock())
        self._ended.set()

    def _tell(self) -> None:
        self._told = True
        self._wake.set()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._tell()

    def _settle(self) -> None:
        if self._ctx is not None and not self._told and all(child.settled for child in self._children):
            self._ctx.started()

    # -- jobs

    def _schedule(self, group: Sequence[Child], delay_s: float, *, counted: bool) -> None:
        met = [job for job in self._jobs if job.overlaps(group)]
        members = {*group, *(child for job in met for child in job.left)}
        for job in met:
            job.scope.cancel(reason="taken over by the restart of a group")
        counted = counted or any(job.counted for job in met)
        job = _Job([child for child in self._children if child in members], delay_s, counted, met)
        self._jobs.add(job)
        self._pending.append(job)
        self._wake.set()

    async def _work(self, job: _Job) -> None:
        try:
            with job.scope:
                for earlier in job.after:
                    await earlier.done.wait()
                await self._stop_group(job)
                await trio.sleep(job.delay_s)
                # Its wait may have ended in the same moment in which another job took over.
                while job.left and not job.scope.cancel_called:
                    if job.left[0].dropped:
                        job.left.popleft()
                    elif not await self._launch(job.left[0], job):
                        return
        finally:
            self._jobs.discard(job)
            job.done.set()

    async def _stop_group(self, job: _Job) -> None:
        for child in reversed(job.left):
            if child.alive:
                grace_s = child.spec.sibling_shutdown_s
                await self._stop_child(child, child.spec.shutdown_s if grace_s is None else grace_s)
            if child.run is None:
                continue
            if decide(Exit(ExitKind.STOPPED), child.spec, self._window, 0.0).action is Action.DROP:
                self._drop(child)
            else:
                child.move("backoff", self._clock())
        job.left = deque(child for child in job.left if not child.dropped)

    async def _launch(self, child: Child, job: _Job) -> bool:
        """Start a child and wait until it is ready; False when it ended before that."""
        if child.run is not None:
            child.restarts += job.counted
            child.retries += not job.counted
        ctx = ActorContext(
            child.spec.id,
            path=f"{self.path}/{child.spec.id}",
            attempt=child.attempts,
            start_within_s=child.spec.start_within_s,
            stall_after_s=child.spec.stall_after_s,
            on_started=lambda: self._started(child, run, job),
            draining=lambda: self.draining,
            emit=self._emit,
        )
        run = child.run = Run(ctx, self._clock())
        child.attempts += 1
        child.move("starting", self._clock())
        self._nursery.start_soon(self._live, child, run, name=ctx.path)
        await run.settled.wait()
        return ctx.is_started or child.dropped

    async def _stop_child(self, child: Child, grace_s: float) -> None:
        assert child.run is not None
        run = child.run
        run.ask_to_stop(grace_s)
        child.move("stopping", self._clock())
        with trio.move_on_at(run.cancel_at):
            await run.finished.wait()
        if run.finished.is_set():
            return
        run.ctx.scope.cancel(reason=f"{run.ctx.path}: grace of {grace_s:g} s is over")
        with trio.move_on_after(_REPORT_AFTER_S):
            await run.finished.wait()
        if not run.finished.is_set():
            assert run.task is not None
            waited_s = trio.current_time() - run.cancel_at
            self._say(events.StopTimedOut, child, waited_s=waited_s, stack=stack_of(run.task))
            await run.finished.wait()

    # -- the life of a child

    async def _live(self, child: Child, run: Run) -> None:
        try:
            exit = await run.execute(child.spec)
            self._exited(child, run, exit)
        finally:
            run.finished.set()
            run.settled.set()

    def _started(self, child: Child, run: Run, job: _Job) -> None:
        now = self._clock()
        run.ready_at = now
        child.was_ready = True
        if child.state == "starting":
            child.move("running", now)
        if job.left and job.left[0] is child:
            job.left.popleft()
        run.settled.set()
        self._say(events.ChildStarted, child, attempt=run.ctx.attempt, took_s=now - run.began_at)
        self._settle()

    def _exited(self, child: Child, run: Run, exit: Exit) -> None:
        now = self._clock()
        stop_is_on = run.stop_asked or self._told or self.draining
        if exit.kind is ExitKind.RETURNED and child.spec.return_is_crash and not stop_is_on:
            exit = Exit(ExitKind.CRASHED, UnexpectedReturn("returned although no stop was on"))
        if run.timed_out and exit.kind is ExitKind.CRASHED:
            silent_s = trio.current_time() - run.ctx.silent_since
            self._say(events.Stalled, child, silent_s=silent_s, stack=run.stack)
        self._note(child, run, exit, now)
        if stop_is_on:
            return
        if now - run.ready_at >= child.spec.backoff.reset_after_s:
            child.failures = 0
        decision = decide(exit, child.spec, self._window, now, failures=child.failures)
        if not child.was_ready and self._refuse_start(child, exit, decision):
            return
        self._window = decision.window
        if decision.counted:
            child.failures += 1
            self._causes.append(_cause(exit))
        self._act(child, exit, decision)

    def _note(self, child: Child, run: Run, exit: Exit, now: float) -> None:
        """Bring state, last error and the hook up to date with an exit."""
        error = exit.error
        cleanup_failed = error is not None and classify(error).kind in (ExitKind.CRASHED, ExitKind.ESCALATED)
        child.move("failed" if cleanup_failed else "stopped", now)
        child.error = error or child.error
        match exit.kind:
            case ExitKind.RETURNED | ExitKind.SHUTDOWN:
                self._say(events.ChildExited, child, reason=exit.kind.value)
            case ExitKind.RETRY:
                self._say(events.ChildRetrying, child, reason=str(error))
            case ExitKind.STOPPED:
                took_s = trio.current_time() - run.stop_asked_at
                cancelled = run.ctx.scope.cancelled_caught
                self._say(events.ChildStopped, child, took_s=took_s, cancelled=cancelled, error=error)
            case _:
                self._say(events.ChildCrashed, child, error=error)

    def _refuse_start(self, child: Child, exit: Exit, decision: Decision) -> bool:
        """Fail the supervisor for a first start that failed; a Retry and a normal end are no failures."""
        if exit.kind is ExitKind.ESCALATED:
            error: Exception = Escalate(find_escalate(_cause(exit)).cause)
        elif decision.counted or exit.kind in (ExitKind.CRASHED, ExitKind.RETRY) and decision.action is Action.DROP:
            error = StartFailed(f"{self.path}/{child.spec.id}", _cause(exit))
        else:
            return False
        child.move("failed", self._clock())
        self._say(events.Escalated, child, error=error)
        self._fail(error)
        return True

    def _act(self, child: Child, exit: Exit, decision: Decision) -> None:
        match decision.action:
            case Action.RESTART:
                jitter_s = self._rng.uniform(0.0, decision.jitter_s) if decision.jitter_s else 0.0
                delay_s = decision.delay_s + jitter_s
                group = self._group(child)
                child.move("backoff", self._clock())
                ids = tuple(member.spec.id for member in group)
                self._say(events.ChildRestarting, child, delay_s=delay_s, counted=decision.counted, group=ids)
                self._schedule(group, delay_s, counted=decision.counted)
            case Action.DROP:
                self._drop(child)
                self._auto_shutdown(child)
            case Action.ESCALATE:
                error = self._giving_up(child, exit, decision)
                child.move("failed", self._clock())
                self._say(events.Escalated, child, error=error)
                self._fail(error)

    def _group(self, child: Child) -> list[Child]:
        match self.spec.strategy:
            case Strategy.ONE_FOR_ONE:
                group = [child]
            case Strategy.ONE_FOR_ALL:
                group = self._children
            case Strategy.REST_FOR_ONE:
                group = self._children[self._children.index(child) :]
        return [member for member in group if not member.dropped]

    def _drop(self, child: Child) -> None:
        child.dropped = True
        self._settle()

    def _auto_shutdown(self, child: Child) -> None:
        if not child.spec.significant:
            return
        left = any(other.spec.significant and not other.dropped for other in self._children)
        if self.spec.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT and left:
            return
        self._say(events.AutoShutdownTriggered, child)
        self.stop()

    def _giving_up(self, child: Child, exit: Exit, decision: Decision) -> Exception:
        if exit.kind is ExitKind.ESCALATED:
            return Escalate(find_escalate(_cause(exit)).cause)
        causes = ExceptionGroup(f"last failures below {self.path}", list(self._causes))
        return RestartIntensityExceeded(f"{self.path}/{child.spec.id}", causes, decision.limit)

    def _snapshot(self) -> tuple[ChildStatistics, ...]:
        return tuple(child.statistics() for child in self._children)

    def _say(self, kind: Callable[..., events.Event], child: Child, **values: object) -> None:
        self._emit(kind(supervisor=self.path, child=child.spec.id, at=self._clock(), **values))

    def _emit(self, event: events.Event) -> None:
        if self._on_event is None:
            if self._ctx is not None:
                self._ctx.emit(event)
            return
        try:
            self._on_event(event)
        except Exception:
            # A broken log line must not take the tree down.
            _log.exception("the event hook of supervisor %s failed", self.path)


def _cause(exit: Exit) -> Exception:
    return exit.error or UnexpectedReturn("returned, but it is PERMANENT")


def _grace(spec: ChildSpec) -> float:
    owner = getattr(spec.run, "__self__", None)
    return min(spec.shutdown_s, owner.shutdown_budget_s) if isinstance(owner, Supervisor) else spec.shutdown_s
