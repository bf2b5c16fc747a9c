"""What planner and adapter files say of themselves, and what is refused."""

import json

import pytest

from semantic_video.kernels.plan_spec import PlanAdapterSpec, PlannerSpec

ADAPTER = PlanAdapterSpec("wan", width=48, heads=2, blocks=(0, 2), dims=3, encoder="e")
PLANNER = PlannerSpec(3, "e", 32, width=48, heads=2, blocks=2, ffn=96, rows=2, columns=3, fps=1.5)


@pytest.mark.parametrize("spec", [ADAPTER, PLANNER])
def test_metadata_is_read_back(spec):
    assert type(spec).read(spec.metadata) == spec


def changed(spec, **config):
    found = json.loads(spec.metadata["config"]) | config
    return spec.metadata | {"config": json.dumps({k: v for k, v in found.items() if v is not None})}


@pytest.mark.parametrize(
    ("kind", "metadata", "message"),
    [
        (PlannerSpec, {}, "is no Semantic Planner: its metadata gives the format as None, expected semantic-planner"),
        (PlanAdapterSpec, PLANNER.metadata, "is no Plan Adapter: .* as semantic-planner"),
        (PlannerSpec, PLANNER.metadata | {"version": "2"}, "of version 2; this pack reads 1. Update the pack"),
        (PlannerSpec, PLANNER.metadata | {"config": "[" * 9999}, '"config" is no JSON object'),
        (PlannerSpec, PLANNER.metadata | {"config": "[1]"}, '"config" is no JSON object'),
        (PlannerSpec, changed(PLANNER, heads=None), "lacks, or has too much: 'heads'"),
        (PlannerSpec, changed(PLANNER, colour=1), "lacks, or has too much: 'colour'"),
        (PlannerSpec, changed(PLANNER, width="48"), "damaged: width is '48'"),
        (PlannerSpec, changed(PLANNER, width=True), "damaged: width is 'True'"),
        (PlannerSpec, changed(PLANNER, width=50, heads=3), "width 50: must divide into 3 heads"),
        (PlannerSpec, changed(PLANNER, blocks=10**6), "blocks 1000000: must be from 1 to 1000"),
        (PlannerSpec, changed(PLANNER, fps=0), "fps 0.0: must be from 0.001"),
        (PlanAdapterSpec, changed(ADAPTER, blocks=[1, 0]), r"blocks \(1, 0\): must be block numbers in rising order"),
        (PlanAdapterSpec, changed(ADAPTER, blocks=[0, 1000]), r"blocks \(0, 1000\): must be from 0 to 999"),
        (PlanAdapterSpec, changed(ADAPTER, blocks=[0.5]), r"damaged: blocks is '\[0.5\]'"),
        (PlanAdapterSpec, changed(ADAPTER, family="flux"), "family 'flux': must be one of wan, hunyuan"),
        (PlanAdapterSpec, changed(ADAPTER, seen=0), "seen 0: must be from 1"),
    ],
)
def test_what_is_refused(kind, metadata, message):
    with pytest.raises(ValueError, match=message):
        kind.read(metadata)


def test_axes_fill_the_head():
    assert ADAPTER.axes == (8, 8, 8) and sum(PLANNER.axes) == 24
    assert PlanAdapterSpec("wan", 128, 1, (0,), 3, "e").axes == (44, 42, 42)
    assert PlanAdapterSpec("hunyuan", 128, 1, (0,), 3, "e").axes == (16, 56, 56)
