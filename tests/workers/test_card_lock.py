"""Who has a card: locks within this process, as between two, and what dead ones have left."""

from __future__ import annotations

import os

import msgspec
import psutil
import pytest

from workers.card_lock import cards_folder, hold, holders, keep
from workers.protocol.cards import Holder

pytestmark = pytest.mark.usefixtures("runtime_folder")


def me(**changes: object) -> Holder:
    started = psutil.Process().create_time()
    named = Holder(pid=os.getpid(), started=started, job="/jobs/a", name="small", kind="train")
    return msgspec.structs.replace(named, **changes)


def test_one_alone_keeps_everyone_out_until_it_is_done() -> None:
    mine = hold("GPU-a", me())
    assert mine is not None
    with mine:
        assert hold("GPU-a", me()) is None
        assert hold("GPU-a", me(), shared=True) is None
        assert [holder.words for holder in holders("GPU-a")] == ["small is training"]
        other = hold("GPU-b", me())
        assert other is not None, "another card is another lock"
        with other:
            pass
    assert holders("GPU-a") == []
    after = hold("GPU-a", me())
    assert after is not None
    with after:
        pass


def test_chats_share_a_card_and_keep_trainings_out() -> None:
    first = hold("GPU-a", me(kind="chat"), shared=True)
    second = hold("GPU-a", me(kind="chat"), shared=True)
    assert first is not None
    assert second is not None
    with first:
        with second:
            pass
        assert hold("GPU-a", me()) is None


def test_a_card_is_kept_for_a_job_that_begins_anew() -> None:
    def may(holder: Holder) -> bool:
        lock = hold("GPU-a", holder)
        if lock is not None:
            with lock:
                pass
        return lock is not None

    mine, other = me(), me(job="/jobs/b")
    assert may(mine)
    keep("GPU-a", mine)
    assert not may(other)
    assert may(mine)
    assert may(other), "taken up again, it is kept no more"
    keep("GPU-a", mine, seconds=-1.0)
    assert may(other), "for a while only"
    keep("GPU-a", me(pid=4194000))
    assert may(other), "and while its process lives"


def test_a_dead_process_is_no_holder_and_its_name_is_cleared_away() -> None:
    folder = cards_folder() / "GPU-a"
    folder.mkdir(parents=True)
    left = folder / "4194000.json"
    left.write_bytes(msgspec.json.encode(me(pid=4194000)))
    reused = folder / f"{os.getpid()}.json"
    reused.write_bytes(msgspec.json.encode(me(started=1.0)))  # this pid, of an earlier process
    (folder / "1.json").write_text('{"half')

    assert holders("GPU-a") == []
    mine = hold("GPU-a", me())
    assert mine is not None
    with mine:
        assert not left.exists()
        assert holders("GPU-a") == [me()]
