"""SAT-LHUC: scales of training speakers move with the network, which is kept without them."""

from pathlib import Path

import torch

from asr_kd.models.highway import HighwayDNN
from asr_kd.models.lhuc import add_speaker_scales, is_amplitude
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import TrainingData
from asr_kd.training.engine import train
from asr_kd.training.objective import CrossEntropy
from tests.training.corpora import DIM, write_corpus


def test_scales_of_speakers_are_trained_and_the_network_is_kept_without_them(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=["s4"], independent_share=0.3)
    torch.manual_seed(0)
    network = HighwayDNN(3 * DIM, 8, 3, int(pdf_ids.max()) + 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = add_speaker_scales(network, data.num_speakers)
    config = TrainingConfig(schedule="constant", epochs=2, batch_size=32, learning_rate=0.02, precision="float32")
    result = train(trained, data, CrossEntropy(), config, tmp_path / "work", seed=1)
    assert network.state_dict().keys() == before.keys()
    assert not torch.equal(network.output_layer.weight, before["output_layer.weight"])
    amplitudes = [value for name, value in trained.named_parameters() if is_amplitude(name)]
    assert len(amplitudes) == 3 and all(len(value) == data.num_speakers for value in amplitudes)
    assert all(bool(value.any(1).all()) for value in amplitudes)
    minibatch = data.minibatch(data.cv_frames)
    with torch.no_grad():
        plain = torch.nn.functional.cross_entropy(network.eval()(minibatch.inputs.float()), minibatch.pdf_ids)
    assert abs(float(plain) - result.cross_validation.loss) < 1e-4
