"""A VAP expert from one's own pairs: what is refused before anything is loaded. (tests/mini trains one.)"""

from pathlib import Path

import pytest

from semantic_video.cli.own_expert import PARTS, Files, run
from semantic_video.training.plan import Plan


@pytest.mark.parametrize(
    ("resume", "message"),
    [
        (False, r"--out .*: holds vap_expert.safetensors already. Name another folder, delete the file, or give "),
        (True, "resume: there is no checkpoint .*would write over vap_expert.safetensors"),
    ],
)
def test_a_finished_expert_is_not_written_over(tmp_path, resume, message):
    pair = tmp_path / "pairs" / "first"
    pair.mkdir(parents=True)
    for name in PARTS:
        (pair / name).write_bytes(b"")
    finished = tmp_path / "vap_expert.safetensors"
    finished.write_bytes(b"a night's work")
    missing = Path("missing.safetensors")
    files = Files(missing, missing, missing, pair.parent, (0,))
    with pytest.raises(ValueError, match=message):
        run(Plan("expert", tmp_path / "cache", 1, resume=resume), tmp_path, None, files)
    assert finished.read_bytes() == b"a night's work"
