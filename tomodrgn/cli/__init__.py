"""The same verbs from a shell, for batch queues and for the widgets that start them.

Exit codes: 0 done, 1 the work failed, 2 the input or the options are wrong, 130 interrupted (Ctrl-C).
An error that the package did not foresee is printed with its traceback, and is a failure of the work.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback

from cyclopts import App, CycloptsError

from tomodrgn import __version__
from tomodrgn.cli.analysis_verbs import analyze, mapback, validate
from tomodrgn.cli.filter_verb import filter_particles
from tomodrgn.cli.folder_verbs import clean, import_run
from tomodrgn.cli.lab_verb import lab
from tomodrgn.cli.particle_verbs import info, simulate
from tomodrgn.cli.position_verbs import convert_positions
from tomodrgn.cli.run_verbs import backproject, demo, embed, generate, train
from tomodrgn.cli.stacks import downsample

__all__ = ["app", "main", "run_command"]

app = App(
    name="tomodrgn",
    help="Structural heterogeneity of particles in cryo-electron tomograms, learned from their tilt images.",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
VERBS = (
    info, train, embed, generate, analyze, validate, mapback, backproject, downsample, convert_positions, simulate,
    demo, lab, clean, import_run,
)  # fmt: skip
for verb in VERBS:
    app.command(verb)
app.command(filter_particles, name="filter")

# Our own errors of these kinds say that the input or the options are wrong; see `_is_own`.
INPUT_ERRORS = (ValueError, KeyError, FileNotFoundError, FileExistsError, BlockingIOError)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Before torch is loaded: threads that wait sleep, so that a second process on the machine is not starved.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors become one line on stderr."""
    logging.basicConfig(format="tomodrgn: %(levelname)s: %(message)s", level=logging.WARNING)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _complain(_option_message(error))
        return 2
    except KeyboardInterrupt:
        resumable = arguments[:1] == ["train"] and "linear" not in arguments
        _complain("interrupted" + "; finished epochs are kept, and --resume goes on after the last one" * resumable)
        return 130
    except Exception as error:
        return _report(error)
    return 0


def _report(error: Exception) -> int:
    """Say what went wrong, and return the exit code."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if _is_own(error, message):
        _complain(message)
        return 2 if isinstance(error, INPUT_ERRORS) else 1
    if isinstance(error, OSError | MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        _complain(f"{type(error).__name__}: {message}")
        return 1
    traceback.print_exception(error)
    _complain(f"{type(error).__name__}: {message}. This is a fault of tomodrgn: please report it with the lines above.")
    return 1


def _is_own(error: Exception, message: str) -> bool:
    """Whether the package raised this on purpose: in its own code, and in the words of its own messages."""
    frames = list(traceback.walk_tb(error.__traceback__))
    raised_in = frames[-1][0].f_globals.get("__name__", "")
    return raised_in.split(".")[0] == "tomodrgn" and message.startswith("Got ")


def _option_message(error: CycloptsError) -> str:
    """One line for a wrong option; of a pydantic error the option and what is wrong with it."""
    details = getattr(error, "exception_message", "") or str(error)
    lines = [line.strip() for line in details.splitlines() if line.strip()]
    if "validation error" in lines[0] and len(lines) >= 3:
        option = "--" + lines[1].replace("_", "-")
        return f"Got a wrong value of {option}: {lines[2].split(' [type=')[0]}. See `tomodrgn train --help`."
    return " ".join(lines) + " See `tomodrgn --help`."


def _complain(message: str) -> None:
    print(f"tomodrgn: {' '.join(message.split())}", file=sys.stderr)
