"""The training engine: one loop for teachers and students, cross-entropy and distillation."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import hash_bytes, hash_json
from asr_kd.core.log import get_logger
from asr_kd.core.memory import freed_memory_kept
from asr_kd.core.progress import ProgressBar
from asr_kd.models.highway import HighwayDNN
from asr_kd.models.lhuc import has_speaker_scales
from asr_kd.training.batch_norm import batch_norm_layers
from asr_kd.training.checkpoints import RunState, read_checkpoint, restore_tensors, write_checkpoint
from asr_kd.training.config import TrainingConfig
from asr_kd.training.cross_validation import CrossValidation, cross_validate, damaged_utterances, describe_fault
from asr_kd.training.data import Minibatch, TrainingExamples, prefetch, split_batch
from asr_kd.training.distributed import (
    add_up,
    add_up_gradients,
    joined,
    num_processes,
    own_part,
    rank,
    told_by_first,
    wait_for_all,
)
from asr_kd.training.gradients import ShardGradients, set_gradients, shard_gradients
from asr_kd.training.graphs import graphed
from asr_kd.training.logs import TrainingLog
from asr_kd.training.masking import mask_spliced
from asr_kd.training.objective import NetworkOutputs, Objective, forward_loss
from asr_kd.training.optimisers import make_optimiser, split_optimiser
from asr_kd.training.schedules import Schedule, make_schedule
from asr_kd.training.shards import Shards, choose_num_shards
from asr_kd.training.tuning import choose_precision, choose_threads, training_device

logger = get_logger(__name__)

_UNREAD = 50  # steps whose losses may wait on a GPU before one is looked at


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The outcome of a run; the model holds the weights of `best_epoch`, the best or last one as the settings say."""

    cross_validation: CrossValidation  # of the best epoch
    best_epoch: int  # from 1; 0 where none was better than the start and that was judged too
    epochs: int
    minutes: float  # CPU time of this process, over all restarts: what else the machine does is not in them
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


