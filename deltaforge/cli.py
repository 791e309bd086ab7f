"""The command line: reads arguments, prints, and picks the exit code. What runs is in `process`.

Exit codes: 0 done; 1 a bug, or every pipeline failed; 2 configuration or command line; 3 stopped while a pipeline was
blocked; 4 refused, because going on would lose or repeat data; 128 + signal after a second signal.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from deltaforge import __version__, logs, metrics, stderr
from deltaforge.admin.guard import TOKEN_VARIABLE, Guard
from deltaforge.admin.server import bind, url_of
from deltaforge.config.load import LoadedPipeline, load_path
from deltaforge.config.secret import register
from deltaforge.errors import ConfigError
from deltaforge.failpoints import failpoint
from deltaforge.memory import share_heaps
from deltaforge.model import Lsn
from deltaforge.process import CONFIGURATION, DONE, FAILED, Process, run_until_signalled
from deltaforge.runtime import RunOptions
from deltaforge.status import PipelineView

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = ("run", "validate", "demo")

log = logs.get_logger("deltaforge.cli")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        given = _with_command(list(sys.argv[1:] if arguments is None else arguments))
        options = _parser().parse_args(given)
    except ConfigError as error:
        print(f"deltaforge: {error.line()}", file=sys.stderr)
        return CONFIGURATION
    if token := os.environ.get(TOKEN_VARIABLE):
        register(token)
    logs.configure(options.log_format, options.log_level)
    _keep_memory_out_of_core_files()
    try:
        code: int = options.action(options)
    except ConfigError as error:
        stderr.say(f"deltaforge: {error.line()}")
        code = CONFIGURATION
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        logs.report_crash(error)
        stderr.say("deltaforge: this is a bug; the lines above say where")
        code = FAILED
    stderr.flush(2.0)
    return code


def _keep_memory_out_of_core_files() -> None:
    """Have no signal write our memory, with its rows and passwords, to a disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    # A kernel that hands core files to a program (systemd-coredump, apport) does not ask for the limit: what such a
    # program gets then has no memory in it. An undumpable process would do too, but hide its descriptors from its user.
    with suppress(OSError), open("/proc/self/coredump_filter", "w") as kinds:
        kinds.write("0")


# -- the commands


def _run(options: argparse.Namespace) -> int:
    loaded = _load(_file(options))
    good = [item for item in loaded if item.error is None]
    for item in loaded:
        for line in item.error.lines() if item.error else ():
            stderr.say(line)
    if not good:
        return CONFIGURATION
    asked = RunOptions(
        adopt_slot=options.adopt_slot,
        accept_gap=options.accept_gap,
        grace_s=options.grace,
        stall_after_s=options.stall_after,
    )
    if len(loaded) > 1 and (asked.adopt_slot is not None or asked.accept_gap is not None):
        raise ConfigError(
            "--adopt-slot and --accept-gap are for one pipeline", hint="name its file instead of the directory"
        )
    return serve(good, asked, options.api_addr, parked=[_parked(item) for item in loaded if item.error])


def serve(
    loaded: Sequence[LoadedPipeline],
    options: RunOptions,
    api_address: tuple[str, int],
    *,
    parked: Sequence[PipelineView] = (),
) -> int:
    """Run checked pipelines with their admin HTTP until a signal, or until none can work. Returns the exit code.

    Raises ConfigError when the admin HTTP cannot listen there.
    """
    # Imported late: --version and validate need no drivers.
    from deltaforge.pipeline import Pipeline

    share_heaps()
    failpoint("cli.serve")
    host, port = api_address
    guard = Guard(host, os.environ.get(TOKEN_VARIABLE))
    with bind(host, port) as sock:
        encoder = _encoder_name()
        metrics.build_info(encoder)
        log.info("starting", version=__version__, encoder=encoder)
        pipelines = [Pipeline(item.require(), _metrics_of(item), options) for item in loaded]
        process = Process(
            pipelines,
            sock=sock,
            guard=guard,
            grace_s=options.grace_s,
            stall_after_s=options.stall_after_s,
            parked=parked,
        )
        log.info("admin HTTP", url=url_of(sock))
        # What was imported and built stays: looking through it again and again took an eighth of the time of a stream.
        gc.freeze()
        return trio.run(run_until_signalled, process)


def _validate(options: argparse.Namespace) -> int:
    loaded = _load(_file(options))
    for item in loaded:
        if item.error is None:
            print(f"{item.path}: pipeline {item.require().metadata.name} is valid")
        else:
            print("\n".join(item.error.lines()))
    return CONFIGURATION if any(item.error for item in loaded) else DONE


