"""A graph's folder: digests cover every file that decoding uses."""

import json
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.arrays import read_npy, write_npy
from asr_kd.core.errors import InputError
from asr_kd.decoding.graph import DecodingGraph, with_lexicon_of, write_lexicon
from asr_kd.graph.hclg import build_graph
from tests.graph.toy import Toy


@pytest.fixture
def folder(toy: Toy, tmp_path: Path) -> Path:
    build_graph(toy.hmm, toy.model, tmp_path / "graph")
    write_lexicon(tmp_path / "graph", toy.hmm.lexicon)
    return tmp_path / "graph"


def alter(path: Path) -> None:
    """Other content that each reader by itself would take."""
    if path.suffix == ".npy":
        pdfs = read_npy(path)
        pdfs[1:] = np.roll(pdfs[1:], 1)
        write_npy(path, pdfs)
    elif path.suffix == ".fst":
        content = bytearray(path.read_bytes())
        content[-8] ^= 1  # the lowest bit of the last arc's cost
        path.write_bytes(bytes(content))
    else:
        text = path.read_text()
        path.write_text(text.replace("A", "Z", 1) if path.suffix == ".txt" else text.replace("0.4", "0.3", 1))


@pytest.mark.parametrize("name", ["HCLG.fst", "transition_pdfs.npy", "words.txt", "lexicon.json"])
def test_an_altered_file_is_refused_by_name(folder: Path, name: str) -> None:
    before = (folder / name).read_bytes()
    alter(folder / name)
    assert (folder / name).read_bytes() != before
    with pytest.raises(InputError, match=f"{name}: not the file that graph.json describes"):
        DecodingGraph.load(folder)


def test_a_graph_of_before_the_new_digests_is_read(folder: Path, toy: Toy) -> None:
    value = json.loads((folder / "graph.json").read_text())
    for name in ("transition_pdfs", "words", "lexicon_file"):
        del value[name]
    (folder / "graph.json").write_text(json.dumps(value))
    graph = DecodingGraph.load(folder, toy.hmm.digest)
    assert with_lexicon_of(folder, toy.hmm, graph.words).lexicon.words == toy.hmm.lexicon.words
