"""A small corpus for training tests: frames whose pdf-ids a network can learn."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_kd.features.frame_store import FrameStore, FrameStoreWriter

DIM, PDFS = 4, 6


def write_corpus(folder: Path, speakers: int = 6, frames: int = 120) -> tuple[FrameStore, NDArray[np.int32]]:
    """A store of two utterances a speaker, and a pdf-id a frame that depends on the frame and its neighbours."""
    generator = np.random.default_rng(5)
    projection = generator.standard_normal((3 * DIM, PDFS))
    pdf_ids = []
    with FrameStoreWriter(folder, DIM, "float16", {"kind": "synthetic"}) as writer:
        for speaker in range(speakers):
            for utterance in range(2):
                matrix = generator.standard_normal((frames + 7 * utterance, DIM)).astype(np.float16)
                writer.add(f"s{speaker}-{utterance}", f"s{speaker}", matrix.astype(np.float32))
                padded = np.concatenate([matrix[:1], matrix, matrix[-1:]])
                spliced = np.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=1)
                pdf_ids.append((spliced @ projection).argmax(1))
    return FrameStore.open(folder), np.concatenate(pdf_ids).astype(np.int32)
