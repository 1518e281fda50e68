"""How papermill runs a notebook here: in a kernel of this interpreter, with progress per cell, stopped by Ctrl-C."""

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from fmiqa_utils.paths import root_variables
from fmiqa_utils.progress import Update, heard

NAME = "fmiqa"


class OwnKernel(AsyncKernelManager):
    """A kernel of this interpreter, even if other kernels called python3 are installed."""

    environment: Mapping[str, str] = {}

    @property
    def kernel_spec(self) -> KernelSpec:
        """The command that starts the kernel."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        prefix = {"FMIQA_PREFIX": sys.prefix}  # what a notebook's first cell expects to find
        env = {**self.environment, **root_variables(), **prefix}
        return KernelSpec(argv=argv, env=env, display_name="Python 3", language="python")

    def kill(self) -> None:
        """End the kernel at once; unfinished work is lost."""
        process = getattr(self.provisioner, "process", None)
        if process is not None:
            process.kill()


class Execution:
    """One notebook being run: the callback for its progress, and the kernel once it is started."""

    def __init__(self, name: str, update: Update, environment: Mapping[str, str]) -> None:
        self.name, self.update, self.environment = name, update, environment
        self.cells = 0
        self.kernel: OwnKernel | None = None
        self.stopped = False

    def stop(self) -> None:
        """End the kernel, or prevent its start."""
        self.stopped = True
        if self.kernel is not None:
            self.kernel.kill()


class _Client(PapermillNotebookClient):
    """papermill's client, with `OwnKernel` as its kernel."""

    def __init__(self, nb_man: Any, execution: Execution, **options: Any) -> None:
        super().__init__(nb_man, kernel_manager_class=OwnKernel, **options)
        self.execution = execution

    def create_kernel_manager(self) -> OwnKernel:
        """The kernel's manager, which `Execution.stop` needs."""
        if self.execution.stopped:
            raise KeyboardInterrupt
        kernel = super().create_kernel_manager()
        kernel.environment = self.execution.environment
        self.execution.kernel = kernel
        return kernel


class Engine(NBClientEngine):
    """papermill's engine, reporting which cell is running."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, execution: Execution, folder: str, **options: Any
    ) -> Any:
        """Run the cells in `folder`; `execution.update` is called with each cell's number and their total."""
        total, start = len(nb_man.nb.cells), nb_man.cell_start

        def cell_start(cell: Any, cell_index: int | None = None, **rest: Any) -> None:
            if execution.stopped:  # while the kernel was starting
                raise KeyboardInterrupt
            execution.update(execution.name, cell_index or 0, total, unit="cells")
            start(cell, cell_index, **rest)

        nb_man.cell_start = cell_start
        # Without this log level every notebook warns that its kernel listens on the loopback address.
        client = _Client(
            nb_man,
            execution,
            kernel_name=kernel_name,
            timeout=options.get("execution_timeout"),
            startup_timeout=options.get("start_timeout", 60),
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        )
        execution.cells = total
        return client.execute()


def execute(
    source: Path,
    destination: Path,
    parameters: Mapping[str, object],
    update: Update,
    timeout: int | None = None,
) -> None:
    """Run notebook `source` with `parameters` into `destination`; its kernel works in the folder of `destination`.

    `update` is called for cells and for what `progress_bar` counts inside the notebook. papermill runs on a separate thread, so that
    Ctrl-C reaches the caller: the kernel ends, KeyboardInterrupt goes on. Raises what papermill raises.
    """
    import papermill

    papermill_engines.register(NAME, Engine)
    with heard(destination.parent, update) as environment, ThreadPoolExecutor(1) as pool:
        execution = Execution(source.stem, update, environment)
        running = pool.submit(
            papermill.execute_notebook,
            str(source),
            str(destination),
            parameters=dict(parameters),
            engine_name=NAME,
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=timeout,
            execution=execution,
            folder=str(destination.parent),
        )
        try:
            running.result()
        except KeyboardInterrupt:
            execution.stop()
            raise
    update(
        execution.name, execution.cells, execution.cells, unit="cells"
    )  # after the last message of the kernel
