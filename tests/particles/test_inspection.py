"""Inspection: remarks are gathered and still logged; missing stacks are told, other faults raised."""

from __future__ import annotations

import logging
import threading

import pytest

from tests.particles.small_sets import WarpSeries, WarpToolsSet
from tomodrgn.particles.inspection import collected_remarks, inspect_particles

ROOM = logging.getLogger("tomodrgn.particles")


def test_remarks_are_of_this_thread_once_each_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    logger, level = logging.getLogger("tomodrgn.particles.read"), ROOM.level
    with collected_remarks() as remarks:
        other = threading.Thread(target=logger.warning, args=("elsewhere",))
        other.start()
        other.join()
        for _ in range(2):
            logger.warning("count %s", 3)
        logger.info("by the way")
        logger.debug("too much")
        logging.getLogger("tomodrgn.io").warning("another room")
    assert remarks == ["count 3", "by the way"]
    assert caplog.messages == ["elsewhere", "another room"]
    logger.warning("later")
    assert remarks == ["count 3", "by the way"]
    assert (ROOM.level, ROOM.handlers) == (level, [])


def test_the_logger_is_as_before_after_an_error(warp: WarpSeries) -> None:
    level = ROOM.level
    warp.rows = warp.rows.assign(rlnDefocusU="x")
    warp.write()
    with pytest.raises(ValueError, match="rlnDefocusU"):
        inspect_particles(warp.path)
    assert (ROOM.level, ROOM.handlers) == (level, [])


def test_with_and_without_stacks(warptools: WarpToolsSet) -> None:
    whole = inspect_particles(warptools.path)
    assert whole.missing is None
    assert whole.facts()["image_stacks"] == {"number": 3, "missing": 0, "first_missing": None, "option": None}
    first = warptools.rows["rlnImageName"].iloc[0]
    (warptools.folder / first).unlink()
    found = inspect_particles(warptools.path)
    assert found.missing is not None
    assert found.facts()["image_stacks"] == {
        "number": 3, "missing": 1, "first_missing": first, "option": "--datadir DIR"
    }  # fmt: skip
    assert found.remarks == whole.remarks
    differ = {name for name, value in found.facts().items() if value != whole.facts()[name]}
    assert differ == {"image_stacks"}
