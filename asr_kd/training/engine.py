"""The training engine: one loop for teachers and students, cross-entropy and distillation."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import hash_bytes, hash_json
from asr_kd.core.log import get_logger
from asr_kd.core.progress import ProgressBar
from asr_kd.training.checkpoints import RunState, read_checkpoint, restore_tensors, write_checkpoint
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import Minibatch, TrainingData
from asr_kd.training.logs import TrainingLog
from asr_kd.training.objective import Objective
from asr_kd.training.schedules import Schedule, make_schedule
from asr_kd.training.tuning import choose_execution

logger = get_logger(__name__)

_CV_BATCH = 4096


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What the held-out frames say of a network, in evaluation mode."""

    loss: float  # of the objective, a frame
    cross_entropy: float  # to the pdf-ids, nats a frame
    frame_accuracy: float  # 0 to 1


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a run went; the model holds the weights of `best_epoch`."""

    cross_validation: CrossValidation  # of the best epoch
    best_epoch: int  # from 1
    epochs: int
    minutes: float  # wall time, over all restarts
    frames_per_second: float  # data gathering included, cross-validation not
    precision: str
    threads: int
    history: list[dict[str, Any]]  # one record an epoch, as in train.jsonl

    def as_dict(self) -> dict[str, Any]:
        """JSON for a model card's provenance."""
        cv = self.cross_validation
        return {"cv_loss": cv.loss, "cv_cross_entropy": cv.cross_entropy, "cv_frame_accuracy": cv.frame_accuracy,
                "best_epoch": self.best_epoch, "epochs": self.epochs, "minutes": self.minutes,
                "frames_per_second": self.frames_per_second, "precision": self.precision, "threads": self.threads}


def train(model: nn.Module, data: TrainingData, objective: Objective, config: TrainingConfig, work_folder: Path,
          *, seed: int = 0, description: str = "training") -> TrainingResult:
    """Train `model` in place and leave it with the weights of the epoch of the lowest CV loss, in evaluation mode.

    Checkpoints, `train.jsonl` and TensorBoard events go to `work_folder`; where that holds a checkpoint of the
    same run, training goes on from there, and on CPU ends with the same weights, bit for bit, as if it had
    never been interrupted. A finished run returns at once. The initial weights, the seed, the settings, data
    and objective make a run; a checkpoint of another one raises InputError, as do data that do not fit the
    model. A loss that is not finite raises WorkError. The last, incomplete minibatch of an epoch is left out.
    """
    threads_before = torch.get_num_threads()
    with torch.random.fork_rng():
        run = _Run(model, data, objective, config, Path(work_folder), seed, description)
        try:
            torch.set_num_threads(run.state.threads)
            return run.run()
        finally:
            torch.set_num_threads(threads_before)
            run.log.close()


def cross_validate(model: nn.Module, data: TrainingData, objective: Objective, *, precision: str = "float32",
                   device: torch.device | None = None) -> CrossValidation:
    """Loss, cross-entropy and frame accuracy on the held-out frames of `data`; leaves the model in evaluation mode."""
    device = device or next(model.parameters()).device
    model.eval()
    loss = cross_entropy = 0.0
    correct = 0
    starts = range(0, len(data.cv_frames), _CV_BATCH)
    with torch.inference_mode():
        for minibatch in data.prefetch(data.cv_frames[begin:begin + _CV_BATCH] for begin in starts):
            minibatch = minibatch.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                logits = model(minibatch.inputs)
            logits = logits.float()
            count = len(logits)
            loss += objective(logits, minibatch).item() * count
            cross_entropy += F.cross_entropy(logits, minibatch.pdf_ids).item() * count
            correct += int((logits.argmax(-1) == minibatch.pdf_ids).sum())
    total = len(data.cv_frames)
    return CrossValidation(loss / total, cross_entropy / total, correct / total)


