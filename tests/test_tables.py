"""Folders of one question: found, missing, and of different images."""

import pytest
from made_up import made_up_record

from experiments.judging.pairs import read_folders, require_same_images
from experiments.lineage.claims import QUESTION
from plainres.records.files import RUNS_TABLE, write_table
from plainres.records.schema import Record


def measured(folder, **images) -> None:
    for name, fingerprint in images.items():
        write_table(
            folder / name / RUNS_TABLE,
            [made_up_record(data_fingerprint=fingerprint, data_label=f"label {fingerprint}")],
            Record,
        )


def test_folders_are_read_by_name(tmp_path):
    measured(tmp_path, b="1", a="1")
    found = read_folders(tmp_path, "sweep-x")
    assert list(found) == ["a", "b"]
    assert [len(records) for records in found.values()] == [1, 1]
    require_same_images(found)


def test_none_is_said_with_the_target_that_measures_them(tmp_path):
    with pytest.raises(ValueError, match=r"no records in .*; make sweep-x measures them"):
        read_folders(tmp_path, "sweep-x")


def test_errors_on_different_images_are_not_compared(tmp_path):
    measured(tmp_path, residual20="1", se20="2")
    with pytest.raises(
        ValueError, match=r"residual20 was measured on label 1 and se20 on other images \(label 2\)"
    ):
        require_same_images(read_folders(tmp_path, "sweep-x"))
    with pytest.raises(ValueError, match="they cannot be compared"):
        QUESTION.read(tmp_path)