def train(model: nn.Module, data: TrainingExamples, objective: Objective, config: TrainingConfig, work_folder: Path,
          *, seed: int = 0, description: str = "training",
          on_epoch: Callable[[TrainingResult, nn.Module], None] | None = None) -> TrainingResult:
    """Train `model` in place and leave it with the weights of the epoch that `config.keep` names, in evaluation mode.

    Checkpoints, `train.jsonl` and TensorBoard events go to `work_folder`; where that holds a checkpoint of the
    same run, training goes on from there, and one process on a CPU ends with the same weights, bit for bit, as if it
    had never been interrupted. A finished run returns at once. The initial weights, the seed, the settings, data
    and objective make a run; a checkpoint of another one raises InputError, as do data that do not fit the
    model. A loss that is not finite raises WorkError, which names the utterances. `on_epoch` is called after each
    epoch, before the checkpoint that ends it, with the model as it is then and the result that it is.

    Where a process group is initialised (`torchrun`), every process calls this with the same arguments and takes its
    part of each minibatch, on the GPU of its LOCAL_RANK where there are any; the first one writes, what its objective
    measured is of its own part. The result is that of one process, but for the order of sums and for what is drawn at
    random (dropout, noise).
    """
    threads_before = torch.get_num_threads()
    with torch.random.fork_rng(), freed_memory_kept():
        try:
            torch.set_num_threads(1)  # what the shards' threads share out among them is all that is shared out
            run = _Run(model, data, objective, config, Path(work_folder), seed, description, on_epoch)
            try:
                return run.run()
            finally:
                if run.log is not None:
                    run.log.close()
        finally:
            torch.set_num_threads(threads_before)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step whose loss has not been looked at."""

    number: int  # in its epoch, from 1
    rate: float
    batch: NDArray[np.int64]  # of all processes
    shards: list[Minibatch | None]  # of this one's part
    loss: Tensor
    frames: int


class _Run:
    """A run under way: everything that a checkpoint holds, and the loop over it."""

    def __init__(self, model: nn.Module, data: TrainingExamples, objective: Objective, config: TrainingConfig,
                 folder: Path, seed: int, description: str,
                 on_epoch: Callable[[TrainingResult, nn.Module], None] | None) -> None:
        self.model, self.data, self.objective, self.config = model, data, objective, config
        self.folder, self.seed, self.description, self.on_epoch = folder, seed, description, on_epoch
        self.device = training_device(config.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        model.to(self.device)
        objective.to(self.device)
        data.hold_on(self.device)
        if objective.targets_digest not in (None, data.targets_digest):
            raise InputError(f"{description}: the objective learns from soft targets {objective.targets_digest[:12]}, "
                             f"the data have {(data.targets_digest or 'none')[:12]}; give both the same")
        if objective.reads_pdf_ids and data.has_unlabelled:
            raise InputError(f"{description}: cross-entropy wants the pdf-id of every frame, and some to train on have "
                             "none; leave them out, or learn from soft targets alone")
        first_epoch = data.batches(config.batch_size, seed, 0)
        collective = objective.collective or (bool(batch_norm_layers(model)) and not config.evaluation_mode)
        smallest = min(map(len, first_epoch))
        if collective and smallest < num_processes():
            raise InputError(f"{description}: {num_processes()} processes cannot share a minibatch of {smallest}; set "
                             "another batch_size, or start fewer")
        first = data.minibatch(first_epoch[0]).to(self.device)
        if batch_norm_layers(model) and not config.evaluation_mode and len(first.inputs) < 2 * num_processes():
            raise InputError(f"{description}: batch normalisation needs at least two frames in a minibatch of each "
                             "process; set a larger batch_size")
        self.steps_per_epoch = len(first_epoch)
        self.schedule: Schedule = make_schedule(config, self.steps_per_epoch)
        self.optimiser = make_optimiser(nn.ModuleList([model, objective]), config)
        self.best: dict[str, Tensor] = {}
        self._unread: list[_Step] = []
        self._last_loss = math.nan
        self._measured_frames = 0  # of this epoch, in state.measures
        key = self._key()
        self._began = self._written = time.perf_counter()
        self._cpu_began = time.process_time()
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        if rank() > 0:
            wait_for_all()  # for the first one's checkpoint, with which all begin
        found = read_checkpoint(folder, key)
        if found is None:
            self._check_outputs(first)
            self.state = RunState(key, choose_precision(config.precision, self.device), threads=1)
            self._checkpoint()
        else:
            self.state, tensors = found
            self.best = restore_tensors(tensors, model, objective, self.optimiser)
            self.schedule.restore(self.state.schedule)
            logger.info("%s: goes on after epoch %d, step %d", description, self.state.epoch, self.state.step)
            self._began -= self.state.seconds
            self._cpu_began -= self.state.cpu_seconds
        self.state.threads = choose_threads(config.threads)
        num_shards = choose_num_shards(config.shards, config.batch_size, model, first.inputs, config.evaluation_mode)
        if collective:
            num_shards = min(num_shards, smallest // num_processes())
        self._shards = Shards(model, objective, num_shards, self.state.threads)
        self._optimisers = split_optimiser(self.optimiser, num_shards)
        self._shard_frames = [0] * num_shards  # since measures were last taken
        self._outputs = [NetworkOutputs(one, objective.reads_hidden) for one in self._shards.models]
        self._graphed, self._graphed_shape = self._outputs[0], first.inputs.shape
        if num_processes() == 1 and not config.evaluation_mode and not has_speaker_scales(model):
            self._graphed = graphed(model, objective, first.inputs, self.state.precision) or self._outputs[0]
        if rank() == 0:
            self.log: TrainingLog | None = TrainingLog(folder, self.state.records, config.tensorboard)
            wait_for_all()
        else:
            self.log = None
            torch.manual_seed(seed + 1_000_003 * rank() + self.state.global_step)  # masks and noise of its own
        wait_for_all()  # all have read the checkpoint: the first may write another

    def run(self) -> TrainingResult:
        state, config = self.state, self.config
        with ProgressBar(config.epochs * self.steps_per_epoch, self.description, "minibatches") as bar:
            bar.update(state.epoch * self.steps_per_epoch + state.step)
            if config.judge_start and not state.records:
                self._judge_start()
            with self._shards.running():
                while not state.finished:
                    self._train_epoch(bar)
                    self._end_epoch()
        self.model.load_state_dict(self.best)
        self.model.eval()
        best = next(record for record in state.records
                    if record["event"] == "epoch" and record["epoch"] == state.best_epoch)
        measures = {name: best[f"cv_{name}"] for name in best["measures"]}
        cv = CrossValidation(best["cv_loss"], best["cv_cross_entropy"], best["cv_frame_accuracy"], measures)
        return self._result(cv, state.best_epoch, state.cpu_seconds)

    def _result(self, cv: CrossValidation, best_epoch: int, cpu_seconds: float) -> TrainingResult:
        state = self.state
        history = [record for record in state.records if record["event"] == "epoch"]
        return TrainingResult(cv, best_epoch, state.epoch, cpu_seconds / 60, self._speed(), state.precision,
                              state.threads, history)

    def _judge_start(self) -> None:
        cv = self._cross_validate()
        if not math.isfinite(cv.loss):
            raise WorkError(f"{self.description}: the CV loss of the network to start from is {cv.loss}: {cv.fault}")
        self._take_best(cv)
        self._record({
            "event": "epoch", "step": 0, "epoch": 0, "cv_loss": cv.loss, "cv_cross_entropy": cv.cross_entropy,
            "cv_frame_accuracy": cv.frame_accuracy, "best_epoch": 0, "measures": list(cv.measures),
            **{f"cv_{name}": value for name, value in cv.measures.items()}})
        logger.info("%s: at the start: CV loss %.4f%s", self.description, cv.loss, _accuracy(cv))
        self._checkpoint()

    def _take_best(self, cv: CrossValidation) -> None:
        self.state.best_loss, self.state.best_epoch = cv.loss, self.state.epoch
        self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _train_epoch(self, bar: ProgressBar) -> None:
        state, config = self.state, self.config
        for model, objective in zip(self._shards.models, self._shards.objectives, strict=True):
            _set_mode(model, config.evaluation_mode)
            objective.train()
        self._shards.share_buffers()
        self._take_measures()
        self._measured_frames, shown = state.epoch_frames, state.step
        began, seconds_before = time.perf_counter(), state.training_seconds
        batches = self.data.batches(config.batch_size, self.seed, state.epoch)[state.step:]
        own = [own_part(batch) for batch in batches]
        for batch, shards in zip(batches, prefetch(self.data, own, len(self._shards)), strict=True):
            rate = self.schedule.learning_rate(state.global_step)
            loss, frames = self._step(shards, rate)
            state.step += 1
            state.global_step += 1
            state.epoch_frames += frames
            state.frames += frames
            self._unread.append(_Step(state.step, rate, batch, shards, loss, frames))
            is_logged, is_kept = state.global_step % config.log_steps == 0, self._checkpoint_is_due()
            if self.device.type == "cpu" or is_logged or is_kept or len(self._unread) == _UNREAD:
                self._read_losses()
                bar.update(state.step - shown, epoch=state.epoch + 1, loss=f"{state.loss_sum / state.epoch_frames:.3f}")
                shown = state.step
            state.training_seconds = seconds_before + time.perf_counter() - began
            measures = self._read_measures() if is_logged or is_kept else {}
            if is_logged:
                self._record({"event": "progress", "step": state.global_step, "epoch": state.epoch + 1,
                              "loss": self._last_loss, "learning_rate": rate,
                              "frames_per_second": round(self._speed()), **measures})
            if is_kept:
                self._checkpoint()
        self._read_losses()
        bar.update(state.step - shown)

    def _read_losses(self) -> None:
        """Add up the losses of the steps since this was last called; on a GPU reading one waits for all before it."""
        for step in self._unread:
            self._last_loss = step.loss.item()
            if not math.isfinite(self._last_loss):
                parts = zip(split_batch(own_part(step.batch), len(step.shards)), step.shards, strict=True)
                damaged = joined(sorted({name for batch, minibatch in parts for name in damaged_utterances(
                    self.data, self.objective, batch, minibatch)}))
                raise WorkError(f"{self.description}: the loss became {self._last_loss} in epoch "
                                f"{self.state.epoch + 1}, step {step.number} of {self.steps_per_epoch} (learning rate "
                                f"{step.rate:g}): {describe_fault(damaged, self.data.utterances(step.batch))}, and "
                                f"remove {self.folder}")
            self.state.loss_sum += self._last_loss * step.frames
        self._unread = []

    def _read_measures(self) -> dict[str, float]:
        """Return the objective's measures since the last call, means a frame, and add them to the epoch's."""
        measures = self._take_measures()
        frames, self._measured_frames = self.state.epoch_frames - self._measured_frames, self.state.epoch_frames
        for name, value in measures.items():
            self.state.measures[name] = self.state.measures.get(name, 0.0) + value * frames
        return measures

    def _take_measures(self) -> dict[str, float]:
        """Return what the objectives of all shards measured since this was last called, means a frame."""
        frames, self._shard_frames = self._shard_frames, [0] * len(self._shards)
        measures: dict[str, float] = {}
        for of_shard, objective in zip(frames, self._shards.objectives, strict=True):
            for name, value in objective.take_measures().items():
                measures[name] = measures.get(name, 0.0) + value * of_shard / max(sum(frames), 1)
        return measures

    def _step(self, shards: list[Minibatch | None], rate: float) -> tuple[Tensor, int]:
        """Train on a minibatch, or this process's part of it; mean loss of a frame and frames, over all processes."""
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        for objective in self._shards.objectives:
            objective.set_progress(self.state.global_step / (self.config.epochs * self.steps_per_epoch))
        moving = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        loss, frames = self._sum_gradients(shards, moving)
        is_mean, alone = self.config.gradient == "mean", num_processes() == 1
        if not alone:
            totals = add_up(torch.stack([loss.detach().double() * frames, torch.full_like(loss, frames).double()]))
            add_up_gradients(moving)
            frames, loss = int(totals[1].item()), totals[0] / totals[1]
            for parameter in moving if is_mean else ():
                parameter.grad /= frames
        if self.config.gradient_clip:
            nn.utils.clip_grad_norm_(moving, self.config.gradient_clip)
        self._shards.run_plain([optimiser.step for optimiser in self._optimisers])
        return loss, frames

    def _sum_gradients(self, shards: list[Minibatch | None], moving: list[nn.Parameter]) -> tuple[Tensor, int]:
        """Set the gradients of the `moving` parameters to those of a minibatch; its mean loss of a frame, and frames.

        Gradients are of the mean, but of the sum where the settings or other processes want that.
        """
        frames_of = [0 if minibatch is None else len(minibatch.inputs) for minibatch in shards]
        frames = sum(frames_of)
        is_mean = self.config.gradient == "mean" and num_processes() == 1

        def compute_gradients(shard: int) -> tuple[Tensor, ShardGradients]:
            minibatch = shards[shard]
            if minibatch is None:
                return torch.zeros((), device=self.device), ShardGradients([None] * len(moving), [])
            loss = self._loss(shard, minibatch.to(self.device))
            weight = frames_of[shard] / frames if is_mean else frames_of[shard]
            if len(shards) > 1:
                return loss.detach(), shard_gradients(loss * weight, moving)
            (loss if is_mean else loss * weight).backward()
            return loss.detach(), ShardGradients([], [])

        results = self._shards.run(compute_gradients)
        self._shard_frames = [before + of_shard for before, of_shard in zip(self._shard_frames, frames_of, strict=True)]
        if len(shards) == 1:
            return results[0][0], frames
        set_gradients(moving, [of_shard for _, of_shard in results], self._shards.run_plain)
        losses = torch.stack([loss.double() * of_shard for (loss, _), of_shard in zip(results, frames_of, strict=True)])
        return losses.sum() / max(frames, 1), frames

    def _loss(self, shard: int, minibatch: Minibatch) -> Tensor:
        masking = self.config.masking
        heard = mask_spliced(minibatch.inputs, self.data.splice, masking) if masking.is_on else None
        outputs = self._outputs[shard]
        if len(self._shards) == 1 and minibatch.inputs.shape == self._graphed_shape:
            outputs = self._graphed
        loss, _ = forward_loss(outputs, self._shards.objectives[shard], minibatch, self.state.precision, heard)
        return loss

    def _end_epoch(self) -> None:
        state = self.state
        rate = self.schedule.learning_rate(state.global_step - 1)
        self._read_measures()
        measures = {f"train_{name}": total / state.epoch_frames for name, total in state.measures.items()}
        cv = self._cross_validate()
        if not math.isfinite(cv.loss):
            raise WorkError(f"{self.description}: the CV loss became {cv.loss} in epoch {state.epoch + 1} (learning "
                            f"rate {rate:g}): {cv.fault}, and remove {self.folder}")
        verdict = self.schedule.judge(cv.loss, state.best_loss)
        state.epoch += 1
        collapsed = self._is_collapsed(cv)
        improved = cv.loss < state.best_loss
        if (improved or self.config.keep == "last") and not collapsed:
            self._take_best(cv)
        state.finished = verdict.stop or collapsed or state.epoch == self.config.epochs
        train_loss = state.loss_sum / state.epoch_frames
        state.step, state.epoch_frames, state.loss_sum, state.measures = 0, 0, 0.0, {}
        measures |= {f"cv_{name}": value for name, value in cv.measures.items()}
        self._record({
            "event": "epoch", "step": state.global_step, "epoch": state.epoch, "train_loss": train_loss,
            "cv_loss": cv.loss, "cv_cross_entropy": cv.cross_entropy, "cv_frame_accuracy": cv.frame_accuracy,
            "learning_rate": rate, "best_epoch": state.best_epoch, "frames_per_second": round(self._speed()),
            "seconds": round(time.perf_counter() - self._began, 1), "measures": list(cv.measures), **measures,
            **self.objective.describe_state()})
        left = (self.config.epochs - state.epoch) * (time.perf_counter() - self._began) / state.epoch
        logger.info("%s: epoch %d: train loss %.4f, CV loss %.4f%s, %s%.1f k frames/s, at most %.1f min left",
                    self.description, state.epoch, train_loss, cv.loss, _accuracy(cv),
                    "".join(f"{name} {value:.4f}, " for name, value in measures.items()), self._speed() / 1e3,
                    0 if state.finished else left / 60)
        if self.on_epoch is not None and rank() == 0:
            self.on_epoch(self._result(cv, state.epoch, time.process_time() - self._cpu_began), self.model)
        if verdict.go_back and not improved:
            self.model.load_state_dict(self.best)
        self._checkpoint()

    def _cross_validate(self) -> CrossValidation:
        return told_by_first(lambda: cross_validate(
            self.model, self.data, self.objective, precision=self.state.precision, device=self.device,
            threads=self.state.threads))

    def _is_collapsed(self, cv: CrossValidation) -> bool:
        """A criterion of sequences may go on rising while one class, silence most often, takes over the network."""
        start = next((record for record in self.state.records if record.get("epoch") == 0), None)
        if start is None or cv.frame_accuracy is None:
            return False
        if cv.frame_accuracy >= self.config.collapse_below * start["cv_frame_accuracy"]:
            return False
        logger.warning("%s: the CV frame accuracy fell from %.1f to %.1f %%, below %g of the start's: training ends, "
                       "this epoch is not kept; lower learning_rate or smooth more", self.description,
                       100 * start["cv_frame_accuracy"], 100 * cv.frame_accuracy, self.config.collapse_below)
        return True

    def _record(self, record: dict[str, Any]) -> None:
        self.state.records.append(record)
        if self.log is not None:
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
        self.state.cpu_seconds = time.process_time() - self._cpu_began
        if rank() == 0:
            write_checkpoint(self.folder, self.state, self.model, self.objective, self.optimiser, self.best)
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
        initial = nn.ModuleDict({"model": self.model, "objective": self.objective}).state_dict()
        weights = {name: hash_bytes(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
                   for name, value in initial.items()}
        settings = self.config.result_settings()
        moving = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        return hash_json([settings, self.seed, self.objective.describe(), self.data.digest, weights, moving])


def _accuracy(cv: CrossValidation) -> str:
    return "" if cv.frame_accuracy is None else f", CV frame accuracy {100 * cv.frame_accuracy:.2f} %"


def _set_mode(model: nn.Module, evaluation_mode: bool) -> None:
    """Put the network into training mode, or let its dropout and batch norms rest."""
    model.train(not evaluation_mode)
    for module in model.modules():
        if isinstance(module, HighwayDNN):
            module.training = True  # of itself this chooses a faster gradient only