class _Run:
    """A run under way: everything that a checkpoint holds, and the loop over it."""

    def __init__(self, model: nn.Module, data: TrainingData, objective: Objective, config: TrainingConfig,
                 folder: Path, seed: int, description: str) -> None:
        self.model, self.data, self.objective, self.config = model, data, objective, config
        self.folder, self.seed, self.description = folder, seed, description
        cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
        self.device = torch.device("cuda" if cuda else "cpu")
        model.to(self.device)
        if isinstance(objective, nn.Module):
            objective.to(self.device)
        self.batch_size = min(config.batch_size, len(data.train_frames))
        self.steps_per_epoch = len(data.train_frames) // self.batch_size
        self.schedule: Schedule = make_schedule(config, self.steps_per_epoch)
        self.optimiser = _optimiser(model, config)
        self.best: dict[str, Tensor] = {}
        key = self._key()
        self._began = self._written = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        found = read_checkpoint(folder, key)
        if found is None:
            first = data.minibatch(data.train_frames[:self.batch_size]).to(self.device)
            self._check_outputs(first)
            self.state = RunState(key, *choose_execution(model, objective, first, config))
            self._checkpoint()
        else:
            self.state, tensors = found
            self.best = restore_tensors(tensors, model, self.optimiser)
            self.schedule.restore(self.state.schedule)
            logger.info("%s: goes on after epoch %d, step %d", description, self.state.epoch, self.state.step)
            self._began -= self.state.seconds
        self.log = TrainingLog(folder, self.state.records, config.tensorboard)

    def run(self) -> TrainingResult:
        state, config = self.state, self.config
        frames_in_all = config.epochs * self.steps_per_epoch * self.batch_size
        with ProgressBar(frames_in_all, self.description, "frames") as bar:
            bar.update((state.epoch * self.steps_per_epoch + state.step) * self.batch_size)
            while not state.finished:
                self._train_epoch(bar)
                self._end_epoch()
        self.model.load_state_dict(self.best)
        self.model.eval()
        history = [record for record in state.records if record["event"] == "epoch"]
        best = history[state.best_epoch - 1]
        cv = CrossValidation(best["cv_loss"], best["cv_cross_entropy"], best["cv_frame_accuracy"])
        return TrainingResult(cv, state.best_epoch, state.epoch, state.seconds / 60,
                              state.frames / max(state.training_seconds, 1e-9), state.precision, state.threads, history)

    def _train_epoch(self, bar: ProgressBar) -> None:
        state, config = self.state, self.config
        self.model.train()
        began, seconds_before = time.perf_counter(), state.training_seconds
        for minibatch in self.data.prefetch(self._batches()):
            rate = self.schedule.learning_rate(state.global_step)
            loss = self._step(minibatch.to(self.device), rate)
            if not math.isfinite(loss):
                raise WorkError(f"{self.description}: the loss became {loss} in epoch {state.epoch + 1}, step "
                                f"{state.step + 1} of {self.steps_per_epoch} (learning rate {rate:g}); lower "
                                f"learning_rate or set gradient_clip, and remove {self.folder}")
            state.loss_sum += loss
            state.step += 1
            state.global_step += 1
            state.frames += self.batch_size
            state.training_seconds = seconds_before + time.perf_counter() - began
            bar.update(self.batch_size, epoch=state.epoch + 1, loss=f"{state.loss_sum / state.step:.3f}")
            if state.global_step % config.log_steps == 0:
                self._record({"event": "progress", "step": state.global_step, "epoch": state.epoch + 1,
                              "loss": loss, "learning_rate": rate, "frames_per_second": round(self._speed())})
            if self._checkpoint_is_due():
                self._checkpoint()

    def _step(self, minibatch: Minibatch, rate: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.state.precision == "bfloat16"):
            logits = self.model(minibatch.inputs)
        loss = self.objective(logits, minibatch)
        loss.backward()
        if self.config.gradient_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimiser.step()
        return loss.item()

    def _end_epoch(self) -> None:
        state = self.state
        rate = self.schedule.learning_rate(state.global_step - 1)
        cv = cross_validate(self.model, self.data, self.objective, precision=state.precision, device=self.device)
        if not math.isfinite(cv.loss):
            raise WorkError(f"{self.description}: the CV loss became {cv.loss} in epoch {state.epoch + 1} (learning "
                            f"rate {rate:g}); lower learning_rate or set gradient_clip, and remove {self.folder}")
        verdict = self.schedule.judge(cv.loss, state.best_loss)
        state.epoch += 1
        if cv.loss < state.best_loss:
            state.best_loss, state.best_epoch = cv.loss, state.epoch
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        elif verdict.go_back:
            self.model.load_state_dict(self.best)
        state.finished = verdict.stop or state.epoch == self.config.epochs
        train_loss = state.loss_sum / state.step
        state.step, state.loss_sum = 0, 0.0
        self._record({
            "event": "epoch", "step": state.global_step, "epoch": state.epoch, "train_loss": train_loss,
            "cv_loss": cv.loss, "cv_cross_entropy": cv.cross_entropy, "cv_frame_accuracy": cv.frame_accuracy,
            "learning_rate": rate, "best_epoch": state.best_epoch, "frames_per_second": round(self._speed()),
            "seconds": round(time.perf_counter() - self._began, 1)})
        left = (self.config.epochs - state.epoch) * (time.perf_counter() - self._began) / state.epoch
        logger.info("%s: epoch %d: train loss %.4f, CV loss %.4f, CV frame accuracy %.2f %%, %.1f k frames/s, at most "
                    "%.1f min left", self.description, state.epoch, train_loss, cv.loss, 100 * cv.frame_accuracy,
                    self._speed() / 1e3, 0 if state.finished else left / 60)
        self._checkpoint()

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        order = self.data.epoch_order(self.seed, self.state.epoch)
        for step in range(self.state.step, self.steps_per_epoch):
            yield order[step * self.batch_size:(step + 1) * self.batch_size]

    def _record(self, record: dict[str, Any]) -> None:
        self.state.records.append(record)
        self.log.write(record)

    def _speed(self) -> float:
        return self.state.frames / max(self.state.training_seconds, 1e-9)

    def _checkpoint_is_due(self) -> bool:
        every = self.config.checkpoint_steps
        return (bool(every) and self.state.global_step % every == 0) or (
            time.perf_counter() - self._written > 60 * self.config.checkpoint_minutes)

    def _checkpoint(self) -> None:
        self.state.schedule = self.schedule.state()
        self.state.seconds = time.perf_counter() - self._began
        write_checkpoint(self.folder, self.state, self.model, self.optimiser, self.best)
        self._written = time.perf_counter()

    def _check_outputs(self, minibatch: Minibatch) -> None:
        self.model.eval()
        with torch.inference_mode():
            try:
                outputs = self.model(minibatch.inputs).shape[-1]
            except RuntimeError as error:
                raise InputError(f"{self.description}: the model does not take the {self.data.input_dim} spliced "
                                 f"values a frame ({error})") from error
        if outputs < self.data.num_pdfs_needed:
            raise InputError(f"{self.description}: the model has {outputs} pdfs, the alignments name pdf-id "
                             f"{self.data.num_pdfs_needed - 1}; they belong to different trees")

    def _key(self) -> str:
        weights = {name: hash_bytes(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
                   for name, value in self.model.state_dict().items()}
        # How often checkpoints and logs are written changes nothing in the result.
        unimportant = {"checkpoint_minutes", "checkpoint_steps", "log_steps", "tensorboard"}
        settings = self.config.model_dump(exclude=unimportant)
        return hash_json([settings, self.seed, self.objective.describe(), self.data.digest, weights])


def _optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
              {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}]
    if config.optimiser == "adam":
        return torch.optim.AdamW(groups, config.learning_rate, fused=True)
    return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, fused=True)
