"""Other packs beside ours: what docs/compatibility.md says of each pair is what happens, with the user's own copies."""

import os
import re

import pytest
import torch

from semantic_video.cli.demo_shots import write_inputs
from semantic_video.cli.server import ROOT, Server
from semantic_video.harness.stand_in_models import TOY_NODES, write_toys
from semantic_video.harness.stand_ins import start_host
from semantic_video.mini import family as mini
from semantic_video.tests.workflows import peers
from semantic_video.tests.workflows.conftest import HOST

PAGE = ROOT / "docs" / "compatibility.md"
CELL = re.compile(r"(works|warned|refused)(?: / (works|warned|refused))?")
FOUND = peers.folders(HOST)


def rows() -> dict[str, list[tuple[str, ...]]]:
    """{peer: for each of our techniques (the peer before ours, after ours)} of the page's tables."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 1 + len(peers.OURS) and all(map(CELL.fullmatch, cells[1:])):
            said = [CELL.fullmatch(cell).groups() for cell in cells[1:]]
            found[cells[0].split(": ")[-1]] = [(before, after or before) for before, after in said]
    return found


def test_the_page_has_a_row_for_every_node_that_is_tried():
    assert set(rows()) == {*peers.MODEL_NODES, *peers.SAMPLERS}


@pytest.fixture(scope="module")
def peer_server(tmp_path_factory):
    base = tmp_path_factory.mktemp("peers")
    server = Server(HOST, base, packs=(ROOT, TOY_NODES), modules=(mini.NODES,), arguments=mini.mount(base))
    start_host(HOST)
    write_toys(base / "models")
    write_inputs(base / "input")
    for folder in FOUND:
        (base / "custom_nodes" / folder.name).symlink_to(folder)
    with server:
        info = server.get("/object_info")
        server.known, server.samplers = set(info), str(info["KSampler"]["input"]["required"]["sampler_name"])
        yield server


@pytest.fixture(scope="module")
def alone(peer_server):
    """alone(technique) -> the latent of its workflow without a peer."""
    made = {}

    def of(technique: str) -> torch.Tensor:
        if technique not in made:
            made[technique] = peers.run(peer_server, peers.graph_of(technique)[0])[2]
        return made[technique]

    return of


def test_which_packs_are_here():
    missing = [name for name in peers.PACKS if name not in {folder.name for folder in FOUND}]
    if missing:
        where = os.environ.get(peers.PEERS) or (HOST and HOST / "custom_nodes")
        pytest.skip(f"NOT TRIED beside {', '.join(missing)}: not in {where}. {peers.PEERS} names a folder of packs.")


if FOUND:

    @pytest.mark.parametrize("technique", peers.OURS)
    @pytest.mark.parametrize("peer", peers.MODEL_NODES)
    def test_on_the_model(peer_server, alone, peer, technique):
        if peers.MODEL_NODES[peer][0] not in peer_server.known:
            pytest.skip(f"{peer}: its pack is not there, or did not load")
        graph, name = peers.graph_of(technique)
        with_peer = [peers.with_node(graph, name, peer, before) for before in (True, False)]
        ends = [peers.run(peer_server, both) for both in with_peer]
        assert tuple(end for end, _, _ in ends) == rows()[peer][list(peers.OURS).index(technique)], ends
        off = peers.run(peer_server, peers.without(with_peer[0], name))
        assert off[0] == "works", "the peer alone"
        check(alone(technique), ends, off[2])
        if all(end == "works" for end, _, _ in ends):
            assert torch.equal(ends[0][2], ends[1][2]), "the order of nodes must not matter"

    @pytest.mark.parametrize("technique", peers.OURS)
    @pytest.mark.parametrize("peer", peers.SAMPLERS)
    def test_in_the_sampler(peer_server, alone, peer, technique):
        if peer not in peer_server.samplers:
            pytest.skip(f"{peer}: its pack is not there, or did not load")
        graph, name = peers.graph_of(technique)
        both = peers.with_sampler(graph, peer)
        ends, off = [peers.run(peer_server, both)], peers.run(peer_server, peers.without(both, name))
        assert ends[0][0] == rows()[peer][list(peers.OURS).index(technique)][0], ends
        check(alone(technique), ends, off[2])


def check(alone: torch.Tensor, ends: list, peer: torch.Tensor) -> None:
    """What works acts beside the peer, which acts too; what is warned of leaves the peer's video as it is."""
    for end, _, latent in ends:
        if end == "refused":
            continue
        assert torch.isfinite(latent).all() and latent.shape == alone.shape
        assert torch.equal(latent, peer) == (end == "warned")
        assert not torch.equal(latent, alone)
