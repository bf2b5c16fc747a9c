"""Damaged files for every loader, at small size; `python run.py fuzz --cases 9000` is the full size."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semantic_video.cli.fuzz import NAME, case, subjects
from semantic_video.harness.damaged_files import put_together, take_apart
from semantic_video.harness.loader_cases import judge, memory

LOADERS = (
    "SSG Adapter",
    "expert, extracted",
    "expert, its part of a checkpoint",
    "expert, whole checkpoint",
    "CLIP, open_clip",
    "CLIP, Hugging Face",
    "plan",
    "plan compressor",
    "plan adapter",
    "planner",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    pytest.importorskip("open_clip")
    return subjects(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("name", LOADERS)
def test_whole_files_load(whole, name, tmp_path):
    subject = whole[name]
    if subject.config:
        (tmp_path / "config.json").write_text(subject.config, encoding="utf-8")
    (tmp_path / NAME).write_bytes(subject.file)
    assert judge(subject.load, tmp_path / NAME) == ("", True)
    parts = take_apart(subject.file)
    again = take_apart(put_together(parts))
    assert again == parts, "an undamaged file survives being taken apart"


@pytest.mark.parametrize("name", LOADERS)
def test_damaged_files_are_loaded_whole_or_refused_by_name(whole, name, tmp_path_factory):
    folder, size = tmp_path_factory.mktemp("damaged"), memory("VmPeak")  # other tests have run before

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def one(rng):
        assert case(whole[name], rng, folder, size)[0] == ""

    one()


def test_the_judge_sees_what_is_wrong(tmp_path):
    import torch

    def raising(error):
        def load(path):
            raise error

        return load

    def empty(path):
        module = torch.nn.Linear(2, 2)
        module.weight.data.fill_(float("nan"))
        return module

    path = tmp_path / NAME
    assert judge(raising(ValueError(f"{NAME}: damaged")), path) == ("", False)
    assert judge(raising(ValueError("damaged")), path)[0] == f"does not name {NAME}: damaged"
    assert judge(raising(KeyError("x")), path)[0] == "KeyError: 'x'"
    assert judge(empty, path) == ("loaded NaN or uninitialised memory as weight", True)
    if (size := memory("VmSize")) is not None:
        assert "grew by" in judge(lambda path: torch.nn.Linear(2**14, 2**14), path, size - 2**29)[0]
