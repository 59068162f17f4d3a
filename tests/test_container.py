"""The Dockerfile, as far as it can be judged without Docker."""

import json
import re

from composing import ROOT, run

from experiments import __main__ as command

DOCKERFILE = ROOT / "docs" / "Dockerfile"


def words_of(instruction: str) -> list[str]:
    text = DOCKERFILE.read_text(encoding="utf-8")
    return json.loads(re.findall(rf"^{instruction} (\[.*\])$", text, re.MULTILINE)[0])


def test_without_words_it_trains_the_first_sweep(capsys):
    assert words_of("ENTRYPOINT") == ["plainres"]
    assert command.main([*words_of("CMD"), "--show"]) == 0
    assert "protocol=quick" in capsys.readouterr().out


def test_the_image_has_every_tracked_file_so_that_records_name_a_clean_commit():
    ignored = f"--exclude-from={DOCKERFILE}.dockerignore"
    left_out = run("git", "ls-files", "--cached", "--ignored", ignored)
    assert left_out.returncode == 0
    assert not left_out.stdout
