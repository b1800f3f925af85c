"""The one training engine: shuffled minibatches of frames, schedules, checkpoints that survive a kill, logs."""
