"""Start, watch, restart and stop children as their specifications say.

Theory of operation. Four kinds of tasks: `run`, which the outside may cancel; one task per living child
and one that guards it; one task per *job*. A guard waits for the end of the child's limit (start, stall
or grace) and cancels it then. A job stops a group of children in reverse order, waits, and starts them in
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

import random
from collections import deque
from typing import TYPE_CHECKING

import trio

from . import events
from .actor import ActorContext
from .child import Child, ChildStatistics, Job, Run, State, SupervisorStatistics
from .errors import ActorsError, UnexpectedReturn
from .exits import Exit, ExitKind
from .ledger import Ledger, Rng, Verdict
from .reports import Reporter
from .restart import Action, group_of
from .spec import INFINITY, AutoShutdown, Backoff, ChildSpec, Kind, Restart, SupervisorSpec, check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A cancelled child needs no more than a few schedule points, so a second means a shield or a thread.
_LOOK_S = 1.0


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
        `shutdown_budget_s`; then Cancelled goes on. Cancelled by a supervisor above, they have no grace.

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
                outer.start_soon(self._shelter)
                try:
                    await self._sheltered.wait()
                    if ctx is not None:
                        outer.start_soon(self._relay_stop, ctx)
                    await self._serve()
                finally:
                    # No time limit: every child has its own, and who outlives it is reported.
                    with trio.CancelScope(shield=True):
                        await self._stop_all()
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
        """Longest ordered stop in seconds if every child uses up its grace and ends when cancelled."""
        return sum(_grace_s(spec) for spec in self._specs)

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of the whole tree below; no awaits, so it is one moment."""
        return SupervisorStatistics(self.id, self._snapshot())

    def error_of(self, child_id: str) -> Exception | None:
        """The last error of a child as it was raised, None without any.

        Raises:
          KeyError: there is no such child.
        """
        return {child.spec.id: child.error for child in self._children}[child_id]

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
        self._ctx = ctx
        self.path = self.id if ctx is None else ctx.path
        self._children = [Child(spec) for spec in self._specs]
        self._ledger = Ledger(self.path, self.spec, self._rng)
        self._reporter = Reporter(self.path, ctx, self._on_event, self._clock)
        self._failure: Exception | None = None
        self._hurried = False
        self._jobs: set[Job] = set()
        self._pending: deque[Job] = deque()
        self._sheltered = trio.Event()
        self._ended = trio.Event()
        if ctx is not None:
            ctx.subtree = self._snapshot

    async def _shelter(self) -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as self._nursery:
                self._sheltered.set()
                await self._ended.wait()

    async def _relay_stop(self, ctx: ActorContext) -> None:
        try:
            await ctx.stopping.wait()
            self._tell()
            await trio.sleep_forever()
        finally:
            # Cancelled by the supervisor above: its patience is over, so nobody below has a grace any more.
            self._hurried = ctx.scope.cancel_called
            for child in self._children if self._hurried else ():
                child.hurry()

    async def _serve(self) -> None:
        await trio.lowlevel.checkpoint()
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
        await trio.lowlevel.checkpoint()
        self._jobs.difference_update(self._pending)
        for job in list(self._jobs):
            job.scope.cancel(reason=f"supervisor {self.path} stops")
            await job.done.wait()
        for child in reversed(self._children):
            if child.alive:
                await self._stop_child(child, 0.0 if self._hurried else child.spec.shutdown_s)
            elif child.state in ("starting", "backoff"):
                child.move("stopped", self._clock())
        self._ended.set()

    def _tell(self) -> None:
        self._told = True
        self._wake.set()

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
        job = Job([child for child in self._children if child in members], delay_s, counted=counted, after=met)
        self._jobs.add(job)
        self._pending.append(job)
        self._wake.set()

    async def _work(self, job: Job) -> None:
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

    async def _stop_group(self, job: Job) -> None:
        await trio.lowlevel.checkpoint()
        for child in reversed(job.left):
            if child.alive:
                grace_s = child.spec.sibling_shutdown_s
                await self._stop_child(child, child.spec.shutdown_s if grace_s is None else grace_s)
            if child.run is None:
                continue
            if child.spec.restart is Restart.TEMPORARY:
                self._drop(child, child.state)
            else:
                child.move("backoff", self._clock())
        job.left = deque(child for child in job.left if not child.dropped)

    async def _launch(self, child: Child, job: Job) -> bool:
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
            emit=self._reporter.send,
        )
        run = child.run = Run(ctx, self._clock())
        child.attempts += 1
        child.move("starting", self._clock())
        self._nursery.start_soon(self._live, child, run, name=ctx.path)
        self._nursery.start_soon(self._guard, child, run, name=f"{ctx.path} (guard)")
        await run.settled.wait()
        return ctx.is_started or child.dropped

    async def _stop_child(self, child: Child, grace_s: float) -> None:
        assert child.run is not None
        child.run.ask_to_stop(grace_s)
        child.move("stopping", self._clock())
        await child.run.finished.wait()

    # -- the life of a child

    async def _live(self, child: Child, run: Run) -> None:
        try:
            exit = await run.execute(child.spec)
            self._exited(child, run, exit)
        finally:
            run.finished.set()
            run.settled.set()

    async def _guard(self, child: Child, run: Run) -> None:
        """Cancel a child when its limit is over, and report it when even that does not end it."""
        with run.ctx.limit:
            await run.finished.wait()
            return
        if not run.stop_asked and run.ctx.cancelled_for is None:
            run.silent_s = trio.current_time() - run.ctx.silent_since
            self._reporter.say(events.Stalled, child, silent_s=run.silent_s, stack=run.stack())
        child.move("stopping", self._clock())
        run.ctx.scope.cancel(reason=run.why_cancelled())
        for waits in range(1, 1024):
            with trio.move_on_after(_LOOK_S):
                await run.finished.wait()
                return
            if waits & (waits + 1) == 0:
                what = {"waited_s": waits * _LOOK_S, "stack": run.stack(), "role": child.spec.kind.value}
                self._reporter.say(events.StopTimedOut, child, **what)

    def _started(self, child: Child, run: Run, job: Job) -> None:
        now = run.ready_at = self._clock()
        child.was_ready = True
        if child.state == "starting":
            child.move("running", now)
        job.left.popleft()
        run.settled.set()
        self._reporter.say(events.ChildStarted, child, attempt=run.ctx.attempt, took_s=now - run.began_at)
        self._settle()

    def _exited(self, child: Child, run: Run, exit: Exit) -> None:
        now = self._clock()
        stop_is_on = run.stop_asked or self._told or self.draining
        if exit.kind is ExitKind.RETURNED and child.spec.return_is_crash and not stop_is_on:
            exit = Exit(ExitKind.CRASHED, UnexpectedReturn("it returned although no stop was on"))
        self._reporter.ended(child, run, exit)
        if stop_is_on:
            return
        verdict = self._ledger.judge(child, exit, now, now - run.ready_at)
        match verdict.action:
            case Action.RESTART:
                self._restart(child, verdict)
            case Action.DROP:
                self._drop(child, "failed" if exit.kind is ExitKind.RETRY else child.state)
                self._auto_shutdown(child)
            case _:
                child.move("failed", now)
                self._reporter.say(events.Escalated, child, error=verdict.error)
                self._failure = verdict.error
                self._tell()

    def _restart(self, child: Child, verdict: Verdict) -> None:
        group = [member for member in group_of(self.spec.strategy, self._children, child) if not member.dropped]
        child.move("backoff", self._clock())
        delay_s, counted, ids = verdict.delay_s, verdict.counted, tuple(member.spec.id for member in group)
        self._reporter.say(events.ChildRestarting, child, delay_s=delay_s, counted=counted, group=ids)
        self._schedule(group, delay_s, counted=counted)

    def _drop(self, child: Child, state: State) -> None:
        child.dropped = True
        child.move(state, self._clock())
        self._settle()

    def _auto_shutdown(self, child: Child) -> None:
        if not child.spec.significant:
            return
        left = any(other.spec.significant and not other.dropped for other in self._children)
        if not left or self.spec.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT:
            self._reporter.say(events.AutoShutdownTriggered, child)
            self.stop()

    def _snapshot(self) -> tuple[ChildStatistics, ...]:
        return tuple(child.statistics() for child in self._children)


def _grace_s(spec: ChildSpec) -> float:
    owner = getattr(spec.run, "__self__", None)
    return min(spec.shutdown_s, owner.shutdown_budget_s) if isinstance(owner, Supervisor) else spec.shutdown_s
