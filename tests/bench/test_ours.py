"""The bench's own agent and process server, on a small disk: a figure counts only when every chunk arrived."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.azurite import throttled
from bench.content import PIECE_BYTES, Content, write_image
from bench.disk import LoopDisk, WrongCopy
from bench.ours import Replicating

pytestmark = pytest.mark.real


@pytest.mark.parametrize("store", ["that takes everything", "behind the throttle"])
def test_a_replica_is_complete_and_a_wrong_one_is_noticed(tmp_path: Path, store: str) -> None:
    image = tmp_path / "image"
    write_image(image, Content("test"), 80 * PIECE_BYTES)
    with ExitStack() as made:
        azurite = made.enter_context(throttled(tmp_path / "azurite")) if store == "behind the throttle" else None
        disk = LoopDisk(image)
        made.callback(disk.close)
        ours = Replicating(tmp_path / "ours", disk, azurite)
        made.callback(ours.close)
        received, stored = ours.wait_until_stored(120)
        assert ours.begun < received <= stored
        ours.require_equal()
        begun = disk.write(Content("change"), PIECE_BYTES, 4096)
        received, stored = ours.wait_until_stored(120)
        assert begun < received <= stored
        ours.require_equal()
        with image.open("r+b") as file:  # below the device, where nobody tracks
            file.seek(60 * PIECE_BYTES)
            file.write(b"changed by nobody")
        with pytest.raises(WrongCopy):
            ours.require_equal()
