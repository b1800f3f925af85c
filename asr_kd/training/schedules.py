"""Learning-rate schedules: a rate a step, and a verdict on each epoch from its cross-validation loss."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from asr_kd.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision after an epoch."""

    go_back: bool  # to the best weights so far
    stop: bool


class Schedule(Protocol):
    """The learning rate of each step."""

    def learning_rate(self, step: int) -> float:
        """The rate of a step, counted from 0 over all epochs."""

    def judge(self, cv_loss: float, best_before: float) -> Verdict:
        """Take note of an epoch's CV loss; `best_before` is the lowest of the epochs before it."""

    def state(self) -> dict[str, Any]:
        """JSON state, for a checkpoint."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take over `state`."""


def make_schedule(config: TrainingConfig, steps_per_epoch: int) -> Schedule:
    """The schedule that the settings name."""
    if config.schedule == "constant":
        return Constant(config)
    return Newbob(config) if config.schedule == "newbob" else OneCycle(config, steps_per_epoch)


class Constant:
    """One rate for a fixed number of epochs."""

    def __init__(self, config: TrainingConfig) -> None:
        self._rate = config.learning_rate

    def learning_rate(self, step: int) -> float:
        return self._rate

    def judge(self, cv_loss: float, best_before: float) -> Verdict:
        return Verdict(go_back=False, stop=False)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


class Newbob:
    """Halve the rate from the first epoch on that improves the CV loss by less than `newbob_halve_below`.

    An epoch that does not improve goes back to the best weights. Once halving, an epoch that
    improves by less than `newbob_stop_below` is the last. As Kaldi's nnet1 `train_scheduler.sh`.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._rate = config.learning_rate
        self._halving = False

    def learning_rate(self, step: int) -> float:
        return self._rate

    def judge(self, cv_loss: float, best_before: float) -> Verdict:
        first = math.isinf(best_before)
        improvement = math.inf if first else (best_before - cv_loss) / max(abs(best_before), 1e-12)
        stop = self._halving and improvement < self._config.newbob_stop_below
        self._halving = self._halving or improvement < self._config.newbob_halve_below
        if self._halving:
            self._rate /= 2
        return Verdict(go_back=improvement <= 0, stop=stop)

    def state(self) -> dict[str, Any]:
        return {"rate": self._rate, "halving": self._halving}

    def restore(self, state: dict[str, Any]) -> None:
        self._rate, self._halving = state["rate"], state["halving"]


class OneCycle(Constant):
    """Linear rise to the highest rate, then half a cosine down to zero, over a fixed number of epochs."""

    def __init__(self, config: TrainingConfig, steps_per_epoch: int) -> None:
        super().__init__(config)
        self._steps = config.epochs * steps_per_epoch
        self._rising = round(config.warm_up * self._steps)

    def learning_rate(self, step: int) -> float:
        if step < self._rising:
            return self._rate * (step + 1) / (self._rising + 1)
        done = (step - self._rising) / max(1, self._steps - self._rising)
        return self._rate * 0.5 * (1 + math.cos(math.pi * done))
