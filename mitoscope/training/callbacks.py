"""What a fit adds to Lightning's trainer: plain progress lines, and resuming that changes no result."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping


class PlainProgress(L.Callback):
    """Prints a line at the start and one after each validation, or each epoch of a fit that has none.

    For output that is no terminal, where no bar can be drawn.
    """

    def on_train_start(self, trainer: L.Trainer, _module: L.LightningModule) -> None:
        """Print what will be trained, unless all is done."""
        if trainer.should_stop:
            return
        every = trainer.check_val_every_n_epoch if trainer.enable_validation else 1
        steps = f"{trainer.num_training_batches} steps an epoch, a line every {every} epochs"
        first, last = trainer.current_epoch + 1, trainer.max_epochs
        print(f"training epochs {first} to {last} on {trainer.strategy.root_device}: {steps}", flush=True)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Print the epoch and its metrics, where no validation does."""
        if not trainer.enable_validation:
            self.on_validation_end(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, _module: L.LightningModule) -> None:
        """Print the epoch and its metrics."""
        metrics = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} {metrics}", flush=True)


class StayStopped(L.Callback):
    """Does not train on when a run is resumed that had stopped early and was killed before it was finished."""

    def on_train_start(self, trainer: L.Trainer, _module: L.LightningModule) -> None:
        """Read the state of the early stopping, which came with the checkpoint."""
        stopping = trainer.early_stopping_callback
        trainer.should_stop = isinstance(stopping, EarlyStopping) and stopping.wait_count >= stopping.patience


class MovedFolder(L.Callback):
    """Lets a run be resumed whose folder has moved, to another machine or into Docker.

    Without it Lightning would forget the best epoch.

    Args:
        run: The folder's present path.
    """

    def __init__(self, run: Path) -> None:
        self.run = run.resolve()

    def on_load_checkpoint(self, _trainer: L.Trainer, _module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Replace the old path by the present one in the callbacks' states."""
        for state in checkpoint["callbacks"].values():
            if state.get("best_model_path"):
                for key in ("best_model_path", "kth_best_model_path"):
                    state[key] = self._moved(state[key])
                state["best_k_models"] = {self._moved(path): at for path, at in state["best_k_models"].items()}
                state["dirpath"] = str(self.run)

    def _moved(self, path: str) -> str:
        """The same file in the present folder."""
        return str(self.run / Path(path).name) if path else path