def _demo(options: argparse.Namespace) -> int:
    from deltaforge import demo

    return demo.run(seconds=options.seconds, api_address=options.api_addr)


# -- parts


def _load(path: Path) -> list[LoadedPipeline]:
    from deltaforge.sinks.kafka.client_conf import check_client_conf

    return load_path(path, os.environ, sink_checks=[check_client_conf])


def _metrics_of(item: LoadedPipeline) -> metrics.PipelineMetrics:
    metadata = item.require().metadata
    return metrics.PipelineMetrics(metadata.name, metadata.tenant)


def _parked(item: LoadedPipeline) -> PipelineView:
    lines = item.error.lines() if item.error else []
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return PipelineView(name=item.path.stem, state="failed", detail=f"not started: {lines[0]}{more}")


def _encoder_name() -> str:
    from deltaforge.envelopes.base import make_encoder, spec_for

    return make_encoder(spec_for(topic="t", topic_prefix="t", database="t")).name


def _file(options: argparse.Namespace) -> Path:
    if (options.file is None) == (options.config is None):
        raise ConfigError("name one pipeline file or directory", hint="python -m deltaforge FILE")
    return Path(options.file or options.config)


# -- arguments


def _with_command(arguments: list[str]) -> list[str]:
    """`FILE` and `--config FILE` mean `run FILE`."""
    if not arguments or arguments[0] in (*COMMANDS, "-h", "--help", "--version"):
        return arguments
    first = arguments[0]
    meant = get_close_matches(first.lstrip("-"), (*COMMANDS, "help", "version"), n=1, cutoff=0.7)
    if meant and not Path(first).exists():
        shown = f"--{meant[0]}" if meant[0] in ("help", "version") else meant[0]
        raise ConfigError(f"there is no command and no file {first}", hint=f"did you mean {shown}?")
    return ["run", *arguments]


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        print(f"deltaforge {__version__} ({_encoder_name()} encoder)")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deltaforge",
        usage="%(prog)s [run] FILE [OPTIONS] | validate FILE | demo | --version | COMMAND --help",
        description="Committed row changes from PostgreSQL into Kafka, exactly once.",
        epilog="Exit codes: 0 done, 1 bug or all pipelines failed, 2 configuration, 3 blocked when stopped, 4 refused.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="version and encoder, then end")
    commands = parser.add_subparsers(required=True, metavar="FILE or COMMAND", prog="deltaforge")
    _add_run(commands.add_parser("run", help="run the pipelines of a file or directory (the default command)"))
    validate = commands.add_parser("validate", help="print every problem of a pipeline file")
    _add_file(validate)
    _add_logging(validate)
    validate.set_defaults(action=_validate)
    demo = commands.add_parser("demo", help="PostgreSQL, Kafka and a live workload on this machine")
    demo.add_argument("--seconds", type=_positive, metavar="N", help="stop by itself after N seconds")
    _add_address(demo)
    _add_logging(demo)
    demo.set_defaults(action=_demo)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    _add_address(parser)
    parser.add_argument(
        "--adopt-slot", type=_lsn, metavar="LSN", help="take over an existing slot that stands at exactly this position"
    )
    parser.add_argument(
        "--accept-gap", type=_lsn, metavar="LSN", help="go on although changes up to this position are lost"
    )
    parser.add_argument(
        "--grace", type=_positive, default=25.0, metavar="SECONDS", help="time for a drain after SIGTERM (default 25)"
    )
    parser.add_argument(
        "--stall-after",
        type=_positive,
        default=30.0,
        metavar="SECONDS",
        help="restart an actor that is silent for so long (default 30)",
    )
    _add_logging(parser)
    parser.set_defaults(action=_run)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="pipeline file, or a directory of them")
    parser.add_argument("--config", metavar="FILE", help="the same")


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--api-addr",
        type=_address,
        default=("127.0.0.1", 8080),
        metavar="HOST:PORT",
        help=f"where the admin HTTP listens (default 127.0.0.1:8080); beyond loopback it needs {TOKEN_VARIABLE}",
    )


def _add_logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-format", choices=("auto", "json", "text"), default="auto", help="auto: text on a terminal"
    )
    parser.add_argument("--log-level", choices=tuple(logs.LEVELS), default="info")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = "127.0.0.1" if host == "localhost" else host
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError("expected HOST:PORT, as in 127.0.0.1:8080")
    return host, int(port)


def _lsn(text: str) -> Lsn:
    try:
        return Lsn.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError("expected an LSN, as in 16/B374D848") from None


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("expected a number of seconds above zero")
    return value
