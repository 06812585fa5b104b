"""livelossplot's chart, redrawn after every epoch."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import clear_output
from livelossplot.inputs.keras import PlotLossesCallback
from livelossplot.outputs import MatplotlibPlot
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure

from emotion_cnn.files import write_figure
from emotion_cnn.training.run_folder import HISTORY_COLUMNS, History


class LiveChart(PlotLossesCallback):
    """livelossplot's chart, redrawn after every epoch.

    It is written to a PNG, and shown in a notebook or a window if there is one.
    """

    def __init__(self, path: Path, history: History) -> None:
        """Starts the chart with the epochs of an interrupted run.

        Args:
            path: PNG to redraw.
            history: Epochs before this one; may be empty.
        """
        self._path = path
        self._shown: Figure | None = None
        self._interactive = plt.get_backend().lower() in (
            backend_registry.list_builtin(BackendFilter.INTERACTIVE)
        )
        self._plot = MatplotlibPlot(
            max_cols=3, before_plots=self._arrange, after_plots=self._show
        )
        super().__init__(outputs=[self._plot])
        for epoch, *values in zip(*history.values(), strict=True):
            logs = dict(zip(HISTORY_COLUMNS[1:], values, strict=True))
            self.liveplot.update(logs, int(epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Adds an epoch, counted from 1 as everywhere in the tool."""
        super().on_epoch_end(epoch + 1, logs)

    def _arrange(self, figure: Figure, axes: np.ndarray, groups: int) -> None:
        # Replaces livelossplot's own, which clears the line of a terminal: that breaks
        # the progress bar and fills log files with control codes.
        if self._plot.output_mode == "notebook":
            clear_output(wait=True)
        figure.set_size_inches(15, 4)

    def _show(self, figure: Figure) -> None:
        # livelossplot opens a figure every epoch and closes none.
        for axes in figure.axes:
            axes.locator_params(axis="x", integer=True)
        figure.tight_layout()
        write_figure(self._path, figure)
        if self._plot.output_mode == "notebook":
            plt.show()
            plt.close(figure)
        elif self._interactive:
            if self._shown is not None:
                plt.close(self._shown)
            self._shown = figure
            plt.pause(0.1)
        else:
            plt.close(figure)
