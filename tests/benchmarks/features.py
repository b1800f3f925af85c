"""How fast features are made, stored and gathered: `python -m tests.benchmarks.features [--seconds 60]`.

CPU time of one thread, from decoded samples on, process start and compilation apart; reading and decoding the audio
beside it. Only the ratios of one run mean something. Needs ../shared.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from asr_kd.core.parallel import available_cores
from asr_kd.core.torchaudio_stub import import_torchaudio
from asr_kd.data.audio import read_utterance
from asr_kd.data.manifest import Utterance
from asr_kd.features.config import FeatureConfig, mfcc_config
from asr_kd.features.extract import extract_features
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.spectral import FeatureExtractor
from asr_kd.features.splice import SplicedFrames
from tests.conftest import SHARED
from tests.features.test_frame_store import write_sparse_store

KALDI = 2500  # x real time per core, CPU time: compute-fbank-feats, 40 bins
REQUIRED = KALDI / 1.5
UTTERANCES = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of work for the main figure")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    utterances = speechocean_utterances()
    audio = sum(utterance.duration for utterance in utterances)
    print(f"speechocean762: {len(utterances)} utterances of {audio / len(utterances):.1f} s")

    begin = time.process_time()
    recordings = [read_utterance(utterance)[0] for utterance in utterances]
    print(f"decoding Ogg Vorbis: {audio / (time.process_time() - begin):,.0f} x real time")

    rate = cpu_rate(FeatureExtractor(FeatureConfig()), recordings, seconds)
    print(f"40 log-mel bins, {seconds:g} s of work: {rate:,.0f} x real time = {rate / KALDI:.2f} x Kaldi's "
          f"({'reaches' if rate >= REQUIRED else 'MISSES'} {REQUIRED:,.0f})")
    for name, config in [("13 MFCC", mfcc_config()), ("40 MFCC", mfcc_config(num_mel_bins=40, num_ceps=40))]:
        rate = cpu_rate(FeatureExtractor(config), recordings, seconds / 20)
        print(f"{name}: {rate:,.0f} x real time = {rate / KALDI:.2f} x Kaldi's filterbanks")
    import_torchaudio()
    from torchaudio.compliance import kaldi

    def by_torchaudio(samples: np.ndarray) -> object:
        return kaldi.fbank(torch.from_numpy(samples)[None], num_mel_bins=40, dither=0.0)

    rate = cpu_rate(by_torchaudio, recordings[:50], seconds / 20)
    print(f"torchaudio.compliance.kaldi, 40 log-mel bins: {rate:,.0f} x real time = {rate / KALDI:.2f} x Kaldi's")

    with tempfile.TemporaryDirectory() as folder:
        stored(Path(folder), utterances, audio)


def stored(folder: Path, utterances: list[Utterance], audio: float) -> None:
    """From files to a store, and from a store to minibatches."""
    walls = {}
    for workers in sorted({1, available_cores()}):
        begin = time.perf_counter()
        extract_features(utterances, FeatureConfig(), folder / "store", workers=workers)
        walls[workers] = time.perf_counter() - begin
        print(f"files to normalised store, {workers} worker(s): {audio / walls[workers]:,.0f} x real time (wall), "
              f"{walls[1] / walls[workers]:.2f} x one worker")

    store = FrameStore.open(folder / "store")
    order = np.random.default_rng(0).permutation(store.num_frames)
    batches = np.split(order[: len(order) // 2048 * 2048], len(order) // 2048)
    plain = batches[:20]
    begin = time.process_time()
    for batch in plain:
        row_by_row(store, batch)
    baseline = 2048 * len(plain) / (time.process_time() - begin)
    for dtype in (torch.float32, torch.bfloat16):
        spliced = SplicedFrames.of(store, 7, 7, dtype=dtype)
        spliced.gather(batches[0])
        begin = time.process_time()
        for batch in batches:
            spliced.gather(batch)
        rate = 2048 * len(batches) / (time.process_time() - begin)
        print(f"gathering 15 x 40, batch 2,048, {str(dtype).removeprefix('torch.')}: {rate:,.0f} frames/s, "
              f"{rate / baseline:.0f} x numpy's indexing")

    write_sparse_store(folder / "large", 400, 25_000)
    begin = time.perf_counter()
    frames = FrameStore.open(folder / "large").num_frames
    print(f"opening a store of {frames:,} frames: {time.perf_counter() - begin:.3f} s")


def row_by_row(store: FrameStore, batch: np.ndarray) -> torch.Tensor:
    """What SplicedFrames does, in plain numpy."""
    utterance = np.searchsorted(store.offsets, batch, side="right") - 1
    rows = batch[:, None] + np.arange(-7, 8)
    rows = np.clip(rows, store.offsets[utterance][:, None], store.offsets[utterance + 1][:, None] - 1)
    return torch.from_numpy(store.frames[rows].astype(np.float32).reshape(len(batch), -1))


def cpu_rate(extract: Callable[[np.ndarray], object], recordings: list[np.ndarray], seconds: float) -> float:
    """Seconds of 16 kHz audio per CPU second, over at least `seconds` of work."""
    extract(recordings[0])
    samples, begin = 0, time.process_time()
    while time.process_time() - begin < seconds:
        for recording in recordings:
            extract(recording)
            samples += len(recording)
    return samples / 16000 / (time.process_time() - begin)


def speechocean_utterances() -> list[Utterance]:
    root = SHARED / "corpora" / "speechocean762"
    speakers = dict(line.split() for line in (root / "train" / "utt2spk").read_text().splitlines())
    utterances = []
    for line in (root / "train" / "wav.scp").read_text().splitlines()[:UTTERANCES]:
        utterance_id, path = line.split()
        duration = soundfile.info(str(root / path)).duration
        utterances.append(Utterance(utterance_id, speakers[utterance_id], "", root / path, 0.0, duration, 16000))
    return utterances


if __name__ == "__main__":
    main()
