"""Returning to an earlier champion, also where a version, a run or a file was deleted."""

import re
from pathlib import Path

import pytest

from tests.tracking.promotion import ALL, BY, NAME, Command, Copy, pasted, two_versions

pytestmark = pytest.mark.slow


def test_better_cell_replaces_champion_and_rollback_undoes_it(copy: Copy, opscore: Command) -> None:
    first, second = copy.run("baseline").info.run_id, copy.run("quantize_int8").info.run_id
    opscore("promote", BY.format("baseline"))
    out = opscore("promote", BY.format("quantize_int8"))
    assert "It is version 2 of opscore-digits now, the champion, version 1 is previous." in out
    assert copy.aliases() == {"champion": second, "previous": first}
    tags = copy.versions()["2"]
    assert tags["replaced"] == f"version 1, run {first}"
    assert re.search(r"\d\.\d\d dB against \d+\.\d\d dB", tags["gate/score"])
    assert "95% interval of the difference" in tags["gate/accuracy"]
    before = copy.state()
    assert "Dry run: version 1 of opscore-digits would be champion" in opscore("rollback", "--dry-run")
    assert copy.state() == before
    assert "Version 1 of opscore-digits is champion again" in opscore("rollback")
    assert copy.aliases() == {"champion": first, "previous": second}
    # Promoted again it is the version that it was.
    out = opscore("promote", BY.format("quantize_int8"))
    assert "It is version 2 of opscore-digits now" in out, out
    assert copy.aliases() == {"champion": second, "previous": first}
    assert set(copy.versions()) == {"1", "2"}


def test_a_mend_names_the_store_that_was_named(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    """Pasted, it must not act on the default store."""
    two_versions(copy, opscore)
    message = opscore("rollback", "--version", "2", fails=True)
    assert f"--version 1 --tracking-uri {copy.uri}`" in message or f"--tracking-uri {copy.uri} --version 1`" in message
    done = pasted(message, f"sqlite:///{tmp_path / 'another.db'}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert copy.aliases()["champion"] == copy.run("baseline").info.run_id


def test_a_champion_whose_version_was_deleted_is_rolled_back(copy: Copy, opscore: Command) -> None:
    first, _ = two_versions(copy, opscore)
    copy.client.delete_model_version(NAME, "2")
    before = copy.state()
    out = opscore("rollback", "--dry-run")
    assert "version 1 of opscore-digits would be champion again, none is previous, as the champion's was deleted" in out
    assert copy.state() == before
    back = f"where there is previous: return with `opscore rollback --dataset digits --tracking-uri {copy.uri}`"
    assert back in opscore("pull", fails=True)
    assert "Version 1 of opscore-digits is champion again, none is previous" in opscore("rollback")
    assert copy.aliases() == {"champion": first}
    assert "got none, where there is version 1 and 1 is the champion: promote a second one first" in opscore(
        "rollback", fails=True
    )


def test_rollback_without_previous_lists_the_versions(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    first, second = two_versions(copy, opscore)
    opscore("promote", BY.format("quantize_float16"), "--anew")
    third = copy.run("quantize_float16").info.run_id
    assert copy.aliases() == {"champion": third, "previous": second}
    copy.client.delete_model_version(NAME, "2")
    message = opscore("rollback", fails=True)
    assert "got none, where there are versions 1, 3 and 3 is the champion" in message
    assert pasted(message, copy.uri, tmp_path).returncode == 0
    assert copy.aliases() == {"champion": first, "previous": third}
    for number, expected in (("2", "must be one of 1, 3, got 2"), ("1", "another than the champion's"), ("x", "got x")):
        assert expected in opscore("rollback", f"version={number}", fails=True)
    # The champion is deleted as well, so that none has an alias but previous.
    copy.client.delete_model_version(NAME, "1")
    opscore("rollback")
    assert copy.aliases() == {"champion": third}


def test_previous_stays_where_the_champion_was_deleted(copy: Copy, opscore: Command) -> None:
    first, second = two_versions(copy, opscore)
    opscore("promote", BY.format("quantize_float16"), "--anew")
    copy.client.delete_model_version(NAME, "3")
    out = opscore("rollback", "--version", "1")
    assert "Version 1 of opscore-digits is champion again, version 2 is previous." in out
    assert copy.aliases() == {"champion": first, "previous": second}


def test_without_any_alias_a_version_can_be_named(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    first, second = two_versions(copy, opscore)
    for alias in ("champion", "previous"):
        copy.client.delete_registered_model_alias(NAME, alias)
    message = opscore("rollback", fails=True)
    assert "where there are versions 1, 2 and no champion" in message
    copy.client.set_registered_model_alias(NAME, "previous", "1")
    assert pasted(message, copy.uri, tmp_path).returncode == 0
    # Version 2 was named, so previous stays version 1.
    assert copy.aliases() == {"champion": second, "previous": first}


def test_a_deleted_model_is_registered_again(copy: Copy, opscore: Command) -> None:
    two_versions(copy, opscore)
    copy.client.delete_registered_model(NAME)
    message = opscore("rollback", fails=True)
    assert "has no version in" in message and "`opscore promote --dataset digits --tracking-uri " in message
    assert "there is none" in opscore("pull", fails=True)
    assert "It is version 1 of opscore-digits now" in opscore("promote", ALL)


def test_version_with_lost_model_is_not_restored(copy: Copy, opscore: Command) -> None:
    two_versions(copy, opscore)
    before = copy.aliases()
    place = Path(copy.client.get_model_version_download_uri(NAME, "1").removeprefix("file://"))
    (exported_model,) = place.rglob("model.tflite")
    try:
        exported_model.rename(exported_model.with_suffix(".away"))
        message = opscore("rollback", fails=True)
    finally:
        exported_model.with_suffix(".away").rename(exported_model)
    assert "the exported model of version 1 of opscore-digits is lost" in message
    # Not to return to the champion itself.
    assert "the champion, version 2, is another" in message and "--version" not in message
    assert copy.aliases() == before


def test_a_lost_champion_can_be_restored_left_or_replaced(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    first, second = two_versions(copy, opscore)
    copy.client.delete_run(second)
    message = opscore("promote", BY.format("quantize_float16"), fails=True)
    assert "the champion, is lost" in message and "\n" not in message
    # One may do without the run: to return, and to fetch what is in operation.
    assert "SHA-256 verified" in opscore("pull", f"out={tmp_path / 'pulled'}")
    opscore("rollback")
    assert copy.aliases() == {"champion": first, "previous": second}
    opscore("rollback")
    # Or replace it.
    out = opscore("promote", BY.format("quantize_float16"), "--anew", "--dry-run")
    assert "in the place of version 2; nothing was changed" in out
    # Or bring it back.
    assert pasted(message, copy.uri, tmp_path).returncode == 0
    assert "Traceback" not in opscore("promote", BY.format("quantize_int8"))
    assert "It is version 3" in opscore("promote", BY.format("quantize_float16"), "--anew")
    assert copy.aliases() == {"champion": copy.run("quantize_float16").info.run_id, "previous": second}


def test_a_champion_that_is_no_cell_is_left_or_replaced(copy: Copy, opscore: Command) -> None:
    """Somebody registered a model of their own."""
    two_versions(copy, opscore)
    own = copy.client.create_run(copy.experiment.experiment_id).info.run_id
    number = copy.client.create_model_version(NAME, source=f"runs:/{own}/model", run_id=own).version
    copy.client.set_registered_model_alias(NAME, "champion", number)
    message = opscore("promote", BY.format("quantize_int8"), "--dry-run", fails=True)
    assert f"the champion, must be of a cell that opscore has finished, got run {own}" in message
    assert "nothing was changed" in opscore("promote", BY.format("quantize_int8"), "--anew", "--dry-run")
